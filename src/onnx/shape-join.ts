import { equal } from './shape-expression.js';
import { joinDims, type InferredValue, type KnownData, type SequenceInfo } from './shape-types.js';

function joinData(a: KnownData | undefined, b: KnownData | undefined): KnownData | undefined {
  if (!a || !b || a.values.length !== b.values.length) return undefined;
  const same = a.values.map((value, index) => value === b.values[index]);
  // Nothing in common is no knowledge.
  if (a.values.length > 0 && !same.includes(true)) return undefined;
  return {
    values: a.values.map((value, index) => (same[index] ? value : NaN)),
    symbols: a.symbols.map((symbol, index) => (symbol === b.symbols[index] ? symbol : null)),
    expressions: a.expressions.map((part, index) => (equal(part, b.expressions[index] ?? null) ? part : null)),
    constant: a.constant && b.constant && !same.includes(false),
  };
}

function joinSequences(a: SequenceInfo, b: SequenceInfo, name: string): SequenceInfo {
  const length = joinDims(a.length, b.length, `${name}.length`);
  const element = !a.element || !b.element ? (a.element ?? b.element) : joinValues(a.element, b.element, name);
  if (!a.items || !b.items || a.items.length !== b.items.length) return { length, element, items: null };
  const others = b.items;
  const items = a.items.map((item, index) => joinValues(item, others[index] as InferredValue, name));
  return { length, element, items: items.includes(null) ? null : items.filter((item) => item !== null) };
}

/**
 * What is common to two values of which one will be there, such as the results of two branches: dimensions that differ
 * become open. Null when the values are of different kind, element type or rank.
 * @param name tells the open dimensions from those of other values.
 */
export function joinValues(a: InferredValue, b: InferredValue, name: string): InferredValue | null {
  if (a === b) return a;
  if (a.sequence && b.sequence) {
    return { dataType: a.dataType, dims: [], sequence: joinSequences(a.sequence, b.sequence, name) };
  }
  if (a.sequence || b.sequence || a.dataType !== b.dataType || a.dims.length !== b.dims.length) return null;
  const dims = a.dims.map((dim, axis) => joinDims(dim, b.dims[axis] ?? dim, `${name}.${axis}`));
  const data = joinData(a.data, b.data);
  return data ? { dataType: a.dataType, dims, data } : { dataType: a.dataType, dims };
}

/** What all elements of a sequence have in common. */
export function joinElements(items: readonly InferredValue[], name: string): InferredValue | null {
  const [first = null, ...rest] = items;
  return rest.reduce<InferredValue | null>((joined, item) => joined && joinValues(joined, item, name), first);
}

/** Whether two readings of a value say the same, as far as sizes go. */
export function sameKnowledge(a: InferredValue | null, b: InferredValue | null): boolean {
  if (a === b) return true;
  if (!a || !b || a.dataType !== b.dataType || a.dims.length !== b.dims.length) return false;
  if (a.sequence || b.sequence) {
    const [left, right] = [a.sequence, b.sequence];
    if (!left || !right || !Object.is(left.length.size, right.length.size)) return false;
    if ((left.items === null) !== (right.items === null)) return false;
    return sameKnowledge(left.element, right.element);
  }
  if (!a.dims.every((dim, axis) => Object.is(dim.size, b.dims[axis]?.size))) return false;
  const [left, right] = [a.data?.values, b.data?.values];
  if (!left || !right) return left === right;
  return left.length === right.length && left.every((value, index) => Object.is(value, right[index]));
}
