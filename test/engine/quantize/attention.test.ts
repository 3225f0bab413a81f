import { describe, expect, it } from 'vitest';
import { cloneModel, intAttribute, makeNode } from '../../../src/onnx/graph.js';
import { DataType, type Model, type Tensor } from '../../../src/onnx/model.js';
import { rawTensor } from '../../../src/onnx/tensor.js';
import { hoistConstants, quantizableWeights, quantizeModel } from '../../../src/quantize/index.js';
import { buildModel, operators, runModel, weight } from './build.js';
import { gaussian, sqnr } from './numbers.js';

const [batch, length, width] = [2, 6, 32];

const int32 = (name: string, dims: number[], values: number[]): Tensor =>
  rawTensor(name, DataType.INT32, dims, new Uint8Array(Int32Array.from(values).buffer));

/** Two layers of attention as ONNX Runtime's optimizer for transformers fuses it. */
function fused(mask: Tensor | null, unidirectional = 0): Model {
  const attributes = { num_heads: intAttribute(4), unidirectional: intAttribute(unidirectional) };
  const layer = (at: number, input: string, output: string): Model['graph']['nodes'][0] =>
    makeNode('Attention', [input, `w${at}`, `b${at}`, ...(mask === null ? [] : [mask.name])], [output], attributes, {
      domain: 'com.microsoft',
    });
  const model = buildModel({
    inputs: { x: [batch, length, width] },
    outputs: ['y'],
    nodes: [layer(1, 'x', 'h'), layer(2, 'h', 'y')],
    weights: [
      ...[1, 2].flatMap((at) => [
        weight(
          `w${at}`,
          [width, 3 * width],
          gaussian(3 * width * width, at).map((x) => x / 6),
        ),
        weight(`b${at}`, [3 * width], gaussian(3 * width, 10 + at)),
      ]),
      ...(mask === null ? [] : [mask]),
    ],
  });
  model.opsets.set('com.microsoft', 1);
  return model;
}

const cases: [string, Model][] = [
  ['without a mask', fused(null)],
  ['of a decoder', fused(null, 1)],
  ['with a mask of tokens', fused(int32('m', [batch, length], [1, 1, 1, 0, 0, 0, 1, 1, 1, 1, 1, 0]))],
  ['of a decoder with a mask of tokens', fused(int32('m', [batch, length], [1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1]), 1)],
  ['with a length for each sample', fused(int32('m', [batch], [3, 5]))],
];

describe('attention that was fused with its projection', () => {
  for (const [name, model] of cases) {
    it(`${name}: computes the same, and its weights take 8 and 4 bits`, async () => {
      const feeds = { x: { dims: [batch, length, width], data: gaussian(batch * length * width, 3) } };
      const { y } = await runModel(model, feeds);
      const plain = cloneModel(model);
      hoistConstants(plain);
      expect(operators(plain)).not.toContain('Attention');
      expect(sqnr(y!, (await runModel(plain, feeds)).y!)).toBeGreaterThan(100);
      const names = quantizableWeights(model, 'cpu').map((one) => one.name);
      expect(names).toEqual(expect.arrayContaining(['w1', 'w2']));
      for (const [dtype, least] of [
        ['int8', 25],
        ['int4', 8],
      ] as const) {
        const asked = new Map(['w1', 'w2'].map((one) => [one, dtype]));
        const { model: small, weights } = quantizeModel(model, asked, { provider: 'cpu' });
        expect(weights.filter((one) => one.dtype === dtype)).toHaveLength(2);
        expect(sqnr(y!, (await runModel(small, feeds)).y!)).toBeGreaterThan(least);
      }
    });
  }

  it('stays as it is with a mask of another kind', () => {
    const model = fused(int32('m', [2 * batch], [6, 6, 0, 0]));
    hoistConstants(model);
    expect(operators(model)).toEqual(['Attention', 'Attention']);
  });

  it('stays as it is where a token may see nothing and a filter is as low as numbers go', () => {
    const left = (): Model => fused(int32('m', [batch, length], [0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]), 1);
    const lowest = left();
    for (const node of lowest.graph.nodes) {
      node.attributes.set('mask_filter_value', { type: 'float', value: -3.4028234663852886e38 });
    }
    const usual = left();
    for (const model of [lowest, usual]) hoistConstants(model);
    expect(operators(lowest)).toEqual(['Attention', 'Attention']);
    expect(operators(usual)).not.toContain('Attention');
  });
});
