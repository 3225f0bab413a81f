import { getInt } from './attribute.js';
import { DataType, type Node, type Tensor } from './model.js';
import { elementCount, readNumbers } from './tensor.js';
import { sliceRange } from './shape-ops-layout.js';
import { type InferredValue, type KnownData } from './shape-types.js';

/** Values with more elements than this are never evaluated: they are data, not shapes. */
export const maxKnownElements = 4096;

/** What evaluation needs: the node's inputs (null = left out or unknown) and the shape of its first output. */
interface Evaluation {
  node: Node;
  inputs: (InferredValue | null)[];
  output: InferredValue;
}

type Symbol = number | string | null;
type Evaluate = (evaluation: Evaluation) => KnownData | null;

function knownOf(evaluation: Evaluation, index: number): KnownData | null {
  return evaluation.inputs[index]?.data ?? null;
}

/** Elements picked from `data` by position. */
function pick(data: KnownData, positions: readonly number[]): KnownData {
  return {
    values: positions.map((at) => data.values[at] ?? 0),
    symbols: positions.map((at) => data.symbols[at] ?? null),
    constant: data.constant,
  };
}

/** Row-major position in a tensor of `dims` that broadcasting reads for element `index` of `output`. */
function broadcastPosition(index: number, output: readonly number[], dims: readonly number[]): number {
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

/** Element by element with broadcasting; names survive only where the operator hands an element through. */
function mapElements(
  evaluation: Evaluation,
  compute: (...values: number[]) => number,
  symbol: (symbols: Symbol[], values: number[]) => Symbol = () => null,
): KnownData | null {
  // Asked before any value is: those of a constant may have to be computed from a whole weight.
  if (evaluation.node.inputs.some((_, index) => !('data' in (evaluation.inputs[index] ?? {})))) return null;
  const data = evaluation.node.inputs.map((_, index) => knownOf(evaluation, index));
  const dims = evaluation.output.dims.map((dim) => dim.size);
  const values: number[] = [];
  const symbols: Symbol[] = [];
  for (let index = 0; index < elementCount(dims); index += 1) {
    const operands: number[] = [];
    const names: Symbol[] = [];
    for (const [at, known] of data.entries()) {
      if (known === null) return null;
      const own = (evaluation.inputs[at]?.dims ?? []).map((dim) => dim.size);
      const position = broadcastPosition(index, dims, own);
      operands.push(known.values[position] ?? 0);
      names.push(known.symbols[position] ?? null);
    }
    const value = compute(...operands);
    values.push(value);
    symbols.push(names.every((name) => typeof name === 'number') ? value : symbol(names, operands));
  }
  return { values, symbols, constant: data.every((known) => known?.constant === true) };
}

function map(
  compute: (...values: number[]) => number,
  symbol?: (symbols: Symbol[], values: number[]) => Symbol,
): Evaluate {
  return (evaluation) => mapElements(evaluation, compute, symbol);
}

const handThrough: Evaluate = (evaluation) => knownOf(evaluation, 0);

const isInteger = (dataType: number) =>
  dataType !== DataType.FLOAT && dataType !== DataType.DOUBLE && dataType !== DataType.FLOAT16;

const divide: Evaluate = (evaluation) =>
  mapElements(
    evaluation,
    (a, b) => (isInteger(evaluation.output.dataType) ? Math.trunc(a / b) : a / b),
    ([a = null], [, divisor]) => (divisor === 1 ? a : null),
  );

const gather: Evaluate = (evaluation) => {
  const data = knownOf(evaluation, 0);
  const indices = knownOf(evaluation, 1);
  const source = evaluation.inputs[0];
  if (!data || !indices?.constant || source?.dims.length !== 1) return null;
  const length = source.dims[0]?.size ?? 0;
  return pick(
    data,
    indices.values.map((at) => (at < 0 ? at + length : at)),
  );
};

const slice: Evaluate = (evaluation) => {
  const data = knownOf(evaluation, 0);
  if (!data || evaluation.inputs[0]?.dims.length !== 1) return null;
  const read = (name: string, index: number, fallback: number) => {
    const attribute = evaluation.node.attributes.get(name);
    if (attribute?.type === 'ints') return attribute.value[0] ?? fallback;
    return evaluation.inputs[index] ? (knownOf(evaluation, index)?.values[0] ?? null) : fallback;
  };
  const [start, end, step] = [read('starts', 1, 0), read('ends', 2, data.values.length), read('steps', 4, 1)];
  if (start === null || end === null || step === null) return null;
  const [first, count] = sliceRange(start, end, step, data.values.length);
  return pick(
    data,
    Array.from({ length: count }, (_, index) => first + index * step),
  );
};

const concat: Evaluate = (evaluation) => {
  if (evaluation.output.dims.length !== 1) return null;
  const parts = evaluation.node.inputs.map((_, index) => knownOf(evaluation, index));
  const known = parts.filter((part) => part !== null);
  if (known.length !== parts.length) return null;
  return {
    values: known.flatMap((part) => part.values),
    symbols: known.flatMap((part) => part.symbols),
    constant: known.every((part) => part.constant),
  };
};

const shapeOf: Evaluate = ({ node, inputs }) => {
  const dims = inputs[0]?.dims;
  if (!dims) return null;
  const [first, count] = sliceRange(getInt(node, 'start', 0), getInt(node, 'end', dims.length), 1, dims.length);
  const part = dims.slice(first, first + count);
  return {
    values: part.map((dim) => dim.size),
    symbols: part.map((dim) => dim.symbol),
    constant: part.every((dim) => typeof dim.symbol === 'number'),
  };
};

const size: Evaluate = ({ inputs }) => {
  const dims = inputs[0]?.dims;
  if (!dims) return null;
  const value = elementCount(dims.map((dim) => dim.size));
  const constant = dims.every((dim) => typeof dim.symbol === 'number');
  return { values: [value], symbols: [constant ? value : null], constant };
};

const range: Evaluate = (evaluation) => {
  const [start, limit, delta] = [0, 1, 2].map((index) => knownOf(evaluation, index));
  if (!start || !limit || !delta) return null;
  const constant = start.constant && limit.constant && delta.constant;
  const count = evaluation.output.dims[0]?.size ?? 0;
  const values = Array.from({ length: count }, (_, index) => (start.values[0] ?? 0) + index * (delta.values[0] ?? 1));
  return { values, symbols: constant ? values : values.map(() => null), constant };
};

function fill(evaluation: Evaluation, value: number, constant: boolean): KnownData {
  const values = Array<number>(elementCount(evaluation.output.dims.map((dim) => dim.size))).fill(value);
  return { values, symbols: values, constant };
}

/** The one element ConstantOfShape fills with; undefined when it is no such tensor. */
function fillNumber(tensor: Tensor): number | undefined {
  const numeric = tensor.dataType === DataType.FLOAT || tensor.dataType === DataType.INT64;
  return numeric && elementCount(tensor.dims) === 1 ? readNumbers(tensor)[0] : undefined;
}

const expand: Evaluate = (evaluation) => {
  const data = knownOf(evaluation, 0);
  if (!data) return null;
  const dims = evaluation.output.dims.map((dim) => dim.size);
  const own = (evaluation.inputs[0]?.dims ?? []).map((dim) => dim.size);
  return pick(
    data,
    Array.from({ length: elementCount(dims) }, (_, index) => broadcastPosition(index, dims, own)),
  );
};

const reduceProduct: Evaluate = (evaluation) => {
  const data = knownOf(evaluation, 0);
  if (!data || elementCount(evaluation.output.dims.map((dim) => dim.size)) !== 1) return null;
  const value = elementCount(data.values);
  return { values: [value], symbols: [data.constant ? value : null], constant: data.constant };
};

const cast: Evaluate = (evaluation) =>
  mapElements(
    evaluation,
    (value) =>
      evaluation.output.dataType === DataType.BOOL
        ? Number(value !== 0)
        : isInteger(evaluation.output.dataType)
          ? Math.trunc(value)
          : value,
    ([name = null]) => name,
  );

const evaluators: Readonly<Record<string, Evaluate>> = {
  Shape: shapeOf,
  Size: size,
  Gather: gather,
  Slice: slice,
  Concat: concat,
  Range: range,
  Expand: expand,
  ReduceProd: reduceProduct,
  Cast: cast,
  Div: divide,
  Identity: handThrough,
  Squeeze: handThrough,
  Unsqueeze: handThrough,
  Reshape: handThrough,
  Flatten: handThrough,
  Add: map(
    (a, b) => a + b,
    ([a = null, b = null]) => (a === 0 ? b : b === 0 ? a : null),
  ),
  Sub: map(
    (a, b) => a - b,
    ([a = null, b = null]) => (b === 0 ? a : null),
  ),
  Mul: map(
    (a, b) => a * b,
    ([a = null, b = null]) => (a === 1 ? b : b === 1 ? a : null),
  ),
  Mod: map((a, b) => a % b),
  Max: map(Math.max),
  Min: map(Math.min),
  Neg: map((a) => -a),
  Abs: map(Math.abs),
  Floor: map(Math.floor),
  Ceil: map(Math.ceil),
  Sqrt: map(Math.sqrt),
  Pow: map(Math.pow),
  Equal: map((a, b) => Number(a === b)),
  Greater: map((a, b) => Number(a > b)),
  GreaterOrEqual: map((a, b) => Number(a >= b)),
  Less: map((a, b) => Number(a < b)),
  LessOrEqual: map((a, b) => Number(a <= b)),
  And: map((a, b) => Number(a !== 0 && b !== 0)),
  Or: map((a, b) => Number(a !== 0 || b !== 0)),
  Not: map((a) => Number(a === 0)),
  Where: map(
    (condition, a, b) => (condition !== 0 ? a : b),
    ([, a = null, b = null], [condition]) => (condition !== 0 ? a : b),
  ),
  ConstantOfShape: (evaluation) => {
    const value = evaluation.node.attributes.get('value');
    const number = value === undefined ? 0 : value.type === 'tensor' ? fillNumber(value.value) : undefined;
    return number === undefined ? null : fill(evaluation, number, evaluation.inputs[0]?.data?.constant === true);
  },
};

/** Elements of the node's first output, or null when they are not shape arithmetic or not known. */
export function evaluateData(node: Node, inputs: (InferredValue | null)[], output: InferredValue): KnownData | null {
  const evaluate = node.domain === '' ? evaluators[node.opType] : undefined;
  if (!evaluate) return null;
  if (elementCount(output.dims.map((dim) => dim.size)) > maxKnownElements) return null;
  return evaluate({ node, inputs, output });
}
