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

/** What advice there is: one for each band, and one for harmless damage on the samples the result was fitted to. */
export type Advice = DamageBand | 'fitted';

/**
 * The advice that holds: that random inputs did no harm says nothing of real ones, and that the samples a result was
 * fitted to did none says little of others.
 */
export function adviceOf({
  source,
  fitted,
  damage,
}: {
  source: 'samples' | 'random';
  fitted?: boolean;
  damage: { band: DamageBand };
}): Advice {
  const harmless = damage.band === 'none' || damage.band === 'negligible' || damage.band === 'small';
  if (!harmless) return damage.band;
  if (source === 'random') return 'unknown';
  return fitted === true ? 'fitted' : damage.band;
}

/** Bands of the measures of a whole report, row by row: none for all where all that is left is rounding of float32. */
export function measureBands({
  damage,
  top1Agreement,
  klNats,
  sqnrDb,
}: {
  damage: { band: DamageBand };
  top1Agreement: number | null;
  klNats: number | null;
  sqnrDb: number;
}): { top1: DamageBand | null; kl: DamageBand | null; sqnr: DamageBand } {
  const none = damage.band === 'none';
  return {
    top1: top1Agreement === null ? null : none ? 'none' : bandOfAgreement(top1Agreement),
    kl: klNats === null ? null : none ? 'none' : bandOfKl(klNats),
    sqnr: bandOfSqnr(sqnrDb),
  };
}

/** What to do, in English sentences. */
export const damageAdvice: Record<Advice, string> = {
  none: 'Use it as you used the original.',
  negligible: 'Use it as you used the original: answers that changed were close calls before.',
  small: 'Good for most uses. Where every answer counts, try it on your own cases first.',
  moderate:
    'Try it on your own cases before you rely on it. A larger budget, wider formats in the worst layers or training win answers back.',
  large: 'Choose a larger budget, wider formats or less pruning, or train it. As it is, its answers are rough.',
  severe: 'Do not rely on it: choose a larger budget, wider formats or less pruning, or train it.',
  unknown: 'Give it samples to learn what it costs on real inputs.',
  fitted: 'Try it on other inputs before you rely on it, or give it more samples, at least 50: some are kept out then.',
};
