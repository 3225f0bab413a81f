import type { ChannelStatistics } from './ranges.js';
import type { Scalable } from './scalable.js';
import { inputPower, type WeightRows } from './weight-rows.js';

/** Shares of the difficulty that move from the activation to the weights. */
const exponents = [0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 1];

/** Scales are folded only when the expected squared error falls at least to this share. */
const worthwhile = 0.85;

/** How far beyond its largest value on samples a channel may reach before a Clip would cut it. */
const clipMargin = 1.1;

/**
 * What each channel of an activation is divided by (and its weights multiplied by) so that 8 bits lose less: between
 * equal channels of the activation and equal inputs of the weights, by the exponent of least expected squared error
 * at the outputs. For a LayerNormalization in front of MatMul this is SmoothQuant (Xiao et al. 2023), for
 * Conv → Relu → Conv cross-layer equalization (Nagel et al. 2019). Null when nothing much would be won.
 */
export function chooseScales(
  scalable: Pick<Scalable, 'clip'>,
  statistics: ChannelStatistics,
  weights: readonly WeightRows[],
): Float64Array | null {
  const channels = statistics.low.length;
  const power = weights.map(inputPower).reduce((sum, each) => sum.map((value, i) => value + each[i]!));
  const identity = new Float64Array(channels).fill(1);
  const before = expectedSquares(statistics, weights, power, identity);
  const reach = statistics.high.map((high, c) => Math.max(Math.abs(high), Math.abs(statistics.low[c]!)));
  const largest = largestInputs(weights, channels);
  let best: Float64Array | null = null;
  let least = before * worthwhile;
  for (const exponent of exponents) {
    const raw = reach.map((value, c) => value ** exponent / Math.max(largest[c]!, 1e-30) ** (1 - exponent));
    const scales = normalized(raw, reach, largest);
    if (scalable.clip !== null) keepUnclipped(scales, statistics, scalable.clip);
    const error = expectedSquares(statistics, weights, power, scales);
    if (error < least) [best, least] = [scales, error];
  }
  return best;
}

function largestInputs(weights: readonly WeightRows[], channels: number): Float64Array {
  const largest = new Float64Array(channels);
  for (const { rows, kernel, firstChannel } of weights) {
    rows.forEach((row, r) => {
      const first = firstChannel(r);
      for (let i = 0; i < row.length; i++) {
        const channel = first + (kernel === 1 ? i : Math.floor(i / kernel));
        largest[channel] = Math.max(largest[channel]!, Math.abs(row[i]!));
      }
    });
  }
  return largest;
}

/** Around 1 (geometric mean), within a factor of 1000; channels that are always zero, or never read, stay. */
function normalized(raw: Float64Array, reach: Float64Array, largest: Float64Array): Float64Array {
  const used = [...raw.keys()].filter((c) => reach[c]! > 1e-12 && largest[c]! > 1e-12);
  const mean = Math.exp(used.reduce((sum, c) => sum + Math.log(raw[c]!), 0) / Math.max(1, used.length));
  const scales = new Float64Array(raw.length).fill(1);
  for (const c of used) scales[c] = Math.fround(Math.min(1000, Math.max(0.001, raw[c]! / mean)));
  return scales;
}

/** A channel that reaches the upper bound of a Clip keeps its scale; others must stay below it. */
function keepUnclipped(scales: Float64Array, { high }: ChannelStatistics, clip: number): void {
  // Only the ratio of scales matters, so that all are brought to where the largest may stay as it is.
  const free = [...high.keys()].filter((c) => high[c]! * clipMargin < clip);
  const most = Math.max(...free.map((c) => scales[c]!), 1e-30);
  const allowed = new Set(free);
  for (let c = 0; c < scales.length; c++) {
    const bound = (high[c]! * clipMargin) / clip;
    scales[c] = allowed.has(c) ? Math.fround(Math.min(1, Math.max(scales[c]! / most, bound, 0.001))) : 1;
  }
}

/** Expected squared error at the outputs, for one position: rounding of the activation and of the weights. */
function expectedSquares(
  statistics: ChannelStatistics,
  weights: readonly WeightRows[],
  power: Float64Array,
  scales: Float64Array,
): number {
  let [low, high] = [0, 0];
  let amplified = 0;
  for (let c = 0; c < scales.length; c++) {
    low = Math.min(low, statistics.low[c]! / scales[c]!);
    high = Math.max(high, statistics.high[c]! / scales[c]!);
    amplified += scales[c]! ** 2 * power[c]!;
  }
  let error = (((high - low) / 255) ** 2 / 12) * amplified;
  for (const { rows, kernel, firstChannel, share } of weights) {
    rows.forEach((row, r) => {
      const first = firstChannel(r);
      let largest = 0;
      let energy = 0;
      for (let i = 0; i < row.length; i += kernel) {
        const c = first + i / kernel;
        for (let k = i; k < i + kernel; k++) largest = Math.max(largest, Math.abs(row[k]!) * scales[c]!);
        energy += (kernel * statistics.square[c]!) / scales[c]! ** 2;
      }
      error += ((largest / 127) ** 2 / 12) * energy * share;
    });
  }
  return error;
}
