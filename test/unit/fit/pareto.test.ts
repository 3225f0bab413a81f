import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ParetoFront, type UnitOption } from '../../../src/fit/pareto.js';

const option = fc.record({ bytes: fc.integer({ min: 0, max: 50 }), noise: fc.integer({ min: 0, max: 50 }) });
const units = fc.array(fc.array(option, { minLength: 1, maxLength: 4 }), { minLength: 1, maxLength: 5 });

/** Sums of every combination. */
function combinations(list: UnitOption[][]): UnitOption[] {
  return list.reduce<UnitOption[]>(
    (sums, options) =>
      sums.flatMap((sum) => options.map((o) => ({ bytes: sum.bytes + o.bytes, noise: sum.noise + o.noise }))),
    [{ bytes: 0, noise: 0 }],
  );
}

describe('ParetoFront', () => {
  it('holds the least noise for every budget, and choices that add up to it', () => {
    fc.assert(
      fc.property(units, fc.integer({ min: 0, max: 260 }), (list, budget) => {
        const front = new ParetoFront(list);
        const fitting = combinations(list).filter(({ bytes }) => bytes <= budget);
        const at = front.within(budget);
        expect(at === null).toBe(fitting.length === 0);
        if (at === null) return;
        expect(front.points[at]!.noise).toBe(Math.min(...fitting.map(({ noise }) => noise)));
        const chosen = front.choices(at).map((choice, unit) => list[unit]![choice]!);
        expect(chosen.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(front.points[at]!.bytes);
        expect(chosen.reduce((sum, { noise }) => sum + noise, 0)).toBe(front.points[at]!.noise);
      }),
    );
  });

  it('stays within a thousandth of the best where there are too many sums to keep them all', () => {
    // Noise falls by four for each bit, as that of codes does: then the continuous optimum bounds the discrete one.
    let seed = 3;
    const random = (): number => (seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) / 2 ** 32;
    const list = Array.from({ length: 200 }, () => {
      const [size, weight] = [1e4 * (1 + random() * 9), random() ** 4];
      return [2, 4, 4.5, 5, 8, 16].map((bits) => ({ bytes: size * bits, noise: weight * 4 ** -bits }));
    });
    const front = new ParetoFront(list);
    const smallest = list.reduce((sum, options) => sum + options[0]!.bytes, 0);
    for (const budget of [smallest * 1.3, smallest * 2, smallest * 3]) {
      const { bytes, noise } = front.points[front.within(budget)!]!;
      expect(bytes).toBeLessThanOrEqual(budget);
      expect(noise).toBeLessThan(lagrangian(list, budget) * 1.001 + 1e-12);
    }
  });
});

/** Feasible sums by bisection on a price of bytes, filled up greedily: what other tools do. */
function lagrangian(list: UnitOption[][], budget: number): number {
  let [low, high] = [0, 1];
  const at = (price: number): UnitOption[] =>
    list.map((options) => options.reduce((a, b) => (b.noise + price * b.bytes < a.noise + price * a.bytes ? b : a)));
  for (let i = 0; i < 80; i++) {
    const middle = Math.sqrt(Math.max(low, 1e-30) * high);
    if (at(middle).reduce((sum, { bytes }) => sum + bytes, 0) <= budget) high = middle;
    else low = middle;
  }
  return at(high).reduce((sum, { noise }) => sum + noise, 0);
}
