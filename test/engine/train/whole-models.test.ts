import { expect, it } from 'vitest';
import {
  floatAttribute as f,
  intAttribute as i,
  intsAttribute as is,
  stringAttribute as s,
} from '../../../src/onnx/attribute.js';
import { DataType } from '../../../src/onnx/model.js';
import { rawTensor } from '../../../src/onnx/tensor.js';
import { gradientError, type TestGraph, type TestNode } from './support.js';

const microsoft = 'com.microsoft';
const tokens = { dims: [3, 6], values: Array.from({ length: 18 }, (_, at) => (at * 7) % 11) };
const smaller = (x: number, name: string): number => (name === 'x' ? x : x * 0.4);

/** Two levels with a skip connection; smooth, so that differences are not taken across a kink. */
const unet: TestGraph = {
  values: smaller,
  wanted: {
    x: ['batch', 2, 8, 8],
    w1: [4, 2, 3, 3],
    g1: [4],
    b1: [4],
    w2: [6, 4, 3, 3],
    w3: [4, 6, 3, 3],
    w4: [8, 3, 2, 2],
    w5: [2, 3, 1, 1],
  },
  floats: { scales: { dims: [4], values: [1, 1, 2, 2] } },
  nodes: [
    { op: 'Conv', in: ['x', 'w1'], out: ['c1'], attributes: { pads: is([1, 1, 1, 1]) } },
    { op: 'InstanceNormalization', in: ['c1', 'g1', 'b1'], out: ['n1'] },
    { op: 'Tanh', in: ['n1'], out: ['a1'] },
    { op: 'AveragePool', in: ['a1'], out: ['p'], attributes: { kernel_shape: is([2, 2]), strides: is([2, 2]) } },
    { op: 'Conv', in: ['p', 'w2'], out: ['c2'], attributes: { pads: is([1, 1, 1, 1]) } },
    { op: 'Sigmoid', in: ['c2'], out: ['a2'] },
    { op: 'Conv', in: ['a2', 'w3'], out: ['c3'], attributes: { pads: is([1, 1, 1, 1]) } },
    {
      op: 'Resize',
      in: ['c3', '', 'scales'],
      out: ['up'],
      attributes: { mode: s('linear'), coordinate_transformation_mode: s('half_pixel') },
    },
    { op: 'Concat', in: ['up', 'a1'], out: ['joined'], attributes: { axis: i(1) } },
    { op: 'ConvTranspose', in: ['joined', 'w4'], out: ['t'], attributes: { strides: is([2, 2]) } },
    { op: 'Conv', in: ['t', 'w5'], out: ['y'] },
  ],
};

/** Embedding, both ways, one way, and the last step. */
const recurrent: TestGraph = {
  values: smaller,
  wanted: {
    e: [11, 5],
    w: [2, 16, 5],
    r: [2, 16, 4],
    b: [2, 32],
    gw: [1, 9, 8],
    gr: [1, 9, 3],
    gb: [1, 18],
    o: [3, 3],
    c: [3],
  },
  ints: {
    tokens,
    joined: { dims: [3], values: [0, 0, -1] },
    first: { dims: [1], values: [0] },
  },
  nodes: [
    { op: 'Gather', in: ['e', 'tokens'], out: ['x'] },
    { op: 'Transpose', in: ['x'], out: ['t'], attributes: { perm: is([1, 0, 2]) } },
    {
      op: 'LSTM',
      in: ['t', 'w', 'r', 'b'],
      out: ['l'],
      attributes: { hidden_size: i(4), direction: s('bidirectional') },
    },
    { op: 'Transpose', in: ['l'], out: ['lt'], attributes: { perm: is([0, 2, 1, 3]) } },
    { op: 'Reshape', in: ['lt', 'joined'], out: ['both'] },
    {
      op: 'GRU',
      in: ['both', 'gw', 'gr', 'gb'],
      out: ['', 'h'],
      attributes: { hidden_size: i(3), linear_before_reset: i(1) },
    },
    { op: 'Squeeze', in: ['h', 'first'], out: ['last'] },
    { op: 'Gemm', in: ['last', 'o', 'c'], out: ['y'], attributes: { transB: i(1) } },
  ],
};

/** A decoder as onnxruntime's optimizer leaves it, with one quantized product. */
const fused = (node: Omit<TestNode, 'domain'>): TestNode => ({ ...node, domain: microsoft });
const decoder: TestGraph = {
  values: smaller,
  wanted: {
    e: [11, 8],
    w: [8, 24],
    b: [24],
    g: [8],
    h: [8],
    up: [8, 16],
    ub: [16],
    scales: [8, 1],
    fb: [8],
    rg: [8],
    q: [8, 48],
  },
  ints: { tokens, thirds: { dims: [3], values: [32, 8, 8] } },
  tensors: [
    rawTensor(
      'codes',
      DataType.UINT8,
      [8, 1, 8],
      Uint8Array.from({ length: 64 }, (_, at) => (at * 37) % 256),
    ),
    rawTensor('last', DataType.INT32, [3], new Uint8Array(Int32Array.of(5, 5, 5).buffer)),
    rawTensor('total', DataType.INT32, [], new Uint8Array(Int32Array.of(6).buffer)),
  ],
  nodes: [
    { op: 'Gather', in: ['e', 'tokens'], out: ['x'] },
    fused({ op: 'Attention', in: ['x', 'w', 'b'], out: ['a'], attributes: { num_heads: i(2), unidirectional: i(1) } }),
    fused({
      op: 'SkipLayerNormalization',
      in: ['a', 'x', 'g', 'h'],
      out: ['n', '', '', 's'],
      attributes: { epsilon: f(1e-3) },
    }),
    fused({ op: 'FusedMatMul', in: ['n', 'up'], out: ['m'], attributes: { alpha: f(0.7) } }),
    fused({ op: 'FastGelu', in: ['m', 'ub'], out: ['k'] }),
    fused({
      op: 'MatMulNBits',
      in: ['k', 'codes', 'scales', '', '', 'fb'],
      out: ['d'],
      attributes: { K: i(16), N: i(8), bits: i(4), block_size: i(16) },
    }),
    fused({
      op: 'SkipSimplifiedLayerNormalization',
      in: ['d', 's', 'rg'],
      out: ['v'],
      attributes: { epsilon: f(1e-3) },
    }),
    { op: 'MatMul', in: ['v', 'q'], out: ['packed'] },
    { op: 'Split', in: ['packed', 'thirds'], out: ['qq', 'qk', 'qv'], attributes: { axis: i(-1) } },
    fused({
      op: 'GroupQueryAttention',
      in: ['qq', 'qk', 'qv', '', '', 'last', 'total'],
      out: ['y', 'pk', 'pv'],
      attributes: { num_heads: i(4), kv_num_heads: i(1) },
    }),
  ],
};

it('whole models have the gradient that differences along random directions show', async () => {
  for (const seed of [1, 2]) {
    expect(await gradientError(unet, seed)).toBeLessThan(2e-3);
    expect(await gradientError(recurrent, seed)).toBeLessThan(2e-3);
    expect(await gradientError(decoder, seed)).toBeLessThan(3e-3);
  }
});
