import { DataType, type Node, type Tensor } from './model.js';
import { elementCount, readNumbers } from './tensor.js';
import {
  floorDivide,
  isNatural,
  larger,
  minus,
  modulo,
  plus,
  quotient,
  rounded,
  smaller,
  times,
  type Expression,
} from './shape-expression.js';
import { broadcastPosition, layoutEvaluators } from './shape-data-layout.js';
import { constantData, sizesOf, type DimSymbol, type InferredValue, type KnownData } from './shape-types.js';

/** Values with more elements than this are never evaluated: they are data, not shapes. */
export const maxKnownElements = 4096;

/** What evaluation needs: the node's inputs (null = left out or unknown) and the shapes of its outputs. */
export interface Evaluation {
  readonly node: Node;
  readonly inputs: readonly (InferredValue | null)[];
  readonly outputs: readonly InferredValue[];
}

/** Elements of each output; null when they are not known. */
export type Evaluate = (evaluation: Evaluation) => (KnownData | null)[];

type Maybe = Expression | null;
type Compute = (...values: number[]) => number;
/** How an operator treats what stands beside the numbers of its operands. */
interface Readings {
  symbol?: (symbols: DimSymbol[], values: number[]) => DimSymbol;
  express?: (parts: Maybe[]) => Maybe;
}

/** Element by element with broadcasting; names survive only where the operator hands an element through. */
function mapElements({ inputs, outputs }: Evaluation, compute: Compute, readings: Readings): (KnownData | null)[] {
  const [output] = outputs;
  // Asked before any value is: those of a constant may have to be computed from a whole weight.
  if (!output || !inputs.every((input) => input !== null && 'data' in input)) return [null];
  const operands = inputs.map((input) => ({ data: input?.data, dims: input ? sizesOf(input) : [] }));
  const dims = sizesOf(output);
  const values: number[] = [];
  const symbols: DimSymbol[] = [];
  const expressions: Maybe[] = [];
  for (let index = 0; index < elementCount(dims); index += 1) {
    const own: number[] = [];
    const names: DimSymbol[] = [];
    const parts: Maybe[] = [];
    for (const { data, dims: from } of operands) {
      if (data === undefined) return [null];
      const position = broadcastPosition(index, dims, from);
      own.push(data.values[position] ?? NaN);
      names.push(data.symbols[position] ?? null);
      parts.push(data.expressions[position] ?? null);
    }
    const value = own.some(Number.isNaN) ? NaN : compute(...own);
    const isNumber = !Number.isNaN(value);
    values.push(value);
    symbols.push(
      isNumber && names.every((name) => typeof name === 'number') ? value : (readings.symbol?.(names, own) ?? null),
    );
    expressions.push(
      isNumber && parts.every((part) => typeof part === 'number') ? value : (readings.express?.(parts) ?? null),
    );
  }
  return [{ values, symbols, expressions, constant: operands.every(({ data }) => data?.constant === true) }];
}

function map(compute: Compute, readings: Readings = {}): Evaluate {
  return (evaluation) => mapElements(evaluation, compute, readings);
}

const two =
  (rule: (a: Maybe, b: Maybe) => Maybe) =>
  (parts: Maybe[]): Maybe =>
    parts.slice(1).reduce<Maybe>((a, b) => rule(a, b), parts[0] ?? null);

const isInteger = (dataType: number | undefined) =>
  dataType !== DataType.FLOAT && dataType !== DataType.DOUBLE && dataType !== DataType.FLOAT16;

const divide: Evaluate = (evaluation) => {
  const whole = isInteger(evaluation.outputs[0]?.dataType);
  return mapElements(evaluation, (a, b) => (whole ? Math.trunc(a / b) : a / b), {
    symbol: ([a = null], [, divisor]) => (divisor === 1 ? a : null),
    express: two((a, b) => {
      if (!whole) return quotient(a, b);
      // Integer division rounds towards zero, which is down only for what is not negative.
      return a !== null && b !== null && isNatural(a) && isNatural(b) ? floorDivide(a, b) : null;
    }),
  });
};

const remainder: Evaluate = (evaluation) => {
  const fmod = evaluation.node.attributes.get('fmod');
  if (fmod?.type === 'int' && fmod.value !== 0) return mapElements(evaluation, (a, b) => a % b, {});
  return mapElements(evaluation, (a, b) => a - Math.floor(a / b) * b, { express: two(modulo) });
};

const cast: Evaluate = (evaluation) => {
  const target = evaluation.outputs[0]?.dataType;
  const from = evaluation.inputs[0]?.dataType;
  const source = evaluation.inputs.slice(0, 1);
  const narrowed = { ...evaluation, inputs: source };
  if (target === DataType.BOOL) return mapElements(narrowed, (value) => Number(value !== 0), {});
  const cut = isInteger(target) && !isInteger(from);
  return mapElements(narrowed, (value) => (isInteger(target) ? Math.trunc(value) : value), {
    symbol: ([name = null]) => name,
    express: ([part = null]) => (cut ? (part !== null && isNatural(part) ? rounded(part, 'floor') : null) : part),
  });
};

/** Whether two formulas are equal for all sizes (1), for none (0), or for some (null). */
function sameForAll(a: Maybe, b: Maybe): Maybe {
  const difference = minus(a, b);
  if (typeof difference === 'number') return Number(difference === 0);
  // A size is never a negative number, such as the -1 that means "keep".
  const isSize = (part: Maybe) => part !== null && isNatural(part);
  const isNegative = (part: Maybe) => typeof part === 'number' && part < 0;
  return (isSize(a) && isNegative(b)) || (isSize(b) && isNegative(a)) ? 0 : null;
}

const compare = (test: (difference: number) => boolean): Evaluate =>
  map((a, b) => Number(test(a - b)), {
    express: two((a, b) => {
      const difference = minus(a, b);
      return typeof difference === 'number' ? Number(test(difference)) : null;
    }),
  });

function fill({ inputs, outputs }: Evaluation, value: number): (KnownData | null)[] {
  const values = Array<number>(elementCount(sizesOf(outputs[0] as InferredValue))).fill(value);
  return [{ ...constantData(values), constant: inputs[0]?.data?.constant === true }];
}

/** The one element ConstantOfShape fills with; undefined when it is no such tensor. */
function fillNumber(tensor: Tensor): number | undefined {
  const numeric = tensor.dataType === DataType.FLOAT || isInteger(tensor.dataType);
  return numeric && elementCount(tensor.dims) === 1 ? readNumbers(tensor)[0] : undefined;
}

const elementEvaluators: Readonly<Record<string, Evaluate>> = {
  Cast: cast,
  CastLike: cast,
  Div: divide,
  Mod: remainder,
  Add: map((a, b) => a + b, {
    symbol: ([a = null, b = null]) => (a === 0 ? b : b === 0 ? a : null),
    express: two(plus),
  }),
  Sub: map((a, b) => a - b, {
    symbol: ([a = null, b = null]) => (b === 0 ? a : null),
    express: two(minus),
  }),
  Mul: map((a, b) => a * b, {
    symbol: ([a = null, b = null]) => (a === 1 ? b : b === 1 ? a : null),
    express: two(times),
  }),
  Sum: map((...values) => values.reduce((a, b) => a + b, 0), { express: two(plus) }),
  Max: map(Math.max, { express: two(larger) }),
  Min: map(Math.min, { express: two(smaller) }),
  Neg: map((a) => -a, { express: ([a = null]) => times(a, -1) }),
  Abs: map(Math.abs, { express: ([a = null]) => (a !== null && isNatural(a) ? a : null) }),
  Relu: map((a) => Math.max(a, 0), { express: ([a = null]) => larger(a, 0) }),
  Sign: map(Math.sign),
  Floor: map(Math.floor, { express: ([a = null]) => rounded(a, 'floor') }),
  Ceil: map(Math.ceil, { express: ([a = null]) => rounded(a, 'ceil') }),
  // Halves go to the even neighbour.
  Round: map((a) => (Math.abs(a % 1) === 0.5 ? 2 * Math.round(a / 2) : Math.round(a))),
  Sqrt: map(Math.sqrt),
  Exp: map(Math.exp),
  Log: map(Math.log),
  Reciprocal: map((a) => 1 / a, { express: ([a = null]) => quotient(1, a) }),
  Pow: map(Math.pow),
  Equal: map((a, b) => Number(a === b), { express: two(sameForAll) }),
  Greater: compare((difference) => difference > 0),
  GreaterOrEqual: compare((difference) => difference >= 0),
  Less: compare((difference) => difference < 0),
  LessOrEqual: compare((difference) => difference <= 0),
  And: map((a, b) => Number(a !== 0 && b !== 0)),
  Or: map((a, b) => Number(a !== 0 || b !== 0)),
  Xor: map((a, b) => Number((a !== 0) !== (b !== 0))),
  Not: map((a) => Number(a === 0)),
  Where: map((condition, a, b) => (condition !== 0 ? a : b), {
    symbol: ([, a = null, b = null], [condition]) => (condition !== 0 ? a : b),
    express: ([condition, a = null, b = null]) => (typeof condition === 'number' ? (condition !== 0 ? a : b) : null),
  }),
  ConstantOfShape: (evaluation) => {
    const value = evaluation.node.attributes.get('value');
    const number = value === undefined ? 0 : value.type === 'tensor' ? fillNumber(value.value) : undefined;
    return number === undefined ? [null] : fill(evaluation, number);
  },
};

const evaluators: Readonly<Record<string, Evaluate>> = { ...elementEvaluators, ...layoutEvaluators };

/** Elements of the node's outputs; null where they are not shape arithmetic or not known. */
export function evaluateData(evaluation: Evaluation): (KnownData | null)[] {
  const { node, outputs } = evaluation;
  const evaluate = node.domain === '' || node.domain === 'ai.onnx' ? evaluators[node.opType] : undefined;
  if (!evaluate) return [];
  // Too large, or of a size nobody knows yet.
  if (!outputs.every((output) => elementCount(sizesOf(output)) <= maxKnownElements)) return [];
  return evaluate(evaluation);
}
