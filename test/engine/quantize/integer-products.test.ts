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

  it.each([
    ['int8-static', ['QLinearConv', 'QGemm', 'MatMulIntegerToFloat']],
    ['int8-dynamic', ['ConvInteger', 'DynamicQuantizeMatMul']],
  ] as const)('%s computes the same with uint8 weights, in the same kernels', async (dtype, kernels) => {
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
