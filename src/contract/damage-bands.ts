import type { DamageBand } from './plan.js';

/** Bands that people can act on: what bounds them, and what to do in each. */

export interface BandLimit {
  band: DamageBand;
  limit: number;
}

/** Upper bounds of mean KL (nats) per band; the anchors are the widely used llama.cpp scoreboard bands. */
export const klBands: readonly BandLimit[] = [
  { limit: 0.01, band: 'negligible' },
  { limit: 0.05, band: 'small' },
  { limit: 0.15, band: 'moderate' },
  { limit: 0.5, band: 'large' },
];

/** Lower bounds of output SQNR in dB per band, for outputs that are no distribution. */
export const sqnrBands: readonly BandLimit[] = [
  { limit: 30, band: 'negligible' },
  { limit: 20, band: 'small' },
  { limit: 14, band: 'moderate' },
  { limit: 8, band: 'large' },
];

/** Upper bounds of the share of answers that changed. */
export const disagreementBands: readonly BandLimit[] = [
  { limit: 0.02, band: 'negligible' },
  { limit: 0.05, band: 'small' },
  { limit: 0.12, band: 'moderate' },
  { limit: 0.3, band: 'large' },
];

/** Band of a mean KL divergence in nats. */
export function bandOfKl(nats: number): DamageBand {
  return klBands.find(({ limit }) => nats < limit)?.band ?? 'severe';
}

/** Band of an SQNR in dB; from 120 dB on nothing but rounding of float32 is left. */
export function bandOfSqnr(db: number): DamageBand {
  if (db >= 120) return 'none';
  return sqnrBands.find(({ limit }) => db >= limit)?.band ?? 'severe';
}

/** Band of the share of answers that stayed the same. */
export function bandOfAgreement(share: number): DamageBand {
  return disagreementBands.find(({ limit }) => 1 - share < limit)?.band ?? 'severe';
}

/** The band whose advice holds: that random inputs did no harm says nothing of real ones. */
export function adviceBand({
  source,
  damage,
}: {
  source: 'samples' | 'random';
  damage: { band: DamageBand };
}): DamageBand {
  const harmless = damage.band === 'none' || damage.band === 'negligible' || damage.band === 'small';
  return source === 'random' && harmless ? 'unknown' : damage.band;
}

/** What to do about a band, in English sentences. */
export const damageAdvice: Record<DamageBand, string> = {
  none: 'Use it as you used the original.',
  negligible: 'Use it as you used the original: answers that changed were close calls before.',
  small: 'Good for most uses. Where every answer counts, try it on your own cases first.',
  moderate:
    'Try it on your own cases before you rely on it. A larger budget, wider formats in the worst layers or training win answers back.',
  large: 'Choose a larger budget, wider formats or less pruning, or train it. As it is, its answers are rough.',
  severe: 'Do not rely on it: choose a larger budget, wider formats or less pruning, or train it.',
  unknown: 'Give it samples to learn what it costs on real inputs.',
};
