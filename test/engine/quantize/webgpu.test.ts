import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { Dtype } from '../../../src/contract/types.js';
import { intAttribute, intsAttribute } from '../../../src/onnx/graph.js';
import type { Model, Tensor } from '../../../src/onnx/model.js';
import { writeModel } from '../../../src/onnx/write.js';
import { quantizableWeights, quantizeModel } from '../../../src/quantize/index.js';
import { createRuntime } from '../../../src/runtime/client.js';
import type { Feeds } from '../../../src/runtime/types.js';
import { buildModel, node, weight } from './build.js';
import { gaussian, sqnr } from './numbers.js';

// Machines without a graphics stack have the software driver that Debian's chromium ships.
const software = '/usr/lib/chromium/vk_swiftshader_icd.json';
if (process.env.VK_ICD_FILENAMES === undefined && existsSync(software)) process.env.VK_ICD_FILENAMES = software;

const runtime = createRuntime();
const usable = (await runtime.providers()).includes('webgpu');
const folder = mkdtempSync(path.join(os.tmpdir(), 'quantize-webgpu-'));
afterAll(async () => {
  await runtime.close();
  rmSync(folder, { recursive: true, force: true });
});

const w = (name: string, dims: number[], seed: number): Tensor =>
  weight(
    name,
    dims,
    gaussian(
      dims.reduce((a, b) => a * b, 1),
      seed,
    ).map((value) => value * 0.1),
  );

/** One of each operator with a quantized form; `odd` table rows have an odd number of blocks, `partial` ones a partial last one. */
function everything(): Model {
  const kernel = { kernel_shape: intsAttribute([3, 3]), pads: intsAttribute([1, 1, 1, 1]) };
  return buildModel({
    inputs: { x: ['n', 83], image: ['n', 32, 7, 6], ids: ['k'], stacked: [2, 48, 40] },
    inputTypes: { ids: 7 },
    outputs: [
      'matmul',
      'gemm',
      'conv',
      'grouped',
      'transposed',
      'rows',
      'odd',
      'partial',
      'left',
      'stack',
      'stack_left',
    ],
    nodes: [
      node('MatMul', ['x', 'w_matmul'], 'product'),
      node('Add', ['product', 'b_matmul'], 'matmul'),
      node('Gemm', ['x', 'w_gemm', 'b_gemm'], 'gemm', { transB: intAttribute(1) }),
      node('Conv', ['image', 'w_conv', 'b_conv'], 'conv', kernel),
      node('Conv', ['image', 'w_grouped'], 'grouped', { ...kernel, group: intAttribute(2) }),
      node('ConvTranspose', ['image', 'w_transposed'], 'transposed', { kernel_shape: intsAttribute([2, 2]) }),
      node('Gather', ['table', 'ids'], 'rows'),
      node('Gather', ['odd_table', 'ids'], 'odd'),
      node('Gather', ['partial_table', 'ids'], 'partial'),
      node('MatMul', ['w_left', 'stacked'], 'left'),
      node('MatMul', ['stacked', 'w_stack'], 'stack'),
      node('MatMul', ['w_stack_left', 'stacked'], 'stack_left'),
    ],
    weights: [
      w('w_matmul', [83, 40], 1),
      w('b_matmul', [40], 2),
      w('w_gemm', [24, 83], 3),
      w('b_gemm', [24], 4),
      w('w_conv', [16, 32, 3, 3], 5),
      w('b_conv', [16], 6),
      w('w_grouped', [8, 16, 3, 3], 7),
      w('w_transposed', [32, 20, 2, 2], 8),
      w('table', [20, 64], 9),
      w('odd_table', [20, 96], 10),
      w('partial_table', [20, 100], 11),
      w('w_left', [37, 48], 12),
      w('w_stack', [2, 40, 24], 13),
      w('w_stack_left', [2, 24, 48], 14),
    ],
    opset: 21,
  });
}

const feeds: Feeds = {
  x: { dtype: 'float32', dims: [3, 83], data: gaussian(3 * 83, 20) },
  image: { dtype: 'float32', dims: [2, 32, 7, 6], data: gaussian(2 * 32 * 7 * 6, 21) },
  stacked: { dtype: 'float32', dims: [2, 48, 40], data: gaussian(2 * 48 * 40, 22) },
  ids: { dtype: 'int64', dims: [3], data: BigInt64Array.from([0n, 19n, 7n]) },
};

describe.skipIf(!usable)(`quantized weights on WebGPU${usable ? '' : ' (skipped: no usable adapter)'}`, () => {
  for (const dtype of ['int8', 'int4', 'int2'] as const satisfies readonly Dtype[]) {
    it(`${dtype}: every operator stays on the device and computes as on the CPU`, { timeout: 240_000 }, async () => {
      const model = everything();
      const assignment = new Map(quantizableWeights(model, 'webgpu').map((info) => [info.name, dtype]));
      const result = quantizeModel(model, assignment, { provider: 'webgpu' });
      // Kernels and stacks have no 2-bit form.
      const others = dtype === 'int2' ? result.weights.filter(({ reason }) => reason?.includes('2-bit') === true) : [];
      expect(others).toHaveLength(dtype === 'int2' ? 5 : 0);
      expect(others.map((row) => row.dtype)).toEqual(others.map(() => 'int4'));
      const asked = result.weights.filter((row) => !others.includes(row));
      expect(asked.map((row) => row.dtype)).toEqual(asked.map(() => dtype));
      const modelPath = path.join(folder, `${dtype}.onnx`);
      writeModel(result.model, modelPath);
      const outputs: Feeds[] = [];
      for (const provider of ['cpu', 'webgpu'] as const) {
        const session = await runtime.open({ modelPath, provider });
        outputs.push(await session.run(feeds));
        await session.close();
      }
      const [cpu, gpu] = outputs;
      for (const [name, tensor] of Object.entries(cpu!)) {
        const got = gpu![name]!.data as Float32Array;
        // Looked-up rows are exact; the CPU's int8 activations leave about 40 dB elsewhere.
        if (name === 'rows' || name === 'odd' || name === 'partial') expect(got, name).toEqual(tensor.data);
        else expect(sqnr(tensor.data as Float32Array, got), name).toBeGreaterThan(30);
      }
      const measured = await runtime.measure({ modelPath, provider: 'webgpu' }, feeds, { warmRuns: 1, batch: 2 });
      expect(measured.fallbacks).toEqual([]);
    });
  }
});
