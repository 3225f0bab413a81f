import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  ceilDivide,
  evaluate,
  floorDivide,
  larger,
  minus,
  modulo,
  named,
  plus,
  quotient,
  rounded,
  smaller,
  textOf,
  times,
  type Expression,
} from '../../../src/onnx/shape-expression.js';

const text = (expression: Expression | null) => (expression === null ? null : textOf(expression));
const [batch, heads, height] = [named('batch'), named('heads'), named('height')];

describe('formulas have one normal form', () => {
  test.each<[Expression | null, string]>([
    [times(batch, 12), 'batch*12'],
    [times(12, batch), 'batch*12'],
    [times(heads, batch), 'batch*heads'],
    [plus(plus(height, 1), batch), 'batch + height + 1'],
    [minus(plus(batch, 3), batch), '3'],
    [floorDivide(times(times(batch, heads), 64), heads), 'batch*64'],
    [floorDivide(times(batch, 12), 4), 'batch*3'],
    [plus(floorDivide(minus(height, 1), 2), 1), 'floor((height - 1)/2) + 1'],
    [floorDivide(plus(times(batch, 4), 6), 4), 'batch + 1'],
    [ceilDivide(height, 2), 'floor((height + 1)/2)'],
    [rounded(quotient(height, 2), 'floor'), 'floor(height/2)'],
    [modulo(times(batch, 8), 4), '0'],
    [larger(0, batch), 'batch'],
    [smaller(plus(batch, 2), batch), 'batch'],
    [larger(batch, heads), 'max(batch, heads)'],
    [larger(heads, batch), 'max(batch, heads)'],
    [times(plus(batch, 1), plus(batch, -1)), 'batch*batch - 1'],
  ])('case %#', (expression, expected) => {
    expect(text(expression)).toBe(expected);
  });

  test('what nobody could read is no formula', () => {
    let sum: Expression | null = 0;
    for (let index = 0; index < 20; index += 1) sum = plus(sum, named(`n${index}`));
    expect(sum).toBeNull();
    expect(floorDivide(batch, 0)).toBeNull();
    expect(plus(null, 1)).toBeNull();
  });

  test('a missing size is not a number', () => {
    expect(evaluate(times(batch, 2) as Expression, {})).toBeNaN();
  });
});

/** A random formula beside the same thing computed in numbers. */
interface Pair {
  expression: Expression | null;
  value: (sizes: Record<string, number>) => number;
}

const leaf: fc.Arbitrary<Pair> = fc.oneof(
  fc.integer({ min: 0, max: 9 }).map((value): Pair => ({ expression: value, value: () => value })),
  fc.constantFrom('a', 'b', 'c').map((name): Pair => ({ expression: named(name), value: (sizes) => sizes[name] ?? 0 })),
);

type Rule = [(a: Expression | null, b: Expression | null) => Expression | null, (a: number, b: number) => number];
const operators: Rule[] = [
  [plus, (a, b) => a + b],
  [minus, (a, b) => a - b],
  [times, (a, b) => a * b],
  [floorDivide, (a, b) => Math.floor(a / b)],
  [ceilDivide, (a, b) => Math.ceil(a / b)],
  [modulo, (a, b) => a - Math.floor(a / b) * b],
  [smaller, Math.min],
  [larger, Math.max],
];

const { pair } = fc.letrec<{ pair: Pair }>((tie) => ({
  pair: fc.oneof(
    { maxDepth: 4 },
    leaf,
    fc.tuple(fc.constantFrom(...operators), tie('pair'), tie('pair')).map(([[rule, compute], left, right]): Pair => ({
      expression: rule(left.expression, right.expression),
      value: (sizes) => compute(left.value(sizes), right.value(sizes)),
    })),
  ),
}));

test('a formula comes to what the same arithmetic on numbers comes to', () => {
  const size = fc.integer({ min: 1, max: 40 });
  fc.assert(
    fc.property(pair, fc.record({ a: size, b: size, c: size }), ({ expression, value }, sizes) => {
      const expected = value(sizes);
      // Division by zero is no size.
      fc.pre(expression !== null && Number.isFinite(expected));
      const found = evaluate(expression, sizes);
      expect([textOf(expression), found === 0 ? 0 : found]).toEqual([
        textOf(expression),
        expected === 0 ? 0 : expected,
      ]);
    }),
    { numRuns: 500 },
  );
});
