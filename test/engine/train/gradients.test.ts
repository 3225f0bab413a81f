import { describe, expect, it } from 'vitest';
import {
  floatAttribute as f,
  intAttribute as i,
  intsAttribute as is,
  stringAttribute as s,
} from '../../../src/onnx/attribute.js';
import { DataType } from '../../../src/onnx/model.js';
import { gradientError, type TestGraph } from './support.js';

const B = 'batch';
const positive = (x: number): number => Math.abs(x) + 0.5;
/** Away from a kink by more than a difference step reaches. */
const awayFrom =
  (...kinks: number[]) =>
  (x: number): number =>
    kinks.reduce(
      (value, kink) => (Math.abs(value - kink) < 0.06 ? kink + 0.06 * Math.sign(value - kink || 1) : value),
      x,
    );

function unary(
  op: string,
  options: Partial<TestGraph> & { attributes?: TestGraph['nodes'][0]['attributes']; domain?: string } = {},
): TestGraph {
  const { attributes, domain, ...rest } = options;
  return {
    wanted: { x: [B, 4, 5] },
    nodes: [{ op, in: ['x'], out: ['y'], ...(attributes ? { attributes } : {}), ...(domain ? { domain } : {}) }],
    ...rest,
  };
}

function binary(
  op: string,
  a: (number | string)[],
  b: (number | string)[],
  options: Partial<TestGraph> = {},
): TestGraph {
  return { wanted: { a, b }, nodes: [{ op, in: ['a', 'b'], out: ['y'] }], ...options };
}

const reduce = (op: string, axes: number[] | null, keepdims: number, options: Partial<TestGraph> = {}): TestGraph => ({
  wanted: { x: [B, 4, 5] },
  ...(axes ? { ints: { axes: { dims: [axes.length], values: axes } } } : {}),
  nodes: [{ op, in: axes ? ['x', 'axes'] : ['x'], out: ['y'], attributes: { keepdims: i(keepdims) } }],
  ...options,
});

const conv = (
  x: (number | string)[],
  w: number[],
  attributes: TestGraph['nodes'][0]['attributes'],
  op = 'Conv',
  group = 1,
): TestGraph => ({
  wanted: { x, w, b: [op === 'Conv' ? w[0]! : w[1]! * group] },
  nodes: [{ op, in: ['x', 'w', 'b'], out: ['y'], attributes: { ...attributes, group: i(group) } }],
});

const pool = (op: string, x: (number | string)[], attributes: TestGraph['nodes'][0]['attributes']): TestGraph => ({
  wanted: { x },
  nodes: [{ op, in: ['x'], out: ['y'], ...(attributes ? { attributes } : {}) }],
});

const moved = (
  node: Partial<TestGraph['nodes'][0]> & { op: string },
  x: (number | string)[],
  ints: TestGraph['ints'] = {},
): TestGraph => ({
  wanted: { x },
  ints,
  nodes: [{ in: ['x', ...Object.keys(ints)], out: ['y'], ...node }],
});

const vector = (...values: number[]): { dims: number[]; values: number[] } => ({ dims: [values.length], values });

const cases: Record<string, TestGraph> = {
  'Add broadcast': binary('Add', [B, 4, 5], [4, 1]),
  'Sub broadcast both': binary('Sub', [4, 1], [B, 1, 5]),
  'Mul broadcast': binary('Mul', [B, 4, 5], [5]),
  'Mul of itself': { wanted: { x: [B, 4] }, nodes: [{ op: 'Mul', in: ['x', 'x'], out: ['y'] }] },
  'Div broadcast': binary('Div', [B, 4, 5], [B, 1, 1], { values: (x, name) => (name === 'b' ? positive(x) : x) }),
  'Pow 2': {
    wanted: { x: [B, 4] },
    floats: { p: { dims: [], values: [2] } },
    nodes: [{ op: 'Pow', in: ['x', 'p'], out: ['y'] }],
  },
  'Pow 3.5': {
    wanted: { x: [B, 4] },
    floats: { p: { dims: [], values: [3.5] } },
    nodes: [{ op: 'Pow', in: ['x', 'p'], out: ['y'] }],
    values: positive,
  },
  'Pow both': binary('Pow', [B, 4, 5], [5], { values: positive }),
  Max: binary('Max', [B, 4, 5], [4, 5]),
  Min: binary('Min', [B, 4, 5], [B, 4, 1]),
  Where: {
    wanted: { a: [B, 4, 5], c: [4, 1] },
    floats: { mask: { dims: [5], values: [1, 0, 1, 1, 0] }, half: { dims: [], values: [0.5] } },
    nodes: [
      { op: 'Greater', in: ['mask', 'half'], out: ['condition'] },
      { op: 'Where', in: ['condition', 'a', 'c'], out: ['y'] },
    ],
  },
  Neg: unary('Neg'),
  Abs: unary('Abs', { values: awayFrom(0) }),
  Sqrt: unary('Sqrt', { values: positive }),
  Reciprocal: unary('Reciprocal', { values: positive }),
  Exp: unary('Exp'),
  Log: unary('Log', { values: positive }),
  Sin: unary('Sin'),
  Cos: unary('Cos'),
  Erf: unary('Erf'),
  Relu: unary('Relu', { values: awayFrom(0) }),
  LeakyRelu: unary('LeakyRelu', { values: awayFrom(0), attributes: { alpha: f(0.2) } }),
  Elu: unary('Elu', { attributes: { alpha: f(1.3) }, values: awayFrom(0) }),
  Softplus: unary('Softplus'),
  Sigmoid: unary('Sigmoid'),
  Tanh: unary('Tanh'),
  HardSigmoid: unary('HardSigmoid', { attributes: { alpha: f(0.5), beta: f(0.4) }, values: awayFrom(-0.8, 1.2) }),
  HardSwish: unary('HardSwish', { values: (x) => awayFrom(-3, 3)(x * 3) }),
  'Gelu erf': unary('Gelu', { opset: 20 }),
  'Gelu tanh': unary('Gelu', { opset: 20, attributes: { approximate: s('tanh') } }),
  'Gelu com.microsoft': unary('Gelu', { domain: 'com.microsoft' }),
  QuickGelu: unary('QuickGelu', { domain: 'com.microsoft', attributes: { alpha: f(1.702) } }),
  Clip: {
    wanted: { x: [B, 4, 5] },
    floats: { low: { dims: [], values: [-0.5] }, high: { dims: [], values: [0.7] } },
    nodes: [{ op: 'Clip', in: ['x', 'low', 'high'], out: ['y'] }],
    values: awayFrom(-0.5, 0.7),
  },
  PRelu: {
    wanted: { x: [B, 4, 5], slope: [4, 1] },
    nodes: [{ op: 'PRelu', in: ['x', 'slope'], out: ['y'] }],
    values: awayFrom(0),
  },
  'SiLU chain': {
    wanted: { x: [B, 4] },
    nodes: [
      { op: 'Sigmoid', in: ['x'], out: ['s'] },
      { op: 'Mul', in: ['x', 's'], out: ['y'] },
    ],
  },
  'Cast there and back': {
    wanted: { x: [B, 4] },
    nodes: [
      { op: 'Cast', in: ['x'], out: ['d'], attributes: { to: i(DataType.DOUBLE) } },
      { op: 'Cast', in: ['d'], out: ['y'], attributes: { to: i(DataType.FLOAT) } },
    ],
  },
  Identity: unary('Identity'),
  Dropout: unary('Dropout'),
  CumSum: moved({ op: 'CumSum', attributes: { exclusive: i(1) } }, [B, 4, 5], { axis: { dims: [], values: [1] } }),
  'MatMul matrices': binary('MatMul', [B, 4], [4, 5]),
  'MatMul weight right': binary('MatMul', [B, 2, 6, 4], [4, 5]),
  'MatMul weight left': binary('MatMul', [3, 4], [B, 4, 5]),
  'MatMul batched': binary('MatMul', [B, 2, 3, 4], [B, 2, 4, 5]),
  'MatMul batched, broadcast': binary('MatMul', [B, 2, 3, 4], [2, 4, 5]),
  'MatMul batched, broadcast 1': binary('MatMul', [B, 1, 3, 4], [1, 2, 4, 5]),
  'MatMul vector right': binary('MatMul', [B, 3, 4], [4]),
  'MatMul vector left': binary('MatMul', [4], [B, 4, 5]),
  'MatMul vectors': binary('MatMul', [4], [4]),
  'Gemm with everything': {
    wanted: { a: [4, B], b: [5, 4], c: [5] },
    nodes: [
      {
        op: 'Gemm',
        in: ['a', 'b', 'c'],
        out: ['y'],
        attributes: { transA: i(1), transB: i(1), alpha: f(0.5), beta: f(2) },
      },
    ],
  },
  'Gemm transA': {
    wanted: { a: [4, B], b: [4, 5], c: [B, 1] },
    nodes: [{ op: 'Gemm', in: ['a', 'b', 'c'], out: ['y'], attributes: { transA: i(1) } }],
  },
  'Gemm transB': {
    wanted: { a: [B, 4], b: [5, 4] },
    nodes: [{ op: 'Gemm', in: ['a', 'b'], out: ['y'], attributes: { transB: i(1), alpha: f(1.5) } }],
  },
  'Gemm plain': {
    wanted: { a: [B, 4], b: [4, 5], c: [1, 5] },
    nodes: [{ op: 'Gemm', in: ['a', 'b', 'c'], out: ['y'] }],
  },
  'Conv 3x3 padded': conv([B, 2, 6, 6], [4, 2, 3, 3], { pads: is([1, 1, 1, 1]) }),
  'Conv stride 2, asymmetric pads': conv([B, 2, 7, 8], [4, 2, 3, 3], { pads: is([1, 0, 2, 1]), strides: is([2, 2]) }),
  'Conv dilated': conv([B, 2, 8, 8], [3, 2, 3, 3], { dilations: is([2, 2]), pads: is([2, 2, 2, 2]) }),
  'Conv 1x1 stride 2': conv([B, 3, 6, 6], [4, 3, 1, 1], { strides: is([2, 2]) }),
  'Conv 1x1': conv([B, 3, 5, 5], [4, 3, 1, 1], {}),
  'Conv 7x7 stride 2': conv([B, 2, 11, 11], [3, 2, 7, 7], { strides: is([2, 2]), pads: is([3, 3, 3, 3]) }),
  'Conv grouped': conv([B, 4, 6, 6], [6, 2, 3, 3], { pads: is([1, 1, 1, 1]) }, 'Conv', 2),
  'Conv depthwise stride 2': conv(
    [B, 4, 7, 7],
    [4, 1, 3, 3],
    { pads: is([1, 1, 1, 1]), strides: is([2, 2]) },
    'Conv',
    4,
  ),
  'Conv 1-D': conv([B, 3, 10], [4, 3, 3], { pads: is([1, 1]), strides: is([2]) }),
  'Conv SAME_UPPER': conv([B, 2, 7, 6], [3, 2, 3, 3], { auto_pad: s('SAME_UPPER'), strides: is([2, 2]) }),
  ConvTranspose: conv([B, 3, 4, 4], [3, 2, 3, 3], { strides: is([2, 2]), pads: is([1, 1, 1, 1]) }, 'ConvTranspose'),
  'ConvTranspose output padding': conv(
    [B, 3, 4, 4],
    [3, 2, 3, 3],
    { strides: is([2, 2]), pads: is([1, 1, 1, 1]), output_padding: is([1, 1]) },
    'ConvTranspose',
  ),
  'ConvTranspose grouped': conv([B, 4, 4, 4], [4, 2, 3, 3], { strides: is([2, 1]) }, 'ConvTranspose', 2),
  'MaxPool 2x2': pool('MaxPool', [B, 2, 6, 6], { kernel_shape: is([2, 2]), strides: is([2, 2]) }),
  'MaxPool 3x3 stride 2 padded': pool('MaxPool', [B, 2, 7, 7], {
    kernel_shape: is([3, 3]),
    strides: is([2, 2]),
    pads: is([1, 1, 1, 1]),
  }),
  'MaxPool ceil': pool('MaxPool', [B, 2, 6, 6], { kernel_shape: is([3, 3]), strides: is([2, 2]), ceil_mode: i(1) }),
  'MaxPool 1-D': pool('MaxPool', [B, 2, 9], { kernel_shape: is([3]), strides: is([2]) }),
  'AveragePool padded': pool('AveragePool', [B, 2, 6, 6], {
    kernel_shape: is([3, 3]),
    strides: is([2, 2]),
    pads: is([1, 1, 1, 1]),
  }),
  'AveragePool counting pads': pool('AveragePool', [B, 2, 6, 7], {
    kernel_shape: is([3, 2]),
    pads: is([1, 0, 1, 1]),
    count_include_pad: i(1),
  }),
  GlobalAveragePool: pool('GlobalAveragePool', [B, 3, 4, 5], {}),
  GlobalMaxPool: pool('GlobalMaxPool', [B, 3, 4, 5], {}),
  ReduceSum: reduce('ReduceSum', [1], 0),
  'ReduceSum of everything': reduce('ReduceSum', null, 0),
  'ReduceMean over the batch': reduce('ReduceMean', [0, 2], 1),
  'ReduceMean without keeping': reduce('ReduceMean', [-1], 0),
  ReduceMax: reduce('ReduceMax', [2], 1),
  ReduceMin: reduce('ReduceMin', [1], 0),
  ReduceSumSquare: reduce('ReduceSumSquare', [2], 1),
  ReduceL2: reduce('ReduceL2', [2], 1),
  ReduceL1: reduce('ReduceL1', [2], 1, { values: awayFrom(0) }),
  ReduceLogSumExp: reduce('ReduceLogSumExp', [1], 0),
  Softmax: unary('Softmax', { attributes: { axis: i(-1) } }),
  'Softmax axis 1': unary('Softmax', { attributes: { axis: i(1) } }),
  LogSoftmax: unary('LogSoftmax', { attributes: { axis: i(-1) } }),
  LayerNormalization: {
    wanted: { x: [B, 4, 5], g: [5], b: [5] },
    nodes: [{ op: 'LayerNormalization', in: ['x', 'g', 'b'], out: ['y'], attributes: { axis: i(-1) } }],
  },
  'LayerNormalization over two axes': {
    wanted: { x: [B, 4, 5], g: [4, 5] },
    nodes: [{ op: 'LayerNormalization', in: ['x', 'g'], out: ['y'], attributes: { axis: i(1) } }],
  },
  SimplifiedLayerNormalization: {
    wanted: { x: [B, 4, 5], g: [5] },
    nodes: [{ op: 'SimplifiedLayerNormalization', in: ['x', 'g'], out: ['y'], attributes: { axis: i(-1) } }],
  },
  'RMS norm in parts': {
    wanted: { x: [B, 4, 5], g: [5] },
    floats: { two: { dims: [], values: [2] }, e: { dims: [], values: [1e-5] } },
    nodes: [
      { op: 'Pow', in: ['x', 'two'], out: ['square'] },
      { op: 'ReduceMean', in: ['square'], out: ['mean'], attributes: { axes: is([-1]) } },
      { op: 'Add', in: ['mean', 'e'], out: ['moved'] },
      { op: 'Sqrt', in: ['moved'], out: ['root'] },
      { op: 'Div', in: ['x', 'root'], out: ['normal'] },
      { op: 'Mul', in: ['normal', 'g'], out: ['y'] },
    ],
    opset: 17,
  },
  BatchNormalization: {
    wanted: { x: [B, 3, 4, 4], g: [3], b: [3] },
    floats: { m: { dims: [3], values: [0.1, -0.2, 0.3] }, v: { dims: [3], values: [0.5, 1, 2] } },
    nodes: [{ op: 'BatchNormalization', in: ['x', 'g', 'b', 'm', 'v'], out: ['y'] }],
  },
  InstanceNormalization: {
    wanted: { x: [B, 3, 4, 4], g: [3], b: [3] },
    nodes: [{ op: 'InstanceNormalization', in: ['x', 'g', 'b'], out: ['y'] }],
  },
  GroupNormalization: {
    wanted: { x: [B, 4, 4, 4], g: [4], b: [4] },
    opset: 21,
    nodes: [{ op: 'GroupNormalization', in: ['x', 'g', 'b'], out: ['y'], attributes: { num_groups: i(2) } }],
  },
  Reshape: moved({ op: 'Reshape' }, [B, 4, 6], { shape: vector(0, 8, -1) }),
  Flatten: moved({ op: 'Flatten' }, [B, 4, 5]),
  Squeeze: moved({ op: 'Squeeze' }, [B, 1, 5], { axes: vector(1) }),
  Unsqueeze: moved({ op: 'Unsqueeze' }, [B, 5], { axes: vector(0, 3) }),
  Transpose: moved({ op: 'Transpose', attributes: { perm: is([2, 0, 1]) } }, [B, 4, 5]),
  'Transpose without order': moved({ op: 'Transpose' }, [B, 4, 5]),
  Expand: moved({ op: 'Expand' }, [B, 1, 5], { shape: vector(2, 1, 4, 1) }),
  Tile: moved({ op: 'Tile' }, [B, 2, 5], { repeats: vector(1, 3, 2) }),
  'Slice with step': moved({ op: 'Slice' }, [B, 9, 7], {
    starts: vector(1, -1),
    ends: vector(8, -100),
    axes: vector(1, 2),
    steps: vector(3, -2),
  }),
  Slice: moved({ op: 'Slice' }, [B, 9, 7], { starts: vector(2, 0), ends: vector(-1, 4), axes: vector(1, 2) }),
  Pad: moved({ op: 'Pad' }, [B, 4, 5], { pads: vector(0, 1, 2, 0, 0, 3) }),
  'Gather rows': moved({ op: 'Gather' }, [6, 5], { indices: { dims: [2, 3], values: [0, 5, -1, 2, 2, 2] } }),
  'Gather one': moved({ op: 'Gather', attributes: { axis: i(1) } }, [B, 4, 5], { index: { dims: [], values: [-1] } }),
  'Gather axis 1': moved({ op: 'Gather', attributes: { axis: i(1) } }, [B, 4, 5], { index: vector(3, 0, 3) }),
  'Gather long table': moved({ op: 'Gather' }, [5000, 2], { indices: { dims: [2, 2], values: [4999, 0, 7, 7] } }),
  DepthToSpace: moved({ op: 'DepthToSpace', attributes: { blocksize: i(2) } }, [B, 8, 2, 3]),
  'DepthToSpace CRD': moved({ op: 'DepthToSpace', attributes: { blocksize: i(2), mode: s('CRD') } }, [B, 8, 2, 3]),
  SpaceToDepth: moved({ op: 'SpaceToDepth', attributes: { blocksize: i(2) } }, [B, 2, 4, 6]),
  Concat: binary('Concat', [B, 2, 5], [B, 4, 5], {
    nodes: [{ op: 'Concat', in: ['a', 'b', 'a'], out: ['y'], attributes: { axis: i(1) } }],
  }),
  'Concat over the batch': binary('Concat', [B, 5], [2, 5], {
    nodes: [{ op: 'Concat', in: ['a', 'b'], out: ['y'], attributes: { axis: i(0) } }],
  }),
  'Split, one part used': {
    wanted: { x: [B, 7, 2] },
    ints: { sizes: vector(2, 4, 1) },
    nodes: [
      { op: 'Split', in: ['x', 'sizes'], out: ['p', 'q', 'r'], attributes: { axis: i(1) } },
      { op: 'Mul', in: ['q', 'q'], out: ['y'] },
    ],
  },
  'Shared weight': {
    wanted: { x: [B, 4], w: [4, 4] },
    nodes: [
      { op: 'MatMul', in: ['x', 'w'], out: ['h'] },
      { op: 'Tanh', in: ['h'], out: ['t'] },
      { op: 'MatMul', in: ['t', 'w'], out: ['o'] },
      { op: 'Transpose', in: ['w'], out: ['wt'], attributes: { perm: is([1, 0]) } },
      { op: 'MatMul', in: ['o', 'wt'], out: ['y'] },
    ],
  },
};

/** Twice the difference step leaves a curvature error of its square; float32 noise is about as large. */
const tolerance = 2e-3;

describe('gradient rules against differences along random directions', () => {
  for (const [name, graph] of Object.entries(cases)) {
    it(name, async () => {
      for (const seed of [1, 2]) expect(await gradientError(graph, seed)).toBeLessThan(tolerance);
    });
  }
});
