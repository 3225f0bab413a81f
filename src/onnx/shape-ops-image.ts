import { DataType } from './model.js';
import { times, type Expression } from './shape-expression.js';
import { dimsFromInput, fresh } from './shape-ops-layout.js';
import {
  axisOf,
  computed,
  constantData,
  dataOf,
  derived,
  dimFromData,
  fixed,
  multiplyDims,
  ShapeGap,
  type KnownData,
  type RuleContext,
  type ShapeDim,
  type ShapeRule,
  type ShapeRules,
} from './shape-types.js';

/** Scales and sizes are float32 in the runtime, and so is their product. */
function scaled(dim: ShapeDim, scale: number): ShapeDim {
  if (scale === 1) return dim;
  const size = Math.floor(Math.fround(Math.fround(scale) * dim.size));
  const whole: Expression | null = Number.isInteger(scale) ? times(dim.expression, scale) : null;
  return whole === null ? derived(size, dim) : computed(size, whole, dim);
}

/** The sizes asked for, held to the aspect ratio where the node says so. */
function wantedSizes(context: RuleContext, dims: readonly ShapeDim[], axes: readonly number[], sizes: KnownData) {
  const policy = context.text('keep_aspect_ratio_policy', 'stretch');
  if (policy === 'stretch') return axes.map((_, index) => dimFromData(sizes, index));
  const own = axes.map((axis) => dims[axis] ?? fixed(1));
  const ratios = own.map((dim, index) => (sizes.values[index] ?? NaN) / dim.size);
  const scale = policy === 'not_larger' ? Math.min(...ratios) : Math.max(...ratios);
  return own.map((dim) => derived(Math.floor(scale * dim.size + 0.5), ...own));
}

/** The share of each axis that tf_crop_and_resize keeps. */
function cropped(context: RuleContext, rank: number): (index: number) => number {
  if (context.text('coordinate_transformation_mode', '') !== 'tf_crop_and_resize' || !context.has(1)) return () => 1;
  const roi = dataOf(context, 1).values;
  return (index) => (roi[index + rank] ?? 1) - (roi[index] ?? 0);
}

const resize: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const modern = context.node.opType === 'Resize' && context.opset >= 11;
  const axes = context.ints('axes')?.map((axis) => axisOf(axis, dims.length)) ?? dims.map((_, index) => index);
  const result = [...dims];
  const scalesAt = modern ? 2 : 1;
  const given = modern && context.has(3) ? context.input(3) : null;
  if (given !== null && given.dims[0]?.size !== 0) {
    const sizes = given.data && wantedSizes(context, dims, axes, given.data);
    axes.forEach((axis, index) => (result[axis] = sizes?.[index] ?? fresh(context, axis)));
    return [{ dataType, dims: result }];
  }
  const attribute = context.attribute('scales');
  const scales = attribute?.type === 'floats' ? constantData(attribute.value) : context.input(scalesAt).data;
  const keep = cropped(context, axes.length);
  axes.forEach((axis, index) => {
    const dim = dims[axis] ?? fixed(0);
    const scale = scales?.values[index];
    result[axis] = scale === undefined ? fresh(context, axis) : scaled(dim, scale * keep(index));
  });
  return [{ dataType, dims: result }];
};

/** Blocked layout: whole factors for height and width. */
const blockedUpsample: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const scales = context.ints('scales') ?? [];
  return [{ dataType, dims: dims.map((dim, axis) => multiplyDims(dim, fixed(scales[axis] ?? 1))) }];
};

const gridSample: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  return [{ dataType, dims: [...dims.slice(0, 2), ...context.input(1).dims.slice(1, -1)] }];
};

/** theta [N, 2, 3] and a size [N, C, H, W] → [N, H, W, 2]; one dimension more in 3-D. */
const affineGrid: ShapeRule = (context) => {
  const { dataType } = context.input(0);
  const [batch = fixed(1), , ...spatial] = dimsFromInput(context, 1);
  return [{ dataType, dims: [batch, ...spatial, fixed(spatial.length)] }];
};

const cropAndResize: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  return [
    { dataType, dims: [context.input(1).dims[0] ?? fixed(1), dims[1] ?? fixed(1), ...dimsFromInput(context, 3)] },
  ];
};

const centerCropPad: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const axes = context.ints('axes') ?? dims.map((_, axis) => axis);
  const sizes = dimsFromInput(context, 1);
  const result = [...dims];
  axes.forEach((axis, index) => (result[axisOf(axis, dims.length)] = sizes[index] ?? fixed(0)));
  return [{ dataType, dims: result }];
};

const imageDecoder: ShapeRule = (context) => {
  const channels = context.text('pixel_format', 'RGB') === 'Grayscale' ? 1 : 3;
  return [{ dataType: DataType.UINT8, dims: [fresh(context, 0), fresh(context, 1), fixed(channels)] }];
};

/** com.microsoft Unfold: windows along one axis become a new last axis. */
const unfoldTensor: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const axis = axisOf(context.int('dim', -1), dims.length);
  const size = context.int('size', 1);
  const dim = dims[axis];
  if (dim === undefined) throw new ShapeGap('a scalar has no windows');
  const windows = derived(Math.floor((dim.size - size) / context.int('step', 1)) + 1, dim);
  return [{ dataType, dims: [...dims.map((other, at) => (at === axis ? windows : other)), fixed(size)] }];
};

/** Images: resizing, sampling, cropping. */
export const imageRules: ShapeRules = {
  Resize: resize,
  Upsample: resize,
  'com.microsoft.nchwc:Upsample': blockedUpsample,
  GridSample: gridSample,
  'com.microsoft:GridSample': gridSample,
  AffineGrid: affineGrid,
  'com.microsoft:CropAndResize': cropAndResize,
  CenterCropPad: centerCropPad,
  ImageDecoder: imageDecoder,
  'com.microsoft:UnfoldTensor': unfoldTensor,
};
