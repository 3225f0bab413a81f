import type { Attribute, Node } from './model.js';

/**
 * One dimension as two readings of the same thing: the size for the bindings at hand, and what a planner
 * that sees the graph without bindings knows about it (a number, a name, or null = nothing).
 */
export interface ShapeDim {
  readonly size: number;
  readonly symbol: number | string | null;
}

/** Elements of a small integer, float or boolean tensor that could be computed from shapes and constants. */
export interface KnownData {
  readonly values: readonly number[];
  readonly symbols: readonly (number | string | null)[];
  /** Whether the elements are the same for every binding. */
  readonly constant: boolean;
}

/** What shape inference knows of one value. */
export interface InferredValue {
  readonly dataType: number;
  readonly dims: readonly ShapeDim[];
  readonly data?: KnownData;
}

/** Thrown inside rules when a shape cannot be worked out; becomes an entry of `unknown`, never leaves inferShapes. */
export class ShapeGap extends Error {}

/** What a shape rule sees of its node. */
export interface RuleContext {
  readonly node: Node;
  /** Version of the operator set of the node's domain. */
  readonly opset: number;
  /** Input `index`; throws {@link ShapeGap} when it is left out or unknown. */
  input(index: number): InferredValue;
  /** Whether input `index` is given. */
  has(index: number): boolean;
  int(name: string, fallback: number): number;
  /** The attribute's integers, or undefined when it is absent. */
  ints(name: string): readonly number[] | undefined;
  text(name: string, fallback: string): string;
  attribute(name: string): Attribute | undefined;
}

/** Shapes of a node's outputs in order; may return more than the node has. */
export type ShapeRule = (context: RuleContext) => InferredValue[];
export type ShapeRules = Readonly<Record<string, ShapeRule>>;

/** A dimension whose size is a constant of the graph. */
export function fixed(size: number): ShapeDim {
  return { size, symbol: size };
}

/** A dimension computed from others: a planner without bindings knows it only when it knows all of them as numbers. */
export function derived(size: number, ...from: readonly ShapeDim[]): ShapeDim {
  return { size, symbol: from.every((dim) => typeof dim.symbol === 'number') ? size : null };
}

export function sizesOf(value: InferredValue): number[] {
  return value.dims.map((dim) => dim.size);
}

/** Turns a possibly negative axis into 0…rank-1 (or 0…rank for `Unsqueeze`-like uses that pass rank + 1). */
export function axisOf(axis: number, rank: number): number {
  const positive = axis < 0 ? axis + rank : axis;
  if (positive < 0 || positive >= Math.max(rank, 1)) throw new ShapeGap(`axis ${axis} is outside rank ${rank}`);
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

/** Numpy-style broadcast of any number of shapes, with the rule onnx uses for names. */
export function broadcast(shapes: readonly (readonly ShapeDim[])[]): ShapeDim[] {
  const rank = Math.max(0, ...shapes.map((dims) => dims.length));
  const result: ShapeDim[] = [];
  for (let axis = 0; axis < rank; axis += 1) {
    let size = 1;
    let known = 1;
    let name: string | null | undefined;
    let names = 0;
    for (const dims of shapes) {
      const dim = dims[axis - (rank - dims.length)];
      if (dim === undefined) continue;
      if (dim.size !== 1) {
        if (size !== 1 && size !== dim.size) throw new ShapeGap(`sizes ${size} and ${dim.size} cannot be broadcast`);
        size = dim.size;
      }
      if (typeof dim.symbol === 'number') {
        if (dim.symbol !== 1) known = dim.symbol;
      } else if (names === 0) {
        name = dim.symbol;
        names = 1;
      } else if (dim.symbol !== name) {
        names += 1;
      }
    }
    if (known !== 1 || names === 0) result.push({ size, symbol: known });
    else result.push({ size, symbol: names === 1 ? (name ?? null) : null });
  }
  return result;
}
