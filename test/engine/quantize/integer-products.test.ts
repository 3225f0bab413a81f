import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { intAttribute, intsAttribute } from '../../../src/onnx/graph.js';
import { DataType } from '../../../src/onnx/model.js';
import { cutsOffProducts, needsUnsignedWeights } from '../../../src/quantize/integer-products.js';
import { collectRanges, quantizableWeights, quantizeModel } from '../../../src/quantize/index.js';
import type { Runtime } from '../../../src/runtime/types.js';
import { buildModel, directRuntime, listDataset, node, optimizedOperators, runModel, weight } from './build.js';
import { gaussian, sqnr } from './numbers.js';

let folder: string;
beforeAll(() => (folder = mkdtempSync(path.join(os.tmpdir(), 'integer-products-'))));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A runtime whose sums of products are cut off as 16 bits do. */
function cuttingRuntime(opened: { count: number }): Runtime {
  const direct = directRuntime();
  return {
    ...direct,
    open: async (spec) => {
      opened.count++;
      const session = await direct.open(spec);
      return {
        ...session,
        run: async (feeds, fetches) => {
          const results = await session.run(feeds, fetches);
          for (const { data } of Object.values(results)) (data as Int32Array).fill((256 / 2) * 32767);
          return results;
        },
      };
    },
  };
}

describe('products of 8-bit integers', () => {
  it('are asked for once, leave no file, and only where integers are multiplied', async () => {
    const opened = { count: 0 };
    const runtime = cuttingRuntime(opened);
    expect(await needsUnsignedWeights(runtime, ['int8', 'int4', 'fp16', 'fp32'], folder)).toBe(false);
    expect(opened.count).toBe(0);
    expect(await needsUnsignedWeights(runtime, ['int8', 'int8-static'], folder)).toBe(true);
    expect(await cutsOffProducts(runtime, folder)).toBe(true);
    expect(opened.count).toBe(1);
    expect(typeof (await cutsOffProducts(directRuntime(), folder))).toBe('boolean');
    expect(readdirSync(folder)).toEqual([]);
  });

  it('are asked for again after a failure', async () => {
    const direct = directRuntime();
    let failures = 1;
    const runtime: Runtime = {
      ...direct,
      open: (spec) => (failures-- > 0 ? Promise.reject(new Error('no memory')) : direct.open(spec)),
    };
    await expect(cutsOffProducts(runtime, folder)).rejects.toThrow('no memory');
    expect(typeof (await cutsOffProducts(runtime, folder))).toBe('boolean');
    expect(readdirSync(folder)).toEqual([]);
  });

  it('leave a Gemm whose bias is one value for all outputs a float activation', async () => {
    const model = buildModel({
      inputs: { x: ['n', 64] },
      outputs: ['y'],
      nodes: [node('Gemm', ['x', 'w', 'c'], 'y')],
      weights: [weight('w', [64, 48], gaussian(64 * 48, 1)), weight('c', [1], gaussian(1, 2))],
    });
    const feeds = { x: { dims: [3, 64], data: gaussian(3 * 64, 9) } };
    const ranges = await collectRanges(directRuntime(), model, listDataset([feeds]), { workDirectory: folder });
    const result = quantizeModel(model, new Map([['w', 'int8-static']]), { provider: 'cpu', ranges });
    const why = expect.stringContaining('not one value for each output') as string;
    expect(result.weights.find(({ name }) => name === 'w')).toMatchObject({ dtype: 'int8', reason: why });
    expect(sqnr((await runModel(model, feeds)).y!, (await runModel(result.model, feeds)).y!)).toBeGreaterThan(33);
  });

  const model = buildModel({
    inputs: { x: ['n', 16, 8, 8] },
    outputs: ['y'],
    nodes: [
      node('Conv', ['x', 'w1', 'b1'], 'c', { kernel_shape: intsAttribute([3, 3]), pads: intsAttribute([1, 1, 1, 1]) }),
      node('Relu', ['c'], 'r'),
      node('GlobalAveragePool', ['r'], 'p'),
      node('Flatten', ['p'], 'f'),
      node('Gemm', ['f', 'w2', 'b2'], 'g', { transB: intAttribute(1) }),
      node('MatMul', ['g', 'w3'], 'y'),
    ],
    weights: [
      weight(
        'w1',
        [32, 16, 3, 3],
        gaussian(32 * 144, 1).map((value) => value * 0.1),
      ),
      weight('b1', [32], gaussian(32, 2)),
      weight(
        'w2',
        [48, 32],
        gaussian(48 * 32, 3).map((value) => value * 0.2),
      ),
      weight('b2', [48], gaussian(48, 4)),
      weight(
        'w3',
        [48, 24],
        gaussian(48 * 24, 5).map((value) => value * 0.2),
      ),
    ],
  });
  const feeds = { x: { dims: [3, 16, 8, 8], data: gaussian(3 * 16 * 64, 9) } };
  const gates = (name: string, dims: number[], seed: number): ReturnType<typeof weight> =>
    weight(
      name,
      dims,
      gaussian(dims[1]! * dims[2]!, seed).map((value) => value * 0.2),
    );
  const recurrent = buildModel({
    inputs: { x: [5, 2, 24] },
    outputs: ['y'],
    nodes: [node('LSTM', ['x', 'w', 'r'], 'y', { hidden_size: intAttribute(16) })],
    weights: [gates('w', [1, 64, 24], 1), gates('r', [1, 64, 16], 2)],
  });
  const steps = { x: { dims: [5, 2, 24], data: gaussian(240, 9) } };

  it.each([
    ['int8-static', ['QLinearConv', 'QGemm', 'MatMulIntegerToFloat'], model, feeds],
    ['int8-dynamic', ['ConvInteger', 'DynamicQuantizeMatMul'], model, feeds],
    ['int8-dynamic', ['DynamicQuantizeLSTM'], recurrent, steps],
  ] as const)('%s computes the same with uint8 weights, in the same kernels: %s', async (...given) => {
    const [dtype, kernels, model, feeds] = given;
    const formats = new Map(quantizableWeights(model, 'cpu').map(({ name }) => [name, dtype]));
    const ranges = await collectRanges(directRuntime(), model, listDataset([feeds]), { workDirectory: folder });
    const [signed, unsigned] = [false, true].map(
      (unsignedWeights) => quantizeModel(model, formats, { provider: 'cpu', ranges, unsignedWeights }).model,
    );
    const types = (of: typeof model): Set<number> =>
      new Set([...of.graph.initializers.values()].filter((t) => t.dims.length > 1).map((t) => t.dataType));
    expect(types(signed!).has(DataType.UINT8)).toBe(false);
    expect(types(unsigned!).has(DataType.INT8)).toBe(false);
    const operators = await optimizedOperators(unsigned!, folder);
    for (const kernel of kernels) expect(operators).toContain(kernel);
    const exact = await runModel(model, feeds);
    const got = await runModel(unsigned!, feeds);
    expect(sqnr(exact.y!, got.y!)).toBeGreaterThan(28);
    // uint8 weights are exact everywhere; int8 weights where products are not cut off.
    if (await cutsOffProducts(directRuntime(), folder)) return;
    expect(sqnr((await runModel(signed!, feeds)).y!, got.y!)).toBeGreaterThan(90);
  });
});
