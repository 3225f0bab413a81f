import type { ActivationRange } from './ranges.js';

const bins = 2048;

/**
 * What an activation looks like over a calibration run, in constant memory: exact extremes, and a histogram
 * over [−reach, reach) whose reach doubles (bins merged in pairs) when a larger value comes.
 */
export class ActivationHistogram {
  low = Infinity;
  high = -Infinity;
  private reach = 0;
  private counts = new Float64Array(bins);

  /** Adds values; those that are not finite are left out. */
  add(values: Float32Array): void {
    let low = this.low;
    let high = this.high;
    for (const value of values) {
      if (value < low && value !== -Infinity) low = value;
      if (value > high && value !== Infinity) high = value;
    }
    if (!(low <= high)) return;
    this.low = low;
    this.high = high;
    this.widen(Math.max(Math.abs(low), Math.abs(high)));
    if (this.reach === 0) {
      this.counts[bins / 2]! += values.length;
      return;
    }
    const factor = bins / 2 / this.reach;
    for (const value of values) {
      const bin = Math.floor(value * factor) + bins / 2;
      if (bin >= 0 && bin < bins) this.counts[bin]!++;
      else if (bin === bins) this.counts[bins - 1]!++;
    }
  }

  /**
   * The range whose uint8 codes leave the least expected squared error: the extremes scaled by one of 25 ratios,
   * rounding error step² / 12 for what is inside, the distance to the edge for what is clipped.
   */
  bestRange(): ActivationRange | null {
    if (!(this.low <= this.high)) return null;
    let best: ActivationRange = { low: this.low, high: this.high };
    let least = Infinity;
    for (let step = 0; step <= 24; step++) {
      const ratio = 1 - step * 0.03;
      const range = { low: Math.min(0, this.low) * ratio, high: Math.max(0, this.high) * ratio };
      const error = this.expectedError(range);
      if (error < least) {
        least = error;
        best = range;
      }
    }
    return best;
  }

  private expectedError({ low, high }: ActivationRange): number {
    const rounding = ((high - low) / 255) ** 2 / 12;
    const width = this.reach / (bins / 2);
    let error = 0;
    for (let bin = 0; bin < bins; bin++) {
      const count = this.counts[bin]!;
      if (count === 0) continue;
      const middle = (bin - bins / 2 + 0.5) * width;
      if (middle < low) error += count * (low - middle) ** 2;
      else if (middle > high) error += count * (middle - high) ** 2;
      else error += count * rounding;
    }
    return error;
  }

  private widen(largest: number): void {
    if (largest <= this.reach || largest === 0) return;
    if (this.reach === 0) {
      // Zeros seen so far stay in the middle bin. A power of two, so that doubling always meets the bins.
      this.reach = 2 ** Math.ceil(Math.log2(largest));
    }
    while (this.reach < largest) {
      const merged = new Float64Array(bins);
      for (let bin = 0; bin < bins; bin++) merged[bins / 4 + (bin >> 1)]! += this.counts[bin]!;
      this.counts = merged;
      this.reach *= 2;
    }
  }
}
