import { existsSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { createRuntime } from '../../../src/runtime/client.js';
import type { Feeds } from '../../../src/runtime/types.js';

const models = path.resolve('../shared/models');

function digits(batch: number): Feeds {
  const data = Float32Array.from({ length: batch * 64 }, (_, i) => (i % 17) / 16);
  return { input: { dtype: 'float32', dims: [batch, 1, 8, 8], data } };
}

function decoder(batch: number, sequence: number): Feeds {
  const feeds: Feeds = {
    input_ids: { dtype: 'int64', dims: [batch, sequence], data: new BigInt64Array(batch * sequence).fill(3n) },
    attention_mask: { dtype: 'int64', dims: [batch, sequence], data: new BigInt64Array(batch * sequence).fill(1n) },
  };
  for (let layer = 0; layer < 4; layer += 1) {
    for (const part of ['key', 'value']) {
      const name = `past_key_values.${layer}.${part}`;
      feeds[name] = { dtype: 'float32', dims: [batch, 6, 0, 32], data: new Float32Array(0) };
    }
  }
  return feeds;
}

describe.skipIf(!existsSync(models))('measured peak memory on cpu (skipped without the sample models)', () => {
  // Arena peak and weights outside of it, read from a profile by hand (onnxruntime 1.30.0, x64, default options).
  it.each([
    ['digits-mlp.onnx', 32, digits(32), 771_368, 3_112],
    ['digits-resnet.onnx', 32, digits(32), 1_058_120, 3_250_248],
    ['digits-vit.onnx', 32, digits(32), 25_967_928, 55_088],
    ['kjv-gpt/model.onnx', 4, decoder(4, 128), 21_565_524, 452_696],
  ])('%s at batch %i', async (file, batch, feeds, arena, outside) => {
    const runtime = createRuntime();
    const spec = { modelPath: path.join(models, file), provider: 'cpu' as const };
    const measured = await runtime.measure(spec, feeds, { warmRuns: 2, batch });
    expect(measured.weightsOutsideArenaBytes).toBe(outside);
    expect(measured.peakBytes).toBe(arena + outside);
    expect(measured.method).toBe('arena');
    expect(measured.fallbacks).toEqual([]);
    await runtime.close();
  });
});
