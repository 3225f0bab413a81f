import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { calibrationPercent, calibrationRange, recordRange, summarize } from '../../../src/app/accuracy/summary.js';
import type { AccuracyRun, Estimate, KnownError } from '../../../src/contract/types.js';
import { withKnownError } from '../../../src/memory/interval.js';

const nothing = { weightsBytes: 0, activationsBytes: 0, cacheBytes: 0, workspaceBytes: 0, runtimeBytes: 0 };
const estimate = (peakBytes: number, low = 0.75, high = 2): Estimate => {
  const phase = { peakBytes, parts: nothing };
  return {
    provider: 'cuda',
    batch: 1,
    dims: {},
    assumed: [],
    load: phase,
    cold: phase,
    warm: phase,
    peakBytes,
    lowBytes: peakBytes * low,
    highBytes: peakBytes * high,
    topTensors: [],
    timeline: [],
    unknown: [],
    limits: [],
  };
};
const runs = (...ratios: number[]): AccuracyRun[] =>
  ratios.map((ratio, at) => ({
    model: 'm',
    provider: 'cpu',
    batch: 1,
    dtype: 'fp32',
    predictedBytes: 1e6,
    measuredBytes: 1e6 * ratio,
    at,
  }));
const probe = (predictedBytes: number, measuredBytes: number) => ({
  name: 'p',
  predictedBytes,
  measuredBytes,
  lowBytes: predictedBytes * 0.75,
  highBytes: predictedBytes * 2,
});

describe('the interval of an estimate', () => {
  it('is the rule’s where nothing is known, and says so', () => {
    expect(withKnownError(estimate(1000), null)).toMatchObject({
      lowBytes: 750,
      highBytes: 2000,
      interval: { source: 'rule', percent: 100, runs: 0 },
    });
  });

  it('narrows to what the probes showed, with room for what they did not', () => {
    const calibration = calibrationRange({
      fixed: { loadBytes: 0, peakBytes: 0, predictedBytes: 0 },
      probes: [probe(1000, 1010), probe(1000, 980)],
    });
    const { lowBytes, highBytes, interval } = withKnownError(estimate(1e6), { calibration, record: null });
    // 2 % below and 1 % above, half as much again, and 2 % on top.
    expect([lowBytes, highBytes]).toEqual([950_000, 1_035_000]);
    expect(interval).toEqual({ source: 'calibration', percent: 5, runs: 2 });
  });

  it('moves by what a session costs here beyond the rule, whatever the size of the model', () => {
    const fixed = { loadBytes: 0, peakBytes: 500, predictedBytes: 200 };
    const calibration = calibrationRange({ fixed, probes: [probe(1000, 1300)] });
    expect(calibration).toMatchObject({ offsetBytes: 300, low: 0.98, high: 1.02 });
    const large = withKnownError(estimate(1e6), { calibration, record: null });
    expect([large.lowBytes, large.highBytes]).toEqual([980_294, 1_020_306]);
    // The estimate itself always lies inside.
    const small = withKnownError(estimate(1000), { calibration, record: null });
    expect([small.lowBytes, small.highBytes]).toEqual([1000, 1326]);
  });

  it('stays in proportion wider where the rule itself is less sure of this model', () => {
    const calibration = calibrationRange({
      fixed: { loadBytes: 0, peakBytes: 0, predictedBytes: 0 },
      probes: [probe(1000, 1000)],
    });
    const { highBytes } = withKnownError(estimate(1e6, 0.75, 3), { calibration, record: null });
    expect(highBytes).toBe(1_040_000);
  });

  it('is taken from a long record where the device was never calibrated', () => {
    const record = recordRange(runs(...Array.from({ length: 12 }, (_, i) => 0.97 + i * 0.005)));
    const known = withKnownError(estimate(1e6), { calibration: null, record });
    expect(known).toMatchObject({ lowBytes: 970_000, interval: { source: 'record', runs: 12, percent: 3 } });
    expect(withKnownError(estimate(1e6), { calibration: null, record: recordRange(runs(1.01)) }).interval?.source).toBe(
      'rule',
    );
  });

  const ratio = fc.double({ min: 0.2, max: 5, noNaN: true });
  it('is never narrower than what the record has seen, and always holds the estimate', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1000, max: 1e10 }),
        fc.array(ratio, { minLength: 1, maxLength: 30 }),
        fc.option(fc.array(ratio, { minLength: 1, maxLength: 4 })),
        (peak, seen, probed) => {
          const known: KnownError = {
            record: recordRange(runs(...seen)),
            calibration:
              probed &&
              calibrationRange({
                fixed: { loadBytes: 0, peakBytes: 2000, predictedBytes: 1000 },
                probes: probed.map((each) => probe(1e6, 1e6 * each)),
              }),
          };
          const { lowBytes, highBytes } = withKnownError(estimate(peak), known);
          expect(lowBytes).toBeLessThanOrEqual(peak);
          expect(highBytes).toBeGreaterThanOrEqual(peak);
          expect(lowBytes).toBeLessThanOrEqual(Math.ceil(peak * Math.min(...seen)));
          expect(highBytes).toBeGreaterThanOrEqual(Math.floor(peak * Math.max(...seen)));
        },
      ),
    );
  });
});

describe('how right Snug has been', () => {
  it('is the median and the worst distance between prediction and measurement', () => {
    expect(summarize([])).toBeNull();
    const summary = summarize(runs(1, 1 / 1.1, 1 / 0.96));
    expect(summary?.runs).toBe(3);
    expect(summary?.medianPercent).toBeCloseTo(4, 6);
    expect(summary?.worstPercent).toBeCloseTo(10, 6);
    expect(summarize(runs(1, 1 / 1.1))?.medianPercent).toBeCloseTo(5, 6);
  });

  it('of a calibration is its wider side, never below two per cent', () => {
    const fixed = { loadBytes: 0, peakBytes: 0, predictedBytes: 0 };
    expect(calibrationPercent({ fixed, probes: [probe(1000, 1000)] })).toBe(2);
    expect(calibrationPercent({ fixed, probes: [probe(1000, 900), probe(1000, 1000)] })).toBe(17);
  });
});
