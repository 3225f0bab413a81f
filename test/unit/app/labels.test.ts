import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { en } from '../../../renderer/i18n/en.js';
import { zhCN } from '../../../renderer/i18n/zh-CN.js';
import { countsLabels, readLabels } from '../../../src/app/labels.js';
import { SnugError } from '../../../src/contract/errors.js';
import type { ModelSummary, ValueSummary } from '../../../src/contract/types.js';
import { writeNpy } from '../runtime/helpers.js';

const folder = mkdtempSync(path.join(tmpdir(), 'snug-labels-'));
const file = path.join(folder, 'labels.npy');
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const withOutputs = (...outputs: ValueSummary[]): ModelSummary => ({ outputs }) as ModelSummary;
const output = (name: string, dims: ValueSummary['dims']): ValueSummary => ({ name, dtype: 'float32', dims });
const classifier = withOutputs(output('features', ['batch', 32]), output('y', ['batch', 3]));

async function failure(reading: Promise<unknown>): Promise<SnugError> {
  const error = await reading.then(
    () => null,
    (caught: unknown) => caught,
  );
  expect(error).toBeInstanceOf(SnugError);
  expect((error as SnugError).action).not.toBe('');
  return error as SnugError;
}

describe('labels of samples', () => {
  it('are whole numbers of any type, one for each sample', async () => {
    await writeNpy(file, 'float32', [3, 1], Float32Array.of(0, 2, 1));
    expect(Array.from(await readLabels(file, 3, classifier), Number)).toEqual([0, 2, 1]);
  });

  it('are refused before they are read when their number is wrong, in words of their own', async () => {
    // Were they read first, the numbers that are not whole would be told.
    await writeNpy(file, 'float32', [2], Float32Array.of(0.5, 0.5));
    const { code, params } = await failure(readLabels(file, 3, classifier));
    expect(code).toBe('E_DATA_SHAPE');
    expect(en.error.of(code, params).meaning).toBe('There are 2 labels for 3 samples; each sample needs one.');
    expect(zhCN.error.of(code, params).meaning).toContain('2');
  });

  it('are refused when they are no classes of the model', async () => {
    await writeNpy(file, 'float32', [2], Float32Array.of(0, 1.5));
    expect(await failure(readLabels(file, 2, classifier))).toMatchObject({
      code: 'E_DATA_FORMAT',
      message: 'labels.npy holds 1.5, which is no class.',
    });
    await writeNpy(file, 'int64', [2], BigInt64Array.of(0n, 3n));
    expect(await failure(readLabels(file, 2, classifier))).toMatchObject({
      code: 'E_DATA_SHAPE',
      message: "Label 3 (sample 1) is none of the model's 3 classes.",
    });
    // How many classes there are is known when the model has answered.
    expect(await readLabels(file, 2, withOutputs(output('y', ['batch', 'classes'])))).toHaveLength(2);
  });

  it('can be counted for a classifier, and may be where the file leaves shapes open', () => {
    expect(countsLabels(classifier)).toBe(true);
    expect(countsLabels(withOutputs({ ...output('y', []), anyShape: true }))).toBe(true);
  });

  it('are refused for a model that has no classes, and where the file is a folder', async () => {
    await writeNpy(file, 'int64', [2], BigInt64Array.of(0n, 1n));
    for (const none of [output('features', ['batch', 4]), output('y', ['batch', 1]), output('y', [1, 3, 8, 8])]) {
      const { message } = await failure(readLabels(file, 2, withOutputs(none)));
      expect(message).toContain('can be held against labels');
      expect(countsLabels(withOutputs(none))).toBe(false);
    }
    expect((await failure(readLabels(folder, 2, classifier))).code).toBe('E_DATA_FORMAT');
  });
});
