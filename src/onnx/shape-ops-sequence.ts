import { DataType } from './model.js';
import { plus } from './shape-expression.js';
import { joinElements, joinValues } from './shape-join.js';
import { equalParts, fresh, joinAlong } from './shape-ops-layout.js';
import {
  axisOf,
  computed,
  constantData,
  dimFromData,
  fixed,
  multiplyDims,
  ShapeGap,
  type InferredValue,
  type RuleContext,
  type SequenceInfo,
  type ShapeDim,
  type ShapeRule,
  type ShapeRules,
} from './shape-types.js';

/** A sequence of known elements, or of elements of which only the common shape is known. */
function sequence(info: SequenceInfo): InferredValue {
  return { dataType: DataType.UNDEFINED, dims: [], sequence: info };
}

function known(context: RuleContext, items: readonly InferredValue[]): InferredValue {
  return sequence({ length: fixed(items.length), element: joinElements(items, nameOf(context)), items });
}

const nameOf = (context: RuleContext) => context.node.outputs[0] ?? context.node.name;

function sequenceAt(context: RuleContext, index: number): SequenceInfo {
  const info = context.value(index)?.sequence;
  if (!info) throw new ShapeGap(`the elements of "${context.node.inputs[index] ?? ''}" are unknown`);
  return info;
}

/** A position given as an input; null when it is only known while running, undefined when it is left out. */
function position(context: RuleContext, index: number, length: number): number | null | undefined {
  if (!context.has(index)) return undefined;
  const at = context.input(index).data?.values[0];
  if (at === undefined || Number.isNaN(at)) return null;
  return at < 0 ? at + length : at;
}

const handThrough: ShapeRule = (context) => [context.value(0) ?? context.input(0)];

const insert: ShapeRule = (context) => {
  const { length, element, items } = sequenceAt(context, 0);
  const tensor = context.input(1);
  const at = position(context, 2, items?.length ?? NaN) ?? (context.has(2) ? null : (items?.length ?? null));
  if (items !== null && at !== null) return [known(context, [...items.slice(0, at), tensor, ...items.slice(at)])];
  const joined = length.size === 0 ? tensor : element && joinValues(element, tensor, nameOf(context));
  return [
    sequence({ length: computed(length.size + 1, plus(length.expression, 1), length), element: joined, items: null }),
  ];
};

const erase: ShapeRule = (context) => {
  const { length, element, items } = sequenceAt(context, 0);
  const at = position(context, 1, items?.length ?? NaN) ?? (context.has(1) ? null : (items?.length ?? 0) - 1);
  if (items !== null && at !== null)
    return [
      known(
        context,
        items.filter((_, index) => index !== at),
      ),
    ];
  return [sequence({ length: computed(length.size - 1, plus(length.expression, -1), length), element, items: null })];
};

const at: ShapeRule = (context) => {
  const { element, items } = sequenceAt(context, 0);
  const index = position(context, 1, items?.length ?? NaN);
  const item = typeof index === 'number' ? items?.[index] : undefined;
  if (item) return [item];
  if (!element) throw new ShapeGap('the elements of the sequence have no common shape');
  return [element];
};

const length: ShapeRule = (context) => {
  const { length: count } = sequenceAt(context, 0);
  const constant = typeof count.expression === 'number';
  const data = {
    values: [count.size],
    symbols: [constant ? count.size : null],
    expressions: [count.expression],
    constant,
  };
  return [{ dataType: DataType.INT64, dims: [], data }];
};

const concatFromSequence: ShapeRule = (context) => {
  const { length: count, element, items } = sequenceAt(context, 0);
  const first = items?.[0] ?? element;
  if (!first) throw new ShapeGap('the elements of the sequence are unknown');
  const fresher = context.int('new_axis', 0) !== 0;
  const axis = axisOf(context.int('axis', 0), first.dims.length + (fresher ? 1 : 0));
  if (fresher) {
    return [{ dataType: first.dataType, dims: [...first.dims.slice(0, axis), count, ...first.dims.slice(axis)] }];
  }
  if (items !== null) {
    const dims = joinAlong(
      items.map((item) => item.dims),
      axis,
    );
    return [{ dataType: first.dataType, dims }];
  }
  const each = first.dims[axis] ?? fixed(1);
  const total = Number.isNaN(each.size) ? fresh(context, axis) : multiplyDims(each, count);
  return [{ dataType: first.dataType, dims: first.dims.map((dim, index) => (index === axis ? total : dim)) }];
};

/** Lengths of the parts along the axis; null when they are only known while running. */
function partLengths(context: RuleContext, dim: ShapeDim): ShapeDim[] | null {
  if (!context.has(1)) return Number.isNaN(dim.size) ? null : Array.from({ length: dim.size }, () => fixed(1));
  const { data, dims } = context.input(1);
  if (!data) return null;
  if (dims.length > 0) return data.values.map((_, index) => dimFromData(data, index));
  const each = data.values[0] ?? NaN;
  if (!(each > 0) || Number.isNaN(dim.size)) return null;
  const count = Math.ceil(dim.size / each);
  if (typeof dim.expression !== 'number') {
    return Array.from({ length: count }, (_, index) => computed(Math.min(each, dim.size - index * each), null, dim));
  }
  return count * each === dim.size
    ? equalParts(dim, count)
    : Array.from({ length: count }, (_, index) => fixed(Math.min(each, dim.size - index * each)));
}

const splitToSequence: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const axis = axisOf(context.int('axis', 0), dims.length);
  const dim = dims[axis] ?? fixed(1);
  const drop = !context.has(1) && context.int('keepdims', 1) === 0;
  const cut = (size: ShapeDim): InferredValue => ({
    dataType,
    dims: drop ? dims.filter((_, index) => index !== axis) : dims.map((own, index) => (index === axis ? size : own)),
  });
  const lengths = partLengths(context, dim);
  if (lengths !== null) {
    const info = known(context, lengths.map(cut)).sequence as SequenceInfo;
    // Without given lengths the axis itself says how many parts there are.
    return [sequence(context.has(1) ? info : { ...info, length: dim })];
  }
  const count = context.has(1) ? (context.input(1).dims[0] ?? fresh(context, 0)) : dim;
  return [sequence({ length: count, element: cut(context.has(1) ? fresh(context, axis) : fixed(1)), items: null })];
};

const construct: ShapeRule = (context) => [
  known(
    context,
    context.node.inputs.map((_, index) => context.input(index)),
  ),
];

/** Sequences and optionals; an optional is inferred as what it holds. */
export const sequenceRules: ShapeRules = {
  Identity: handThrough,
  Optional: handThrough,
  OptionalGetElement: handThrough,
  OptionalHasElement: (context) => [
    context.has(0)
      ? { dataType: DataType.BOOL, dims: [] }
      : { dataType: DataType.BOOL, dims: [], data: constantData([0]) },
  ],
  SequenceEmpty: () => [sequence({ length: fixed(0), element: null, items: [] })],
  SequenceConstruct: construct,
  SequenceInsert: insert,
  SequenceErase: erase,
  SequenceAt: at,
  SequenceLength: length,
  ConcatFromSequence: concatFromSequence,
  SplitToSequence: splitToSequence,
};
