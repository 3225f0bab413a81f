import { DataType } from './model.js';
import {
  broadcast,
  derived,
  fixed,
  ShapeGap,
  type InferredValue,
  type RuleContext,
  type ShapeDim,
  type ShapeRule,
  type ShapeRules,
} from './shape-types.js';

/** Result dimensions of a matrix product with numpy's rules for vectors and batches. */
export function matMulDims(left: readonly ShapeDim[], right: readonly ShapeDim[]): ShapeDim[] {
  const a = left.length === 1 ? [fixed(1), ...left] : left;
  const b = right.length === 1 ? [...right, fixed(1)] : right;
  const rows = a.at(-2);
  const inner = a.at(-1);
  const columns = b.at(-1);
  if (!rows || !inner || !columns) throw new ShapeGap('a scalar cannot be multiplied as a matrix');
  if (inner.size !== b.at(-2)?.size) throw new ShapeGap(`inner sizes ${inner.size} and ${b.at(-2)?.size} differ`);
  const result = broadcast([a.slice(0, -2), b.slice(0, -2)]);
  if (left.length > 1) result.push(rows);
  if (right.length > 1) result.push(columns);
  return result;
}

function swapLast(dims: readonly ShapeDim[], swap: boolean): readonly ShapeDim[] {
  const [rows, columns] = dims.slice(-2);
  return swap && rows && columns ? [...dims.slice(0, -2), columns, rows] : dims;
}

/** Product of inputs 0 and `right`, typed by `type`. */
function matMul(type: (context: RuleContext) => number, right = 1): ShapeRule {
  return (context) => [
    {
      dataType: type(context),
      dims: matMulDims(
        swapLast(context.input(0).dims, context.int('transA', 0) !== 0),
        swapLast(context.input(right).dims, context.int('transB', 0) !== 0),
      ),
    },
  ];
}

const firstType = (context: RuleContext) => context.input(0).dataType;

function gemm(type: (context: RuleContext) => number, right = 1): ShapeRule {
  return (context) => {
    const a = swapLast(context.input(0).dims, context.int('transA', 0) !== 0);
    const b = swapLast(context.input(right).dims, context.int('transB', 0) !== 0);
    if (a[1]?.size !== b[0]?.size) throw new ShapeGap(`inner sizes ${a[1]?.size} and ${b[0]?.size} differ`);
    return [{ dataType: type(context), dims: [a[0] ?? fixed(1), b[1] ?? fixed(1)] }];
  };
}

interface Window {
  kernel: readonly number[];
  strides: readonly number[];
  dilations: readonly number[];
  pads: readonly number[];
}

function windowOf(context: RuleContext, kernel: readonly number[]): Window {
  const ones = kernel.map(() => 1);
  return {
    kernel,
    strides: context.ints('strides') ?? ones,
    dilations: context.ints('dilations') ?? ones,
    pads: context.ints('pads') ?? [...ones, ...ones].map(() => 0),
  };
}

/** Spatial sizes after a sliding window (convolution or pooling). */
function slide(context: RuleContext, spatial: readonly ShapeDim[], window: Window): ShapeDim[] {
  const auto = context.text('auto_pad', 'NOTSET');
  const ceil = context.int('ceil_mode', 0) !== 0;
  return spatial.map((dim, axis) => {
    const stride = window.strides[axis] ?? 1;
    const reach = ((window.kernel[axis] ?? 1) - 1) * (window.dilations[axis] ?? 1) + 1;
    if (auto === 'SAME_UPPER' || auto === 'SAME_LOWER') return derived(Math.ceil(dim.size / stride), dim);
    const before = auto === 'VALID' ? 0 : (window.pads[axis] ?? 0);
    const padding = auto === 'VALID' ? 0 : before + (window.pads[axis + spatial.length] ?? 0);
    const steps = (dim.size + padding - reach) / stride;
    let size = (ceil ? Math.ceil(steps) : Math.floor(steps)) + 1;
    // A window may not start in the padding at the end.
    if (ceil && (size - 1) * stride >= dim.size + before) size -= 1;
    return derived(size, dim);
  });
}

function convolve(x: InferredValue, weight: InferredValue, context: RuleContext): ShapeDim[] {
  const kernel = context.ints('kernel_shape') ?? weight.dims.slice(2).map((dim) => dim.size);
  const [batch] = x.dims;
  const [filters] = weight.dims;
  if (!batch || !filters) throw new ShapeGap('a convolution needs a batch and filters');
  return [batch, filters, ...slide(context, x.dims.slice(2), windowOf(context, kernel))];
}

const conv: ShapeRule = (context) => [
  { dataType: context.input(0).dataType, dims: convolve(context.input(0), context.input(1), context) },
];

const convInteger: ShapeRule = (context) => [
  { dataType: DataType.INT32, dims: convolve(context.input(0), context.input(1), context) },
];

const convTranspose: ShapeRule = (context) => {
  const x = context.input(0);
  const weight = context.input(1);
  const [batch] = x.dims;
  const filters = weight.dims[1];
  if (!batch || !filters) throw new ShapeGap('a convolution needs a batch and filters');
  const spatial = x.dims.slice(2);
  const window = windowOf(context, context.ints('kernel_shape') ?? weight.dims.slice(2).map((dim) => dim.size));
  const given = context.ints('output_shape');
  const auto = context.text('auto_pad', 'NOTSET');
  const extra = context.ints('output_padding');
  const sizes = spatial.map((dim, axis) => {
    const stride = window.strides[axis] ?? 1;
    const wanted = given?.[given.length - spatial.length + axis];
    if (wanted !== undefined) return fixed(wanted);
    if (auto.startsWith('SAME')) return derived(dim.size * stride, dim);
    const reach = ((window.kernel[axis] ?? 1) - 1) * (window.dilations[axis] ?? 1) + 1;
    const padding = (window.pads[axis] ?? 0) + (window.pads[axis + spatial.length] ?? 0);
    return derived(stride * (dim.size - 1) + (extra?.[axis] ?? 0) + reach - padding, dim);
  });
  const channels = derived(filters.size * context.int('group', 1), filters);
  return [{ dataType: x.dataType, dims: [batch, channels, ...sizes] }];
};

const pool: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const kernel = context.ints('kernel_shape') ?? [];
  const result = [...dims.slice(0, 2), ...slide(context, dims.slice(2), windowOf(context, kernel))];
  return [
    { dataType, dims: result },
    { dataType: DataType.INT64, dims: result },
  ];
};

const globalPool: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  return [{ dataType, dims: dims.map((dim, axis) => (axis < 2 ? dim : fixed(1))) }];
};

/** LSTM, GRU, RNN: Y [seq, directions, batch, hidden], Y_h and Y_c [directions, batch, hidden]; layout 1 puts batch first. */
const recurrent: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const batchFirst = context.int('layout', 0) !== 0;
  const [sequence, batch] = batchFirst ? [dims[1], dims[0]] : [dims[0], dims[1]];
  const directions = context.input(1).dims[0];
  const hidden = context.input(2).dims[2];
  if (!sequence || !batch || !directions || !hidden) throw new ShapeGap('needs rank-3 inputs');
  const all = batchFirst ? [batch, sequence, directions, hidden] : [sequence, directions, batch, hidden];
  const last = batchFirst ? [batch, directions, hidden] : [directions, batch, hidden];
  return [
    { dataType, dims: all },
    { dataType, dims: last },
    { dataType, dims: last },
  ];
};

const quantizeLinear: ShapeRule = (context) => {
  const chosen = context.int('output_dtype', 0);
  const dataType = chosen !== 0 ? chosen : context.has(2) ? context.input(2).dataType : DataType.UINT8;
  return [{ dataType, dims: context.input(0).dims }];
};

const dequantizeLinear: ShapeRule = (context) => {
  const chosen = context.int('output_dtype', 0);
  return [{ dataType: chosen !== 0 ? chosen : context.input(1).dataType, dims: context.input(0).dims }];
};

const dynamicQuantizeLinear: ShapeRule = (context) => [
  { dataType: DataType.UINT8, dims: context.input(0).dims },
  { dataType: DataType.FLOAT, dims: [] },
  { dataType: DataType.UINT8, dims: [] },
];

const qLinearConv: ShapeRule = (context) => {
  const x = context.input(0);
  if (context.int('channels_last', 0) === 0) {
    return [{ dataType: context.input(7).dataType, dims: convolve(x, context.input(3), context) }];
  }
  const channelsFirst = [x.dims[0] ?? fixed(1), x.dims.at(-1) ?? fixed(1), ...x.dims.slice(1, -1)];
  const [batch, filters, ...spatial] = convolve(
    { dataType: x.dataType, dims: channelsFirst },
    context.input(3),
    context,
  );
  return [{ dataType: context.input(7).dataType, dims: [batch ?? fixed(1), ...spatial, filters ?? fixed(1)] }];
};

const einsum: ShapeRule = (context) => {
  const equation = context.text('equation', '').replaceAll(' ', '');
  const [left = '', right] = equation.split('->');
  if (equation.includes('...')) throw new ShapeGap('Einsum with an ellipsis');
  const sizes = new Map<string, ShapeDim>();
  const counts = new Map<string, number>();
  left.split(',').forEach((term, index) => {
    const { dims } = context.input(index);
    [...term].forEach((letter, axis) => {
      const dim = dims[axis];
      if (dim !== undefined && (sizes.get(letter)?.size ?? 1) === 1) sizes.set(letter, dim);
      counts.set(letter, (counts.get(letter) ?? 0) + 1);
    });
  });
  const output =
    right ??
    [...counts]
      .filter(([, count]) => count === 1)
      .map(([letter]) => letter)
      .sort()
      .join('');
  return [{ dataType: context.input(0).dataType, dims: [...output].map((letter) => sizes.get(letter) ?? fixed(1)) }];
};

/** Products, convolutions, pooling, recurrences and their quantized forms. */
export const contractionRules: ShapeRules = {
  MatMul: matMul(firstType),
  Gemm: gemm(firstType),
  'com.microsoft:FusedMatMul': matMul(firstType),
  'com.microsoft:FusedGemm': gemm(firstType),
  MatMulInteger: matMul(() => DataType.INT32),
  'com.microsoft:MatMulIntegerToFloat': matMul((context) => context.input(2).dataType),
  'com.microsoft:DynamicQuantizeMatMul': matMul(firstType),
  QLinearMatMul: matMul((context) => context.input(7).dataType, 3),
  'com.microsoft:QGemm': gemm((context) => (context.has(8) ? context.input(8).dataType : DataType.FLOAT), 3),
  Conv: conv,
  'com.microsoft:FusedConv': conv,
  'com.microsoft.nchwc:Conv': conv,
  ConvInteger: convInteger,
  ConvTranspose: convTranspose,
  QLinearConv: qLinearConv,
  'com.microsoft:QLinearConv': qLinearConv,
  MaxPool: pool,
  AveragePool: pool,
  LpPool: pool,
  'com.microsoft.nchwc:MaxPool': pool,
  'com.microsoft.nchwc:AveragePool': pool,
  GlobalAveragePool: globalPool,
  GlobalMaxPool: globalPool,
  GlobalLpPool: globalPool,
  LSTM: recurrent,
  GRU: recurrent,
  RNN: recurrent,
  QuantizeLinear: quantizeLinear,
  DequantizeLinear: dequantizeLinear,
  'com.microsoft:QuantizeLinear': quantizeLinear,
  'com.microsoft:DequantizeLinear': dequantizeLinear,
  DynamicQuantizeLinear: dynamicQuantizeLinear,
  Einsum: einsum,
};
