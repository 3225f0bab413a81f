import type { Attribute, Node } from './model.js';
import { equal, floorDivide, minus, named, plus, times, type Expression } from './shape-expression.js';

/** What a planner that sees the graph without bindings knows of a dimension: a number, a name, or null = nothing. */
export type DimSymbol = number | string | null;

/** One dimension in three readings of the same thing. */
export interface ShapeDim {
  /** For the bindings at hand; NaN when it is only known while running. */
  readonly size: number;
  readonly symbol: DimSymbol;
  /** For every binding; null when no formula says it. */
  readonly expression: Expression | null;
}

/** Elements of a small integer, float or boolean tensor that could be computed from shapes and constants. */
export interface KnownData {
  /** NaN where an element is only known while running. */
  readonly values: readonly number[];
  readonly symbols: readonly DimSymbol[];
  readonly expressions: readonly (Expression | null)[];
  /** Whether the elements are the same for every binding. */
  readonly constant: boolean;
}

/** A list of tensors. */
export interface SequenceInfo {
  readonly length: ShapeDim;
  /** What every element has in common; null when nothing is known (or there is none). */
  readonly element: InferredValue | null;
  /** The elements one by one, where that is known. */
  readonly items: readonly InferredValue[] | null;
}

/** What shape inference knows of one value. */
export interface InferredValue {
  /** 0 for a sequence. */
  readonly dataType: number;
  readonly dims: readonly ShapeDim[];
  readonly data?: KnownData | undefined;
  readonly sequence?: SequenceInfo;
}

/** Thrown inside rules when a shape cannot be worked out; becomes an entry of `unknown`, never leaves inferShapes. */
export class ShapeGap extends Error {}

/** Sizes that contradict each other, so that the model cannot run with them. */
export class ShapeConflict extends ShapeGap {}

/** What a shape rule sees of its node. */
export interface RuleContext {
  readonly node: Node;
  /** Version of the operator set of the node's domain. */
  readonly opset: number;
  /** Input `index`, a tensor; throws {@link ShapeGap} when it is left out or unknown. */
  input(index: number): InferredValue;
  /** Input `index`, a tensor or a sequence; null when it is left out or unknown. */
  value(index: number): InferredValue | null;
  /** Whether input `index` is given. */
  has(index: number): boolean;
  int(name: string, fallback: number): number;
  /** The attribute's integers, or undefined when it is absent. */
  ints(name: string): readonly number[] | undefined;
  float(name: string, fallback: number): number;
  text(name: string, fallback: string): string;
  attribute(name: string): Attribute | undefined;
}

/** Shapes of a node's outputs in order; may return more than the node has. */
export type ShapeRule = (context: RuleContext) => InferredValue[];
export type ShapeRules = Readonly<Record<string, ShapeRule>>;

/** A dimension whose size is a constant of the graph. */
export function fixed(size: number): ShapeDim {
  return { size, symbol: size, expression: size };
}

/** A dimension that only the data decides; `name` tells it apart from others. */
export function open(name: string): ShapeDim {
  return { size: NaN, symbol: null, expression: named(`?${name}`) };
}

/** A dimension computed from others: a planner without bindings knows it only when it knows all of them as numbers. */
export function computed(size: number, expression: Expression | null, ...from: readonly ShapeDim[]): ShapeDim {
  return { size, symbol: from.every((dim) => typeof dim.symbol === 'number') ? size : null, expression };
}

/** A dimension computed from others in a way no formula follows. */
export function derived(size: number, ...from: readonly ShapeDim[]): ShapeDim {
  const constant = from.every((dim) => typeof dim.expression === 'number');
  return computed(size, constant && !Number.isNaN(size) ? size : null, ...from);
}

export function addDims(a: ShapeDim, b: ShapeDim): ShapeDim {
  return computed(a.size + b.size, plus(a.expression, b.expression), a, b);
}

export function subtractDims(a: ShapeDim, b: ShapeDim): ShapeDim {
  return computed(a.size - b.size, minus(a.expression, b.expression), a, b);
}

/** Product of dimensions; a single one that is not 1 keeps its name. */
export function multiplyDims(...dims: readonly ShapeDim[]): ShapeDim {
  const others = dims.filter((dim) => dim.symbol !== 1);
  const [first] = others;
  if (others.length === 1 && first !== undefined) return first;
  const size = dims.reduce((product, dim) => product * dim.size, 1);
  return computed(
    size,
    dims.reduce<Expression | null>((product, dim) => times(product, dim.expression), 1),
    ...dims,
  );
}

/** The whole part of a quotient. */
export function divideDims(a: ShapeDim, b: ShapeDim): ShapeDim {
  return b.symbol === 1 ? a : computed(Math.floor(a.size / b.size), floorDivide(a.expression, b.expression), a, b);
}

/** Whether two sizes are both known and differ. */
export function differ(a: ShapeDim | undefined, b: ShapeDim | undefined): boolean {
  if (a === undefined || b === undefined) return a !== b;
  return a.size !== b.size && !Number.isNaN(a.size) && !Number.isNaN(b.size);
}

/** What is common to two readings of a dimension that may turn out as either. */
export function joinDims(a: ShapeDim, b: ShapeDim, name: string): ShapeDim {
  if (a.size !== b.size && !(Number.isNaN(a.size) && equal(a.expression, b.expression))) return open(name);
  return {
    size: a.size,
    symbol: a.symbol === b.symbol ? a.symbol : null,
    expression: equal(a.expression, b.expression) ? a.expression : null,
  };
}

/** Whether a size of the value is only known while running. */
export function hasOpenSize({ dims, sequence }: InferredValue): boolean {
  if (!sequence) return dims.some((dim) => Number.isNaN(dim.size));
  if (sequence.items) return sequence.items.some(hasOpenSize);
  return Number.isNaN(sequence.length.size) || sequence.element === null || hasOpenSize(sequence.element);
}

export function sizesOf(value: InferredValue): number[] {
  return value.dims.map((dim) => dim.size);
}

/** Turns a possibly negative axis into 0…rank-1 (or 0…rank for `Unsqueeze`-like uses that pass rank + 1). */
export function axisOf(axis: number, rank: number): number {
  const positive = axis < 0 ? axis + rank : axis;
  if (!(positive >= 0 && positive < Math.max(rank, 1))) throw new ShapeGap(`axis ${axis} is outside rank ${rank}`);
  return positive;
}

/** The elements of input `index`; throws {@link ShapeGap} when they depend on data. */
export function dataOf(context: RuleContext, index: number): KnownData {
  const data = context.input(index).data;
  if (data === undefined) {
    throw new ShapeGap(`the values of input "${context.node.inputs[index] ?? ''}" are only known while running`);
  }
  return data;
}

/** Integers from an attribute (older operator sets) or from an input (newer ones). */
export function intsFrom(context: RuleContext, name: string, index: number): readonly number[] | undefined {
  const attribute = context.ints(name);
  if (attribute !== undefined) return attribute;
  return context.has(index) ? dataOf(context, index).values : undefined;
}

/** Elements that are numbers of the graph itself. */
export function constantData(values: readonly number[]): KnownData {
  return { values, symbols: values, expressions: values, constant: true };
}

/** One element of known data as a dimension; the planner reads a shape only from a constant. */
export function dimFromData(data: KnownData, index: number): ShapeDim {
  const size = data.values[index] ?? NaN;
  return {
    size,
    symbol: data.constant ? (data.symbols[index] ?? null) : null,
    expression: data.expressions[index] ?? null,
  };
}

/** One axis of a numpy-style broadcast, with the rule onnx uses for names. */
function broadcastAxis(dims: readonly ShapeDim[]): ShapeDim {
  let size = 1;
  let known = 1;
  let open: ShapeDim | undefined;
  const names = new Set<string | null>();
  for (const dim of dims) {
    if (Number.isNaN(dim.size)) open = dim;
    else if (dim.size !== 1) {
      if (size !== 1 && size !== dim.size) throw new ShapeConflict(`sizes ${size} and ${dim.size} cannot be broadcast`);
      size = dim.size;
    }
    if (typeof dim.symbol !== 'number') names.add(dim.symbol);
    else if (dim.symbol !== 1) known = dim.symbol;
  }
  const [name = null] = names;
  const symbol = known !== 1 || names.size === 0 ? known : names.size === 1 ? name : null;
  const formulas = dims.map((dim) => dim.expression).filter((expression) => expression !== 1);
  const [first = 1] = formulas;
  const number = formulas.find((expression) => typeof expression === 'number');
  const expression = number ?? (formulas.every((other) => other === first || equal(other, first)) ? first : null);
  return { size: size === 1 && open !== undefined ? NaN : size, symbol, expression };
}

/** Numpy-style broadcast of any number of shapes. */
export function broadcast(shapes: readonly (readonly ShapeDim[])[]): ShapeDim[] {
  const rank = Math.max(0, ...shapes.map((dims) => dims.length));
  return Array.from({ length: rank }, (_, axis) =>
    broadcastAxis(shapes.flatMap((dims) => dims[axis - (rank - dims.length)] ?? [])),
  );
}
