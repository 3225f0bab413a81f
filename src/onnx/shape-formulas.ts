import { evaluate, isPolynomial, named, textOf, times, type Expression } from './shape-expression.js';
import type { Shape, ShapeResult } from './shape-infer.js';

type Bindings = Readonly<Record<string, number>>;

/** A result with the bindings it is for. */
export interface BoundShapes {
  readonly bindings: Bindings;
  readonly result: ShapeResult;
}

/** A value with the positions of its sizes among the distinct formulas. */
interface Entry {
  readonly name: string;
  readonly dataType: number;
  readonly sizes: readonly number[];
}

const isSettled = ({ result: { unknown, conflicts, bodies } }: BoundShapes) =>
  unknown.length === 0 && conflicts.length === 0 && bodies.size === 0;

/** A size no formula says: fixed if it is the same in both results, else a multiple of what varies if it grows with it. */
function observed(sizes: readonly [number, number], varying: ReadonlySet<string>, of: readonly [Bindings, Bindings]) {
  const [first, second] = sizes;
  if (first === second) return first;
  const [name = ''] = varying;
  const each = first / (of[0][name] ?? NaN);
  return Number.isInteger(each) && each * (of[1][name] ?? NaN) === second ? times(each, named(name)) : null;
}

/**
 * The sizes of a graph's values as formulas over some dimensions, found once and evaluated for many bindings: far
 * quicker than inferring them again.
 */
export class ShapeFormulas {
  private constructor(
    private readonly entries: readonly Entry[],
    private readonly formulas: readonly Expression[],
  ) {}

  /**
   * Formulas that two results agree on. The dimensions in which their bindings differ are those that may be given other
   * sizes later; they should be far apart.
   * @returns null when a value lacks a formula, a size is rounded or compared on the way (so that other sizes might not
   * fit), the sizes contradict each other in one of the results, or there is control flow.
   */
  static agreedBy(first: BoundShapes, second: BoundShapes): ShapeFormulas | null {
    const bindings = [first.bindings, second.bindings] as const;
    const varying = new Set(Object.keys(bindings[0]).filter((name) => bindings[0][name] !== bindings[1][name]));
    if (varying.size === 0 || !isSettled(first) || !isSettled(second)) return null;
    if (first.result.shapes.size !== second.result.shapes.size) return null;
    const positions = new Map<string, number>();
    const formulas: Expression[] = [];
    const entries: Entry[] = [];
    for (const [name, { dataType, dims }] of second.result.shapes) {
      const before = first.result.shapes.get(name)?.dims;
      const [own, other] = [second, first].map(({ result }) => result.expressions(name));
      if (!before || !own || own.length !== before.length) return null;
      const sizes: number[] = [];
      for (const [axis, said] of own.entries()) {
        const formula = said ?? observed([before[axis] ?? NaN, dims[axis] ?? NaN], varying, bindings);
        if (formula === null || !isPolynomial(formula, varying)) return null;
        const text = textOf(formula);
        if (said !== null && text !== textOf(other?.[axis] ?? NaN)) return null;
        const position = positions.get(text) ?? formulas.length;
        if (position === formulas.length) {
          positions.set(text, position);
          formulas.push(formula);
        }
        sizes.push(position);
      }
      entries.push({ name, dataType, sizes });
    }
    return new ShapeFormulas(entries, formulas);
  }

  /** Shapes for bindings that differ from those of the results only where those did. */
  evaluate(bindings: Bindings): Map<string, Shape> {
    const sizes = this.formulas.map((formula) => evaluate(formula, bindings));
    const shapes = new Map<string, Shape>();
    for (const { name, dataType, sizes: positions } of this.entries) {
      shapes.set(name, { dataType, dims: positions.map((position) => sizes[position] ?? NaN) });
    }
    return shapes;
  }
}
