import { describe, expect, it } from 'vitest';
import { cloneModel, intAttribute, intsAttribute, makeNode } from '../../../src/onnx/graph.js';
import type { Model } from '../../../src/onnx/model.js';
import { int64Tensor } from '../../../src/onnx/tensor.js';
import { hoistConstants, quantizableWeights, quantizeModel } from '../../../src/quantize/index.js';
import { buildModel, node, runModel, weight } from './build.js';
import { gaussian, sqnr } from './numbers.js';

/** Weight normalization as PyTorch's newer exporter leaves it: `v · (g / ‖v‖)`, the norm over all but the last axis. */
const weightNorm = (): Model =>
  buildModel({
    inputs: { x: ['n', 32, 20] },
    outputs: ['y'],
    opset: 18,
    nodes: [
      node('ReduceL2', ['v', 'axes'], 'norm', { keepdims: intAttribute(1) }),
      node('Div', ['g', 'norm'], 'factor'),
      node('Mul', ['v', 'factor'], 'w'),
      node('Conv', ['x', 'w', 'b'], 'y', { pads: intsAttribute([2, 2]), group: intAttribute(2) }),
    ],
    weights: [
      weight('v', [64, 16, 5], gaussian(64 * 16 * 5, 1)),
      weight(
        'g',
        [1, 1, 5],
        gaussian(5, 2).map((x) => 1 + Math.abs(x)),
      ),
      weight('b', [64], gaussian(64, 3)),
      int64Tensor('axes', [2], [0, 1]),
    ],
  });

/** Weights shared under other names, as PyTorch's older exporter writes equal layers. */
const shared = (): Model =>
  buildModel({
    inputs: { x: ['n', 64] },
    outputs: ['y', 'copy'],
    nodes: [
      node('Identity', ['w'], 'w2'),
      node('Identity', ['b'], 'b2'),
      node('Identity', ['b'], 'copy'),
      node('Gemm', ['x', 'w', 'b'], 'h'),
      node('Tanh', ['h'], 't'),
      node('Gemm', ['t', 'w2', 'b2'], 'y'),
    ],
    weights: [weight('w', [64, 64], gaussian(64 * 64, 4)), weight('b', [64], gaussian(64, 5))],
  });

/** Projections of cross attention cut from one matrix, at bounds that follow from the width of the input, and by Split. */
const projections = (): Model =>
  buildModel({
    inputs: { x: ['n', 6, 32], memory: ['n', 9, 32] },
    outputs: ['a', 'c', 'd'],
    nodes: [
      node('Shape', ['x'], 'shape'),
      node('Gather', ['shape', 'last'], 'width'),
      node('Slice', ['w', 'zero', 'width', 'zero'], 'query'),
      node('Slice', ['w', 'width', 'far', 'zero'], 'rest'),
      node('Transpose', ['query'], 'q', { perm: intsAttribute([1, 0]) }),
      makeNode('Split', ['rest', 'halves'], ['k', 'v'], { axis: intAttribute(0) }),
      node('Transpose', ['k'], 'kt', { perm: intsAttribute([1, 0]) }),
      node('Transpose', ['v'], 'vt', { perm: intsAttribute([1, 0]) }),
      node('MatMul', ['x', 'q'], 'a'),
      node('MatMul', ['memory', 'kt'], 'c'),
      node('MatMul', ['memory', 'vt'], 'd'),
    ],
    weights: [
      weight('w', [96, 32], gaussian(96 * 32, 6)),
      ...Object.entries({ zero: 0, last: 2, far: 2 ** 31 }).map(([name, value]) => int64Tensor(name, [1], [value])),
      int64Tensor('halves', [2], [32, 32]),
    ],
  });

const cases: [string, () => Model, Record<string, number[]>, string[]][] = [
  ['a normalized weight', weightNorm, { x: [2, 32, 20] }, ['w']],
  ['a weight under two names', shared, { x: [3, 64] }, ['w']],
  ['projections cut from one matrix', projections, { x: [2, 6, 32], memory: [2, 9, 32] }, ['q', 'kt', 'vt']],
];

describe('weights that a graph makes of constants', () => {
  for (const [name, build, inputs, weights] of cases) {
    it(`${name}: computes the same and takes 8 bits`, async () => {
      const model = build();
      const feeds = Object.fromEntries(
        Object.entries(inputs).map(([input, dims], at) => [
          input,
          {
            dims,
            data: gaussian(
              dims.reduce((a, b) => a * b),
              50 + at,
            ),
          },
        ]),
      );
      const wanted = await runModel(model, feeds);
      const plain = cloneModel(model);
      hoistConstants(plain);
      for (const [output, values] of Object.entries(await runModel(plain, feeds))) {
        expect(sqnr(wanted[output]!, values)).toBeGreaterThan(110);
      }
      expect(quantizableWeights(model, 'cpu').map((one) => one.name)).toEqual(expect.arrayContaining(weights));
      const formats = new Map(weights.map((weightName) => [weightName, 'int8' as const]));
      const { model: small, weights: report } = quantizeModel(model, formats, { provider: 'cpu' });
      expect(report.filter(({ dtype }) => dtype === 'int8').map((one) => one.name)).toEqual(weights);
      for (const [output, values] of Object.entries(await runModel(small, feeds))) {
        expect(sqnr(wanted[output]!, values)).toBeGreaterThan(35);
      }
      const wide = [...small.graph.initializers.values()].filter(
        ({ dims, dataType }) => dataType === 1 && dims.length > 1,
      );
      expect(wide.map(({ name: left }) => left).filter((left) => ['v', 'w'].includes(left))).toEqual([]);
    });
  }

  it('stays with its parts where something else reads one of them', () => {
    const model = projections();
    model.graph.nodes.push(node('Relu', ['rest'], 'used'));
    model.graph.outputs.push({ name: 'used', dataType: 1, dims: null });
    expect(quantizableWeights(model, 'cpu').map(({ name }) => name)).toEqual(['w']);
  });
});

it('gives every weight of the result a reason, vectors that were scaled included', () => {
  const wide = (names: readonly string[]): Model =>
    buildModel({
      inputs: { x: [4, 64] },
      outputs: ['y'],
      nodes: [
        node('Gemm', ['x', 'w1', names[0]!], 'h1'),
        node('Relu', ['h1'], 'r1'),
        node('Gemm', ['r1', 'w2', names[1]!], 'h2'),
        node('Relu', ['h2'], 'r2'),
        node('Gemm', ['r2', 'w3'], 'y'),
      ],
      weights: [
        weight('w1', [64, 1024], gaussian(64 * 1024, 1)),
        weight('w2', [1024, 1024], gaussian(1024 * 1024, 2)),
        weight('w3', [1024, 8], gaussian(1024 * 8, 3)),
        ...[...new Set(names)].map((name, at) => weight(name, [1024], gaussian(1024, 4 + at))),
      ],
    });
  const range = { min: -3, max: 3, low: -3, high: 3 };
  const ranges = { get: () => range, scales: new Map([['r1', new Float64Array(1024).fill(2)]]) };
  for (const [names, kept] of [
    [
      ['b1', 'b2'],
      ['b1', 'b2'],
    ],
    [
      ['b', 'b'],
      ['b', 'b_scaled'],
    ],
  ] as const) {
    const model = wide(names);
    const asked = new Map(quantizableWeights(model, 'cpu').map(({ name }) => [name, 'int8-static' as const]));
    const float = quantizeModel(model, asked, { provider: 'cpu', ranges }).weights.filter(
      ({ dtype }) => dtype === 'fp32',
    );
    expect(float.map(({ name }) => name)).toEqual(kept);
    for (const { reason } of float) expect(reason).toContain('no quantized form');
  }
});

it('leaves weights that hold infinities as they are, with the reason', async () => {
  const mask = gaussian(64 * 64, 1);
  mask[77] = -Infinity;
  const model = buildModel({
    inputs: { x: [4, 64] },
    outputs: ['y', 'z'],
    nodes: [node('MatMul', ['x', 'w'], 'h'), node('Sigmoid', ['h'], 'y'), node('MatMul', ['x', 'v'], 'z')],
    weights: [weight('w', [64, 64], mask), weight('v', [64, 64], gaussian(64 * 64, 2))],
  });
  const feeds = { x: { dims: [4, 64], data: gaussian(256, 3) } };
  const wanted = await runModel(model, feeds);
  for (const dtype of ['int8', 'int4', 'nf4', 'int2', 'int8-dynamic'] as const) {
    const asked = new Map(['w', 'v'].map((name) => [name, dtype]));
    const { model: small, weights } = quantizeModel(model, asked, { provider: 'cpu' });
    expect(weights.find(({ name }) => name === 'w')).toMatchObject({ dtype: 'fp32' });
    expect(weights.find(({ name }) => name === 'w')!.reason).toContain('infinite');
    expect(weights.find(({ name }) => name === 'v')!.dtype).toBe(dtype);
    expect((await runModel(small, feeds)).y).toEqual(wanted.y);
  }
});
