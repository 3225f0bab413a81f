import { getInt, getInts, getString, intAttribute, stringAttribute } from '../../onnx/attribute.js';
import { DataType } from '../../onnx/model.js';
import type { GradientContext, GradientRule, GradientRules } from '../differentiate.js';
import { noRule } from '../differentiate.js';

/** Rows above this are added with ScatterND; below, a product with one-hot rows is as fast and runs everywhere. */
const mostOneHotRows = 4096;

const positive = (axis: number, rank: number): number => (axis < 0 ? axis + rank : axis);

const reshaped: GradientRule = (context) => {
  context.contribute(0, context.builder.reshapeLike(context.gradient, context.input(0)));
};

const transpose: GradientRule = (context) => {
  const { builder, node, gradient } = context;
  const rank = builder.rank(context.input(0));
  const order = getInts(node, 'perm', null) ?? Array.from({ length: rank }, (_, axis) => rank - 1 - axis);
  const inverse = Array.from({ length: rank }, (_, axis) => order.indexOf(axis));
  context.contribute(0, builder.transpose(gradient, inverse));
};

const expand: GradientRule = (context) => {
  const { builder } = context;
  const from = builder.extent(context.output(0));
  context.contribute(0, builder.sumToShape(context.gradient, from, context.input(0)));
};

/** Sums over the copies: each axis is written as (copies, size). */
const tile: GradientRule = (context) => {
  const { builder, node } = context;
  const x = context.input(0);
  const repeats = builder.requireNumbers(context.input(1), node);
  const { sizes, open } = builder.extent(x);
  const dims = sizes.flatMap((size, axis) => [repeats[axis] ?? 1, open[axis] ? -1 : size]);
  const axes = repeats.flatMap((count, axis) => (count === 1 ? [] : [2 * axis]));
  const split = builder.reshape(context.gradient, dims);
  context.contribute(0, builder.reshapeLike(axes.length > 0 ? builder.reduceSum(split, axes, false) : split, x));
};

const concat: GradientRule = (context) => {
  const { builder, node, gradient } = context;
  const axis = positive(getInt(node, 'axis', 0), builder.rank(context.output(0)));
  const constant = node.inputs.every((input) => builder.extent(input).open[axis] === false);
  const sizes = constant
    ? builder.ints(node.inputs.map((input) => builder.extent(input).sizes[axis] ?? 0))
    : builder.emit(
        'Concat',
        node.inputs.map((input) => builder.emit('Gather', [builder.emit('Shape', [input]), builder.ints([axis])])),
        { axis: intAttribute(0) },
      );
  const parts = builder.emitMany('Split', [gradient, sizes], node.inputs.length, { axis: intAttribute(axis) });
  node.inputs.forEach((_, index) => context.needs(index) && context.contribute(index, parts[index] ?? ''));
};

const split: GradientRule = (context) => {
  const { builder, node } = context;
  const axis = getInt(node, 'axis', 0);
  const parts = node.outputs.map((output, index) => context.gradientOf(index) ?? builder.zerosLike(output));
  context.contribute(0, builder.emit('Concat', parts, { axis: intAttribute(axis) }));
};

/** A matrix of zeros and ones, `rows × columns`, that places element `i` of a slice at `places[i]`; -1 = nowhere. */
function placement(context: GradientContext, rows: number, places: readonly number[]): string {
  const values = new Array<number>(rows * places.length).fill(0);
  places.forEach((row, column) => {
    if (row >= 0) values[row * places.length + column] = 1;
  });
  return context.builder.floats(values, [rows, places.length], context.output(0));
}

/** Multiplies `x` with a matrix along one axis, whose size becomes the number of rows. */
export function multiplyAxis(context: GradientContext, matrix: string, x: string, axis: number, rank: number): string {
  const { builder } = context;
  if (axis === rank - 2) return builder.emit('MatMul', [matrix, x]);
  const order = Array.from({ length: rank }, (_, i) => i);
  order.splice(axis, 1);
  order.splice(rank - 1, 0, axis);
  const inverse = Array.from({ length: rank }, (_, i) => order.indexOf(i));
  const last = axis === rank - 1 ? x : builder.transpose(x, order);
  const product = builder.emit('MatMul', [last, builder.transpose(matrix, [1, 0])]);
  return axis === rank - 1 ? product : builder.transpose(product, inverse);
}

/** Zeros around the gradient where a part was cut out; steps other than 1 are placed by a matrix. */
const slice: GradientRule = (context) => {
  const { builder, node } = context;
  const x = context.input(0);
  const rank = builder.rank(x);
  const starts = builder.requireNumbers(context.input(1), node);
  const ends = builder.requireNumbers(context.input(2), node);
  const axes = context.input(3) === '' ? starts.map((_, i) => i) : builder.requireNumbers(context.input(3), node);
  const steps = context.input(4) === '' ? starts.map(() => 1) : builder.requireNumbers(context.input(4), node);
  let gradient = context.gradient;
  const [before, after] = [new Array<number>(rank).fill(0), new Array<number>(rank).fill(0)];
  axes.forEach((given, index) => {
    const axis = positive(given, rank);
    const [start, end, step] = [starts[index] ?? 0, ends[index] ?? 0, steps[index] ?? 1];
    const { open } = builder.extent(x);
    if (open[axis] && step === 1 && start === 0 && end > 2 ** 30) return;
    const size = builder.fixedSize(x, axis);
    const places = slicePlaces(size, start, end, step);
    if (step === 1) {
      before[axis] = places[0] ?? 0;
      after[axis] = size - (before[axis] ?? 0) - places.length;
    } else gradient = multiplyAxis(context, placement(context, size, places), gradient, axis, rank);
  });
  if ([...before, ...after].some((count) => count > 0)) {
    gradient = builder.emit('Pad', [gradient, builder.ints([...before, ...after])], {
      mode: stringAttribute('constant'),
    });
  }
  context.contribute(0, gradient);
};

/** Indices a slice of one axis takes (numpy's rules, as ONNX Slice has them). */
function slicePlaces(size: number, start: number, end: number, step: number): number[] {
  const clamp = (value: number, low: number, high: number): number =>
    Math.min(Math.max(value < 0 ? value + size : value, low), high);
  const places: number[] = [];
  if (step > 0) for (let i = clamp(start, 0, size); i < clamp(end, 0, size); i += step) places.push(i);
  else {
    const last = end < -size ? -1 : clamp(end, -1, size - 1);
    for (let i = clamp(start, 0, size - 1); i > last; i += step) places.push(i);
  }
  return places;
}

/** Which place of an axis Pad repeats at `at`, which may lie outside; -1 for a constant. */
function paddedFrom(mode: string, at: number, size: number): number {
  if (at >= 0 && at < size) return at;
  switch (mode) {
    case 'edge':
      return at < 0 ? 0 : size - 1;
    case 'reflect':
      return at < 0 ? -at : 2 * (size - 1) - at;
    case 'wrap':
      return ((at % size) + size) % size;
    default:
      return -1;
  }
}

const pad: GradientRule = (context) => {
  const { builder, node } = context;
  const x = context.input(0);
  const rank = builder.rank(x);
  const pads = builder.requireNumbers(context.input(1), node);
  const axes =
    context.input(3) === ''
      ? Array.from({ length: rank }, (_, axis) => axis)
      : builder.requireNumbers(context.input(3), node).map((axis) => positive(axis, rank));
  const mode = getString(node, 'mode', 'constant');
  if (mode !== 'constant' || pads.some((count) => count < 0)) {
    let { gradient } = context;
    axes.forEach((axis, index) => {
      const [before, behind] = [pads[index] ?? 0, pads[index + axes.length] ?? 0];
      if (before === 0 && behind === 0) return;
      const size = builder.fixedSize(x, axis);
      const places = Array.from({ length: before + size + behind }, (_, at) => paddedFrom(mode, at - before, size));
      gradient = multiplyAxis(context, placement(context, size, places), gradient, axis, rank);
    });
    context.contribute(0, gradient);
    return;
  }
  const after = pads.slice(axes.length);
  const ends = after.map((count) => (count === 0 ? 2 ** 31 - 1 : -count));
  context.contribute(
    0,
    builder.emit('Slice', [
      context.gradient,
      builder.ints(pads.slice(0, axes.length)),
      builder.ints(ends),
      builder.ints(axes),
    ]),
  );
};

/**
 * Adds the rows of the gradient to the rows they were taken from: a product with one-hot rows, which adds in a
 * fixed order, or ScatterND for long tables.
 */
const gather: GradientRule = (context) => {
  const { builder, node, gradient } = context;
  const [table, indices] = [context.input(0), context.input(1)];
  const rank = builder.rank(table);
  const axis = positive(getInt(node, 'axis', 0), rank);
  const rows = builder.fixedSize(table, axis);
  const typed = builder.cast(indices, DataType.INT64);
  const wrapped = builder.emit('Mod', [builder.add(typed, builder.ints([rows], [])), builder.ints([rows], [])]);
  if (axis === 0 && rows > mostOneHotRows && builder.opset >= 16) {
    const places = builder.unsqueeze(wrapped, [-1]);
    const updates = [builder.zerosLike(table), places, gradient];
    context.contribute(0, builder.emit('ScatterND', updates, { reduction: stringAttribute('add') }));
    return;
  }
  const { sizes, open } = builder.extent(table);
  const flat = builder.reshape(wrapped, [1, -1]);
  const range = builder.ints(
    Array.from({ length: rows }, (_, i) => i),
    [rows, 1],
  );
  const oneHot = builder.cast(builder.emit('Equal', [range, flat]), builder.dataType(table));
  const product = (part: readonly number[]): number => part.reduce((a, b) => a * b, 1);
  const inner = sizes.slice(axis + 1);
  const outer = sizes.slice(0, axis);
  if (open.includes(true)) {
    // Rows are counted from the indices, so that an open axis can be the one size left out.
    const extent = builder.extent(indices);
    if (extent.open.includes(true)) throw noRule(node, 'both the table and the indices change with the batch');
    const picked = product(extent.sizes);
    const openOuter = open.slice(0, axis).includes(true);
    const dims = openOuter ? [-1, picked, product(inner)] : [product(outer), picked, -1];
    context.contribute(
      0,
      builder.reshapeLike(builder.emit('MatMul', [oneHot, builder.reshape(gradient, dims)]), table),
    );
    return;
  }
  const dims = axis === 0 ? [-1, product(inner)] : [product(outer), -1, product(inner)];
  const sum = builder.emit('MatMul', [oneHot, builder.reshape(gradient, dims)]);
  context.contribute(0, builder.reshapeLike(sum, table));
};

/** The inverse of DepthToSpace in its default order is SpaceToDepth. */
const depthToSpace: GradientRule = (context) => {
  const { builder, node, gradient } = context;
  const block = getInt(node, 'blocksize', 1);
  if (getString(node, 'mode', 'DCR') === 'DCR') {
    context.contribute(0, builder.emit('SpaceToDepth', [gradient], { blocksize: intAttribute(block) }));
    return;
  }
  const x = context.input(0);
  const [channels, height, width] = [1, 2, 3].map((axis) => builder.fixedSize(x, axis)) as [number, number, number];
  const split = builder.reshape(gradient, [-1, channels / block ** 2, height, block, width, block]);
  context.contribute(0, builder.reshapeLike(builder.transpose(split, [0, 1, 3, 5, 2, 4]), x));
};

const spaceToDepth: GradientRule = (context) => {
  const blocksize = intAttribute(getInt(context.node, 'blocksize', 1));
  context.contribute(0, context.builder.emit('DepthToSpace', [context.gradient], { blocksize }));
};

/** Operators that move values about. */
export const movementGradients: GradientRules = {
  Reshape: reshaped,
  Flatten: reshaped,
  Squeeze: reshaped,
  Unsqueeze: reshaped,
  Transpose: transpose,
  Expand: expand,
  Tile: tile,
  Concat: concat,
  Split: split,
  Slice: slice,
  Pad: pad,
  Gather: gather,
  DepthToSpace: depthToSpace,
  SpaceToDepth: spaceToDepth,
};
