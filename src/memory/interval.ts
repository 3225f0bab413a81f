import type { Estimate, EstimateInterval, KnownError } from '../contract/types.js';

/** From this many runs on, a record says more than a rule that was never measured on this device. */
const enoughRuns = 10;

interface Bounds {
  low: number;
  high: number;
  source: EstimateInterval['source'];
  runs: number;
}

/**
 * The same estimate with the interval that measurements on this machine support. A calibration takes the place of
 * the provider's rule, a long record as well; in every case the interval holds all that the record has seen. The
 * estimate itself stays as it is and always lies inside.
 */
export function withKnownError(estimate: Estimate, known: KnownError | null): Estimate {
  const { peakBytes, lowBytes, highBytes } = estimate;
  let bounds: Bounds = { low: lowBytes, high: highBytes, source: 'rule', runs: 0 };
  const { calibration, record } = known ?? { calibration: null, record: null };
  if (calibration) bounds = calibratedBounds(estimate, calibration);
  if (record) {
    const low = peakBytes * record.low;
    const high = peakBytes * record.high;
    if (!calibration && record.runs >= enoughRuns && estimate.unknown.length === 0) {
      bounds = { low, high, source: 'record', runs: record.runs };
    } else if (low < bounds.low || high > bounds.high) {
      const wider = { low: Math.min(low, bounds.low), high: Math.max(high, bounds.high) };
      bounds = { ...wider, source: 'record', runs: record.runs };
    }
  }
  const low = Math.max(0, Math.round(Math.min(peakBytes, bounds.low)));
  const high = Math.round(Math.max(peakBytes, bounds.high));
  const farther = peakBytes > 0 ? Math.max(peakBytes - low, high - peakBytes) / peakBytes : 0;
  const percent = Math.round(farther * 1000) / 10;
  return {
    ...estimate,
    lowBytes: low,
    highBytes: high,
    interval: { source: bounds.source, percent, runs: bounds.runs },
  };
}

/** The rule's own doubts about a model (integer kernels, sizes not known) widen what the probes allow. */
function calibratedBounds(estimate: Estimate, calibration: NonNullable<KnownError['calibration']>): Bounds {
  const { peakBytes, lowBytes, highBytes } = estimate;
  const expected = Math.max(0, peakBytes + calibration.offsetBytes);
  const doubt = (own: number, probes: number): number => (probes > 0 ? Math.max(1, own / probes) : 1);
  const below = doubt(1 - lowBytes / Math.max(1, peakBytes), 1 - calibration.rule.low);
  const above = doubt(highBytes / Math.max(1, peakBytes) - 1, calibration.rule.high - 1);
  return {
    low: expected * (1 - (1 - calibration.low) * below),
    high: expected * (1 + (calibration.high - 1) * above),
    source: 'calibration',
    runs: calibration.runs,
  };
}
