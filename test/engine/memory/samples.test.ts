import { existsSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { estimateMemory } from '../../../src/memory/estimate.js';
import { cloneModel } from '../../../src/onnx/graph.js';
import type { Model } from '../../../src/onnx/model.js';
import { readModel } from '../../../src/onnx/read.js';
import { serializeModel } from '../../../src/onnx/write.js';
import { profileModel } from './profile.js';

const samples = path.resolve('../shared/models');

/** Estimate against counters: cold and overall peak, each with the constants outside of the arena. */
async function compare(
  model: Model,
  source: string | Uint8Array,
  batch: number,
  dims: Record<string, number>,
  memoryPattern: boolean,
): Promise<{ cold: number; peak: number }> {
  const estimate = estimateMemory(model, { provider: 'cpu', batch, dims, levers: { memoryPattern } });
  expect(estimate.unknown).toEqual([]);
  const real = await profileModel(source, { level: 'all', memoryPattern, runs: 3, dims: estimate.dims });
  const peak = Math.max(...real.peaks) + real.weights;
  expect(estimate.lowBytes).toBeLessThanOrEqual(peak);
  expect(estimate.highBytes).toBeGreaterThanOrEqual(peak);
  return {
    cold: estimate.cold.peakBytes / ((real.peaks[0] ?? NaN) + real.weights) - 1,
    peak: estimate.peakBytes / peak - 1,
  };
}

describe.skipIf(!existsSync(samples))('estimates against onnxruntime (needs the sample models)', () => {
  const text = { sequence: 128 };
  test.each([
    ['digits-mlp.onnx', 1, {}],
    ['digits-mlp.onnx', 32, {}],
    ['digits-resnet.onnx', 1, {}],
    ['digits-resnet.onnx', 8, {}],
    ['digits-resnet.onnx', 32, {}],
    ['digits-vit.onnx', 1, {}],
    ['digits-vit.onnx', 8, {}],
    ['digits-vit.onnx', 32, {}],
    ['kjv-gpt/model.onnx', 1, text],
    ['kjv-gpt/model.onnx', 4, text],
    ['kjv-gpt/model.onnx', 4, { sequence: 1, past_sequence: 64 }],
  ])('%s at batch %i %o: to 0.6 percent, memory pattern on and off', async (file, batch, dims) => {
    const source = path.join(samples, file);
    const model = readModel(source);
    for (const memoryPattern of [true, false]) {
      const { cold, peak } = await compare(model, source, batch, dims, memoryPattern);
      expect(Math.abs(peak)).toBeLessThan(0.006);
      expect(Math.abs(cold)).toBeLessThan(0.006);
    }
  });

  test('a batch without a name needs less, because the runtime no longer shares across long gaps', async () => {
    const model = readModel(path.join(samples, 'digits-vit.onnx'));
    const bare = cloneModel(model);
    const values = [...bare.graph.inputs, ...bare.graph.outputs, ...bare.graph.valueInfo.values()];
    for (const entry of values) {
      delete entry.rawType;
      entry.dims = entry.dims?.map((dim) => (typeof dim === 'string' ? null : dim)) ?? null;
    }
    const named = estimateMemory(model, { provider: 'cpu', batch: 32, dims: {} });
    const unnamed = estimateMemory(bare, { provider: 'cpu', batch: 32, dims: {} });
    expect(unnamed.peakBytes).toBeLessThan(named.peakBytes * 0.75);
    const { peak } = await compare(bare, serializeModel(bare, { nodeOrder: 'keep' }), 32, {}, true);
    expect(Math.abs(peak)).toBeLessThan(0.002);
  });
});
