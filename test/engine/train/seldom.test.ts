import { describe, expect, it } from 'vitest';
import { floatAttribute as f, intAttribute as i, stringAttribute as s } from '../../../src/onnx/attribute.js';
import { gradientError, type TestGraph } from './support.js';

const B = 'batch';
const vector = (...values: number[]): { dims: number[]; values: number[] } => ({ dims: [values.length], values });

function one(
  op: string,
  options: Partial<TestGraph> & { attributes?: TestGraph['nodes'][0]['attributes'] } = {},
): TestGraph {
  const { attributes = {}, ...rest } = options;
  const graph: TestGraph = { wanted: { x: [B, 4, 5] }, nodes: [], ...rest };
  const inputs = [...Object.keys(graph.wanted), ...Object.keys(graph.ints ?? {})];
  return { ...graph, nodes: graph.nodes.length > 0 ? graph.nodes : [{ op, in: inputs, out: ['y'], attributes }] };
}

const einsum = (equation: string, wanted: TestGraph['wanted']): TestGraph =>
  one('Einsum', { wanted, attributes: { equation: s(equation) } });

const inside = (x: number): number => Math.tanh(x) * 0.8;
const beyondOne = (x: number): number => Math.abs(x) + 1.5;
const offZero = (x: number): number => x + 0.1 * Math.sign(x || 1);

const cases: Record<string, TestGraph> = {
  Softsign: one('Softsign'),
  Selu: one('Selu', { values: offZero }),
  Celu: one('Celu', { values: offZero, attributes: { alpha: f(1.4) } }),
  ThresholdedRelu: one('ThresholdedRelu', { values: (x) => 1 + offZero(x) }),
  Mish: one('Mish'),
  Tan: one('Tan', { values: inside }),
  Asin: one('Asin', { values: inside }),
  Acos: one('Acos', { values: inside }),
  Atan: one('Atan'),
  Sinh: one('Sinh'),
  Cosh: one('Cosh'),
  Asinh: one('Asinh'),
  Acosh: one('Acosh', { values: beyondOne }),
  Atanh: one('Atanh', { values: inside }),
  Mean: one('Mean', { wanted: { a: [B, 4, 5], b: [5], c: [4, 1] } }),
  ReduceLogSum: one('ReduceLogSum', { ints: { axes: vector(1) }, values: (x) => Math.abs(x) + 0.5 }),
  'LpNormalization 1': one('LpNormalization', { attributes: { p: i(1), axis: i(1) }, values: offZero }),
  'LpNormalization 2': one('LpNormalization'),
  MeanVarianceNormalization: one('MeanVarianceNormalization', { wanted: { x: [B, 3, 4, 5] } }),
  LRN: one('LRN', { wanted: { x: [B, 6, 3, 3] }, attributes: { size: i(3), alpha: f(0.9), beta: f(0.6), bias: f(2) } }),
  'Pad reflect': one('Pad', { ints: { pads: vector(0, 2, 1, 0, 1, 3) }, attributes: { mode: s('reflect') } }),
  'Pad edge': one('Pad', { ints: { pads: vector(0, 2, 1, 0, 0, 3) }, attributes: { mode: s('edge') } }),
  'Pad wrap': one('Pad', { opset: 19, ints: { pads: vector(0, 2, 1, 0, 0, 3) }, attributes: { mode: s('wrap') } }),
  'Pad that cuts': one('Pad', { ints: { pads: vector(0, -1, 1, 0, 2, -2) } }),
  Trilu: one('Trilu', {
    wanted: { x: [B, 5, 5] },
    ints: { k: { dims: [], values: [-1] } },
    attributes: { upper: i(0) },
  }),
  GatherElements: one('GatherElements', {
    wanted: { x: [3, 4] },
    ints: { at: { dims: [2, 4], values: [0, 2, 2, -1, 1, 2, 0, 0] } },
  }),
  GatherND: one('GatherND', { wanted: { x: [3, 4, 2] }, ints: { at: { dims: [3, 2], values: [0, 1, 2, 3, 0, 1] } } }),
  ScatterElements: {
    wanted: { x: [3, 4], u: [2, 2] },
    ints: { at: { dims: [2, 2], values: [0, 2, 1, 1] } },
    nodes: [{ op: 'ScatterElements', in: ['x', 'at', 'u'], out: ['y'], attributes: { axis: i(0) } }],
  },
  'ScatterND, adding': {
    wanted: { x: [3, 4], u: [2, 4] },
    ints: { at: { dims: [2, 1], values: [2, 2] } },
    nodes: [{ op: 'ScatterND', in: ['x', 'at', 'u'], out: ['y'], attributes: { reduction: s('add') } }],
  },
  ScatterND: {
    wanted: { x: [3, 4], u: [2, 4] },
    ints: { at: { dims: [2, 1], values: [2, 0] } },
    nodes: [{ op: 'ScatterND', in: ['x', 'at', 'u'], out: ['y'] }],
  },
  TopK: {
    wanted: { x: [B, 6] },
    ints: { k: vector(3) },
    nodes: [
      { op: 'TopK', in: ['x', 'k'], out: ['largest', 'places'] },
      { op: 'Identity', in: ['largest'], out: ['y'] },
    ],
  },
  'Einsum, product': einsum('bij,jk->bik', { a: [B, 3, 4], b: [4, 5] }),
  'Einsum, attention': einsum('bhid,bhjd->bhij', { a: [B, 2, 3, 4], b: [B, 2, 5, 4] }),
  'Einsum, three': einsum('bi,ij,bj->b', { a: [B, 3], b: [3, 4], c: [B, 4] }),
  'Einsum, sums of one operand': einsum('ij,k->ik', { a: [3, 4], b: [5] }),
  'Einsum, dots': einsum('...i,ij->...j', { a: [B, 2, 3], b: [3, 4] }),
  'Einsum without arrow': einsum('ij,jk', { a: [3, 4], b: [4, 5] }),
  'Einsum, turned': einsum('ijk->kij', { a: [B, 3, 4] }),
  'Einsum, to one number': einsum('ij,ij->', { a: [3, 4], b: [3, 4] }),
};

describe('operators seldom met against differences along random directions', () => {
  for (const [name, graph] of Object.entries(cases)) {
    it(name, async () => {
      expect(await gradientError(graph, 1)).toBeLessThan(3e-3);
    });
  }
});
