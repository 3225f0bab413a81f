/**
 * Part of `npm run bench:prune`: repair without samples, at 15 % and 30 %, on made-up inputs of several spreads. What
 * is best here is what `usualNoise` holds.
 */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openModel } from '../../src/app/open.js';
import { madeUpDataset, usualNoise } from '../../src/fit/made-up.js';
import { writeModel } from '../../src/onnx/write.js';
import { pruneModel } from '../../src/prune/index.js';
import { createRuntime } from '../../src/runtime/client.js';
import { accuracy } from './evaluate.js';

const models = path.resolve('../shared/models');
const folder = mkdtempSync(path.join(tmpdir(), 'snug-bench-noise-'));
const runtime = createRuntime();
const deviations = [0.1, 0.2, 0.3, 0.5, 1];

describe.skipIf(!existsSync(models))('made-up inputs (needs the sample models)', () => {
  afterAll(async () => {
    await runtime.close();
    rmSync(folder, { recursive: true, force: true });
  });

  it.each(['digits-mlp', 'digits-resnet', 'digits-vit'])('%s', async (name) => {
    const opened = openModel(path.join(models, `${name}.onnx`));
    const judge = (file: string): Promise<number> =>
      accuracy(file, path.join(models, 'digits-test.npy'), path.join(models, 'digits-test-labels.npy'));
    const before = await judge(opened.path);
    for (const ratio of [0.15, 0.3]) {
      const kept = new Map<number, number>();
      for (const deviation of deviations) {
        const dataset = madeUpDataset(opened.model, opened.inputs, {}, { ...usualNoise, deviation });
        const samples = { runtime, dataset, workDirectory: folder, maxSamples: 100 };
        const { model } = await pruneModel(opened.model, { ratio, method: 'repair', samples });
        const file = path.join(folder, 'pruned.onnx');
        writeModel(model, file, { overwrite: true });
        kept.set(deviation, (await judge(file)) / before);
      }
      const shown = [...kept].map(([deviation, share]) => `±${deviation}: ${(100 * share).toFixed(2)} %`);
      console.log([name, ratio, ...shown].join(' | '));
      if (ratio === 0.15) expect(kept.get(usualNoise.deviation)).toBeGreaterThanOrEqual(0.98);
    }
  });
});
