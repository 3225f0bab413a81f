import { describe, test } from 'vitest';
import { floatAttribute } from '../../../src/onnx/graph.js';
import { DataType } from '../../../src/onnx/model.js';
import { checkCases, constant, fed, ints, scalar, single, type Choose, type OperatorCase } from './case.js';

const { FLOAT, INT32, INT64, INT8, UINT8, BOOL } = DataType;

/** Shapes that broadcast to each other. */
function broadcastable(c: Choose, count: number): number[][] {
  const full = c.dims(1, 4);
  return Array.from({ length: count }, () =>
    full.slice(c.int(0, full.length - 1)).map((size) => (c.int(0, 2) === 0 ? 1 : size)),
  );
}

const words = (text: string) => text.split(' ');

const unary = words(
  'Abs Acos Acosh Asin Asinh Atan Atanh Ceil Celu Cos Cosh Elu Erf Exp Floor Gelu HardSigmoid HardSwish Hardmax Identity ' +
    'LeakyRelu Log LogSoftmax Mish Neg Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softmax Softplus Softsign ' +
    'Sqrt Tan Tanh ThresholdedRelu IsInf IsNaN LpNormalization com.microsoft:QuickGelu com.microsoft:Gelu ' +
    'com.microsoft:FastGelu RandomNormalLike RandomUniformLike Bernoulli MeanVarianceNormalization',
);

const reductions = words(
  'ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare',
);

/** Spatial sizes, a kernel and what goes with it. */
function window(c: Choose) {
  const rank = c.int(1, 2);
  const of = (min: number, max: number, count = rank) => Array.from({ length: count }, () => c.int(min, max));
  const auto = c.of('NOTSET', 'NOTSET', 'SAME_UPPER', 'SAME_LOWER', 'VALID');
  const kernel = of(1, 3);
  return {
    rank,
    // Never smaller than the widest window: 3 elements, 2 apart.
    spatial: of(5, 9),
    kernel,
    strides: c.bool() ? of(1, 3) : undefined,
    dilations: c.bool() && !auto.startsWith('SAME') ? of(1, 2) : undefined,
    pads:
      auto === 'NOTSET' && c.bool()
        ? of(0, 1, rank * 2).map((pad, at) => Math.min(pad, (kernel[at % rank] ?? 1) - 1))
        : undefined,
    auto_pad: auto,
  };
}

const cases: Record<string, (c: Choose) => OperatorCase> = {
  'one operand'(c) {
    return single(c.of(...unary), [fed(c.dims(1, 4))], {}, { opset: c.of(20, 21) });
  },
  'two operands'(c) {
    const [a = [], b = []] = broadcastable(c, 2);
    return single(c.of('Add', 'Sub', 'Mul', 'Div', 'Pow', 'PRelu'), [fed(a), fed(b)], {}, { opset: c.of(13, 17) });
  },
  comparisons(c) {
    const [a = [], b = []] = broadcastable(c, 2);
    const operator = c.of('Equal', 'Greater', 'GreaterOrEqual', 'Less', 'LessOrEqual');
    return single(operator, [fed(a), fed(b)]);
  },
  logic(c) {
    const [a = [], b = []] = broadcastable(c, 2);
    return single(c.of('And', 'Or', 'Xor'), [fed(a, BOOL), fed(b, BOOL)]);
  },
  'any number of operands'(c) {
    const dims = broadcastable(c, c.int(1, 4));
    return single(
      c.of('Max', 'Min', 'Sum', 'Mean'),
      dims.map((own) => fed(own)),
    );
  },
  Where(c) {
    const [a = [], b = [], d = []] = broadcastable(c, 3);
    return single('Where', [fed(a, BOOL), fed(b), fed(d)]);
  },
  Cast: (c) =>
    single('Cast', [fed(c.dims(0, 3))], { to: c.of(INT64, INT32, DataType.DOUBLE, BOOL, UINT8, DataType.FLOAT16) }),
  Clip: (c) => single('Clip', [fed(c.dims(1, 3)), scalar(0, FLOAT)]),
  'reductions, axes as attribute'(c) {
    const dims = c.dims(1, 4);
    const [operator, opset] = [c.of(...reductions), c.of(11, 12)];
    const axes = c.axes(dims.length);
    return single(
      operator,
      [fed(dims)],
      { axes: axes.length > 0 ? axes : undefined, keepdims: c.int(0, 1) },
      { opset },
    );
  },
  'reductions, axes as input'(c) {
    const dims = c.dims(1, 4);
    const operator = c.of(...reductions);
    const attributes = { keepdims: c.int(0, 1), noop_with_empty_axes: c.int(0, 1) };
    const inputs = c.bool() ? [fed(dims)] : [fed(dims), ints(...c.axes(dims.length))];
    return single(operator, inputs, attributes, { opset: c.of(18, 20, 21) });
  },
  'ArgMax and ArgMin'(c) {
    const dims = c.dims(1, 4);
    const axis = c.int(-dims.length, dims.length - 1);
    return single(c.of('ArgMax', 'ArgMin'), [fed(dims)], { axis, keepdims: c.int(0, 1) }, { opset: c.of(11, 13) });
  },
  TopK(c) {
    const dims = c.dims(1, 4);
    const axis = c.int(-dims.length, dims.length - 1);
    return single('TopK', [fed(dims), ints(c.int(1, dims.at(axis) ?? 1))], { axis }, { outputs: 2 });
  },
  convolutions(c) {
    const { rank, spatial, kernel, ...window_ } = window(c);
    const group = c.int(1, 2);
    const [depth, filters] = [c.int(1, 3), c.int(1, 3) * group];
    const x = fed([c.int(1, 3), depth * group, ...spatial]);
    const w = constant([filters, depth, ...kernel]);
    const attributes = { ...window_, group, kernel_shape: c.bool() ? kernel : undefined };
    void rank;
    return single('Conv', c.bool() ? [x, w, constant([filters])] : [x, w], attributes, { opset: c.of(11, 21) });
  },
  'transposed convolutions'(c) {
    const { rank, spatial, kernel, ...rest } = window(c);
    const group = c.int(1, 2);
    const depth = c.int(1, 2) * group;
    const strides = rest.strides ?? kernel.map(() => 1);
    const output_padding =
      c.bool() && rest.auto_pad === 'NOTSET' ? strides.map((stride) => c.int(0, stride - 1)) : undefined;
    const output_shape = c.int(0, 3) === 0 ? spatial.map((size, at) => size * (strides[at] ?? 1)) : undefined;
    void rank;
    return single(
      'ConvTranspose',
      [fed([c.int(1, 2), depth, ...spatial]), constant([depth, c.int(1, 3), ...kernel])],
      { ...rest, group, output_padding, output_shape, pads: output_shape ? undefined : rest.pads },
      { opset: 11 },
    );
  },
  pooling(c) {
    const { rank, spatial, kernel, dilations, ...rest } = window(c);
    const operator = c.of('MaxPool', 'AveragePool', 'LpPool');
    const opset = c.of(11, 19, 22);
    const dilated = (operator === 'MaxPool' && opset >= 10) || opset >= 19;
    void rank;
    return single(
      operator,
      [fed([c.int(1, 2), c.int(1, 3), ...spatial])],
      {
        ...rest,
        kernel_shape: kernel,
        dilations: dilated ? dilations : undefined,
        ceil_mode: operator === 'LpPool' && opset < 18 ? undefined : c.int(0, 1),
      },
      { opset },
    );
  },
  'MaxPool with positions'(c) {
    const x = fed([1, 2, 6, c.int(4, 8)]);
    return single('MaxPool', [x], { kernel_shape: [2, 2], strides: [2, 2], ceil_mode: c.int(0, 1) }, { outputs: 2 });
  },
  MaxUnpool(c) {
    const dims = [1, c.int(1, 2), c.int(2, 3), 2];
    const count = dims.reduce((all, size) => all * size, 1);
    const positions = constant(
      dims,
      INT64,
      Array.from({ length: count }, (_, at) => at),
    );
    const attributes = { kernel_shape: [2, 2], strides: [2, 2] };
    return c.bool()
      ? single('MaxUnpool', [fed(dims), positions], attributes)
      : single('MaxUnpool', [fed(dims), positions, ints(1, dims[1] ?? 1, (dims[2] ?? 1) * 2, 5)], attributes);
  },
  'pooling of everything': (c) =>
    single(c.of('GlobalAveragePool', 'GlobalMaxPool', 'GlobalLpPool'), [fed([1, c.int(1, 3), ...c.dims(1, 3)])]),
  'Resize by scales'(c) {
    const dims = [1, c.int(1, 2), c.int(2, 9), c.int(2, 9)];
    const opset = c.of(11, 13, 18, 19);
    const factor = () => c.of(0.5, 2, 1, 3, 1.5, 0.7, 0.3, 1 / 3);
    const axes = opset >= 18 && c.bool() ? [2, -1] : undefined;
    const scales = axes ? [factor(), factor()] : [1, 1, factor(), factor()];
    const mode = c.of('nearest', 'linear');
    const attributes = {
      mode,
      axes,
      coordinate_transformation_mode: c.of('half_pixel', 'asymmetric', 'align_corners'),
    };
    return single(
      'Resize',
      [fed(dims), opset > 12 ? null : constant([0]), constant([scales.length], FLOAT, scales)],
      attributes,
      { opset },
    );
  },
  'Resize to sizes'(c) {
    const dims = [1, c.int(1, 2), c.int(2, 9), c.int(2, 9)];
    const opset = c.of(13, 18, 19);
    const axes = opset >= 18 ? [2, 3] : undefined;
    const sizes = axes ? ints(c.int(1, 12), c.int(1, 12)) : ints(1, dims[1] ?? 1, c.int(1, 12), c.int(1, 12));
    const policy = axes ? c.of('stretch', 'not_larger', 'not_smaller') : undefined;
    return single(
      'Resize',
      [fed(dims), null, null, sizes],
      { axes, mode: 'nearest', keep_aspect_ratio_policy: policy },
      { opset },
    );
  },
  'Upsample, opset 9'(c) {
    const scales = constant([4], FLOAT, [1, 1, c.of(2, 1.5, 3), c.of(1, 2)]);
    return single('Upsample', [fed([1, c.int(1, 2), c.int(2, 5), 3]), scales], { mode: 'nearest' }, { opset: 9 });
  },
  MatMul(c) {
    const [inner, rows, columns] = [c.int(1, 4), c.int(1, 4), c.int(1, 4)];
    const [a = [], b = []] = broadcastable(c, 2);
    const left = c.int(0, 3) === 0 ? [inner] : [...a, rows, inner];
    return single('MatMul', [fed(left), fed(c.int(0, 3) === 0 ? [inner] : [...b, inner, columns])]);
  },
  FusedMatMul(c) {
    const [inner, rows, columns] = [c.int(1, 4), c.int(1, 4), c.int(1, 4)];
    const batch = c.dims(1, 2);
    const [transA, transB] = [c.int(0, 1), c.int(0, 1)];
    const a = transA ? [inner, rows] : [rows, inner];
    const b = transB ? [columns, inner] : [inner, columns];
    return single('com.microsoft:FusedMatMul', [fed([...batch, ...a]), fed([...batch, ...b])], { transA, transB });
  },
  Gemm(c) {
    const [k, m, n] = [c.int(1, 4), c.int(1, 4), c.int(1, 4)];
    const [transA, transB] = [c.int(0, 1), c.int(0, 1)];
    const inputs = [fed(transA ? [k, m] : [m, k]), constant(transB ? [n, k] : [k, n]), constant([n])];
    return single(c.of('Gemm', 'com.microsoft:FusedGemm'), inputs, { transA, transB, alpha: floatAttribute(1) });
  },
  Einsum(c) {
    const [equation, ...operands] = c.of<[string, ...string[]]>(
      ['ij,jk->ik', 'ij', 'jk'],
      ['bij,bjk->bik', 'bij', 'bjk'],
      ['bhid,bhjd->bhij', 'bhid', 'bhjd'],
      ['...ij,...jk->...ik', 'xyij', 'yjk'],
      ['...ij,jk', 'xij', 'jk'],
      ['ij,jk', 'ij', 'jk'],
      ['i,j->ij', 'i', 'j'],
      ['ii->i', 'ii'],
      ['ij->', 'ij'],
      ['b...->...b', 'bxy'],
    );
    const sizes = new Map<string, number>();
    const size = (letter: string) => sizes.get(letter) ?? (sizes.set(letter, c.int(1, 4)).get(letter) as number);
    return single(
      'Einsum',
      operands.map((letters) => fed([...letters].map(size))),
      { equation },
    );
  },
  'recurrent layers'(c) {
    const operator = c.of('LSTM', 'GRU', 'RNN');
    const gates = { LSTM: 4, GRU: 3, RNN: 1 }[operator];
    const direction = c.of('forward', 'reverse', 'bidirectional');
    const directions = direction === 'bidirectional' ? 2 : 1;
    const [hidden, features] = [c.int(1, 4), c.int(1, 4)];
    return single(
      operator,
      [
        fed([c.int(1, 4), c.int(1, 3), features]),
        constant([directions, gates * hidden, features]),
        constant([directions, gates * hidden, hidden]),
      ],
      { hidden_size: hidden, direction },
      { opset: 14, outputs: operator === 'LSTM' ? 3 : 2 },
    );
  },
  normalizations(c) {
    const dims = c.dims(2, 4);
    const axis = c.int(-dims.length, dims.length - 1);
    const scaled = dims.slice(axis);
    return single('LayerNormalization', [fed(dims), constant(scaled)], { axis }, { outputs: c.int(1, 3) });
  },
  'norms over channels'(c) {
    const channels = c.int(1, 4) * 2;
    const x = fed([c.int(1, 3), channels, c.int(2, 4), 3]);
    const parameter = constant([channels], FLOAT, 1);
    if (c.bool()) return single('BatchNormalization', [x, parameter, parameter, parameter, parameter]);
    if (c.bool()) return single('InstanceNormalization', [x, parameter, parameter]);
    return single('GroupNormalization', [x, parameter, parameter], { num_groups: 2 }, { opset: 21 });
  },
  Dropout: (c) => single('Dropout', [fed(c.dims(1, 3))], {}, { opset: c.of(11, 13), outputs: 2 }),
  'quantize and back'(c) {
    const dims = c.dims(1, 3);
    const [scale, zero] = [scalar(0.5, FLOAT), scalar(1, UINT8)];
    if (c.bool()) return single('QuantizeLinear', [fed(dims), scale, zero], {}, { opset: c.of(13, 21) });
    return single('DequantizeLinear', [fed(dims, UINT8), scale, zero], {}, { opset: c.of(13, 21) });
  },
  DynamicQuantizeLinear: (c) => single('DynamicQuantizeLinear', [fed(c.dims(1, 3))], {}, { outputs: 3 }),
  MatMulInteger(c) {
    const [inner, rows] = [c.int(1, 4), c.int(1, 4)];
    return single('MatMulInteger', [fed([...c.dims(0, 1), rows, inner], UINT8), constant([inner, c.int(1, 4)], INT8)]);
  },
  ConvInteger(c) {
    const { rank, spatial, kernel, ...rest } = window(c);
    void rank;
    return single('ConvInteger', [fed([1, 2, ...spatial], UINT8), constant([3, 2, ...kernel], UINT8)], rest);
  },
  QLinearMatMul(c) {
    const [inner, rows] = [c.int(1, 4), c.int(1, 4)];
    const [scale, zero] = [scalar(0.5, FLOAT), scalar(1, UINT8)];
    const b = constant([inner, c.int(1, 4)], UINT8);
    return single('QLinearMatMul', [fed([rows, inner], UINT8), scale, zero, b, scale, zero, scale, zero]);
  },
  QLinearConv(c) {
    const { rank, spatial, kernel, ...rest } = window(c);
    const [scale, zero] = [scalar(0.5, FLOAT), scalar(1, UINT8)];
    const weight = constant([3, 2, ...kernel], UINT8);
    void rank;
    return single('QLinearConv', [fed([1, 2, ...spatial], UINT8), scale, zero, weight, scale, zero, scale, zero], rest);
  },
};

describe('computing operators against onnxruntime', () => {
  test.each(Object.entries(cases))('%s', (name, make) => checkCases(make, name === 'one operand' ? 80 : 30));
});
