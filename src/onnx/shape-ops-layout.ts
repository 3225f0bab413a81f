import { DataType } from './model.js';
import { elementCount } from './tensor.js';
import {
  axisOf,
  broadcast,
  dataOf,
  derived,
  fixed,
  intsFrom,
  ShapeGap,
  sizesOf,
  type KnownData,
  type RuleContext,
  type ShapeDim,
  type ShapeRule,
  type ShapeRules,
} from './shape-types.js';

/** The runtime's planner reads a shape only from a constant; of a computed one it knows no dimension. */
function dimsFromData(data: KnownData): ShapeDim[] {
  return data.values.map((size, index) => ({ size, symbol: data.constant ? (data.symbols[index] ?? null) : null }));
}

const reshape: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const target: KnownData =
    context.ints('shape') === undefined || context.has(1)
      ? dataOf(context, 1)
      : { values: context.ints('shape') ?? [], symbols: context.ints('shape') ?? [], constant: true };
  const allowZero = context.int('allowzero', 0) !== 0;
  const result = dimsFromData(target).map((dim, index) => {
    if (dim.size !== 0 || allowZero || target.symbols[index] !== 0) return dim;
    const copied = dims[index];
    if (copied === undefined) throw new ShapeGap('a 0 of the target shape has no input dimension to copy');
    return copied;
  });
  const open = target.values.indexOf(-1);
  if (open >= 0) result[open] = openDim(dims, result, open);
  const before = elementCount(sizesOf(context.input(0)));
  const after = elementCount(result.map((dim) => dim.size));
  if (before !== after) throw new ShapeGap(`${before} elements cannot be reshaped to ${after}`);
  return [{ dataType, dims: result }];
};

/** The dimension a -1 stands for: onnx works it out only when every other size is a number. */
function openDim(dims: readonly ShapeDim[], result: readonly ShapeDim[], open: number): ShapeDim {
  const others = result.filter((_, index) => index !== open);
  const product = elementCount(others.map((dim) => dim.size));
  const size = product === 0 ? 0 : elementCount(dims.map((dim) => dim.size)) / product;
  if (!Number.isInteger(size)) throw new ShapeGap('the elements do not divide into the target shape');
  return derived(size, ...dims, ...others);
}

const squeeze: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const given = intsFrom(context, 'axes', 1);
  const axes = given && new Set(given.map((axis) => axisOf(axis, dims.length)));
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

function product(dims: readonly ShapeDim[]): ShapeDim {
  const others = dims.filter((dim) => dim.symbol !== 1);
  const only = others[0];
  if (others.length === 1 && only !== undefined) return only;
  return derived(elementCount(dims.map((dim) => dim.size)), ...dims);
}

const flatten: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const axis = context.int('axis', 1);
  const at = axis < 0 ? axis + dims.length : axis;
  return [{ dataType, dims: [product(dims.slice(0, at)), product(dims.slice(at))] }];
};

const transpose: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const order = context.ints('perm') ?? dims.map((_, index) => dims.length - 1 - index);
  return [{ dataType, dims: order.map((axis) => dims[axis] ?? fixed(1)) }];
};

const concat: ShapeRule = (context) => {
  const first = context.input(0);
  const axis = axisOf(context.int('axis', 1), first.dims.length);
  const parts = context.node.inputs.map((_, index) => context.input(index).dims);
  const dims = first.dims.map((dim, index) => {
    const along = parts.map((part) => part[index] ?? fixed(0));
    if (index !== axis) return along.find((other) => typeof other.symbol === 'number') ?? dim;
    if (along.length === 1) return dim;
    return derived(
      along.reduce((sum, other) => sum + other.size, 0),
      ...along,
    );
  });
  return [{ dataType: first.dataType, dims }];
};

const split: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const axis = axisOf(context.int('axis', 0), dims.length);
  const along = dims[axis] ?? fixed(0);
  const given = intsFrom(context, 'split', 1);
  const parts = context.int('num_outputs', context.node.outputs.length);
  const chunk = Math.ceil(along.size / parts);
  return context.node.outputs.map((_, index) => {
    const size = given ? (given[index] ?? 0) : Math.max(0, Math.min(chunk, along.size - index * chunk));
    const part = given ? fixed(size) : derived(size, along);
    return { dataType, dims: dims.map((dim, at) => (at === axis ? part : dim)) };
  });
};

function sliceInputs(context: RuleContext) {
  const old = context.opset < 10;
  const get = (name: string, index: number) => (old ? context.ints(name) : intsFrom(context, name, index));
  const starts = get('starts', 1) ?? [];
  return {
    starts,
    ends: get('ends', 2) ?? [],
    axes: get('axes', 3) ?? starts.map((_, i) => i),
    steps: get('steps', 4),
  };
}

const slice: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const { starts, ends, axes, steps } = sliceInputs(context);
  const constant = [1, 2, 3, 4].every((index) => !context.has(index) || context.input(index).data?.constant === true);
  const result = [...dims];
  starts.forEach((start, index) => {
    const axis = axisOf(axes[index] ?? index, dims.length);
    const dim = dims[axis] ?? fixed(0);
    const [first, count] = sliceRange(start, ends[index] ?? 0, steps?.[index] ?? 1, dim.size);
    const whole = first === 0 && count === dim.size && constant && (ends[index] ?? 0) >= 2 ** 31 - 1;
    result[axis] = whole ? dim : constant ? derived(count, dim) : { size: count, symbol: null };
  });
  return [{ dataType, dims: result }];
};

/** First index and number of elements of a slice of an axis with `size` elements. */
export function sliceRange(start: number, end: number, step: number, size: number): [number, number] {
  const clamp = (value: number, low: number, high: number) => Math.min(Math.max(value, low), high);
  const from = start < 0 ? start + size : start;
  const to = end < 0 ? end + size : end;
  if (step > 0) {
    const first = clamp(from, 0, size);
    return [first, Math.max(0, Math.ceil((clamp(to, 0, size) - first) / step))];
  }
  const first = clamp(from, 0, size - 1);
  return [first, Math.max(0, Math.ceil((clamp(to, -1, size - 1) - first) / step))];
}

const gather: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const axis = axisOf(context.int('axis', 0), dims.length);
  return [{ dataType, dims: [...dims.slice(0, axis), ...context.input(1).dims, ...dims.slice(axis + 1)] }];
};

const gatherElements: ShapeRule = (context) => [{ dataType: context.input(0).dataType, dims: context.input(1).dims }];

const gatherNd: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const indices = context.input(1).dims;
  const batch = context.int('batch_dims', 0);
  const depth = indices.at(-1)?.size ?? 0;
  return [{ dataType, dims: [...indices.slice(0, -1), ...dims.slice(batch + depth)] }];
};

const expand: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  return [{ dataType, dims: broadcast([dims, dimsFromData(dataOf(context, 1))]) }];
};

const tile: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const repeats = dataOf(context, 1);
  return [
    {
      dataType,
      dims: dims.map((dim, index) => {
        const times = repeats.values[index] ?? 1;
        if (repeats.symbols[index] === 1) return dim;
        return derived(dim.size * times, dim, { size: times, symbol: repeats.symbols[index] ?? null });
      }),
    },
  ];
};

const pad: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const pads = intsFrom(context, 'pads', 1) ?? [];
  const axes = context.has(3) ? dataOf(context, 3).values.map((a) => axisOf(a, dims.length)) : dims.map((_, i) => i);
  const result = [...dims];
  axes.forEach((axis, index) => {
    const dim = dims[axis] ?? fixed(0);
    const extra = (pads[index] ?? 0) + (pads[index + axes.length] ?? 0);
    result[axis] = extra === 0 ? dim : derived(dim.size + extra, dim);
  });
  return [{ dataType, dims: result }];
};

const shapeOf: ShapeRule = (context) => {
  const rank = context.input(0).dims.length;
  const [, count] = sliceRange(context.int('start', 0), context.int('end', rank), 1, rank);
  return [{ dataType: DataType.INT64, dims: [fixed(count)] }];
};

const range: ShapeRule = (context) => {
  const [start, limit, delta] = [0, 1, 2].map((index) => dataOf(context, index));
  const count = Math.max(0, Math.ceil(((limit?.values[0] ?? 0) - (start?.values[0] ?? 0)) / (delta?.values[0] ?? 1)));
  const constant = [start, limit, delta].every((data) => data?.constant === true);
  return [{ dataType: context.input(0).dataType, dims: [{ size: count, symbol: constant ? count : null }] }];
};

const constantOfShape: ShapeRule = (context) => {
  const value = context.attribute('value');
  const dataType = value?.type === 'tensor' ? value.value.dataType : DataType.FLOAT;
  return [{ dataType, dims: dimsFromData(dataOf(context, 0)) }];
};

const oneHot: ShapeRule = (context) => {
  const dims = [...context.input(0).dims];
  const depth = dataOf(context, 1);
  const axis = axisOf(context.int('axis', -1), dims.length + 1);
  dims.splice(axis, 0, { size: depth.values[0] ?? 0, symbol: depth.symbols[0] ?? null });
  return [{ dataType: context.input(2).dataType, dims }];
};

const depthToSpace: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const [n, c, h, w] = dims;
  if (!n || !c || !h || !w) throw new ShapeGap('needs four dimensions');
  const block = context.int('blocksize', 1);
  const down = context.node.opType === 'DepthToSpace';
  const space = (dim: ShapeDim) => derived(down ? dim.size * block : dim.size / block, dim);
  const channels = derived(down ? c.size / block ** 2 : c.size * block ** 2, c);
  return [{ dataType, dims: [n, channels, space(h), space(w)] }];
};

const resize: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const modern = context.node.opType === 'Resize' && context.opset >= 11;
  const axes = context.ints('axes')?.map((axis) => axisOf(axis, dims.length)) ?? dims.map((_, index) => index);
  const result = [...dims];
  if (modern && context.has(3)) {
    const sizes = dataOf(context, 3);
    axes.forEach((axis, i) => (result[axis] = { size: sizes.values[i] ?? 0, symbol: sizes.symbols[i] ?? null }));
    return [{ dataType, dims: result }];
  }
  const attribute = context.attribute('scales');
  const scales = attribute?.type === 'floats' ? attribute.value : dataOf(context, modern ? 2 : 1).values;
  axes.forEach((axis, index) => {
    const dim = dims[axis] ?? fixed(0);
    const scale = scales[index] ?? 1;
    result[axis] = scale === 1 ? dim : derived(Math.floor(dim.size * scale), dim);
  });
  return [{ dataType, dims: result }];
};

const like: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  return [{ dataType: context.int('dtype', dataType), dims }];
};

/** Operators that move, cut, join or make elements. */
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
  Expand: expand,
  Tile: tile,
  Pad: pad,
  Shape: shapeOf,
  Size: () => [{ dataType: DataType.INT64, dims: [] }],
  Range: range,
  ConstantOfShape: constantOfShape,
  OneHot: oneHot,
  DepthToSpace: depthToSpace,
  SpaceToDepth: depthToSpace,
  Resize: resize,
  Upsample: resize,
  EyeLike: like,
  RandomNormalLike: like,
  RandomUniformLike: like,
};
