import { getInt } from './attribute.js';
import type { Evaluate, Evaluation } from './shape-data.js';
import { larger, plus, smaller, times, type Expression } from './shape-expression.js';
import { sliceSteps } from './shape-slice.js';
import { constantData, multiplyDims, sizesOf, type DimSymbol, type KnownData } from './shape-types.js';
import { elementCount } from './tensor.js';

/** Row-major position in a tensor of `dims` that broadcasting reads for element `index` of `output`. */
export function broadcastPosition(index: number, output: readonly number[], dims: readonly number[]): number {
  let rest = index;
  let position = 0;
  let stride = 1;
  for (let axis = output.length - 1; axis >= 0; axis -= 1) {
    const size = output[axis] ?? 1;
    const at = rest % size;
    rest = Math.floor(rest / size);
    const own = dims[axis - (output.length - dims.length)];
    if (own === undefined) continue;
    position += (own === 1 ? 0 : at) * stride;
    stride *= own;
  }
  return position;
}

/** Coordinates of row-major element `index`. */
function coordinates(index: number, dims: readonly number[]): number[] {
  const at: number[] = [];
  let rest = index;
  for (let axis = dims.length - 1; axis >= 0; axis -= 1) {
    at[axis] = rest % (dims[axis] ?? 1);
    rest = Math.floor(rest / (dims[axis] ?? 1));
  }
  return at;
}

function positionOf(at: readonly number[], dims: readonly number[]): number {
  return dims.reduce((position, size, axis) => position * size + (at[axis] ?? 0), 0);
}

/** Elements picked from `data` by position. */
function pick(data: KnownData, positions: readonly number[]): KnownData {
  return {
    values: positions.map((at) => data.values[at] ?? NaN),
    symbols: positions.map((at) => data.symbols[at] ?? null),
    expressions: positions.map((at) => data.expressions[at] ?? null),
    constant: data.constant,
  };
}

function dataAt({ inputs }: Evaluation, index: number): KnownData | null {
  return inputs[index]?.data ?? null;
}

function outputDims({ outputs }: Evaluation, index = 0): number[] {
  return outputs[index] ? sizesOf(outputs[index]) : [];
}

function inputDims({ inputs }: Evaluation, index = 0): number[] {
  return inputs[index] ? sizesOf(inputs[index]) : [];
}

/** Every output element is an input element; `from` says which, by coordinates. */
function move(from: (at: number[], evaluation: Evaluation) => number[]): Evaluate {
  return (evaluation) => {
    const data = dataAt(evaluation, 0);
    if (!data) return [null];
    const dims = outputDims(evaluation);
    const source = inputDims(evaluation);
    const positions = Array.from({ length: elementCount(dims) }, (_, index) =>
      positionOf(from(coordinates(index, dims), evaluation), source),
    );
    return [pick(data, positions)];
  };
}

const handThrough: Evaluate = (evaluation) => [dataAt(evaluation, 0)];

/** Axis of an attribute made positive; shapes were checked before. */
function axisAttribute(evaluation: Evaluation, fallback: number, rank: number): number {
  const axis = getInt(evaluation.node, 'axis', fallback);
  return axis < 0 ? axis + rank : axis;
}

const gather: Evaluate = (evaluation) => {
  const data = dataAt(evaluation, 0);
  const indices = dataAt(evaluation, 1);
  if (!data || !indices) return [null];
  const source = inputDims(evaluation);
  const axis = axisAttribute(evaluation, 0, source.length);
  const rank = inputDims(evaluation, 1).length;
  const dims = outputDims(evaluation);
  const length = source[axis] ?? 1;
  const positions = Array.from({ length: elementCount(dims) }, (_, index) => {
    const at = coordinates(index, dims);
    const chosen = indices.values[positionOf(at.slice(axis, axis + rank), inputDims(evaluation, 1))] ?? NaN;
    const wrapped = chosen < 0 ? chosen + length : chosen;
    return positionOf([...at.slice(0, axis), wrapped, ...at.slice(axis + rank)], source);
  });
  const picked = pick(data, positions);
  if (indices.constant) return [picked];
  // An index that depends on sizes would pick another element for other sizes.
  const nothing = picked.values.map(() => null);
  return [{ values: picked.values, symbols: nothing, expressions: nothing, constant: false }];
};

const slice: Evaluate = (evaluation) => {
  const data = dataAt(evaluation, 0);
  const source = inputDims(evaluation);
  const steps = data && sliceSteps(evaluation.node, evaluation.inputs, source.length);
  if (!data || !steps) return [null];
  const dims = outputDims(evaluation);
  const positions = Array.from({ length: elementCount(dims) }, (_, index) => {
    const at = coordinates(index, dims);
    for (const part of steps) at[part.axis] = part.first(source[part.axis] ?? 0) + (at[part.axis] ?? 0) * part.step;
    return positionOf(at, source);
  });
  return [pick(data, positions)];
};

const concat: Evaluate = (evaluation) => {
  const dims = outputDims(evaluation);
  const axis = axisAttribute(evaluation, 1, dims.length);
  const parts = evaluation.inputs.map((input) => input?.data);
  if (parts.every((part) => part === undefined)) return [null];
  const values: number[] = [];
  const symbols: DimSymbol[] = [];
  const expressions: (Expression | null)[] = [];
  for (let index = 0; index < elementCount(dims); index += 1) {
    const at = coordinates(index, dims);
    let along = at[axis] ?? 0;
    let from = 0;
    while (along >= (inputDims(evaluation, from)[axis] ?? Infinity)) {
      along -= inputDims(evaluation, from)[axis] ?? 0;
      from += 1;
    }
    at[axis] = along;
    const part = parts[from];
    const position = positionOf(at, inputDims(evaluation, from));
    values.push(part?.values[position] ?? NaN);
    symbols.push(part?.symbols[position] ?? null);
    expressions.push(part?.expressions[position] ?? null);
  }
  return [{ values, symbols, expressions, constant: parts.every((part) => part?.constant === true) }];
};

const split: Evaluate = (evaluation) => {
  const data = dataAt(evaluation, 0);
  if (!data) return evaluation.outputs.map(() => null);
  const source = inputDims(evaluation);
  const axis = axisAttribute(evaluation, 0, source.length);
  let before = 0;
  return evaluation.outputs.map((_, output) => {
    const dims = outputDims(evaluation, output);
    const positions = Array.from({ length: elementCount(dims) }, (__, index) => {
      const at = coordinates(index, dims);
      at[axis] = (at[axis] ?? 0) + before;
      return positionOf(at, source);
    });
    before += dims[axis] ?? 0;
    return pick(data, positions);
  });
};

const shapeOf: Evaluate = ({ node, inputs }) => {
  const dims = inputs[0]?.sequence ? undefined : inputs[0]?.dims;
  if (!dims) return [null];
  const clamp = (at: number) => Math.min(Math.max(at < 0 ? at + dims.length : at, 0), dims.length);
  const part = dims.slice(clamp(getInt(node, 'start', 0)), clamp(getInt(node, 'end', dims.length)));
  return [
    {
      values: part.map((dim) => dim.size),
      symbols: part.map((dim) => dim.symbol),
      expressions: part.map((dim) => dim.expression),
      constant: part.every((dim) => typeof dim.symbol === 'number'),
    },
  ];
};

const size: Evaluate = ({ inputs }) => {
  if (!inputs[0]) return [null];
  const constant = inputs[0].dims.every((dim) => typeof dim.symbol === 'number');
  const total = multiplyDims(...inputs[0].dims);
  return [{ values: [total.size], symbols: [constant ? total.size : null], expressions: [total.expression], constant }];
};

const range: Evaluate = (evaluation) => {
  const [start, limit, delta] = [0, 1, 2].map((index) => dataAt(evaluation, index));
  if (!start || !limit || !delta) return [null];
  const constant = start.constant && limit.constant && delta.constant;
  const [count = 0] = outputDims(evaluation);
  const values: number[] = [];
  const expressions: (Expression | null)[] = [];
  for (let index = 0; index < count; index += 1) {
    values.push((start.values[0] ?? 0) + index * (delta.values[0] ?? 1));
    expressions.push(plus(start.expressions[0] ?? null, times(delta.expressions[0] ?? null, index)));
  }
  return [{ values, symbols: constant ? values : values.map(() => null), expressions, constant }];
};

type Fold = (a: Expression | null, b: Expression | null) => Expression | null;

/** A reduction of all elements to one. */
function reduceAll(start: number, combine: (a: number, b: number) => number, express: Fold): Evaluate {
  return (evaluation) => {
    const data = dataAt(evaluation, 0);
    if (!data || elementCount(outputDims(evaluation)) !== 1) return [null];
    const value = data.values.reduce(combine, start);
    const [first = start, ...rest] = data.expressions;
    const expression = rest.reduce(express, first);
    return [
      { values: [value], symbols: [data.constant ? value : null], expressions: [expression], constant: data.constant },
    ];
  };
}

/** Positions of what is not zero: known when every element is. */
const nonZero: Evaluate = (evaluation) => {
  const data = dataAt(evaluation, 0);
  if (!data || data.values.some(Number.isNaN)) return [null];
  const dims = inputDims(evaluation);
  const found = data.values.flatMap((value, index) => (value !== 0 ? [coordinates(index, dims)] : []));
  const values = dims.flatMap((_, axis) => found.map((at) => at[axis] ?? 0));
  return [{ ...constantData(values), constant: data.constant }];
};

const cumSum: Evaluate = (evaluation) => {
  const data = dataAt(evaluation, 0);
  const plain = getInt(evaluation.node, 'exclusive', 0) === 0 && getInt(evaluation.node, 'reverse', 0) === 0;
  if (!data || !plain || inputDims(evaluation).length !== 1) return [null];
  let total = 0;
  let formula: Expression | null = 0;
  const expressions = data.expressions.map((part) => (formula = plus(formula, part)));
  const values = data.values.map((value) => (total += value));
  return [{ values, symbols: data.constant ? values : values.map(() => null), expressions, constant: data.constant }];
};

/** Operators that move, pick or count elements of small tensors. */
export const layoutEvaluators: Readonly<Record<string, Evaluate>> = {
  Shape: shapeOf,
  Size: size,
  Gather: gather,
  Slice: slice,
  Concat: concat,
  Split: split,
  Range: range,
  NonZero: nonZero,
  CumSum: cumSum,
  Identity: handThrough,
  Squeeze: handThrough,
  Unsqueeze: handThrough,
  Reshape: handThrough,
  Flatten: handThrough,
  Expand: move((at, evaluation) => {
    const dims = inputDims(evaluation);
    return dims.map((length, axis) => (length === 1 ? 0 : (at[at.length - dims.length + axis] ?? 0)));
  }),
  Tile: move((at, evaluation) => inputDims(evaluation).map((length, axis) => (at[axis] ?? 0) % length)),
  Transpose: move((at, { node }) => {
    const perm = node.attributes.get('perm');
    const order = perm?.type === 'ints' ? perm.value : at.map((_, axis) => at.length - 1 - axis);
    const from: number[] = [];
    order.forEach((axis, index) => (from[axis] = at[index] ?? 0));
    return from;
  }),
  ReduceProd: reduceAll(1, (a, b) => a * b, times),
  ReduceSum: reduceAll(0, (a, b) => a + b, plus),
  ReduceMax: reduceAll(-Infinity, Math.max, larger),
  ReduceMin: reduceAll(Infinity, Math.min, smaller),
};
