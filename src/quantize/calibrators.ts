import type { ActivationHistogram } from './histogram.js';
import type { ActivationRange } from './ranges.js';

/** How the range of an activation is chosen from what calibration saw; `best` takes the one of least error. */
export type Calibrator = 'min-max' | 'percentile' | 'entropy' | 'mse' | 'best';

/** Steps of a uint8 code. */
const levels = 255;

/**
 * A clipped value is off to the same side each time and may take others of its channel along, rounding errors cancel:
 * clipping counts double.
 */
const clippingWeight = 2;

/** The range of an activation, zero included; null when no finite value was seen. */
export function calibratedRange(
  histogram: ActivationHistogram,
  calibrator: Calibrator = 'best',
): ActivationRange | null {
  if (!(histogram.low <= histogram.high)) return null;
  const widest = { low: Math.min(0, histogram.low), high: Math.max(0, histogram.high) };
  const error = errorOf(histogram);
  switch (calibrator) {
    case 'min-max':
      return widest;
    case 'percentile':
      return percentileRange(histogram, widest, 0.99999);
    case 'entropy':
      return entropyRange(histogram, widest);
    case 'mse':
      return leastSquaresRange(widest, widest, error);
    case 'best': {
      const starts = [
        widest,
        percentileRange(histogram, widest, 0.99999),
        percentileRange(histogram, widest, 0.999),
        entropyRange(histogram, widest),
      ];
      const found = [...starts, ...starts.map((start) => leastSquaresRange(start, widest, error))];
      return found.reduce((best, range) => (error(range) < error(best) ? range : best));
    }
  }
}

/**
 * Expected weighted squared error of a range's uint8 codes: step² / 12 for what is inside, the squared distance to
 * the edge for what is clipped. In the units of the histogram's weights.
 */
export function expectedError(histogram: ActivationHistogram, range: ActivationRange): number {
  return errorOf(histogram)(range);
}

/** The error as a function of the range, from running sums, so that one range costs a few bins' work. */
function errorOf(histogram: ActivationHistogram): (range: ActivationRange) => number {
  const { weights, reach } = histogram;
  const bins = weights.length;
  const sums = [new Float64Array(bins + 1), new Float64Array(bins + 1), new Float64Array(bins + 1)] as const;
  for (let bin = 0; bin < bins; bin++) {
    const value = histogram.middleOf(bin);
    sums[0][bin + 1] = sums[0][bin]! + weights[bin]!;
    sums[1][bin + 1] = sums[1][bin]! + weights[bin]! * value;
    sums[2][bin + 1] = sums[2][bin]! + weights[bin]! * value * value;
  }
  /** Σ w (v − edge)² over bins [from, to). */
  const distance = (from: number, to: number, edge: number): number => {
    const [w, wv, wvv] = sums.map((sum) => sum[to]! - sum[from]!) as [number, number, number];
    return Math.max(0, wvv - 2 * edge * wv + edge * edge * w);
  };
  const binOf = (value: number): number => {
    if (reach === 0) return bins / 2;
    return Math.max(0, Math.min(bins, Math.round((value / reach) * (bins / 2)) + bins / 2));
  };
  return ({ low, high }) => {
    const [first, last] = [binOf(low), binOf(high)];
    const inside = (sums[0][last]! - sums[0][first]!) * (((high - low) / levels) ** 2 / 12);
    return inside + clippingWeight * (distance(0, first, low) + distance(last, bins, high));
  };
}

/** Both ends moved in turn over 40 shares of where they are, until the error falls no more. */
function leastSquaresRange(
  start: ActivationRange,
  widest: ActivationRange,
  error: (range: ActivationRange) => number,
): ActivationRange {
  let best = { ...start };
  let least = error(best);
  for (let round = 0; round < 4; round++) {
    const before = least;
    for (const end of ['high', 'low'] as const) {
      const limit = widest[end];
      for (let step = 1; step <= 40; step++) {
        const range = { ...best, [end]: limit * (step / 40) };
        const found = error(range);
        if (found < least) [best, least] = [range, found];
      }
    }
    if (!(least < before * 0.999)) break;
  }
  return best;
}

/** Cuts the same share off both tails, zeros not counted. */
function percentileRange(histogram: ActivationHistogram, widest: ActivationRange, share: number): ActivationRange {
  const { counts, reach } = histogram;
  const total = counts.reduce((sum, count) => sum + count, 0);
  const cut = (total * (1 - share)) / 2;
  const width = (2 * reach) / counts.length;
  let [first, last] = [0, counts.length - 1];
  for (let sum = counts[0]!; first < counts.length - 1 && sum <= cut; sum += counts[first]!) first++;
  for (let sum = counts[last]!; last > 0 && sum <= cut; sum += counts[last]!) last--;
  return {
    low: Math.min(0, Math.max(widest.low, -reach + first * width)),
    high: Math.max(0, Math.min(widest.high, -reach + (last + 1) * width)),
  };
}

/**
 * Least Kullback-Leibler divergence between what was seen and what the codes of a magnitude leave of it (Migacz,
 * "8-bit inference with TensorRT", 2017), on the histogram of magnitudes; the ends are cut to that magnitude. The
 * codes are those of the longer side: 128 of 255 when the range is symmetric, all when it has one side.
 */
function entropyRange(histogram: ActivationHistogram, widest: ActivationRange): ActivationRange {
  const half = histogram.counts.length / 2;
  const magnitudes = Float64Array.from(
    { length: half },
    (_, i) => histogram.counts[half + i]! + histogram.counts[half - 1 - i]!,
  );
  const longer = Math.max(-widest.low, widest.high);
  const codes = Math.round((levels * longer) / Math.max(widest.high - widest.low, 1e-30));
  let used = half;
  while (used > 1 && magnitudes[used - 1] === 0) used--;
  let tail = 0;
  let best = used;
  let least = Infinity;
  for (let kept = used; kept >= codes; kept--) {
    if (kept < used) tail += magnitudes[kept]!;
    // Every size near the end, then ever coarser: the divergence changes slowly.
    if (kept % Math.max(1, Math.floor(kept / 64)) !== 0) continue;
    const divergence = codeDivergence(magnitudes, kept, tail, codes);
    if (divergence < least) [best, least] = [kept, divergence];
  }
  const edge = (best / half) * histogram.reach;
  return { low: Math.max(widest.low, -edge), high: Math.min(widest.high, edge) };
}

function codeDivergence(magnitudes: Float64Array, kept: number, tail: number, codes: number): number {
  const total = tail + magnitudes.subarray(0, kept).reduce((sum, count) => sum + count, 0);
  const within = total - tail;
  if (within <= 0) return Infinity;
  let divergence = 0;
  for (let code = 0; code < codes; code++) {
    const [from, to] = [code, code + 1].map((edge) => Math.floor((edge * kept) / codes)) as [number, number];
    let mass = 0;
    let filled = 0;
    for (let bin = from; bin < to; bin++) {
      mass += magnitudes[bin]!;
      if (magnitudes[bin]! > 0) filled++;
    }
    const shared = mass / Math.max(1, filled) / within;
    for (let bin = from; bin < to; bin++) {
      const seen = (magnitudes[bin]! + (bin === kept - 1 ? tail : 0)) / total;
      if (seen > 0) divergence += seen * Math.log(seen / Math.max(shared, 1e-12));
    }
  }
  return divergence;
}
