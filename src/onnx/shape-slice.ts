import type { Node } from './model.js';
import { ceilDivide, isNatural, larger, minus, plus, smaller, times, type Expression } from './shape-expression.js';
import {
  axisOf,
  computed,
  constantData,
  dimFromData,
  type InferredValue,
  type KnownData,
  type ShapeDim,
} from './shape-types.js';

type Maybe = Expression | null;

/** Ends from here on mean "to the end", whatever the size. */
const unbounded = 2 ** 31 - 1;

/** Ends the runtime reads as "none given"; with a negative step that is the beginning. */
const isNone = (end: number) => end === 2 ** 31 - 1 || end >= 2 ** 63;

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
  const last = isNone(end) ? -1 : clamp(to, -1, size - 1);
  return [first, Math.max(0, Math.ceil((last - first) / step))];
}

/** How one axis is cut. */
export interface SliceStep {
  readonly axis: number;
  readonly step: number;
  /** First index taken of an axis with `size` elements. */
  first(size: number): number;
  /** What is left of the axis. */
  cut(dim: ShapeDim): ShapeDim;
}

/** The index a start or end names, not yet held within the axis; null when its sign is open. */
function placed(bound: Maybe, size: Maybe): Maybe {
  if (bound === null) return null;
  if (isNatural(bound)) return bound;
  const below = times(bound, -1);
  return below !== null && isNatural(below) ? plus(size, bound) : null;
}

/** Number of elements as a formula. */
function countFormula(start: Maybe, end: Maybe, step: number, size: Maybe): Maybe {
  if (start === null || end === null) return null;
  if (step < 0) {
    const whole = start === -1 || (typeof start === 'number' && start >= unbounded);
    return whole && typeof end === 'number' && (end <= -unbounded || isNone(end)) ? ceilDivide(size, -step) : null;
  }
  const toEnd = typeof end === 'number' && end >= unbounded;
  if (typeof start === 'number' && start < 0) {
    const last = toEnd ? smaller(-start, size) : null;
    return step === 1 ? last : ceilDivide(last, step);
  }
  const from = placed(start, size);
  const to = toEnd ? size : placed(end, size);
  const bounded = toEnd || to === null || (typeof end === 'number' && end < 0) ? to : smaller(to, size);
  return larger(0, ceilDivide(minus(bounded, from), step));
}

function sliceStep(axis: number, starts: KnownData, ends: KnownData, steps: KnownData | null, at: number): SliceStep {
  const start = starts.values[at] ?? 0;
  const end = ends.values[at] ?? 0;
  const step = steps?.values[at] ?? 1;
  const constant = starts.constant && ends.constant && (steps?.constant ?? true);
  return {
    axis,
    step,
    first: (size) => sliceRange(start, end, step, size)[0],
    cut(dim) {
      if (start === 0 && step === 1 && end >= unbounded && constant) return dim;
      const [, count] = sliceRange(start, end, step, dim.size);
      const formula = countFormula(
        dimFromData(starts, at).expression,
        dimFromData(ends, at).expression,
        step,
        dim.expression,
      );
      const known = typeof formula === 'number' && Number.isNaN(count) ? formula : count;
      if (constant) return computed(known, formula, dim);
      return { size: known, symbol: null, expression: formula };
    },
  };
}

/**
 * How a Slice node cuts each axis it names: bounds from attributes (before operator set 10) or inputs; null when they
 * are only known while running.
 * @throws ShapeGap for an axis outside the rank.
 */
export function sliceSteps(node: Node, inputs: readonly (InferredValue | null)[], rank: number): SliceStep[] | null {
  const read = (name: string, index: number): KnownData | null | undefined => {
    const attribute = node.attributes.get(name);
    if (attribute?.type === 'ints') return constantData(attribute.value);
    if ((node.inputs[index] ?? '') === '') return undefined;
    return inputs[index]?.data ?? null;
  };
  const [starts, ends, axes, steps] = [read('starts', 1), read('ends', 2), read('axes', 3), read('steps', 4)];
  if (!starts || !ends || axes === null || steps === null) return null;
  return starts.values.map((_, at) => sliceStep(axisOf(axes?.values[at] ?? at, rank), starts, ends, steps ?? null, at));
}
