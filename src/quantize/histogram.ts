const bins = 4096;
const middle = bins / 2;

/**
 * What an activation looks like over a calibration run, in constant memory: exact extremes, and a histogram over
 * [−reach, reach) whose reach doubles (bins merged in pairs) when a larger value comes. Each value has a weight: by
 * how much its error matters in what it feeds. Zeros are left out: every 8-bit code has an exact zero.
 */
export class ActivationHistogram {
  low = Infinity;
  high = -Infinity;
  /** Half the width of the histogram. */
  reach = 0;
  /** How many values fell into each bin. */
  counts = new Float64Array(bins);
  /** Their weights together. */
  weights = new Float64Array(bins);

  /** Value in the middle of a bin. */
  middleOf(bin: number): number {
    return ((bin - middle + 0.5) * this.reach) / middle;
  }

  /**
   * Adds values; those that are not finite are left out.
   * @param at how a value counts: `at(i)` is called for each value that is added.
   * @param each how many values of the activation one stands for.
   */
  add(values: ArrayLike<number>, each = 1, at: ((index: number) => number) | null = null): void {
    let { low, high } = this;
    for (let i = 0; i < values.length; i++) {
      const value = values[i]!;
      if (value < low && value !== -Infinity) low = value;
      if (value > high && value !== Infinity) high = value;
    }
    if (!(low <= high)) return;
    this.low = low;
    this.high = high;
    this.widen(Math.max(Math.abs(low), Math.abs(high)));
    const factor = this.reach === 0 ? 0 : middle / this.reach;
    const { counts, weights } = this;
    for (let i = 0; i < values.length; i++) {
      const value = values[i]!;
      if (value === 0 || !Number.isFinite(value)) continue;
      const bin = Math.min(bins - 1, Math.floor(value * factor) + middle);
      counts[bin]! += each;
      weights[bin]! += at === null ? each : each * at(i);
    }
  }

  private widen(largest: number): void {
    if (largest <= this.reach || largest === 0) return;
    // A power of two, so that doubling always meets the bins.
    if (this.reach === 0) this.reach = 2 ** Math.ceil(Math.log2(largest));
    while (this.reach < largest) {
      this.counts = merged(this.counts);
      this.weights = merged(this.weights);
      this.reach *= 2;
    }
  }
}

function merged(values: Float64Array): Float64Array<ArrayBuffer> {
  const result = new Float64Array(bins);
  for (let bin = 0; bin < bins; bin++) result[bins / 4 + (bin >> 1)]! += values[bin]!;
  return result;
}
