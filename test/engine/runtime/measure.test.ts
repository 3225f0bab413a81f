import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { createRuntime } from '../../../src/runtime/client.js';
import { openDataset } from '../../../src/runtime/dataset.js';
import { syntheticFeeds } from '../../../src/runtime/synthetic.js';
import type { Feeds, RuntimeValue, SessionSpec } from '../../../src/runtime/types.js';
import { onnxModel, type TestGraph } from './model.js';

const models = path.resolve('../shared/models');
const folder = mkdtempSync(path.join(tmpdir(), 'snug-measure-'));
const runtime = createRuntime();
afterAll(async () => {
  await runtime.close();
  rmSync(folder, { recursive: true });
});

function spec(name: string, graph: TestGraph): SessionSpec {
  const modelPath = path.join(folder, `${name}.onnx`);
  writeFileSync(modelPath, onnxModel(graph));
  return { modelPath, provider: 'cpu' };
}

async function inputsOf(modelPath: string): Promise<RuntimeValue[]> {
  const session = await runtime.open({ modelPath, provider: 'cpu' });
  await session.close();
  return session.inputs;
}

describe.skipIf(!existsSync(models))('measured peak memory on cpu (skipped without the sample models)', () => {
  // Arena peak and weights outside of it, read from a profile by hand (onnxruntime 1.30.0, x64, default options).
  it.each([
    ['digits-mlp.onnx', 32, 771_368, 3_112],
    ['digits-resnet.onnx', 32, 1_058_120, 3_250_248],
    ['digits-vit.onnx', 32, 25_967_928, 55_088],
    ['kjv-gpt/model.onnx', 4, 21_565_524, 452_696],
  ])('%s at batch %i', async (file, batch, arena, outside) => {
    const modelPath = path.join(models, file);
    const feeds = syntheticFeeds(await inputsOf(modelPath), { batch, sequence: 128 }, 1);
    const measured = await runtime.measure({ modelPath, provider: 'cpu' }, feeds, { warmRuns: 2, batch });
    expect(measured.weightsOutsideArenaBytes).toBe(outside);
    expect(measured.peakBytes).toBe(arena + outside);
    expect(measured.method).toBe('arena');
    expect(measured.fallbacks).toEqual([]);
    expect(Object.keys(measured.placement)).toEqual(['CPUExecutionProvider']);
    expect(measured.latencyMs).toBeGreaterThan(0);
    const { load, cold, warm } = measured;
    expect([load, cold, warm].every((level) => level !== null && level <= measured.peakBytes)).toBe(true);
  });

  it('reads text through the tokenizer of the model', async () => {
    const modelPath = path.join(models, 'kjv-gpt/model.onnx');
    const data = await openDataset(path.join(models, 'kjv-test.txt'), await inputsOf(modelPath), {
      modelDirectory: path.dirname(modelPath),
      sequence: 64,
    });
    // One token for each of the 40,000 characters.
    expect(data.samples).toBe(625);
    const session = await runtime.open({ modelPath, provider: 'cpu' });
    const feeds = await data.feeds(623, 2);
    const { logits } = await session.run(feeds, ['logits']);
    expect(logits?.dims).toEqual([2, 64, 68]);
    expect(meanNats(feeds, logits?.data as Float32Array, 68)).toBeLessThan(2);
    await session.close();
  });
});

/** Mean negative log likelihood of each token under the logits before it. */
function meanNats(feeds: Feeds, logits: Float32Array, vocabulary: number): number {
  const ids = feeds.input_ids;
  if (!ids) return NaN;
  const sequence = ids.dims[1] ?? 0;
  let sum = 0;
  let tokens = 0;
  for (let i = 0; i + 1 < ids.data.length; i += 1) {
    if ((i + 1) % sequence === 0) continue;
    const row = logits.subarray(i * vocabulary, (i + 1) * vocabulary);
    const top = Math.max(...row);
    const total = row.reduce((acc, value) => acc + Math.exp(value - top), 0);
    sum += Math.log(total) + top - (row[Number(ids.data[i + 1])] ?? 0);
    tokens += 1;
  }
  return sum / tokens;
}

describe('weights outside of the arena', () => {
  const rows = 512;
  const columns = 64;
  const bytes = rows * columns * 4;
  const table = { dims: [rows, columns], data: new Float32Array(rows * columns) };
  const feeds: Feeds = { x: { dtype: 'float32', dims: [2, rows], data: new Float32Array(2 * rows) } };

  it('are none when the kernel packs the weight', async () => {
    const packed = spec('packed', {
      nodes: [{ operator: 'MatMul', inputs: ['x', 'w'], outputs: ['y'] }],
      inputs: { x: ['batch', rows] },
      outputs: { y: ['batch', columns] },
      weights: { w: table },
    });
    const measured = await runtime.measure(packed, feeds, { warmRuns: 1, batch: 2 });
    expect(measured.weightsOutsideArenaBytes).toBe(0);
    expect(measured.load).toBe(bytes);
  });

  it('count once when two nodes share a weight', async () => {
    const shared = spec('shared', {
      nodes: [
        { operator: 'MatMul', inputs: ['x', 'w'], outputs: ['y'] },
        { operator: 'Add', inputs: ['v', 'w'], outputs: ['z'] },
        { operator: 'Mul', inputs: ['v', 'w'], outputs: ['q'] },
      ],
      inputs: { x: ['batch', rows], v: [1, columns] },
      outputs: { y: ['batch', columns], z: [rows, columns], q: [rows, columns] },
      weights: { w: table },
    });
    const v = { dtype: 'float32' as const, dims: [1, columns], data: new Float32Array(columns) };
    const measured = await runtime.measure(shared, { ...feeds, v }, { warmRuns: 1, batch: 2 });
    expect(measured.weightsOutsideArenaBytes).toBe(bytes);
    // The packed copy for MatMul besides the original.
    expect(measured.load).toBe(2 * bytes);
  });

  it('repeats the same numbers', async () => {
    const again = spec('again', {
      nodes: [{ operator: 'Mul', inputs: ['x', 'x'], outputs: ['y'] }],
      inputs: { x: ['batch', rows] },
      outputs: { y: ['batch', rows] },
    });
    const run = async (): Promise<number> => (await runtime.measure(again, feeds, { warmRuns: 3, batch: 2 })).peakBytes;
    expect(await run()).toBe(await run());
  });

  it('follows the memory pattern lever', async () => {
    const nodes = Array.from({ length: 6 }, (_, i) => ({
      operator: 'Mul',
      inputs: [i === 0 ? 'x' : `v${i}`, 'x'],
      outputs: [`v${i + 1}`],
    }));
    const chain = spec('chain', { nodes, inputs: { x: ['batch', rows] }, outputs: { v6: ['batch', rows] } });
    const large: Feeds = { x: { dtype: 'float32', dims: [512, rows], data: new Float32Array(512 * rows) } };
    const planned = await runtime.measure(chain, large, { warmRuns: 2, batch: 512 });
    const plain = await runtime.measure({ ...chain, levers: { memoryPattern: false } }, large, {
      warmRuns: 2,
      batch: 512,
    });
    expect(plain.peakBytes).toBeLessThanOrEqual(planned.peakBytes);
    expect(plain.warm).toBe(plain.cold);
  });
});

const hasWebgpu = (await runtime.providers()).includes('webgpu');

describe.skipIf(!hasWebgpu)('on webgpu (skipped without a WebGPU adapter)', () => {
  const size = 1024;
  const weights = { w: { dims: [size, size], data: new Float32Array(size * size) } };
  const feeds: Feeds = { x: { dtype: 'float32', dims: [1, size], data: new Float32Array(size) } };

  it('counts what the model adds, not what the driver holds', async () => {
    const graph: TestGraph = {
      nodes: [{ operator: 'MatMul', inputs: ['x', 'w'], outputs: ['y'] }],
      inputs: { x: ['batch', size] },
      outputs: { y: ['batch', size] },
      weights,
    };
    const request = { ...spec('gpu', graph), provider: 'webgpu' as const };
    const measured = await runtime.measure(request, feeds, { warmRuns: 1, batch: 1 });
    const weightBytes = size * size * 4;
    expect(measured.placement).toEqual({ WebGpuExecutionProvider: 1 });
    expect(measured.fallbacks).toEqual([]);
    expect(measured.peakBytes).toBeGreaterThan(weightBytes * 0.99);
    expect(measured.peakBytes).toBeLessThan(weightBytes * 1.05);
  });

  it('names the node that fell back to the cpu', async () => {
    const graph: TestGraph = {
      nodes: [
        { operator: 'DynamicQuantizeLinear', inputs: ['x'], outputs: ['q', 's', 'z'] },
        { operator: 'DequantizeLinear', inputs: ['q', 's', 'z'], outputs: ['d'] },
        { operator: 'MatMul', inputs: ['d', 'w'], outputs: ['y'] },
        { operator: 'CumSum', inputs: ['y', 'axis'], outputs: ['c'] },
        { operator: 'Hardmax', inputs: ['c'], outputs: ['h'] },
      ],
      inputs: { x: ['batch', size] },
      outputs: { h: ['batch', size] },
      weights: { ...weights, axis: { dims: [1], data: BigInt64Array.of(1n) } },
    };
    const request = { ...spec('fallback', graph), provider: 'webgpu' as const };
    const measured = await runtime.measure(request, feeds, { warmRuns: 0, batch: 1 });
    const operators = measured.fallbacks.map((fallback) => fallback.operator);
    expect(operators).toContain('DynamicQuantizeLinear');
    expect(operators).not.toContain('MatMul');
  });
});
