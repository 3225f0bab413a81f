import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bundledSamples } from '../../../src/app/samples.js';
import { openModel } from '../../../src/app/open.js';
import type { DamageBand, PruneCurve } from '../../../src/contract/types.js';
import { Analysis } from '../../../src/fit/analysis.js';
import { interpolate } from '../../../src/fit/expected-damage.js';
import { distinctRatios } from '../../../src/fit/prune-curve.js';
import { furthestRatio } from '../../../src/fit/prune-view.js';
import { Planner } from '../../../src/fit/solve.js';

const [sample] = bundledSamples();
const planner = (hasSamples = true): Planner =>
  new Planner(new Analysis(openModel(sample.modelPath).model, 'cpu', hasSamples));
const curve = (...sqnrDb: number[]): PruneCurve => ({
  points: sqnrDb.map((dB, at) => ({
    ratio: [0.2, 0.4, 0.6][at],
    damage: { band: dB < 14 ? 'large' : dB < 20 ? 'moderate' : 'small', sqnrDb: dB },
    top1Agreement: 0.9,
  })),
  samples: 20,
  fitted: false,
  state: 'measuring',
  total: 3,
});

describe('a measured curve', () => {
  it('is met at its points, lies between its neighbours and falls to nothing in proportion', () => {
    const points = [
      { expected: 0.01, measured: 0.001 },
      { expected: 0.1, measured: 0.05 },
    ];
    expect(interpolate(points, 0.01)).toBeCloseTo(0.001);
    expect(interpolate(points, 0.1)).toBeCloseTo(0.05);
    expect(interpolate(points, 0.001)).toBeCloseTo(0.0001);
    expect(interpolate([], 0.1)).toBeNull();
    fc.assert(
      fc.property(fc.double({ min: 0.0101, max: 0.0999, noNaN: true }), (at) => {
        const found = interpolate(points, at)!;
        expect(found).toBeGreaterThan(0.001);
        expect(found).toBeLessThan(0.05);
      }),
    );
  });

  it('replaces what the weights let expect, at its ratios exactly and between them in between', () => {
    const plans = planner();
    const at = (pruneRatio: number) => plans.solve(1e7, { pruneRatio, dtype: 'fp32', batch: 1 }).smallest.damage;
    const expected = at(0.4);
    plans.setCurve(curve(33, 25, 12));
    expect(at(0.4)).toEqual({ band: 'small', sqnrDb: 25 });
    expect(at(0.4)).not.toEqual(expected);
    expect(at(0.5).sqnrDb).toBeLessThan(25);
    expect(at(0.5).sqnrDb).toBeGreaterThan(12);
    // Other ways to prune were not measured.
    const pruned = { pruneRatio: 0.4, pruneMethod: 'magnitude', dtype: 'fp32', batch: 1 } as const;
    expect(plans.solve(1e7, pruned).pruning?.basis).toBe('expected');
    expect(plans.solve(1e7, pruned).smallest.damage.sqnrDb).not.toBe(25);
  });

  it('speaks for widths set one by one too: less cut than at a ratio is less damage', () => {
    const plans = planner();
    plans.setCurve(curve(33, 25, 12));
    const [one] = plans.analysis.classes;
    const pins = { pruneRatio: 0, classes: { [one.id]: one.width - 8 }, dtype: 'fp32', batch: 1 } as const;
    expect(plans.solve(1e7, pins).smallest.damage.sqnrDb).toBeGreaterThan(33);
  });

  it('says how far to go from held-out damage, as soon as there is some', () => {
    const plans = planner();
    expect(plans.solve(1e7, {}).pruning).toMatchObject({ basis: 'expected', curve: null });
    plans.setCurve(curve(33, 25, 12));
    expect(plans.solve(1e7, {}).pruning).toMatchObject({ basis: 'measured', furthestRatio: 0.4 });
  });
});

describe('this far and no further', () => {
  const points = (...bands: DamageBand[]) =>
    bands.map((band, at) => ({ ratio: at / 10, damage: { band, sqnrDb: null } }));
  it('is the last ratio before damage is more than small', () => {
    expect(furthestRatio(points('none', 'negligible', 'small', 'moderate', 'small'))).toBe(0.2);
    expect(furthestRatio(points('moderate', 'large'))).toBe(0);
    expect(furthestRatio(points('none', 'small'))).toBeNull();
  });
});

describe('ratios worth measuring', () => {
  it('are those with widths of their own', () => {
    const widths = (width: number) => (ratio: number) => [Math.max(16, Math.round((width * (1 - ratio)) / 8) * 8)];
    expect(distinctRatios(widths(512))).toHaveLength(8);
    expect(distinctRatios(widths(24))).toEqual([0.3]);
    expect(distinctRatios(() => [8])).toEqual([]);
  });
});

describe('a solve without time', () => {
  it('is exact in what it proposes, and whole once it was asked often enough', () => {
    const plans = planner();
    plans.solve(1e6, {});
    const [one] = plans.analysis.classes;
    const pins = { classes: { [one.id]: one.width - 16 } };
    const hasty = plans.solve(1e6, pins, 0);
    expect(hasty.unfinished).toBe(true);
    const shown = hasty.proposal ?? hasty.smallest;
    expect(shown.plan.classes.find(({ id }) => id === one.id)?.after).toBe(one.width - 16);
    const whole = plans.solve(1e6, pins);
    expect(whole.unfinished).toBeUndefined();
    const again = plans.solve(1e6, pins, 0);
    expect(again.unfinished).toBeUndefined();
    expect(again.charts).toEqual(whole.charts);
  });
});

describe('a class with a width of its own', () => {
  it('is told the same peak whether or not the plan without it was worked out before', () => {
    const [first] = new Analysis(openModel(sample.modelPath).model, 'cpu', true).classes;
    const pins = { pruneRatio: 0.3, dtype: 'int8', batch: 64 } as const;
    const pinned = { ...pins, classes: { [first!.id]: 24 } };
    const [fresh, warm] = [planner(), planner()];
    const before = warm.solve(1e7, pins).smallest;
    const after = warm.solve(1e7, pinned).smallest;
    expect(after.estimate).toEqual(fresh.solve(1e7, pinned).smallest.estimate);
    expect(after.estimate.peakBytes).not.toBe(before.estimate.peakBytes);
  });
});
