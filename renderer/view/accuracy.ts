import type { AccuracyRun, Estimate, PhaseEstimate, TensorLifetime } from '../../src/contract/types.js';
import type { Messages } from '../i18n/locale.svelte.js';
import { partNames, partsOf, type PartName } from './bar.js';

/** How far the estimate can be off, and what says so. */
export function intervalSentence(estimate: Estimate, t: Messages): string {
  const { source, percent, runs } = estimate.interval ?? { source: 'rule' as const, percent: 0, runs: 0 };
  return t.accuracy.interval[source](estimate.lowBytes, estimate.highBytes, percent, runs);
}

/** How far a prediction was off, percent: above zero when Snug expected too much. */
export function signedErrorPercent({
  predictedBytes,
  measuredBytes,
}: Pick<AccuracyRun, 'predictedBytes' | 'measuredBytes'>): number {
  return (predictedBytes / measuredBytes - 1) * 100;
}

export type Phase = 'load' | 'cold' | 'warm';
export const phaseNames: readonly Phase[] = ['load', 'cold', 'warm'];

/** The phase whose peak is the one that counts. */
export function largestPhase(estimate: Estimate): Phase {
  return phaseNames.reduce((best, name) => (estimate[name].peakBytes > estimate[best].peakBytes ? name : best), 'warm');
}

function partBytes({ parts }: PhaseEstimate, name: PartName): number {
  return partsOf(parts).find((part) => part.name === name)?.bytes ?? 0;
}

/** Parts that any phase has, with their bytes in each of the three. */
export function phaseRows(estimate: Estimate): { part: PartName; bytes: Record<Phase, number> }[] {
  return partNames
    .map((part) => ({
      part,
      bytes: {
        load: partBytes(estimate.load, part),
        cold: partBytes(estimate.cold, part),
        warm: partBytes(estimate.warm, part),
      },
    }))
    .filter(({ bytes }) => phaseNames.some((phase) => bytes[phase] !== 0));
}

/** Index of the highest point of the timeline. */
export function peakIndex(timeline: Estimate['timeline']): number {
  return timeline.reduce(
    (best, point, index) => (point.liveBytes > (timeline[best]?.liveBytes ?? 0) ? index : best),
    0,
  );
}

/** What lies under one point of the timeline: weights, the largest values, and all others as one sum. */
export function liveAt(
  estimate: Estimate,
  index: number,
  most: number,
): { weightsBytes: number; values: TensorLifetime[]; otherBytes: number } {
  const liveBytes = estimate.timeline[index]?.liveBytes ?? 0;
  const values = (estimate.lifetimes ?? [])
    .filter((each) => each.from <= index && index <= each.to)
    .toSorted((a, b) => b.bytes - a.bytes)
    .slice(0, most);
  const named = values.reduce((sum, each) => sum + each.bytes, 0);
  const weightsBytes = Math.min(estimate.warm.parts.weightsBytes, Math.max(0, liveBytes - named));
  return { weightsBytes, values, otherBytes: Math.max(0, liveBytes - named - weightsBytes) };
}
