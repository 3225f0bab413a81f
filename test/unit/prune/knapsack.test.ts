import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { allocateWidths } from '../../../src/prune/knapsack.js';

/** Loss that grows with the square of what is removed. */
const curve = (width: number, steepness: number) => ({
  losses: Float64Array.from({ length: width + 1 }, (_, removed) => steepness * (removed / width) ** 2),
});
const widths = (width: number): number[] => Array.from({ length: 7 }, (_, level) => width - (level * width) / 8);

describe('allocateWidths', () => {
  it('never costs more than the start, and saves at least as much', () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ units: fc.integer({ min: 2, max: 40 }), steepness: fc.integer({ min: 1, max: 1000 }) }), {
          minLength: 2,
          maxLength: 6,
        }),
        fc.integer({ min: 1, max: 5 }),
        (made, level) => {
          const classes = made.map(({ units }, at) => ({ id: `c${at}`, width: units * 8, widths: widths(units * 8) }));
          const curves = new Map(classes.map((one, at) => [one.id, curve(one.width, made[at]!.steepness)]));
          const start = Object.fromEntries(classes.map(({ id, widths: own }) => [id, own[level]!]));
          // Neighbours share weights: what one saves depends on the other.
          const bytesOf = (at: Readonly<Record<string, number>>): number =>
            classes.reduce((sum, { id }, k) => sum + at[id]! * (k === 0 ? 10 : at[classes[k - 1]!.id]!), 0);
          const loss = (at: Readonly<Record<string, number>>): number =>
            classes.reduce((sum, { id, width }) => sum + curves.get(id)!.losses[width - at[id]!]!, 0);
          const chosen = allocateWidths(classes, curves, start, bytesOf);
          expect(bytesOf(chosen)).toBeLessThanOrEqual(bytesOf(start));
          expect(loss(chosen)).toBeLessThanOrEqual(loss(start));
          for (const one of classes) expect([...one.widths, start[one.id]]).toContain(chosen[one.id]);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('takes from the class that does not mind', () => {
    const classes = ['calm', 'touchy'].map((id) => ({ id, width: 64, widths: widths(64) }));
    const curves = new Map([
      ['calm', curve(64, 0.001)],
      ['touchy', curve(64, 1)],
    ]);
    const chosen = allocateWidths(classes, curves, { calm: 40, touchy: 40 }, (at) => 100 * (at.calm! + at.touchy!));
    expect(chosen.calm).toBe(16);
    expect(chosen.touchy).toBe(64);
  });
});
