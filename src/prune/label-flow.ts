import { getInt, getInts } from '../onnx/graph.js';
import type { Node } from '../onnx/model.js';
import { elementCount } from '../onnx/tensor.js';
import { wrap, type AxisGraph } from './axis-graph.js';

/** For every element of a value the label of the unit it is made of, −1 for none. */
export interface Labelled {
  dims: readonly number[];
  labels: Int32Array;
}

/** Two activations whose labelled axes are multiplied and summed: for every pair of heads the labels on both sides. */
export type ScorePair = readonly [left: Int32Array, right: Int32Array];

/** What a node makes of labels: values, pairs that meet in a product, or nothing to follow. Null: not linear. */
type Step = { outputs: (Labelled | undefined)[]; pairs?: ScorePair[] } | null;

type Rule = (graph: AxisGraph, node: Node, inputs: readonly (Labelled | undefined)[]) => Step;

/** Carries labels through operators that only move values, scale them by one number, or mix positions; null otherwise. */
export const follow: Rule = (graph, node, inputs) =>
  canFollow(node) ? rules[node.opType]!(graph, node, inputs) : null;

/** Whether there is a rule for an operator at all; {@link follow} may still find that a node does not keep to it. */
export const canFollow = ({ domain, opType }: Node): boolean => domain === '' && Object.hasOwn(rules, opType);

/** Labels along one axis; null when they differ elsewhere too. */
export function labelsAlong({ dims, labels }: Labelled, axis: number): Int32Array | null {
  const [size, inner] = [dims[axis]!, elementCount(dims.slice(axis + 1))];
  const found = new Int32Array(size).fill(-2);
  for (let at = 0; at < labels.length; at++) {
    const index = Math.floor(at / inner) % size;
    if (found[index] === -2) found[index] = labels[at]!;
    else if (found[index] !== labels[at]) return null;
  }
  return found;
}

const sizesOf = (graph: AxisGraph, name: string | undefined): number[] | null =>
  graph.axes(name)?.map(({ size }) => size) ?? null;

/** The same elements in the same order under other axes. */
const renamed: Rule = (graph, node, [x]) => {
  const dims = sizesOf(graph, node.outputs[0]);
  if (x === undefined || dims === null || elementCount(dims) !== x.labels.length) return null;
  return { outputs: [{ dims, labels: x.labels }] };
};

const transpose: Rule = (_, node, [x]) => {
  if (x === undefined) return null;
  const order = getInts(node, 'perm', [...x.dims.keys()].reverse());
  const strides = x.dims.map((__, axis) => elementCount(x.dims.slice(axis + 1)));
  const dims = order.map((axis) => x.dims[axis]!);
  return { outputs: [read(x, dims, (index) => index.reduce((at, i, axis) => at + i * strides[order[axis]!]!, 0))] };
};

/** A value of `dims` whose element at an index is `x`'s at an offset. */
function read(x: Labelled, dims: readonly number[], offsetOf: (index: readonly number[]) => number): Labelled {
  const labels = new Int32Array(elementCount(dims));
  const index = dims.map(() => 0);
  for (let at = 0; at < labels.length; at++) {
    labels[at] = x.labels[offsetOf(index)]!;
    for (let axis = dims.length - 1; axis >= 0 && ++index[axis]! === dims[axis]; axis--) index[axis] = 0;
  }
  return { dims, labels };
}

/** Some indices of one axis; `dims` when the axis itself goes away. */
function pick(x: Labelled, axis: number, indices: readonly number[], dims?: readonly number[]): Labelled {
  const inner = elementCount(x.dims.slice(axis + 1));
  const outer = elementCount(x.dims.slice(0, axis));
  const labels = new Int32Array(outer * indices.length * inner);
  for (let o = 0; o < outer; o++) {
    indices.forEach((index, to) => {
      const from = (o * x.dims[axis]! + index) * inner;
      labels.set(x.labels.subarray(from, from + inner), (o * indices.length + to) * inner);
    });
  }
  return { dims: dims ?? x.dims.map((size, at) => (at === axis ? indices.length : size)), labels };
}

const range = (from: number, count: number): number[] => Array.from({ length: count }, (_, at) => from + at);

const slice: Rule = (graph, node, [x]) => {
  const given = (name: string, at: number): readonly (number | null)[] | null =>
    node.inputs.length > 1 ? graph.elements(node.inputs[at]) : (getInts(node, name, undefined) ?? null);
  const [starts, ends] = [given('starts', 1), given('ends', 2)];
  const steps = given('steps', 4);
  if (x === undefined || starts === null || ends === null || (steps?.some((step) => step !== 1) ?? false)) return null;
  const axes = given('axes', 3) ?? range(0, starts.length);
  let value = x;
  for (const [at, axis] of axes.entries()) {
    const [start, end] = [starts[at] ?? null, ends[at] ?? null];
    if (axis === null || start === null || end === null) return null;
    const own = wrap(axis, x.dims.length);
    const size = x.dims[own]!;
    const bound = (index: number): number => Math.min(size, Math.max(0, index < 0 ? index + size : index));
    value = pick(value, own, range(bound(start), Math.max(0, bound(end) - bound(start))));
  }
  return { outputs: [value] };
};

const split: Rule = (graph, node, [x]) => {
  if (x === undefined) return null;
  const axis = wrap(getInt(node, 'axis', 0), x.dims.length);
  let from = 0;
  const outputs: Labelled[] = [];
  for (const name of node.outputs) {
    const size = sizesOf(graph, name)?.[axis];
    if (size === undefined) return null;
    outputs.push(pick(x, axis, range(from, size)));
    from += size;
  }
  return { outputs };
};

const gather: Rule = (graph, node, [x, ids]) => {
  const indices = graph.elements(node.inputs[1]);
  const dims = sizesOf(graph, node.outputs[0]);
  if (x === undefined || ids !== undefined || dims === null || indices === null) return null;
  const axis = wrap(getInt(node, 'axis', 0), x.dims.length);
  const whole = indices.map((index) => (index === null ? NaN : wrap(index, x.dims[axis]!)));
  return whole.some(Number.isNaN) ? null : { outputs: [pick(x, axis, whole, dims)] };
};

const expand: Rule = (graph, node, [x]) => {
  const dims = sizesOf(graph, node.outputs[0]);
  if (x === undefined || dims === null) return null;
  const missing = dims.length - x.dims.length;
  const strides = x.dims.map((size, axis) => (size === 1 ? 0 : elementCount(x.dims.slice(axis + 1))));
  return {
    outputs: [read(x, dims, (index) => strides.reduce((at, stride, axis) => at + stride * index[axis + missing]!, 0))],
  };
};

/** Multiplied or divided by a single number, whatever computes it. */
const scaled: Rule = (graph, node, [x, by]) => {
  const [value, other] = x === undefined ? [by, node.inputs[0]] : [x, node.inputs[1]];
  const numbers = sizesOf(graph, other);
  const both = x !== undefined && by !== undefined;
  if (value === undefined || both || numbers === null || elementCount(numbers) !== 1) return null;
  return x === undefined && node.opType === 'Div' ? null : { outputs: [value] };
};

/** Positions are mixed (attention on values), or two labelled widths are summed over (queries with keys). */
const matMul: Rule = (graph, node, [a, b]) => {
  const dims = sizesOf(graph, node.outputs[0]);
  if (dims === null || b === undefined || dims.length < 3) return null;
  const lead = dims.slice(0, -2);
  const strideOf = (own: readonly number[]): number[] =>
    own.slice(0, -2).map((size, axis) => (size === 1 ? 0 : elementCount(own.slice(axis + 1))));
  const leadOffset = (own: readonly number[], index: readonly number[]): number => {
    const missing = lead.length - (own.length - 2);
    return strideOf(own).reduce((at, stride, axis) => at + stride * index[axis + missing]!, 0);
  };
  const [inner, columns] = [b.dims.at(-2)!, b.dims.at(-1)!];
  if (a === undefined) {
    const whole = read(b, [...lead, 1, columns], (index) => leadOffset(b.dims, index) + index.at(-1)!);
    // What every row of weights mixes has to be the same unit.
    for (let at = 0; at < b.labels.length; at++) {
      const first = Math.floor(at / (inner * columns)) * inner * columns + (at % columns);
      if (b.labels[at] !== b.labels[first]) return null;
    }
    return expand(graph, node, [whole]);
  }
  const rows = a.dims.at(-2)!;
  const pairs = new Map<string, ScorePair>();
  const index = lead.map(() => 0);
  for (let at = 0; at < elementCount(lead); at++) {
    const [fromA, fromB] = [leadOffset(a.dims, index), leadOffset(b.dims, index)];
    const left = a.labels.subarray(fromA, fromA + inner);
    const right = Int32Array.from({ length: inner }, (_, i) => b.labels[fromB + i * columns]!);
    for (let row = 0; row < rows; row++)
      for (let i = 0; i < inner; i++) if (a.labels[fromA + row * inner + i] !== left[i]) return null;
    for (let i = 0; i < inner; i++)
      for (let column = 0; column < columns; column++)
        if (b.labels[fromB + i * columns + column] !== right[i]) return null;
    pairs.set(`${left.join()}|${right.join()}`, [left, right]);
    for (let axis = lead.length - 1; axis >= 0 && ++index[axis]! === lead[axis]; axis--) index[axis] = 0;
  }
  return { outputs: [], pairs: [...pairs.values()] };
};

const rules: Readonly<Record<string, Rule>> = {
  Reshape: renamed,
  Flatten: renamed,
  Squeeze: renamed,
  Unsqueeze: renamed,
  Identity: renamed,
  Cast: renamed,
  Dropout: renamed,
  // Tells sizes, which change anyway.
  Shape: () => ({ outputs: [] }),
  Transpose: transpose,
  Slice: slice,
  Split: split,
  Gather: gather,
  Expand: expand,
  Mul: scaled,
  Div: scaled,
  MatMul: matMul,
};
