import { describe, expect, it } from 'vitest';
import {
  floatAttribute as f,
  intAttribute as i,
  intsAttribute as is,
  stringAttribute as s,
} from '../../../src/onnx/attribute.js';
import { DataType } from '../../../src/onnx/model.js';
import { rawTensor } from '../../../src/onnx/tensor.js';
import { gradientError, type TestGraph } from './support.js';

const B = 'batch';

/** One node of com.microsoft; the loss is taken of its first named output. */
function fused(
  op: string,
  wanted: TestGraph['wanted'],
  attributes: TestGraph['nodes'][0]['attributes'] = {},
  options: Partial<TestGraph> & { in?: string[]; out?: string[] } = {},
): TestGraph {
  const { in: inputs = Object.keys(wanted), out = ['y'], ...rest } = options;
  return { wanted, nodes: [{ op, domain: 'com.microsoft', in: inputs, out, attributes }], ...rest };
}

const norm = { x: [B, 3, 6], skip: [B, 3, 6], gamma: [6], beta: [6], bias: [6] };

const cases: Record<string, TestGraph> = {
  BiasGelu: fused('BiasGelu', { x: [B, 3, 6], b: [6] }),
  FastGelu: fused('FastGelu', { x: [B, 3, 6] }),
  'FastGelu with a bias': fused('FastGelu', { x: [B, 3, 6], b: [6] }),
  FusedMatMul: fused('FusedMatMul', { a: [2, 3, 4], b: [2, 4, 5] }, { alpha: f(0.5) }),
  'FusedMatMul, both turned': fused(
    'FusedMatMul',
    { a: [B, 4, 3], b: [5, 4] },
    { transA: i(1), transB: i(1), alpha: f(2) },
  ),
  FusedGemm: fused(
    'FusedGemm',
    { a: [B, 4], b: [5, 4], c: [5] },
    { transB: i(1), alpha: f(0.5), activation: s('Tanh') },
  ),
  'FusedGemm, LeakyRelu': fused(
    'FusedGemm',
    { a: [B, 4], b: [4, 5], c: [5] },
    { activation: s('LeakyRelu'), activation_alpha: f(0.3) },
    { values: (x) => Math.abs(x) + 0.1 },
  ),
  FusedConv: fused(
    'FusedConv',
    { x: [B, 2, 6, 6], w: [4, 2, 3, 3], b: [4] },
    { pads: is([1, 1, 1, 1]), activation: s('Sigmoid') },
  ),
  'FusedConv with a sum': fused(
    'FusedConv',
    { x: [B, 2, 6, 6], w: [4, 2, 3, 3], b: [4], z: [B, 4, 4, 4] },
    { activation: s('Tanh') },
  ),
  'FusedConv, HardSigmoid': fused(
    'FusedConv',
    { x: [B, 2, 6], w: [4, 2, 3] },
    { activation: s('HardSigmoid'), activation_params: { type: 'floats', value: [0.01, 0.4] } },
  ),
  SkipLayerNormalization: fused('SkipLayerNormalization', norm, { epsilon: f(1e-5) }),
  'SkipLayerNormalization without bias, its sum': fused(
    'SkipLayerNormalization',
    { x: [B, 3, 6], skip: [B, 3, 6], gamma: [6] },
    { epsilon: f(1e-5) },
    {
      out: ['n', '', '', 'sum'],
      nodes: [
        {
          op: 'SkipLayerNormalization',
          domain: 'com.microsoft',
          in: ['x', 'skip', 'gamma'],
          out: ['n', '', '', 'sum'],
        },
        { op: 'Mul', in: ['n', 'sum'], out: ['y'] },
      ],
    },
  ),
  SkipSimplifiedLayerNormalization: fused(
    'SkipSimplifiedLayerNormalization',
    { x: [B, 3, 6], skip: [B, 3, 6], gamma: [6], bias: [6] },
    { epsilon: f(1e-5) },
  ),
  EmbedLayerNormalization: {
    wanted: { words: [9, 6], places: [4, 6], gamma: [6], beta: [6] },
    tensors: [rawTensor('ids', DataType.INT32, [2, 4], new Uint8Array(Int32Array.of(0, 8, 3, 3, 1, 2, 3, 4).buffer))],
    nodes: [
      {
        op: 'EmbedLayerNormalization',
        domain: 'com.microsoft',
        in: ['ids', '', 'words', 'places', '', 'gamma', 'beta'],
        out: ['n', 'counts'],
        attributes: { epsilon: f(1e-5) },
      },
      { op: 'Tanh', in: ['n'], out: ['y'] },
    ],
  },
};

describe('fused operators against differences along random directions', () => {
  for (const [name, graph] of Object.entries(cases)) {
    it(name, async () => {
      expect(await gradientError(graph, 1)).toBeLessThan(2e-3);
    });
  }
});
