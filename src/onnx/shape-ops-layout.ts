import { ceilDivide, equal, floorDivide, minus, plus } from './shape-expression.js';
import { sliceSteps } from './shape-slice.js';
import {
  addDims,
  axisOf,
  computed,
  constantData,
  dataOf,
  differ,
  dimFromData,
  divideDims,
  fixed,
  intsFrom,
  multiplyDims,
  open,
  ShapeConflict,
  ShapeGap,
  type InferredValue,
  type KnownData,
  type RuleContext,
  type ShapeDim,
  type ShapeRule,
  type ShapeRules,
} from './shape-types.js';

function dimsFromData(data: KnownData): ShapeDim[] {
  return data.values.map((_, index) => dimFromData(data, index));
}

/** Sizes given by input `index`; where only their number is known, that many open dimensions. */
export function dimsFromInput(context: RuleContext, index: number): ShapeDim[] {
  const { data, dims } = context.input(index);
  if (data !== undefined) {
    return dimsFromData(data).map((dim, axis) =>
      Number.isNaN(dim.size) && !dim.expression ? fresh(context, axis) : dim,
    );
  }
  const rank = dims[0]?.size ?? 0;
  if (Number.isNaN(rank)) dataOf(context, index);
  return Array.from({ length: rank }, (_, axis) => fresh(context, axis));
}

/** A dimension that only the data of this node decides. */
export function fresh(context: RuleContext, axis: number): ShapeDim {
  return open(`${context.node.outputs.find((output) => output !== '') ?? context.node.name}.${axis}`);
}

const reshape: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const attribute = context.ints('shape');
  const target = context.has(1) || !attribute ? context.input(1).data : constantData(attribute);
  // A -1 may hide in a target that is not known, so nothing but the rank is.
  if (target === undefined) return [{ dataType, dims: dimsFromInput(context, 1) }];
  const allowZero = context.int('allowzero', 0) !== 0;
  const result = dimsFromData(target).map((dim, index) => {
    if (dim.size !== 0 || allowZero) return Number.isNaN(dim.size) && !dim.expression ? fresh(context, index) : dim;
    const copied = dims[index];
    if (copied === undefined) throw new ShapeGap('a 0 of the target shape has no input dimension to copy');
    // A size that is 0 for these bindings only is no request to copy.
    return dim.expression === 0 ? copied : { ...dim, size: copied.size };
  });
  const openAt = target.values.indexOf(-1);
  if (openAt >= 0) result[openAt] = openDim(dims, result, openAt);
  const before = multiplyDims(...dims);
  const after = multiplyDims(...result);
  if (differ(before, after)) throw new ShapeConflict(`${before.size} elements cannot be reshaped to ${after.size}`);
  return [{ dataType, dims: result }];
};

/** The dimension a -1 stands for: the runtime's planner works it out only when every other size is a number. */
function openDim(dims: readonly ShapeDim[], result: readonly ShapeDim[], at: number): ShapeDim {
  const others = multiplyDims(...result.filter((_, index) => index !== at));
  const all = multiplyDims(...dims);
  const { size, expression } = divideDims(all, others);
  if (others.size !== 0 && all.size % others.size !== 0 && !Number.isNaN(size)) {
    throw new ShapeGap('the elements do not divide into the target shape');
  }
  return computed(others.size === 0 ? 0 : size, expression, ...dims, ...result.filter((_, index) => index !== at));
}

const squeeze: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const given = intsFrom(context, 'axes', 1);
  const axes = given && new Set(given.map((axis) => axisOf(axis, dims.length)));
  if (!axes && dims.some((dim) => Number.isNaN(dim.size))) {
    throw new ShapeGap('which dimensions are 1 is only known while running');
  }
  return [{ dataType, dims: dims.filter((dim, index) => (axes ? !axes.has(index) : dim.size !== 1)) }];
};

const unsqueeze: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const given = intsFrom(context, 'axes', 1) ?? [];
  const rank = dims.length + given.length;
  const axes = new Set(given.map((axis) => axisOf(axis, rank)));
  const rest = [...dims];
  const result: ShapeDim[] = [];
  for (let index = 0; index < rank; index += 1) {
    const dim = axes.has(index) ? fixed(1) : rest.shift();
    if (dim === undefined) throw new ShapeGap('axes name the same place twice');
    result.push(dim);
  }
  return [{ dataType, dims: result }];
};

const flatten: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const axis = context.int('axis', 1);
  const at = axis < 0 ? axis + dims.length : axis;
  return [{ dataType, dims: [multiplyDims(...dims.slice(0, at)), multiplyDims(...dims.slice(at))] }];
};

const transpose: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const order = context.ints('perm') ?? dims.map((_, index) => dims.length - 1 - index);
  return [{ dataType, dims: order.map((axis) => dims[axisOf(axis, dims.length)] ?? fixed(1)) }];
};

/** Shapes joined along one axis; the others must agree, and the best known of each is kept. */
export function joinAlong(parts: readonly (readonly ShapeDim[])[], axis: number): ShapeDim[] {
  const [first = []] = parts;
  return first.map((dim, index) => {
    const along = parts.map((part) => part[index] ?? fixed(0));
    if (index === axis) return along.length === 1 ? dim : along.reduce(addDims);
    const known = along.find((other) => !Number.isNaN(other.size)) ?? dim;
    if (along.some((other) => differ(other, known))) throw new ShapeConflict('the other sizes of the parts differ');
    const best = along.find((other) => typeof other.symbol === 'number') ?? along.find((other) => other.symbol);
    return best === undefined ? known : { ...best, size: known.size };
  });
}

const concat: ShapeRule = (context) => {
  const parts = context.node.inputs.map((_, index) => context.input(index));
  const [first] = parts;
  if (!first) throw new ShapeGap('nothing to concatenate');
  const axis = axisOf(context.int('axis', 1), first.dims.length);
  return [
    {
      dataType: first.dataType,
      dims: joinAlong(
        parts.map((part) => part.dims),
        axis,
      ),
    },
  ];
};

/** Sizes of `count` equal parts; the last takes what is left. */
export function equalParts(dim: ShapeDim, count: number): ShapeDim[] {
  const each = Math.ceil(dim.size / count);
  const formula = ceilDivide(dim.expression, count);
  const even = equal(formula, floorDivide(dim.expression, count));
  return Array.from({ length: count }, (_, index) => {
    const size = Math.min(each, Math.max(0, dim.size - index * each));
    if (typeof dim.expression === 'number') return computed(size, size, dim);
    // An uneven rest may leave several of the last parts short, which no formula follows but for two parts.
    const rest = count === 2 && index === 1 ? minus(dim.expression, formula) : null;
    return computed(size, even || (count === 2 && index === 0) ? formula : rest, dim);
  });
}

const split: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const axis = axisOf(context.int('axis', 0), dims.length);
  const along = dims[axis] ?? fixed(0);
  const lengths = context.ints('split') ? constantData(context.ints('split') ?? []) : undefined;
  const given = lengths ?? (context.has(1) ? context.input(1).data : undefined);
  const count = context.node.outputs.length;
  const sizes =
    given !== undefined
      ? dimsFromData(given)
      : context.has(1)
        ? context.node.outputs.map((name) => open(`${name}.${axis}`))
        : equalParts(along, context.int('num_outputs', count));
  return sizes.map((size) => ({ dataType, dims: dims.map((dim, index) => (index === axis ? size : dim)) }));
};

const slice: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const inputs = context.node.inputs.map((_, index) => context.value(index));
  const steps = sliceSteps(context.node, inputs, dims.length);
  const result = [...dims];
  if (steps !== null) {
    for (const step of steps) result[step.axis] = step.cut(dims[step.axis] ?? fixed(0));
    return [{ dataType, dims: result }];
  }
  // Bounds that only the data decides leave the axes they are for open.
  const axes = intsFrom(context, 'axes', 3) ?? dims.slice(0, context.input(1).dims[0]?.size).map((_, axis) => axis);
  for (const axis of axes.map((at) => axisOf(at, dims.length))) result[axis] = fresh(context, axis);
  return [{ dataType, dims: result }];
};

/** Indices known beforehand (positions counted from a size, say) must be within the axis they pick from. */
export function checkIndices({ data, dims: shape }: InferredValue, dim: ShapeDim | undefined): void {
  if (shape.length === 0 || dim === undefined || Number.isNaN(dim.size)) return;
  const beyond = data?.values.find((index) => index >= dim.size || index < -dim.size);
  if (beyond !== undefined)
    throw new ShapeConflict(`there are ${dim.size} entries to pick from, but no number ${beyond}`);
}

const gather: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const axis = axisOf(context.int('axis', 0), dims.length);
  checkIndices(context.input(1), dims[axis]);
  return [{ dataType, dims: [...dims.slice(0, axis), ...context.input(1).dims, ...dims.slice(axis + 1)] }];
};

const gatherElements: ShapeRule = (context) => [{ dataType: context.input(0).dataType, dims: context.input(1).dims }];

const gatherNd: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const indices = context.input(1).dims;
  const depth = indices.at(-1)?.size ?? 0;
  if (Number.isNaN(depth)) throw new ShapeGap('how deep the indices reach is only known while running');
  return [{ dataType, dims: [...indices.slice(0, -1), ...dims.slice(context.int('batch_dims', 0) + depth)] }];
};

const pad: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const attribute = context.ints('pads') ?? context.ints('paddings');
  const pads = attribute ? constantData(attribute) : context.input(1).data;
  const given = context.has(3) ? dataOf(context, 3).values : dims.map((_, axis) => axis);
  const axes = given.map((axis) => axisOf(axis, dims.length));
  const result = [...dims];
  axes.forEach((axis, index) => {
    const dim = dims[axis] ?? fixed(0);
    if (pads === undefined) result[axis] = fresh(context, axis);
    else {
      const before = dimFromData(pads, index);
      const after = dimFromData(pads, index + axes.length);
      const extra = before.size + after.size;
      if (extra === 0 && pads.constant) return;
      result[axis] = computed(dim.size + extra, plus(dim.expression, plus(before.expression, after.expression)), dim);
    }
  });
  return [{ dataType, dims: result }];
};

const depthToSpace: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const [n, c, h, w] = dims;
  if (!n || !c || !h || !w) throw new ShapeGap('needs four dimensions');
  const block = fixed(context.int('blocksize', 1));
  const [space, depth] =
    context.node.opType === 'DepthToSpace' ? [multiplyDims, divideDims] : [divideDims, multiplyDims];
  return [{ dataType, dims: [n, depth(c, multiplyDims(block, block)), space(h, block), space(w, block)] }];
};

/** com.microsoft ExpandDims: one axis of size 1 at a place given as data. */
const expandDims: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const axis = axisOf(dataOf(context, 1).values[0] ?? 0, dims.length + 1);
  return [{ dataType, dims: [...dims.slice(0, axis), fixed(1), ...dims.slice(axis)] }];
};

/** Operators that move, cut or join elements. */
export const layoutRules: ShapeRules = {
  Reshape: reshape,
  Squeeze: squeeze,
  Unsqueeze: unsqueeze,
  Flatten: flatten,
  Transpose: transpose,
  Concat: concat,
  Split: split,
  Slice: slice,
  Gather: gather,
  GatherElements: gatherElements,
  GatherND: gatherNd,
  Pad: pad,
  'com.microsoft:ExpandDims': expandDims,
  'com.microsoft:GatherND': gatherNd,
  'com.microsoft:Pad': pad,
  DepthToSpace: depthToSpace,
  SpaceToDepth: depthToSpace,
};
