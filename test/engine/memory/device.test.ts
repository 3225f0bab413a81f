import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { estimateMemory } from '../../../src/memory/estimate.js';
import { intsAttribute } from '../../../src/onnx/attribute.js';
import { makeNode } from '../../../src/onnx/graph.js';
import type { Model } from '../../../src/onnx/model.js';
import { float32Tensor } from '../../../src/onnx/tensor.js';
import { writeModel } from '../../../src/onnx/write.js';
import { createRuntime } from '../../../src/runtime/client.js';
import type { Measurement } from '../../../src/contract/types.js';
import { graphOf, modelOf, value } from '../../unit/onnx/build.js';

const folder = mkdtempSync(path.join(tmpdir(), 'snug-device-'));
const runtime = createRuntime();
const hasWebgpu = (await runtime.providers()).includes('webgpu');

const tensor = (name: string, ...dims: number[]) =>
  float32Tensor(name, dims, new Float32Array(dims.reduce((a, b) => a * b, 1)).fill(0.01));

async function measure(model: Model, name: string, dims: number[]): Promise<Measurement> {
  const modelPath = path.join(folder, `${name}.onnx`);
  writeModel(model, modelPath);
  const data = new Float32Array(dims.reduce((a, b) => a * b, 1));
  const feeds = { x: { dtype: 'float32' as const, dims, data } };
  return runtime.measure({ modelPath, provider: 'webgpu' }, feeds, { warmRuns: 1, batch: dims[0] ?? 1 });
}

/** A software driver compiles and runs shaders slowly on a busy computer. */
const timeout = 180_000;

describe.skipIf(!hasWebgpu)(
  'device memory predicted for webgpu (skipped without a WebGPU adapter)',
  { timeout },
  () => {
    afterAll(async () => {
      await runtime.close();
      rmSync(folder, { recursive: true, force: true });
    });

    it('of products: weights, buckets beyond a heap, staging', async () => {
      const model = modelOf(
        graphOf({
          nodes: [
            makeNode('MatMul', ['x', 'w'], ['h']),
            makeNode('Relu', ['h'], ['r']),
            makeNode('MatMul', ['r', 'v'], ['y']),
          ],
          initializers: [tensor('w', 64, 1024), tensor('v', 1024, 8)],
          inputs: [value('x', ['batch', 64])],
          outputs: [value('y', ['batch', 8])],
        }),
      );
      const measured = await measure(model, 'product', [1500, 64]);
      const estimate = estimateMemory(model, { provider: 'webgpu', batch: 1500, dims: {} });
      expect(measured.peakBytes / estimate.peakBytes).toBeGreaterThan(0.98);
      expect(measured.peakBytes / estimate.peakBytes).toBeLessThan(1.02);
    });

    it('of convolutions: filters that were turned, copies between layouts', async () => {
      const pads = { pads: intsAttribute([1, 1, 1, 1]) };
      const nodes = [
        makeNode('Conv', ['x', 'w0'], ['a'], pads),
        makeNode('Relu', ['a'], ['b']),
        makeNode('Conv', ['b', 'w1'], ['c'], pads),
        makeNode('Add', ['b', 'c'], ['d']),
        makeNode('Conv', ['d', 'w2'], ['y'], pads),
      ];
      const model = modelOf(
        graphOf({
          nodes,
          initializers: [tensor('w0', 128, 3, 3, 3), tensor('w1', 128, 128, 3, 3), tensor('w2', 128, 128, 3, 3)],
          inputs: [value('x', ['batch', 3, 8, 8])],
          outputs: [value('y', ['batch', 128, 8, 8])],
        }),
      );
      const measured = await measure(model, 'convolution', [2, 3, 8, 8]);
      const { cold } = estimateMemory(model, { provider: 'webgpu', batch: 2, dims: {} });
      expect(measured.cold! / cold.peakBytes).toBeGreaterThan(0.97);
      expect(measured.cold! / cold.peakBytes).toBeLessThan(1.03);
    });
  },
);
