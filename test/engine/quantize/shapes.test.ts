import { describe, expect, it } from 'vitest';
import type { Dtype } from '../../../src/contract/types.js';
import { floatAttribute, intAttribute, intsAttribute, makeNode, stringAttribute } from '../../../src/onnx/graph.js';
import { DataType, type Graph, type Model, type Node, type Tensor, type ValueInfo } from '../../../src/onnx/model.js';
import { float32ToFloat16Bits } from '../../../src/onnx/half.js';
import { int64Tensor, rawTensor, readFloat32 } from '../../../src/onnx/tensor.js';
import { decodeWeight, quantizableWeights, quantizeModel, type Quantized } from '../../../src/quantize/index.js';
import { buildGraph, buildModel, node, operators, runModel, weight } from './build.js';
import { gaussian, sqnr } from './numbers.js';

const size = (dims: readonly number[]): number => dims.reduce((a, b) => a * b, 1);
const random = (name: string, dims: number[], seed: number): Tensor => weight(name, dims, gaussian(size(dims), seed));

function quantized(model: Model, dtype: Dtype): Quantized {
  const assignment = new Map(quantizableWeights(model, 'cpu').map(({ name }) => [name, dtype]));
  return quantizeModel(model, assignment, { provider: 'cpu' });
}

/** x → one node with the weight w → y. */
function single(dims: number[], nodes: Node[], weights: Tensor[]): Model {
  return buildModel({ inputs: { x: dims }, outputs: ['y'], nodes, weights, opset: 21 });
}

/** Least output SQNR in dB of one layer. */
const least = { int8: 33, int4: 17, nf4: 17, int2: 6 } as const;

async function check(model: Model, dims: number[], dtype: keyof typeof least, expected: string[]): Promise<void> {
  const result = quantized(model, dtype);
  expect(result.weights.find(({ name }) => name === 'w')).toMatchObject({ dtype });
  expect(operators(result.model)).toEqual(expected);
  const feeds = { x: { dims, data: gaussian(size(dims), 99) } };
  const exact = (await runModel(model, feeds)).y!;
  const got = (await runModel(result.model, feeds)).y!;
  expect(sqnr(exact, got)).toBeGreaterThan(least[dtype]);
  // What is said to have become of the weight is what the runtime computes with.
  const decoded = decodeWeight(model, result.model, 'w')!;
  const { dims: weightDims } = model.graph.initializers.get('w')!;
  const seen = { ...model, graph: { ...model.graph, initializers: new Map(model.graph.initializers) } };
  seen.graph.initializers.set('w', weight('w', weightDims, decoded));
  expect(sqnr((await runModel(seen, feeds)).y!, got)).toBeGreaterThan(35);
  expect(sqnr(readFloat32(model.graph.initializers.get('w')!), decoded)).toBeGreaterThan(least[dtype]);
}

describe('shapes of weights on the CPU', () => {
  for (const dtype of ['int8', 'int4', 'nf4', 'int2'] as const) {
    const operator = dtype === 'nf4' ? 'MatMulBnb4' : 'MatMulNBits';

    it(`${dtype}: a weight on the left of MatMul, also transposed and in front of batches`, async () => {
      const left = [operator, 'Transpose', 'Transpose'];
      const w = random('w', [40, 83], 1);
      await check(single([83, 7], [node('MatMul', ['w', 'x'], 'y')], [w]), [83, 7], dtype, left);
      await check(single([2, 3, 83, 5], [node('MatMul', ['w', 'x'], 'y')], [w]), [2, 3, 83, 5], dtype, left);
      const turned = [node('Transpose', ['w'], 't', { perm: intsAttribute([1, 0]) }), node('MatMul', ['t', 'x'], 'y')];
      await check(single([83, 7], turned, [random('w', [83, 40], 2)]), [83, 7], dtype, left);
    });

    it(`${dtype}: a weight on the left of Gemm with any transposes, factors and addend`, async () => {
      const [m, k, n] = [48, 70, 9];
      for (const transA of [0, 1]) {
        for (const transB of [0, 1]) {
          for (const c of [null, [n], [m, 1], [m, n]]) {
            const dims = transB === 1 ? [n, k] : [k, n];
            const attributes = {
              transA: intAttribute(transA),
              transB: intAttribute(transB),
              alpha: floatAttribute(-2),
              beta: floatAttribute(c === null ? 1 : 0.5),
            };
            const model = single(
              dims,
              [node('Gemm', c === null ? ['w', 'x'] : ['w', 'x', 'c'], 'y', attributes)],
              [random('w', transA === 1 ? [k, m] : [m, k], 3), ...(c === null ? [] : [random('c', c, 4)])],
            );
            await check(model, dims, dtype, [
              ...(c === null ? [] : ['Add']),
              operator,
              ...(c === null ? [] : ['Mul']),
              ...new Array<string>(2 - transB).fill('Transpose'),
            ]);
          }
        }
      }
    });

    it(`${dtype}: a Gemm with bias and transposes, a MatMul with a bias`, async () => {
      for (const transA of [0, 1]) {
        for (const transB of [0, 1]) {
          const dims = transA === 1 ? [83, 9] : [9, 83];
          const attributes = { transA: intAttribute(transA), transB: intAttribute(transB), alpha: floatAttribute(3) };
          const weights = [random('w', transB === 1 ? [40, 83] : [83, 40], 9), random('c', [40], 4)];
          const model = single(dims, [node('Gemm', ['x', 'w', 'c'], 'y', attributes)], weights);
          await check(model, dims, dtype, [
            ...(dtype === 'nf4' ? ['Add'] : []),
            operator,
            ...(transA === 1 ? ['Transpose'] : []),
          ]);
        }
      }
      const biased = [node('MatMul', ['x', 'w'], 'm'), node('Add', ['m', 'c'], 'y')];
      const model = single([2, 9, 83], biased, [random('w', [83, 41], 9), random('c', [41], 4)]);
      await check(model, [2, 9, 83], dtype, [...(dtype === 'nf4' ? ['Add'] : []), operator]);
    });
  }

  for (const dtype of ['int8', 'int4'] as const) {
    it(`${dtype}: stacked matrices on either side, blocks that do not divide the summed axis`, async () => {
      const unpacked = ['DequantizeLinear', 'MatMul'];
      const w = random('w', [3, 37, 21], 5);
      await check(single([3, 6, 37], [node('MatMul', ['x', 'w'], 'y')], [w]), [3, 6, 37], dtype, unpacked);
      await check(single([6, 37], [node('MatMul', ['x', 'w'], 'y')], [w]), [6, 37], dtype, unpacked);
      await check(single([21, 40], [node('MatMul', ['w', 'x'], 'y')], [w]), [21, 40], dtype, unpacked);
    });

    it(`${dtype}: convolutions of one and three dimensions, in groups, with odd channels`, async () => {
      const conv = (opType: 'Conv' | 'ConvTranspose', group: number): Node[] => [
        node(opType, ['x', 'w'], 'y', { group: intAttribute(group) }),
      ];
      const unpacked = (opType: string): string[] => [opType, 'DequantizeLinear'].sort();
      const w1 = random('w', [5, 17, 3], 6);
      await check(single([2, 17, 9], conv('Conv', 1), [w1]), [2, 17, 9], dtype, unpacked('Conv'));
      const w3 = random('w', [4, 19, 2, 1, 3], 7);
      await check(single([1, 38, 3, 3, 4], conv('Conv', 2), [w3]), [1, 38, 3, 3, 4], dtype, unpacked('Conv'));
      const transposed = random('w', [34, 17, 2], 8);
      const model = single([2, 34, 5], conv('ConvTranspose', 2), [transposed]);
      await check(model, [2, 34, 5], dtype, unpacked('ConvTranspose'));
    });
  }

  for (const dtype of ['int8', 'int4', 'int2'] as const) {
    it(`${dtype}: tables whose rows do not divide into blocks`, async () => {
      for (const width of dtype === 'int2' ? [36, 100, 300] : [33, 50, 100, 300]) {
        const model = buildModel({
          inputs: { ids: ['n'] },
          inputTypes: { ids: 7 },
          outputs: ['y'],
          nodes: [node('Gather', ['w', 'ids'], 'y')],
          weights: [random('w', [31, width], width)],
        });
        const result = quantized(model, dtype);
        expect(operators(result.model)).toEqual(['GatherBlockQuantized']);
        const stored = [...result.model.graph.initializers.values()].reduce((sum, t) => sum + t.data.byteLength, 0);
        expect(result.weights[0]!.bytesAfter).toBe(stored);
        const ids = BigInt64Array.from({ length: 31 }, (_, i) => BigInt(30 - i));
        const { y } = await runModel(result.model, { ids: { dims: [31], data: ids } });
        const decoded = decodeWeight(model, result.model, 'w')!;
        for (let row = 0; row < 31; row++) {
          expect(y!.subarray((30 - row) * width, (31 - row) * width)).toEqual(
            decoded.subarray(row * width, (row + 1) * width),
          );
        }
        expect(sqnr(readFloat32(model.graph.initializers.get('w')!), decoded)).toBeGreaterThan(least[dtype]);
      }
    });
  }

  it('int8-dynamic: an LSTM in both directions with bias; both of its weights or none', async () => {
    const [features, hidden] = [37, 24];
    const lstm: Node = makeNode(
      'LSTM',
      ['x', 'w', 'r', 'b'],
      ['', 'y'],
      // Time first, said explicitly: the integer operator has no such attribute.
      { hidden_size: intAttribute(hidden), direction: stringAttribute('bidirectional'), layout: intAttribute(0) },
      { name: 'lstm' },
    );
    const small = (name: string, dims: number[], seed: number): Tensor =>
      weight(
        name,
        dims,
        gaussian(size(dims), seed).map((value) => value * 0.2),
      );
    const weights = [
      small('w', [2, 4 * hidden, features], 1),
      small('r', [2, 4 * hidden, hidden], 2),
      small('b', [2, 8 * hidden], 3),
    ];
    const model = single([5, 3, features], [lstm], weights);
    const dynamic = new Map<string, Dtype>([
      ['w', 'int8-dynamic'],
      ['r', 'int8-dynamic'],
    ]);
    const result = quantizeModel(model, dynamic, { provider: 'cpu' });
    expect(operators(result.model)).toEqual(['DynamicQuantizeLSTM']);
    const feeds = { x: { dims: [5, 3, features], data: gaussian(15 * features, 9) } };
    const exact = (await runModel(model, feeds)).y!;
    expect(sqnr(exact, (await runModel(result.model, feeds)).y!)).toBeGreaterThan(28);
    for (const name of ['w', 'r']) {
      const original = readFloat32(model.graph.initializers.get(name)!);
      expect(sqnr(original, decodeWeight(model, result.model, name)!)).toBeGreaterThan(35);
    }
    const lonely = quantizeModel(model, new Map<string, Dtype>([['w', 'int8-dynamic']]), { provider: 'cpu' });
    const row = lonely.weights.find(({ name }) => name === 'w');
    expect(row).toMatchObject({ dtype: 'int8', reason: expect.stringContaining('other weight') as string });
    expect(sqnr(exact, (await runModel(lonely.model, feeds)).y!)).toBeGreaterThan(28);
  });

  it('int4: a float16 Gemm with factors and an addend', async () => {
    const [n, k] = [48, 64];
    const half = (tensor: Tensor): Tensor =>
      rawTensor(
        tensor.name,
        DataType.FLOAT16,
        tensor.dims,
        new Uint8Array(float32ToFloat16Bits(readFloat32(tensor)).buffer),
      );
    const cast = (from: string, to: string, type: number): Node => node('Cast', [from], to, { to: intAttribute(type) });
    const gemm = { beta: floatAttribute(0.5), alpha: floatAttribute(2), transB: intAttribute(1) };
    const model = single(
      [5, k],
      [cast('x', 'a', DataType.FLOAT16), node('Gemm', ['a', 'w', 'c'], 'b', gemm), cast('b', 'y', DataType.FLOAT)],
      [half(random('w', [n, k], 1)), half(random('c', [n], 2))],
    );
    const feeds = { x: { dims: [5, k], data: gaussian(5 * k, 9) } };
    const exact = (await runModel(model, feeds)).y!;
    const { model: blocks, weights } = quantized(model, 'int4');
    expect(weights.find(({ name }) => name === 'w')).toMatchObject({ dtype: 'int4' });
    expect(sqnr(exact, (await runModel(blocks, feeds)).y!)).toBeGreaterThan(least.int4);
  });

  it('int8, int4: plain rounding of kernels and of stacked matrices', () => {
    const models = {
      kernels: single([2, 32, 9, 9], [node('Conv', ['x', 'w'], 'y')], [random('w', [16, 32, 3, 3], 1)]),
      stack: single([3, 5, 32], [node('MatMul', ['x', 'w'], 'y')], [random('w', [3, 32, 40], 2)]),
    };
    const step = { int8: 127, int4: 8 };
    for (const model of Object.values(models)) {
      for (const dtype of ['int8', 'int4'] as const) {
        const [searched, plain] = (['search', 'nearest'] as const).map((rounding) => {
          const result = quantizeModel(model, new Map([['w', dtype]]), { provider: 'cpu', rounding });
          return decodeWeight(model, result.model, 'w')!;
        });
        expect(plain).not.toEqual(searched);
        // Nothing is clipped: the largest value of all is met to the precision of its scale.
        const exact = readFloat32(model.graph.initializers.get('w')!);
        const at = exact.reduce((best, value, i) => (Math.abs(value) > Math.abs(exact[best]!) ? i : best), 0);
        expect(Math.abs(plain![at]! / exact[at]! - 1)).toBeLessThan(1e-3);
        expect(Math.max(...exact.map((value, i) => Math.abs(value - plain![i]!)))).toBeLessThan(
          Math.abs(exact[at]!) / step[dtype],
        );
      }
    }
  });

  it('weights in the bodies of Loop and Scan, in every format of products', async () => {
    const value = (name: string, dims: number[], dataType: number): ValueInfo => ({ name, dims, dataType });
    const loop: Graph = {
      ...buildGraph({
        inputs: {},
        outputs: [],
        nodes: [
          node('MatMul', ['state', 'w'], 'product'),
          node('Tanh', ['product'], 'next'),
          node('Identity', ['go'], 'on'),
        ],
        weights: [
          weight(
            'w',
            [64, 64],
            gaussian(64 * 64, 1).map((each) => each * 0.1),
          ),
        ],
      }),
      name: 'loop',
      inputs: [value('i', [], DataType.INT64), value('go', [], DataType.BOOL), value('state', [3, 64], DataType.FLOAT)],
      outputs: [value('on', [], DataType.BOOL), value('next', [3, 64], DataType.FLOAT)],
    };
    const scan: Graph = {
      ...buildGraph({
        inputs: {},
        outputs: [],
        nodes: [node('Gemm', ['row', 'v'], 'each', { transB: intAttribute(1) })],
        weights: [random('v', [32, 64], 2)],
      }),
      name: 'scan',
      inputs: [value('row', [3, 64], DataType.FLOAT)],
      outputs: [value('each', [3, 32], DataType.FLOAT)],
    };
    const model = single(
      [3, 64],
      [
        node('Loop', ['count', '', 'x'], 'state_out', { body: { type: 'graph', value: loop } }),
        node('Unsqueeze', ['state_out', 'zero'], 'rows'),
        node('Scan', ['rows'], 'y', { body: { type: 'graph', value: scan }, num_scan_inputs: intAttribute(1) }),
      ],
      [int64Tensor('count', [], [2]), int64Tensor('zero', [1], [0])],
    );
    const feeds = { x: { dims: [3, 64], data: gaussian(192, 5) } };
    const exact = (await runModel(model, feeds)).y!;
    for (const [dtype, worst] of [
      ['int8', 25],
      ['int8-dynamic', 22],
      ['int4', 12],
      ['nf4', 12],
      ['int2', 3],
    ] as const) {
      const result = quantized(model, dtype);
      expect(result.weights.map((row) => row.dtype)).toEqual([dtype, dtype]);
      expect(sqnr(exact, (await runModel(result.model, feeds)).y!), dtype).toBeGreaterThan(worst);
    }
  });

  it('names what it leaves: a vector, a product of constants, a depthwise kernel in 4 bits', () => {
    const vector = single([40, 1500], [node('MatMul', ['x', 'w'], 'y')], [random('w', [1500], 1)]);
    expect(quantized(vector, 'int8').weights[0]).toMatchObject({ dtype: 'fp32', encoding: 'none' });
    expect(quantized(vector, 'int8').weights[0]!.reason).toContain('no quantized form');
    const onVector = single([64], [node('MatMul', ['w', 'x'], 'y')], [random('w', [64, 64], 1)]);
    expect(quantized(onVector, 'int8').weights[0]!.reason).toContain('multiplies a vector');
    const constants = single(
      [4, 32],
      [node('MatMul', ['a', 'b'], 'ab'), node('MatMul', ['x', 'ab'], 'y')],
      [random('a', [32, 64], 1), random('b', [64, 32], 2)],
    );
    const rows = new Map(quantized(constants, 'int8').weights.map((row) => [row.name, row]));
    expect(rows.get('a')).toMatchObject({ dtype: 'fp32' });
    expect(rows.get('b')).toMatchObject({ dtype: 'int8' });
    const depthwise = single(
      [1, 64, 9],
      [node('Conv', ['x', 'w'], 'y', { group: intAttribute(64) })],
      [random('w', [64, 1, 7], 3)],
    );
    const row = quantized(depthwise, 'int4').weights[0]!;
    expect(row).toMatchObject({ dtype: 'int8', reason: expect.stringContaining('too few') as string });
  });
});
