import { bandRank } from '../quality/metrics.js';
import type { Attempt } from './attempt.js';

/** How much longer pruning takes when the loss of every class is measured first (2 to 6 times on the sample models). */
const measuringTakes = 5;

/** Longer than this, widths stay uniform; sooner where the answers are close already. */
const mostSeconds = { harmless: 20, harmful: 120 };

/** Output signal-to-noise in dB above which there is nothing left to win. */
const closeEnoughDb = 30;

/** How a candidate with widths from measured losses is named. */
export const measuredWidths = 'widths by measured loss';

/**
 * Whether to cut each class where it costs least, now that all were cut by the same share: worth it where the answers
 * suffered and time allows.
 */
export function adviseMeasuring({
  plan,
  quality,
  pruneSeconds,
}: Attempt): 'worthwhile' | 'needless' | { tooLong: string } {
  if (plan.pruneRatio === 0 || plan.pruneMethod !== 'repair') return 'needless';
  if (plan.classes.filter(({ before, after }) => after < before).length < 2) return 'needless';
  const harmful = bandRank(quality?.damage.band ?? 'none') > bandRank('negligible');
  if (!harmful && (quality?.sqnrDb ?? Infinity) >= closeEnoughDb) return 'needless';
  const seconds = pruneSeconds * measuringTakes;
  if (seconds <= (harmful ? mostSeconds.harmful : mostSeconds.harmless)) return 'worthwhile';
  if (!harmful) return 'needless';
  const minutes = Math.ceil(seconds / 60);
  return {
    tooLong: `Every group was cut by the same share: measuring which ones cost least would take about ${minutes} minutes.`,
  };
}
