import { bandOfAgreement, bandOfKl, bandOfSqnr } from '../contract/damage-bands.js';
import type { Damage, DamageBand } from '../contract/types.js';

/** Running sums for SQNR and cosine over any number of equally long vectors. */
export interface SignalSums {
  signal: number;
  noise: number;
  dot: number;
  resultEnergy: number;
  count: number;
}

export function emptySignalSums(): SignalSums {
  return { signal: 0, noise: 0, dot: 0, resultEnergy: 0, count: 0 };
}

/** Adds one pair of vectors (same length). Non-finite results count as all noise. */
export function addSignal(sums: SignalSums, reference: ArrayLike<number>, result: ArrayLike<number>): void {
  for (let i = 0; i < reference.length; i++) {
    const a = reference[i];
    const b = result[i];
    if (!Number.isFinite(a)) continue;
    sums.signal += a * a;
    sums.count++;
    if (!Number.isFinite(b)) {
      sums.noise += a * a + 1;
      continue;
    }
    sums.noise += (a - b) * (a - b);
    sums.dot += a * b;
    sums.resultEnergy += b * b;
  }
}

/** Signal-to-quantization-noise ratio, `10·log10(‖y‖² / ‖y − ŷ‖²)` in dB; capped at 200 for equal vectors. */
export function sqnrDb(sums: SignalSums): number {
  if (sums.noise <= 0) return 200;
  if (sums.signal <= 0) return 0;
  return Math.min(200, 10 * Math.log10(sums.signal / sums.noise));
}

/** Cosine similarity of the accumulated vectors, in [−1, 1]; 1 when both are zero. */
export function cosine(sums: SignalSums): number {
  const norm = Math.sqrt(sums.signal * sums.resultEnergy);
  if (norm === 0) return sums.signal === sums.resultEnergy ? 1 : 0;
  return sums.dot / norm;
}

/** Place of the largest number of a row; −1 when the row holds NaN, which is no answer. */
export function argMax(values: ArrayLike<number>, offset: number, length: number): number {
  let best = 0;
  for (let i = 0; i < length; i++) {
    if (Number.isNaN(values[offset + i])) return -1;
    if (values[offset + i] > values[offset + best]) best = i;
  }
  return best;
}

/**
 * The most that one row counts, in nats: what has no finite divergence (NaN for an answer) counts as this much, so that
 * means stay numbers, which JSON can hold, and so does e to their power.
 */
export const mostNats = 700;

const boundedNats = (value: number): number => (value <= mostNats ? Math.max(0, value) : mostNats);

/**
 * Kullback–Leibler divergence KL(softmax(p) ‖ softmax(q)) in nats between two rows of logits (or of
 * log-probabilities, which softmax leaves as they are), computed with the log-sum-exp shift; at most {@link mostNats}.
 */
export function klFromLogits(p: ArrayLike<number>, q: ArrayLike<number>, offset: number, length: number): number {
  let maxP = -Infinity;
  let maxQ = -Infinity;
  for (let i = 0; i < length; i++) {
    if (p[offset + i] > maxP) maxP = p[offset + i];
    if (q[offset + i] > maxQ) maxQ = q[offset + i];
  }
  let sumP = 0;
  let sumQ = 0;
  for (let i = 0; i < length; i++) {
    sumP += Math.exp(p[offset + i] - maxP);
    sumQ += Math.exp(q[offset + i] - maxQ);
  }
  const logP = Math.log(sumP) + maxP;
  const logQ = Math.log(sumQ) + maxQ;
  let divergence = 0;
  for (let i = 0; i < length; i++) {
    const lp = p[offset + i] - logP;
    const lq = q[offset + i] - logQ;
    divergence += Math.exp(lp) * (lp - lq);
  }
  return boundedNats(divergence);
}

/** Negative log-likelihood of one class under a row of logits, in nats; at most {@link mostNats}. */
export function nats(logits: ArrayLike<number>, offset: number, length: number, index: number): number {
  let most = -Infinity;
  for (let i = 0; i < length; i++) if (logits[offset + i] > most) most = logits[offset + i];
  let sum = 0;
  for (let i = 0; i < length; i++) sum += Math.exp(logits[offset + i] - most);
  return boundedNats(Math.log(sum) + most - logits[offset + index]);
}

/** As {@link klFromLogits} for rows that are probabilities already. */
export function klFromProbabilities(
  p: ArrayLike<number>,
  q: ArrayLike<number>,
  offset: number,
  length: number,
): number {
  let divergence = 0;
  for (let i = 0; i < length; i++) {
    const a = p[offset + i];
    if (a > 0) divergence += a * Math.log(a / Math.max(q[offset + i], 1e-12));
  }
  return boundedNats(divergence);
}

const order: DamageBand[] = ['none', 'negligible', 'small', 'moderate', 'large', 'severe'];

/** Position of a band from harmless to severe; `unknown` counts as severe so that it is never preferred. */
export function bandRank(band: DamageBand): number {
  const rank = order.indexOf(band);
  return rank < 0 ? order.length : rank;
}

/** Band for an expected or measured SQNR alone. */
export function damageFromSqnr(sqnr: number | null): Damage {
  return { band: sqnr === null ? 'none' : bandOfSqnr(sqnr), sqnrDb: sqnr };
}

/** Band of a finished comparison: the worse of KL and answer changes where they exist, else SQNR. */
export function damageFromComparison(sqnr: number, klNats: number | null, top1: number | null): Damage {
  if (klNats === null && top1 === null) return damageFromSqnr(sqnr);
  const bands: DamageBand[] = [];
  if (klNats !== null) bands.push(bandOfKl(klNats));
  if (top1 !== null) bands.push(bandOfAgreement(top1));
  if (sqnr >= 120) return { band: 'none', sqnrDb: sqnr };
  const band = bands.reduce((a, b) => (bandRank(a) >= bandRank(b) ? a : b));
  return { band, sqnrDb: sqnr };
}
