/**
 * Sizes as formulas over the names of open dimensions: polynomials with floor, ceil, mod, min and max, in one normal
 * form, so that equal formulas read equal (`batch*12`, `floor((height - 1)/2) + 1`).
 */
export type Expression = number | Formula;

type Sizes = Readonly<Record<string, number>>;

/** A name, or a function of other formulas; equal when the texts are equal. */
interface Atom {
  readonly text: string;
  evaluate(sizes: Sizes): number;
  /** Whether it is never below zero. */
  readonly natural: boolean;
  /** Set for a name. */
  readonly plain?: true;
  /** Set for a true quotient, so that rounding it down later is an integer division. */
  readonly quotient?: readonly [Expression, Expression];
}

interface Term {
  readonly coefficient: number;
  /** Sorted by text; a power is a repetition. */
  readonly atoms: readonly Atom[];
}

/** A formula that is no plain number. */
export interface Formula {
  readonly terms: readonly Term[];
  readonly text: string;
}

/** Formulas with more terms than this say nothing to anybody. */
const mostTerms = 12;

const keyOf = (atoms: readonly Atom[]) => atoms.map((atom) => atom.text).join('*');

function termsOf(expression: Expression): readonly Term[] {
  if (typeof expression !== 'number') return expression.terms;
  return expression === 0 ? [] : [{ coefficient: expression, atoms: [] }];
}

function write(terms: readonly Term[]): string {
  const parts = terms.map(({ coefficient, atoms }) => {
    const size = Math.abs(coefficient);
    const key = keyOf(atoms);
    return key === '' ? String(size) : size === 1 ? key : `${key}*${size}`;
  });
  return parts
    .map((part, index) => {
      const negative = (terms[index]?.coefficient ?? 0) < 0;
      if (index === 0) return negative ? `-${part}` : part;
      return negative ? ` - ${part}` : ` + ${part}`;
    })
    .join('');
}

function fromTerms(terms: readonly Term[]): Expression | null {
  const byKey = new Map<string, Term>();
  for (const { coefficient, atoms } of terms) {
    const key = keyOf(atoms);
    const before = byKey.get(key)?.coefficient ?? 0;
    byKey.set(key, { coefficient: before + coefficient, atoms });
  }
  const kept = [...byKey.entries()].filter(([, term]) => term.coefficient !== 0);
  if (kept.some(([, term]) => !Number.isFinite(term.coefficient)) || kept.length > mostTerms) return null;
  // Names first, the plain number last.
  kept.sort(([a], [b]) => (a === '' ? 1 : b === '' ? -1 : a < b ? -1 : 1));
  const sorted = kept.map(([, term]) => term);
  const [only] = sorted;
  if (only === undefined) return 0;
  return sorted.length === 1 && only.atoms.length === 0 ? only.coefficient : { terms: sorted, text: write(sorted) };
}

function ofAtom(atom: Atom): Formula {
  const terms = [{ coefficient: 1, atoms: [atom] }];
  return { terms, text: atom.text };
}

/** The size of an open dimension by its name. */
export function named(name: string): Formula {
  return ofAtom({ text: name, natural: true, plain: true, evaluate: (sizes) => sizes[name] ?? NaN });
}

/** Whether the value is never below zero, whatever the sizes. */
export function isNatural(expression: Expression): boolean {
  return termsOf(expression).every((term) => term.coefficient > 0 && term.atoms.every((atom) => atom.natural));
}

/** Whether the formula is a sum of products of names, as far as it depends on those given. */
export function isPolynomial(expression: Expression, names: ReadonlySet<string>): boolean {
  const mentions = (atom: Atom) => [...names].some((name) => atom.text.includes(name));
  return termsOf(expression).every((term) => term.atoms.every((atom) => atom.plain === true || !mentions(atom)));
}

/** The formula's text; a number as it is. */
export function textOf(expression: Expression): string {
  return typeof expression === 'number' ? String(expression) : expression.text;
}

/** The size for given sizes of the names; NaN when one of them is missing. */
export function evaluate(expression: Expression, sizes: Sizes): number {
  if (typeof expression === 'number') return expression;
  let total = 0;
  for (const { coefficient, atoms } of expression.terms) {
    total += atoms.reduce((product, atom) => product * atom.evaluate(sizes), coefficient);
  }
  return total;
}

export function equal(a: Expression | null, b: Expression | null): boolean {
  return a !== null && b !== null && textOf(a) === textOf(b);
}

type Maybe = Expression | null;

export function plus(a: Maybe, b: Maybe): Maybe {
  if (a === null || b === null) return null;
  if (typeof a === 'number' && typeof b === 'number') return a + b;
  return fromTerms([...termsOf(a), ...termsOf(b)]);
}

export function times(a: Maybe, b: Maybe): Maybe {
  if (a === null || b === null) return null;
  if (typeof a === 'number' && typeof b === 'number') return a * b;
  return fromTerms(
    termsOf(a).flatMap((left) =>
      termsOf(b).map((right) => ({
        coefficient: left.coefficient * right.coefficient,
        atoms: [...left.atoms, ...right.atoms].sort((x, y) => (x.text < y.text ? -1 : x.text > y.text ? 1 : 0)),
      })),
    ),
  );
}

export function minus(a: Maybe, b: Maybe): Maybe {
  return plus(a, times(b, -1));
}

/** `term / divisor` when nothing is left over; coefficients must divide to whole numbers. */
function divideTerm(term: Term, divisor: Term): Term | null {
  const coefficient = term.coefficient / divisor.coefficient;
  if (!Number.isInteger(coefficient)) return null;
  const atoms = [...term.atoms];
  for (const { text } of divisor.atoms) {
    const at = atoms.findIndex((atom) => atom.text === text);
    if (at < 0) return null;
    atoms.splice(at, 1);
  }
  return { coefficient, atoms };
}

const isWhole = (expression: Expression) =>
  termsOf(expression).every((term) => Number.isInteger(term.coefficient) && term.atoms.every((atom) => !atom.quotient));

function parenthesized(expression: Expression): string {
  const text = textOf(expression);
  return /[ */]/.test(text) ? `(${text})` : text;
}

/** Whole part of a quotient of whole sizes, rounded down. */
export function floorDivide(a: Maybe, b: Maybe): Maybe {
  if (a === null || b === null || b === 0) return null;
  if (typeof a === 'number' && typeof b === 'number') return Math.floor(a / b);
  if (equal(a, b)) return 1;
  const divisors = termsOf(b);
  const [divisor] = divisors;
  let rest = termsOf(a);
  let whole: Maybe = 0;
  if (divisors.length === 1 && divisor !== undefined && isWhole(a)) {
    const divided = rest.map((term) => divideTerm(term, divisor));
    // Multiples of a number come out of the floor; of a name only when the whole divides.
    if (divisor.atoms.length === 0 || divided.every((term) => term !== null)) {
      whole = fromTerms(divided.filter((term) => term !== null));
      rest = rest.filter((_, index) => divided[index] === null);
    }
  }
  const over = fromTerms(rest);
  if (over === null) return null;
  if (typeof over === 'number' && typeof b === 'number') return plus(whole, Math.floor(over / b));
  if (over === 0) return whole;
  const atom = {
    text: `floor(${parenthesized(over)}/${parenthesized(b)})`,
    natural: isNatural(over) && isNatural(b),
    evaluate: (sizes: Sizes) => Math.floor(evaluate(over, sizes) / evaluate(b, sizes)),
  };
  return plus(whole, ofAtom(atom));
}

export function ceilDivide(a: Maybe, b: Maybe): Maybe {
  const negated = floorDivide(times(a, -1), b);
  if (typeof b === 'number' && b > 0) return floorDivide(plus(a, b - 1), b);
  return times(negated, -1);
}

/** The exact quotient, as floating-point arithmetic on sizes has it. */
export function quotient(a: Maybe, b: Maybe): Maybe {
  if (a === null || b === null || b === 0) return null;
  if (typeof a === 'number' && typeof b === 'number') return a / b;
  if (b === 1) return a;
  const atom = {
    text: `${parenthesized(a)}/${parenthesized(b)}`,
    natural: isNatural(a) && isNatural(b),
    evaluate: (sizes: Sizes) => evaluate(a, sizes) / evaluate(b, sizes),
    quotient: [a, b] as const,
  };
  return ofAtom(atom);
}

function call(name: string, compute: (...values: number[]) => number, ...parts: Expression[]): Formula {
  return ofAtom({
    text: `${name}(${parts.map(textOf).join(', ')})`,
    natural: parts[name === 'max' ? 'some' : 'every'](isNatural),
    evaluate: (sizes) => compute(...parts.map((part) => evaluate(part, sizes))),
  });
}

/** Rounds towards minus infinity (`floor`) or plus infinity (`ceil`). */
export function rounded(a: Maybe, way: 'floor' | 'ceil'): Maybe {
  if (a === null) return null;
  if (typeof a === 'number') return Math[way](a);
  if (isWhole(a)) return a;
  const [only] = a.terms;
  const parts = a.terms.length === 1 && only?.coefficient === 1 ? only.atoms[0]?.quotient : undefined;
  if (parts !== undefined && only?.atoms.length === 1) {
    return way === 'floor' ? floorDivide(...parts) : ceilDivide(...parts);
  }
  return call(way, Math[way], a);
}

/** Remainder with the sign of the divisor. */
export function modulo(a: Maybe, b: Maybe): Maybe {
  if (a === null || b === null || b === 0) return null;
  if (typeof a === 'number' && typeof b === 'number') return a - Math.floor(a / b) * b;
  const multiple = floorDivide(a, b);
  const difference = minus(a, times(multiple, b));
  if (difference === 0) return 0;
  return call('mod', (x, y) => x - Math.floor(x / y) * y, a, b);
}

function extreme(name: 'min' | 'max', a: Maybe, b: Maybe): Maybe {
  if (a === null || b === null) return null;
  if (typeof a === 'number' && typeof b === 'number') return Math[name](a, b);
  if (equal(a, b)) return a;
  const difference = minus(a, b);
  if (typeof difference === 'number') return difference > 0 === (name === 'max') ? a : b;
  // Sizes are never below zero, so a difference of that kind says which is larger.
  if (difference !== null && isNatural(difference)) return name === 'max' ? a : b;
  const negated = times(difference, -1);
  if (negated !== null && isNatural(negated)) return name === 'max' ? b : a;
  const [first, second] = textOf(a) < textOf(b) ? [a, b] : [b, a];
  return call(name, Math[name], first, second);
}

export function smaller(a: Maybe, b: Maybe): Maybe {
  return extreme('min', a, b);
}

export function larger(a: Maybe, b: Maybe): Maybe {
  return extreme('max', a, b);
}
