import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { createRuntime } from '../../../src/runtime/client.js';
import { openDataset } from '../../../src/runtime/dataset.js';
import { NpyArray, openSource } from '../../../src/runtime/npy.js';
import { streamBatches } from '../../../src/runtime/stream.js';

const models = path.resolve('../shared/models');
const folder = mkdtempSync(path.join(tmpdir(), 'snug-stream-'));
let last = 0;
const runtime = createRuntime({ onProcess: (pid) => (last = pid) });
const input = { name: 'input', dtype: 'float32', dims: ['batch', 1, 8, 8] };

afterEach(() => runtime.close());
afterAll(() => rmSync(folder, { recursive: true }));

async function rows(file: string): Promise<{ dims: number[]; data: ArrayLike<number | bigint> }> {
  const array = await NpyArray.open(await openSource(file), file);
  const data = await array.read(0, array.rows);
  await array.close();
  return { dims: array.dims, data };
}

describe.skipIf(!existsSync(models))('a data set streamed through a real model (skipped without the models)', () => {
  const test = path.join(models, 'digits-test.npy');

  it('gives the accuracy the model is known for', async () => {
    const dataset = await openDataset(test, [input]);
    const output = path.join(folder, 'logits.npy');
    const spec = { modelPath: path.join(models, 'digits-mlp.onnx'), provider: 'cpu' as const };
    const result = await streamBatches({ runtime, spec, dataset, batch: 50, output });
    await dataset.close();
    expect(result).toMatchObject({ batch: 50, samples: 597, halvings: 0 });
    const logits = await rows(output);
    const labels = await rows(path.join(models, 'digits-test-labels.npy'));
    expect(logits.dims).toEqual([597, 10]);
    let right = 0;
    for (let sample = 0; sample < 597; sample += 1) {
      const scores = Array.from({ length: 10 }, (_, i) => Number(logits.data[sample * 10 + i]));
      if (scores.indexOf(Math.max(...scores)) === Number(labels.data[sample])) right += 1;
    }
    expect(right / 597).toBeCloseTo(0.983, 2);
  });

  it('keeps the measured peak within a budget', async () => {
    const dataset = await openDataset(test, [input]);
    const output = path.join(folder, 'vit.npy');
    const spec = { modelPath: path.join(models, 'digits-vit.onnx'), provider: 'cpu' as const };
    const budgetBytes = 20e6;
    const result = await streamBatches({ runtime, spec, dataset, batch: 64, budgetBytes, output });
    await dataset.close();
    expect(result.peakBytes).toBeLessThanOrEqual(budgetBytes);
    expect(result.halvings).toBeGreaterThan(0);
    expect((await rows(output)).dims).toEqual([597, 10]);
  });

  it('halves when the budget is cut in the middle, and answers the same', async () => {
    const spec = { modelPath: path.join(models, 'digits-vit.onnx'), provider: 'cpu' as const };
    const run = async (name: string, budgetBytes?: () => number, onDone?: (samples: number) => void) => {
      const dataset = await openDataset(test, [input]);
      const output = path.join(folder, name);
      const result = await streamBatches({
        runtime,
        spec,
        dataset,
        batch: 16,
        output,
        ...(budgetBytes ? { budgetBytes } : {}),
        onProgress: ({ samples }) => onDone?.(samples),
      });
      await dataset.close();
      return { result, logits: await rows(output) };
    };
    const plain = await run('plain.npy');
    // The clock of the budget runs ten times as fast, so that the cut is seen within a short run.
    const now = performance.now.bind(performance);
    const clock = vi.spyOn(performance, 'now').mockImplementation(() => now() * 10);
    let done = 0;
    const peak = plain.result.peakBytes;
    const cut = await run(
      'cut.npy',
      () => (done < 200 ? peak * 1.2 : peak * 0.8),
      (samples) => (done = samples),
    );
    clock.mockRestore();
    expect(cut.result.halvings).toBeGreaterThan(0);
    expect(cut.result.peakBytes).toBeLessThanOrEqual(peak * 0.8);
    expect(cut.logits.dims).toEqual(plain.logits.dims);
    // Another batch size may take another kernel: the last bits differ.
    for (let i = 0; i < 5970; i += 1) {
      expect(Math.abs(Number(cut.logits.data[i]) - Number(plain.logits.data[i]))).toBeLessThan(1e-3);
    }
  });

  it('leaves no output when its process is killed', async () => {
    const dataset = await openDataset(test, [input]);
    const output = path.join(folder, 'killed.npy');
    const spec = { modelPath: path.join(models, 'digits-vit.onnx'), provider: 'cpu' as const };
    const work = streamBatches({
      runtime,
      spec,
      dataset,
      batch: 8,
      output,
      onProgress: ({ samples }) => {
        if (samples === 80) process.kill(last, 'SIGKILL');
      },
    });
    await expect(work).rejects.toEqual(expect.objectContaining({ code: 'E_ENGINE_KILLED' }));
    await dataset.close();
    expect(readdirSync(folder).filter((name) => name.includes('killed'))).toEqual([]);
  });
});
