/**
 * Scale (and zero point) search for one block of weights, w ≈ (code − zeroPoint) · scale.
 *
 * For fixed codes p = code − zeroPoint the best scale is the least-squares one, s = Σwp / Σp², and it leaves the
 * squared error Σw² − (Σwp)² / Σp². So a candidate scale is judged in one pass by (Σwp)² / Σp², and never used as
 * it is: the least-squares scale of its codes replaces it. Candidates are a grid over the clipping ratio, with
 * both signs of the scale (the code range −8…7 is not symmetric) or with neighbouring zero points.
 */

/** Adding and subtracting 1.5 · 2⁵² rounds a double to the nearest integer, ties to even, much faster than Math.round. */
const roundingMagic = 6755399441055744;

/** Clipping ratios per number of bits: what is left of the range after cutting off the largest weights. */
const clipRatios: Record<4 | 8, { symmetric: readonly number[]; asymmetric: readonly number[] }> = {
  4: { symmetric: [1, 0.93, 0.86, 0.79], asymmetric: [1, 0.93, 0.86, 0.79] },
  8: { symmetric: [1, 0.98], asymmetric: [1] },
};

export type CodeBits = 4 | 8;

/** Reusable search state: `run` leaves scale, zero point and codes here, without allocating. */
export class BlockSearch {
  scale = 0;
  zeroPoint: number;
  /** Unsigned codes of the last block, 0 … 2^bits − 1. */
  readonly codes: Uint8Array;
  private readonly largest: number;
  private gain = 0;

  constructor(
    readonly bits: CodeBits,
    readonly blockSize: number,
    /** With zero points the range may be off-centre; without, the zero point is 2^(bits−1). */
    readonly asymmetric: boolean,
  ) {
    this.largest = 2 ** bits - 1;
    this.zeroPoint = 2 ** (bits - 1);
    this.codes = new Uint8Array(blockSize);
  }

  /**
   * Finds codes, scale and zero point of `values[start … start + count)`, `count <= blockSize`. Codes past `count` are
   * the zero point. `importance`, one factor ≥ 0 for each value, weights the squared error (mean square of the input
   * channel the weight multiplies). The scale is rounded to float32.
   */
  run(values: Float32Array, start: number, count: number, importance: Float32Array | null, importanceStart = 0): void {
    let low = 0;
    let high = 0;
    for (let i = start; i < start + count; i++) {
      const value = values[i]!;
      if (value < low) low = value;
      else if (value > high) high = value;
    }
    const middle = 2 ** (this.bits - 1);
    this.scale = 0;
    this.zeroPoint = middle;
    this.gain = 0;
    if (low === high) {
      this.codes.fill(middle);
      return;
    }
    const ratios = clipRatios[this.bits];
    const signed = -low > high ? low : high;
    for (const ratio of ratios.symmetric) {
      // The value of largest magnitude sits at code 0 (p = −middle), or, with the other sign, at p = middle − 1.
      this.consider(values, start, count, importance, importanceStart, (-signed * ratio) / middle, middle);
      this.consider(values, start, count, importance, importanceStart, (signed * ratio) / (middle - 1), middle);
    }
    if (this.asymmetric) {
      for (const ratio of ratios.asymmetric) {
        const scale = ((high - low) * ratio) / this.largest;
        const zero = (-low * ratio) / scale;
        const near = Math.round(zero) + 0; // + 0: no negative zero.
        for (const zeroPoint of zero > near ? [near, near + 1] : [near, near - 1]) {
          if (zeroPoint >= 0 && zeroPoint <= this.largest) {
            this.consider(values, start, count, importance, importanceStart, scale, zeroPoint);
          }
        }
      }
    }
    // The least-squares scale moves some codes; following them never loses.
    for (let round = 0; round < 2; round++) {
      const before = this.gain;
      this.consider(values, start, count, importance, importanceStart, this.scale, this.zeroPoint);
      if (this.gain <= before) break;
    }
    this.scale = Math.fround(this.scale);
    this.encode(values, start, count);
  }

  /** Takes the candidate's least-squares scale when it explains more of the block than the best so far. */
  private consider(
    values: Float32Array,
    start: number,
    count: number,
    importance: Float32Array | null,
    importanceStart: number,
    scale: number,
    zeroPoint: number,
  ): void {
    const inverse = 1 / scale;
    const lowest = -zeroPoint;
    const highest = this.largest - zeroPoint;
    let cross = 0;
    let square = 0;
    if (importance === null) {
      for (let i = start; i < start + count; i++) {
        const value = values[i]!;
        let p = value * inverse + roundingMagic - roundingMagic;
        p = p < lowest ? lowest : p > highest ? highest : p;
        cross += value * p;
        square += p * p;
      }
    } else {
      for (let i = 0; i < count; i++) {
        const value = values[start + i]!;
        const weight = importance[importanceStart + i]!;
        let p = value * inverse + roundingMagic - roundingMagic;
        p = p < lowest ? lowest : p > highest ? highest : p;
        cross += weight * value * p;
        square += weight * p * p;
      }
    }
    if (square === 0) return;
    const gain = (cross * cross) / square;
    if (gain > this.gain) {
      this.gain = gain;
      this.scale = cross / square;
      this.zeroPoint = zeroPoint;
    }
  }

  private encode(values: Float32Array, start: number, count: number): void {
    const { codes, zeroPoint, scale, largest } = this;
    if (scale === 0) {
      codes.fill(zeroPoint);
      return;
    }
    const inverse = 1 / scale;
    for (let i = 0; i < count; i++) {
      const code = values[start + i]! * inverse + roundingMagic - roundingMagic + zeroPoint;
      codes[i] = code < 0 ? 0 : code > largest ? largest : code;
    }
    codes.fill(zeroPoint, count);
  }
}
