import type { Dtype, Provider, SensitivityBasis, WeightFormat } from '../contract/types.js';
import type { Model } from '../onnx/model.js';
import { formatOptions, type FormatOption } from '../quantize/index.js';

/**
 * Share of a weight's noise that reaches the output where nothing was measured. Residual branches and normalisation
 * spread the noise of one layer thin; the factor was set from measured output SQNR against this sum on the sample
 * models (docs/decisions/0004) and only ranks candidates; the check after building measures the truth.
 */
export const noiseReachingOutput = 0.1;

/** What each format of each weight does to the answers: noise-to-signal power at the output, added up over weights. */
export class Sensitivity {
  readonly basis: SensitivityBasis;
  /** Samples the answers were compared on; 0 where nothing was run. */
  readonly samples: number;

  /**
   * @param measured weight → format key → noise; empty where nothing was measured
   * @param factors weight → noise at the answers for each noise of the weight, whatever the format
   * @param fourBits weight → what the noises of its 4-bit formats are multiplied by
   */
  constructor(
    readonly options: ReadonlyMap<string, readonly FormatOption[]>,
    private readonly measured: ReadonlyMap<string, ReadonlyMap<string, number>> = new Map(),
    private readonly factors: ReadonlyMap<string, number> = new Map(),
    samples = 0,
    private readonly fourBits: ReadonlyMap<string, number> = new Map(),
  ) {
    this.samples = samples;
    this.basis = measured.size + factors.size > 0 ? 'measured' : 'weights';
  }

  /**
   * Noise of one option: measured, or in proportion to the nearest measured format of the same weight, or, for weights
   * that could not be measured, to the middle one of the others.
   */
  noise(weight: string, option: FormatOption): number {
    if (option.weightNoise === 0) return 0;
    const { format, weightNoise } = option;
    const known = this.measured.get(weight)?.get(formatKey(format));
    if (known !== undefined) return known * this.correction(weight, format.dtype);
    return this.factor(weight, weightNoise, format.dtype) * weightNoise;
  }

  /** Bytes of a weight as it is in the original: it always may stay so. */
  bytesBefore(weight: string): number {
    return this.options.get(weight)?.find(({ format }) => format.dtype === 'fp32')?.storedBytes ?? 0;
  }

  /** Noise at the output for each noise of the weight, near a given one. */
  factor(weight: string, weightNoise: number, dtype: Dtype): number {
    return this.measuredFactor(weight, weightNoise) * this.correction(weight, dtype);
  }

  private correction(weight: string, dtype: Dtype): number {
    return dtype === 'int4' ? (this.fourBits.get(weight) ?? 1) : 1;
  }

  private measuredFactor(weight: string, weightNoise: number): number {
    const own = this.measured.get(weight);
    let nearest: { distance: number; factor: number } | null = null;
    for (const { format, weightNoise: at } of this.options.get(weight) ?? []) {
      const noise = own?.get(formatKey(format));
      if (noise === undefined || at === 0) continue;
      const distance = Math.abs(Math.log(at / weightNoise));
      if (nearest === null || distance < nearest.distance) nearest = { distance, factor: noise / at };
    }
    const any = this.factors.get(weight);
    if (any !== undefined && (nearest === null || nearest.distance > sameFormat)) return any;
    return nearest?.factor ?? this.middle();
  }

  private middleFactor: number | null = null;

  private middle(): number {
    if (this.basis === 'weights') return noiseReachingOutput;
    if (this.middleFactor !== null) return this.middleFactor;
    const factors = [...this.factors.values()];
    for (const [weight, noises] of this.measured) {
      for (const { format, weightNoise } of this.options.get(weight) ?? []) {
        const noise = noises.get(formatKey(format));
        if (noise !== undefined && weightNoise > 0) factors.push(noise / weightNoise);
      }
    }
    factors.sort((a, b) => a - b);
    return (this.middleFactor = factors[factors.length >> 1] ?? noiseReachingOutput);
  }

  /**
   * The same with the noises of 4-bit formats multiplied: a whole mix was run and they did more, or less, or codes will
   * be better than those that were tried.
   * @param only the weights it is about; all when left out
   */
  scaled(factor: number, only: (weight: string) => boolean = () => true): Sensitivity {
    const fourBits = new Map(this.fourBits);
    for (const weight of this.options.keys()) {
      if (only(weight)) fourBits.set(weight, (fourBits.get(weight) ?? 1) * factor);
    }
    return new Sensitivity(this.options, this.measured, this.factors, this.samples, fourBits);
  }
}

/** Logarithms of noises closer than this are of formats alike enough that one tells of the other. */
const sameFormat = 1.6;

/** Two formats with the same key are written alike. */
export function formatKey({ dtype, blockSize, zeroPoints }: WeightFormat): string {
  return [dtype, blockSize ?? '', zeroPoints ?? ''].join(' ');
}

/** What the values of the weights alone let expect. */
export function expectedSensitivity(model: Model, provider: Provider, wanted?: (dtype: Dtype) => boolean): Sensitivity {
  return new Sensitivity(formatOptions(model, provider, wanted));
}
