import { DataType } from './model.js';
import { ceilDivide, floorDivide, minus, plus, smaller, times, type Expression } from './shape-expression.js';
import { fresh } from './shape-ops-layout.js';
import {
  computed,
  dataOf,
  derived,
  dimFromData,
  fixed,
  multiplyDims,
  ShapeGap,
  type InferredValue,
  type RuleContext,
  type ShapeDim,
  type ShapeRule,
  type ShapeRules,
} from './shape-types.js';

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
    if (auto === 'SAME_UPPER' || auto === 'SAME_LOWER') {
      return computed(Math.ceil(dim.size / stride), ceilDivide(dim.expression, stride), dim);
    }
    const before = auto === 'VALID' ? 0 : (window.pads[axis] ?? 0);
    const padding = auto === 'VALID' ? 0 : before + (window.pads[axis + spatial.length] ?? 0);
    const steps = (dim.size + padding - reach) / stride;
    let size = (ceil ? Math.ceil(steps) : Math.floor(steps)) + 1;
    // A window may not start in the padding at the end.
    if (ceil && (size - 1) * stride >= dim.size + before) size -= 1;
    if (ceil && stride > 1) return derived(size, dim);
    return computed(size, plus(floorDivide(plus(dim.expression, padding - reach), stride), 1), dim);
  });
}

/** Kernel sizes from the attribute or from the weight's spatial axes. */
function kernelOf(context: RuleContext, spatial: readonly ShapeDim[]): readonly number[] {
  return context.ints('kernel_shape') ?? spatial.map((dim) => dim.size);
}

export function convolve(x: InferredValue, weight: InferredValue, context: RuleContext): ShapeDim[] {
  const [batch] = x.dims;
  const [filters] = weight.dims;
  if (!batch || !filters) throw new ShapeGap('a convolution needs a batch and filters');
  const kernel = kernelOf(context, weight.dims.slice(2));
  return [batch, filters, ...slide(context, x.dims.slice(2), windowOf(context, kernel))];
}

/** Channels moved from the last place to the second. */
export function channelsFirst(value: InferredValue): InferredValue {
  const { dims } = value;
  return { ...value, dims: [dims[0] ?? fixed(1), dims.at(-1) ?? fixed(1), ...dims.slice(1, -1)] };
}

/** Channels moved from the second place to the last. */
export function channelsLast({ dataType, dims }: InferredValue): InferredValue {
  return { dataType, dims: [dims[0] ?? fixed(1), ...dims.slice(2), dims[1] ?? fixed(1)] };
}

/** The same operator with the channels of input 0 and its outputs in the last place. */
export function withChannelsLast(rule: ShapeRule): ShapeRule {
  return (context) =>
    rule({
      ...context,
      input: (index) => (index === 0 ? channelsFirst(context.input(0)) : context.input(index)),
    }).map(channelsLast);
}

const conv: ShapeRule = (context) => [
  { dataType: context.input(0).dataType, dims: convolve(context.input(0), context.input(1), context) },
];

/** NhwcConv keeps its weight as [filters, …spatial, channels]. */
const nhwcConv: ShapeRule = (context) => {
  const x = channelsFirst(context.input(0));
  const dims = convolve(x, channelsFirst(context.input(1)), context);
  return [channelsLast({ dataType: x.dataType, dims })];
};

const convInteger: ShapeRule = (context) => [
  { dataType: DataType.INT32, dims: convolve(context.input(0), context.input(1), context) },
];

const qLinearConv: ShapeRule = (context) => {
  const { dataType } = context.input(7);
  const weight = context.input(3);
  if (context.int('channels_last', 0) === 0) return [{ dataType, dims: convolve(context.input(0), weight, context) }];
  return [channelsLast({ dataType, dims: convolve(channelsFirst(context.input(0)), weight, context) })];
};

/** One spatial size of a transposed convolution: stride·(size − 1) + output padding + reach − pads. */
function grow(dim: ShapeDim, stride: number, extra: number): ShapeDim {
  const formula: Expression | null = plus(times(minus(dim.expression, 1), stride), extra);
  return computed(stride * (dim.size - 1) + extra, formula, dim);
}

const convTranspose: ShapeRule = (context) => {
  const x = context.input(0);
  const weight = context.input(1);
  const [batch] = x.dims;
  const filters = weight.dims[1];
  if (!batch || !filters) throw new ShapeGap('a convolution needs a batch and filters');
  const spatial = x.dims.slice(2);
  const window = windowOf(context, kernelOf(context, weight.dims.slice(2)));
  const given = context.ints('output_shape');
  const auto = context.text('auto_pad', 'NOTSET');
  const extra = context.ints('output_padding');
  const sizes = spatial.map((dim, axis) => {
    const stride = window.strides[axis] ?? 1;
    const wanted = given?.[given.length - spatial.length + axis];
    if (wanted !== undefined) return fixed(wanted);
    const reach = ((window.kernel[axis] ?? 1) - 1) * (window.dilations[axis] ?? 1) + 1;
    const full = grow(dim, stride, (extra?.[axis] ?? 0) + reach);
    if (auto.startsWith('SAME')) {
      // Padding can only take away from what the kernel writes.
      const size = Math.min(full.size, dim.size * stride);
      return computed(size, smaller(full.expression, times(dim.expression, stride)), dim);
    }
    const pads = (window.pads[axis] ?? 0) + (window.pads[axis + spatial.length] ?? 0);
    return grow(dim, stride, (extra?.[axis] ?? 0) + reach - (auto === 'VALID' ? 0 : pads));
  });
  return [{ dataType: x.dataType, dims: [batch, multiplyDims(filters, fixed(context.int('group', 1))), ...sizes] }];
};

const pool: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const result = [
    ...dims.slice(0, 2),
    ...slide(context, dims.slice(2), windowOf(context, context.ints('kernel_shape') ?? [])),
  ];
  return [
    { dataType, dims: result },
    { dataType: DataType.INT64, dims: result },
  ];
};

const globalPool: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  return [{ dataType, dims: dims.map((dim, axis) => (axis < 2 ? dim : fixed(1))) }];
};

const maxUnpool: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  if (context.has(2)) {
    const wanted = dataOf(context, 2);
    return [{ dataType, dims: dims.map((_, axis) => dimFromData(wanted, axis)) }];
  }
  const { kernel, strides, pads } = windowOf(context, context.ints('kernel_shape') ?? []);
  const sizes = dims.slice(2).map((dim, axis) => {
    const cut = (pads[axis] ?? 0) + (pads[axis + dims.length - 2] ?? 0);
    return grow(dim, strides[axis] ?? 1, (kernel[axis] ?? 1) - cut);
  });
  return [{ dataType, dims: [...dims.slice(0, 2), ...sizes] }];
};

/** Blocks put back into an image: [N, C·block, L] → [N, C, …image]. */
const col2Im: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const image = dataOf(context, 1);
  const block = dataOf(context, 2).values.reduce((product, size) => product * size, 1);
  const [batch = fixed(1), packed = fixed(1)] = dims;
  const channels = computed(packed.size / block, floorDivide(packed.expression, block), packed);
  return [{ dataType, dims: [batch, channels, ...image.values.map((_, axis) => dimFromData(image, axis))] }];
};

const quantizedPool: ShapeRule = (context) => {
  if (context.int('channels_last', 0) === 0) return pool(context).slice(0, 1);
  return withChannelsLast(pool)(context).slice(0, 1);
};

const quantizedGlobalPool: ShapeRule = (context) =>
  context.int('channels_last', 0) === 0 ? globalPool(context) : withChannelsLast(globalPool)(context);

/** Regions pooled to one size: [regions, C, height, width]. */
const roiPool: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const regions = context.input(1).dims[0] ?? fresh(context, 0);
  const [height = 1, width = 1] = context.ints('pooled_shape') ?? [
    context.int('output_height', 1),
    context.int('output_width', 1),
  ];
  return [{ dataType, dims: [regions, dims[1] ?? fixed(1), fixed(height), fixed(width)] }];
};

/** Sliding windows: convolution, pooling and their inverses. */
export const windowRules: ShapeRules = {
  Conv: conv,
  'com.microsoft:FusedConv': conv,
  'com.microsoft.nchwc:Conv': conv,
  'com.microsoft:NhwcConv': nhwcConv,
  'com.microsoft:NhwcFusedConv': nhwcConv,
  ConvInteger: convInteger,
  DeformConv: conv,
  ConvTranspose: convTranspose,
  QLinearConv: qLinearConv,
  'com.microsoft:QLinearConv': qLinearConv,
  MaxPool: pool,
  AveragePool: pool,
  LpPool: pool,
  'com.microsoft.nchwc:MaxPool': pool,
  'com.microsoft.nchwc:AveragePool': pool,
  'com.microsoft:NhwcMaxPool': withChannelsLast(pool),
  'com.microsoft:MaxpoolWithMask': pool,
  'com.microsoft:QLinearAveragePool': quantizedPool,
  'com.microsoft:QLinearGlobalAveragePool': quantizedGlobalPool,
  GlobalAveragePool: globalPool,
  GlobalMaxPool: globalPool,
  GlobalLpPool: globalPool,
  'com.microsoft.nchwc:GlobalAveragePool': globalPool,
  'com.microsoft.nchwc:GlobalMaxPool': globalPool,
  MaxUnpool: maxUnpool,
  Col2Im: col2Im,
  MaxRoiPool: roiPool,
  RoiAlign: roiPool,
};
