import type { Dtype, KnownError, ModelSummary, Provider, PruneCurve } from '../contract/types.js';
import { dtypes } from '../contract/types.js';
import { inferShapes } from '../onnx/shape.js';
import type { Model } from '../onnx/model.js';
import { summarizeModel } from '../onnx/summary.js';
import type { PruneClass } from '../prune/index.js';
import { analysisDims, findClasses } from '../prune/index.js';
import type { WeightInfo } from '../quantize/index.js';
import { estimateSqnr, quantizableWeights } from '../quantize/index.js';
import { expectedSensitivity, noiseReachingOutput, type Sensitivity } from './sensitivity.js';

/** Why a format that is calibrated is no choice without samples. */
export const needsSamples = 'needs calibration samples';

/** A reason starts with the operator it is about; said of a whole model it is about all of them. */
export function withoutOperator(reason: string): string {
  return reason.replace(/^[A-Z]\w*(?:, [A-Z]\w*)*: /, '');
}

/** What is worked out once per model, provider and presence of samples, and reused by every re-solve. */
export class Analysis {
  readonly model: Model;
  readonly summary: ModelSummary;
  readonly provider: Provider;
  readonly hasSamples: boolean;
  weights: WeightInfo[];
  /** How far estimates are off on this machine; sets the interval of every estimate made from here. */
  known: KnownError | null = null;
  /** What pruning was measured to do; sets the expected damage of every ratio. */
  curve: PruneCurve | null = null;
  private classesKnown: PruneClass[] | null = null;
  private sensitivityKnown: Sensitivity | null = null;
  private readonly noiseByKey = new Map<string, number>();
  private infoByName: Map<string, WeightInfo>;

  constructor(model: Model, provider: Provider, hasSamples: boolean) {
    this.model = model;
    this.provider = provider;
    this.hasSamples = hasSamples;
    this.summary = summarizeModel(model);
    this.weights = quantizableWeights(model, provider);
    this.infoByName = new Map(this.weights.map((w) => [w.name, w]));
  }

  /** What can be pruned together; looked for when first asked for. */
  get classes(): PruneClass[] {
    return (this.classesKnown ??= findClasses(this.model, inferShapes(this.model, analysisDims(this.model))));
  }

  /** Forbids a dtype to every weight, with the reason: the device at hand cannot do what its provider can. */
  withhold(dtype: Dtype, reason: string): void {
    this.weights = this.weights.map((info) => ({
      ...info,
      options: info.options.map((option) =>
        option.dtype === dtype && option.allowed ? { ...option, allowed: false, reason } : option,
      ),
    }));
    this.infoByName = new Map(this.weights.map((w) => [w.name, w]));
  }

  /** Whether any weight may have this dtype on this provider. */
  allows(dtype: Dtype): boolean {
    if (dtype === 'fp32') return true;
    return this.weights.some((w) =>
      w.options.some((o) => o.dtype === dtype && o.allowed && (this.hasSamples || !o.needsSamples)),
    );
  }

  /** The formats each weight may have. */
  weightFormats(): Record<string, Dtype[]> {
    return Object.fromEntries(
      this.weights.map(({ name }) => [name, dtypes.filter((dtype) => dtype === 'fp32' || this.couldBe(name, dtype))]),
    );
  }

  /** Whether one weight may have a dtype on this provider. */
  couldBe(weight: string, dtype: Dtype): boolean {
    const option = this.infoByName.get(weight)?.options.find((o) => o.dtype === dtype);
    return option !== undefined && option.allowed && (this.hasSamples || !option.needsSamples);
  }

  /** Why a dtype helps no weight here, in the words of the table of truth; null when it is allowed. */
  whyNot(dtype: Dtype): string | null {
    if (this.allows(dtype)) return null;
    const options = this.weights.flatMap((w) => w.options.filter((o) => o.dtype === dtype));
    if (!this.hasSamples && options.some((o) => o.allowed && o.needsSamples)) return needsSamples;
    const reason = options.find((o) => o.reason)?.reason;
    return (reason && withoutOperator(reason)) ?? 'no weight of this model can have it here';
  }

  /** What each format of each weight does to the answers: by the values of the weights until it was measured. */
  get sensitivity(): Sensitivity {
    return (this.sensitivityKnown ??= expectedSensitivity(this.model, this.provider));
  }

  set sensitivity(sensitivity: Sensitivity) {
    this.sensitivityKnown = sensitivity;
  }

  get measuredSensitivity(): Sensitivity | null {
    return this.sensitivityKnown?.basis === 'measured' ? this.sensitivityKnown : null;
  }

  /** Noise-to-signal power a dtype of one weight adds to the answers; 0 for fp32. */
  outputNoise(weight: string, dtype: Dtype): number {
    const noise = this.noise(weight, dtype);
    return noise === 0 ? 0 : noise * (this.measuredSensitivity?.factor(weight, noise, dtype) ?? noiseReachingOutput);
  }

  /** Noise-to-signal power a dtype adds to one weight, from a sample of its values; 0 for fp32. */
  noise(weight: string, dtype: Dtype): number {
    if (dtype === 'fp32') return 0;
    const key = `${dtype}\n${weight}`;
    const known = this.noiseByKey.get(key);
    if (known !== undefined) return known;
    const info = this.infoByName.get(weight);
    const noise = info ? 10 ** (-estimateSqnr(this.model, info, dtype) / 10) : 0;
    this.noiseByKey.set(key, noise);
    return noise;
  }
}
