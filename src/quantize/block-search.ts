import { BlockKernel } from './block-kernel.js';

/**
 * Scale (and zero point) search for one block of weights, w ≈ (code − zeroPoint) · scale.
 *
 * For fixed codes p = code − zeroPoint the scale of least error is the least-squares one, s = Σwp / Σp², and it leaves
 * Σw² − (Σwp)² / Σp². So a candidate scale is judged in one pass by (Σwp)² / Σp², and never used as it is: the
 * least-squares scale of its codes replaces it. Candidates are a grid over the clipping ratio, with both signs of the
 * scale (the code range −8…7 is not symmetric) or with neighbouring zero points.
 *
 * At the end the scale is stretched until the block keeps its length along the values it stands for, Σwŵ = Σw². The
 * least-squares scale leaves a share ε of the power as error and takes as much off the gain; through layers that nothing
 * normalizes these losses all point one way and add up, while what the stretch adds to the error, a factor of
 * 1 / (1 − ε), does not.
 */

/** Adding and subtracting 1.5 · 2⁵² rounds a double to the nearest integer, ties to even, much faster than Math.round. */
const roundingMagic = 6755399441055744;

/**
 * Clipping ratios per number of bits: what is left of the range after cutting off the largest weights. With 40 ratios
 * instead of six, 4 bits gain some 0.02 dB more.
 */
const fourBitRatios = [1, 0.95, 0.9, 0.85, 0.8, 0.75];
const clipRatios: Record<CodeBits, { symmetric: readonly number[]; asymmetric: readonly number[] }> = {
  2: { symmetric: [1, 0.8, 0.64, 0.5, 0.4, 0.3], asymmetric: [1, 0.8, 0.64, 0.5] },
  4: { symmetric: fourBitRatios, asymmetric: fourBitRatios },
  8: { symmetric: [1, 0.98], asymmetric: [1] },
};

export type CodeBits = 2 | 4 | 8;

/** Reusable search state: `run` leaves scale, zero point and codes here, without allocating. */
export class BlockSearch {
  scale = 0;
  zeroPoint: number;
  /** Unsigned codes of the last block, 0 … 2^bits − 1. */
  readonly codes: Uint8Array;
  private readonly largest: number;
  /** The zero point of formats without zero points; powers are slow, and these are asked for in every block. */
  private readonly middle: number;
  private readonly kernel = new BlockKernel();
  /** Of each candidate. */
  private readonly zeroPoints = new Uint8Array(64);

  constructor(
    readonly bits: CodeBits,
    readonly blockSize: number,
    /** With zero points the range may be off-centre; without, the zero point is 2^(bits−1). */
    readonly asymmetric: boolean,
    /** Scales are rounded to float16 (else float32), and the codes follow. */
    readonly halfScales = false,
    /** Scales reach from end to end of each block's values, and codes are the nearest: no search. */
    readonly nearest = false,
  ) {
    this.largest = 2 ** bits - 1;
    this.middle = 2 ** (bits - 1);
    this.zeroPoint = this.middle;
    this.codes = new Uint8Array(blockSize);
  }

  /**
   * Finds codes, scale and zero point of `values[start … start + count)`, `count <= blockSize`. Codes past `count` are
   * the zero point. `importance`, one factor ≥ 0 for each value, weights the squared error (mean square of the input
   * channel the weight multiplies).
   */
  run(values: Float32Array, start: number, count: number, importance: Float32Array | null, importanceStart = 0): void {
    let low = 0;
    let high = 0;
    for (let i = start; i < start + count; i++) {
      const value = values[i]!;
      if (value < low) low = value;
      else if (value > high) high = value;
    }
    this.reach(low, high);
    if (this.nearest || low === high) {
      this.encode(values, start, count, null, 0);
      return;
    }
    const most = Math.max(-low, high);
    const power = this.load(values, start, count, most, importance, importanceStart);
    this.search(low / most, high / most, count, importance !== null);
    this.scale = this.halfScales ? roundToHalf(this.scale * most) : Math.fround(this.scale * most);
    const product = this.encode(values, start, count, importance, importanceStart);
    // Neither where values are too small for their squares to be held.
    if (product === 0 || power === 0) return;
    // Keeps the gain: Σwŵ = Σw².
    this.scale = this.halfScales ? roundToHalf(power / product) : Math.fround(power / product);
  }

  /** Sets the scale (and zero point) whose codes just cover values from `low` ≤ 0 to `high` ≥ 0. */
  reach(low: number, high: number): void {
    const { largest, middle } = this;
    this.scale = 0;
    this.zeroPoint = middle;
    if (low === high) return;
    const scale = this.asymmetric ? (high - low) / largest : -(-low > high ? low : high) / middle;
    this.scale = this.halfScales ? roundToHalf(scale) : Math.fround(scale);
    if (!this.asymmetric || this.scale === 0) return;
    this.zeroPoint = Math.max(0, Math.min(largest, Math.round(-low / this.scale)));
  }

  /** Puts the block into the kernel's memory, largest magnitude and largest factor at 1; returns its power, Σw². */
  private load(
    values: Float32Array,
    start: number,
    count: number,
    most: number,
    importance: Float32Array | null,
    importanceStart: number,
  ): number {
    const { values: shrunk, weights, weighted } = this.kernel;
    const shrink = 1 / most;
    let power = 0;
    for (let i = 0; i < count; i++) {
      const value = values[start + i]!;
      shrunk[i] = value * shrink;
      power += value * value;
    }
    shrunk.fill(0, count, (count + 3) & ~3);
    if (importance === null) return power;
    power = 0;
    let strongest = 0;
    for (let i = 0; i < count; i++) strongest = Math.max(strongest, importance[importanceStart + i]!);
    for (let i = 0; i < count; i++) {
      const weight = strongest === 0 ? 1 : importance[importanceStart + i]! / strongest;
      weights[i] = weight;
      weighted[i] = weight * shrunk[i]!;
      power += importance[importanceStart + i]! * values[start + i]! * values[start + i]!;
    }
    weighted.fill(0, count, (count + 3) & ~3);
    return power;
  }

  /** Leaves the best scale of the block in memory and its zero point; scale 0 when nothing explains anything. */
  private search(low: number, high: number, count: number, weighted: boolean): void {
    const { kernel, zeroPoints, largest, middle } = this;
    const ratios = clipRatios[this.bits];
    const signed = -low > high ? low : high;
    let candidates = 0;
    const add = (scale: number, zeroPoint: number): void => {
      zeroPoints[candidates++] = zeroPoint;
      kernel.add(1 / scale, -zeroPoint, largest - zeroPoint);
    };
    kernel.clear();
    for (const ratio of ratios.symmetric) {
      // The value of largest magnitude sits at code 0 (p = −middle), or, with the other sign, at p = middle − 1.
      add((-signed * ratio) / middle, middle);
      add((signed * ratio) / (middle - 1), middle);
    }
    if (this.asymmetric) {
      for (const ratio of ratios.asymmetric) {
        const scale = ((high - low) * ratio) / largest;
        const zero = (-low * ratio) / scale;
        const near = Math.round(zero) + 0; // + 0: no negative zero.
        for (const zeroPoint of zero > near ? [near, near + 1] : [near, near - 1]) {
          if (zeroPoint >= 0 && zeroPoint <= largest) add(scale, zeroPoint);
        }
      }
    }
    const best = kernel.judge(count, weighted, 0);
    if (best < 0) return;
    this.zeroPoint = zeroPoints[best]!;
    const { gain, scale } = kernel;
    // The least-squares scale moves some codes; following them never loses.
    kernel.clear();
    kernel.add(1 / scale, -this.zeroPoint, largest - this.zeroPoint);
    this.scale = kernel.judge(count, weighted, gain) < 0 ? scale : kernel.scale;
  }

  /** Sets the nearest codes of the scale; returns their product with the values, Σw(code − zeroPoint). */
  private encode(
    values: Float32Array,
    start: number,
    count: number,
    importance: Float32Array | null,
    importanceStart: number,
  ): number {
    const { codes, zeroPoint, scale, largest } = this;
    if (scale === 0) {
      codes.fill(zeroPoint);
      return 0;
    }
    const inverse = 1 / scale;
    let product = 0;
    for (let i = 0; i < count; i++) {
      const value = values[start + i]!;
      const near = value * inverse + roundingMagic - roundingMagic + zeroPoint;
      const code = near < 0 ? 0 : near > largest ? largest : near;
      codes[i] = code;
      product += (importance === null ? value : value * importance[importanceStart + i]!) * (code - zeroPoint);
    }
    codes.fill(zeroPoint, count);
    return product;
  }
}

/** Largest finite float16, and its smallest normal number. */
const [largestHalf, smallestHalf] = [65504, 2 ** -14];
/** Factor that moves a double far enough, and the summand that does for the numbers below. */
const [spreadFactor, subnormalMagic] = [2 ** 42 + 1, 1.5 * 2 ** 28];

/**
 * The nearest float16, ties to even, largest magnitudes held at ±65504. A double has 42 bits more than a normal
 * float16: adding and taking away a number so much larger rounds them off.
 */
export function roundToHalf(value: number): number {
  const magnitude = Math.abs(value);
  if (magnitude >= largestHalf) return Math.sign(value) * largestHalf;
  if (magnitude < smallestHalf) return value + subnormalMagic - subnormalMagic;
  const spread = value * spreadFactor;
  return spread - (spread - value);
}
