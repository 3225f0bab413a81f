import type { AccuracyRun, AccuracySummary, Calibration, KnownError } from '../../contract/types.js';

/** How far a prediction was off: |predicted ÷ measured − 1|, percent. */
export function errorPercent({ predictedBytes, measuredBytes }: AccuracyRun): number {
  return Math.abs(predictedBytes / measuredBytes - 1) * 100;
}

/** Median and worst error of a record; null for an empty one. */
export function summarize(runs: readonly AccuracyRun[]): AccuracySummary | null {
  if (runs.length === 0) return null;
  const errors = runs.map(errorPercent).sort((a, b) => a - b);
  const middle = errors.length >> 1;
  const upper = errors[middle] ?? 0;
  const medianPercent = errors.length % 2 === 1 ? upper : ((errors[middle - 1] ?? 0) + upper) / 2;
  return { runs: runs.length, medianPercent, worstPercent: errors.at(-1) ?? 0 };
}

/** Newer runs say more about the estimates of today; so many count towards an interval. */
const runsForInterval = 50;

/** The range of measured ÷ predicted over the newest runs; null without any. */
export function recordRange(runs: readonly AccuracyRun[]): KnownError['record'] {
  const ratios = runs.slice(0, runsForInterval).map((run) => run.measuredBytes / run.predictedBytes);
  if (ratios.length === 0) return null;
  return { low: Math.min(1, ...ratios), high: Math.max(1, ...ratios), runs: ratios.length };
}

/**
 * A handful of probes does not show the worst case: what they were off counts half as much again, and no
 * calibration promises less than 2 %.
 */
const probeMargin = 1.5;
const leastError = 0.02;

/** What follows from a calibration for the interval of an estimate. */
export function calibrationRange({ fixed, probes }: Pick<Calibration, 'fixed' | 'probes'>): KnownError['calibration'] {
  const offsetBytes = fixed.peakBytes - fixed.predictedBytes;
  const ratios = probes.map((probe) => probe.measuredBytes / Math.max(1, probe.predictedBytes + offsetBytes));
  if (ratios.length === 0) return null;
  const below = Math.max(0, 1 - Math.min(...ratios));
  const above = Math.max(0, Math.max(...ratios) - 1);
  return {
    low: Math.max(0, 1 - leastError - below * probeMargin),
    high: 1 + leastError + above * probeMargin,
    runs: probes.length,
    offsetBytes,
    rule: {
      low: Math.min(...probes.map((probe) => probe.lowBytes / probe.predictedBytes)),
      high: Math.max(...probes.map((probe) => probe.highBytes / probe.predictedBytes)),
    },
  };
}

/** "Estimates within ± x %" of a calibration. */
export function calibrationPercent(calibration: Pick<Calibration, 'fixed' | 'probes'>): number {
  const range = calibrationRange(calibration);
  return range === null ? 0 : Math.round(Math.max(1 - range.low, range.high - 1) * 1000) / 10;
}
