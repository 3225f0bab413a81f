import type { Dtype, Provider, SensitivityBasis, WeightFormat } from '../contract/types.js';
import type { Model } from '../onnx/model.js';
import { decodeWeight, formatOptions, quantizeModel, type FormatOption } from '../quantize/index.js';
import type { Dataset } from '../runtime/dataset-types.js';
import type { Runtime } from '../runtime/types.js';
import { WeightProbe } from './weight-probe.js';

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
   * @param rounded weight → what plain rounding to 4 bits did, for each noise of the weight
   */
  constructor(
    readonly options: ReadonlyMap<string, readonly FormatOption[]>,
    private readonly measured: ReadonlyMap<string, ReadonlyMap<string, number>> = new Map(),
    private readonly rounded: ReadonlyMap<string, number> = new Map(),
    samples = 0,
  ) {
    this.samples = samples;
    this.basis = measured.size + rounded.size > 0 ? 'measured' : 'weights';
  }

  /**
   * Noise of one option: measured, or in proportion to the nearest measured format of the same weight, or, for weights
   * that could not be measured, to the middle one of the others.
   */
  noise(weight: string, option: FormatOption): number {
    if (option.weightNoise === 0) return 0;
    const own = this.measured.get(weight);
    const known = own?.get(formatKey(option.format));
    if (known !== undefined) return known;
    return this.factor(weight, option.weightNoise) * option.weightNoise;
  }

  /** Bytes of a weight as it is in the original: it always may stay so. */
  bytesBefore(weight: string): number {
    return this.options.get(weight)?.find(({ format }) => format.dtype === 'fp32')?.storedBytes ?? 0;
  }

  /** Noise at the output for each noise of the weight, near a given one. */
  factor(weight: string, weightNoise: number): number {
    const own = this.measured.get(weight);
    let nearest: { distance: number; factor: number } | null = null;
    for (const { format, weightNoise: at } of this.options.get(weight) ?? []) {
      const noise = own?.get(formatKey(format));
      if (noise === undefined || at === 0) continue;
      const distance = Math.abs(Math.log(at / weightNoise));
      if (nearest === null || distance < nearest.distance) nearest = { distance, factor: noise / at };
    }
    const rounded = this.rounded.get(weight);
    if (rounded !== undefined && (nearest === null || nearest.distance > sameFormat)) return rounded;
    return nearest?.factor ?? this.middle();
  }

  private middleFactor: number | null = null;

  private middle(): number {
    if (this.basis === 'weights') return noiseReachingOutput;
    if (this.middleFactor !== null) return this.middleFactor;
    const factors = [...this.rounded.values()];
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
    const scale = ([key, noise]: [string, number]): [string, number] => [
      key,
      key.startsWith('int4 ') ? noise * factor : noise,
    ];
    const measured = new Map(
      [...this.measured].map(
        ([weight, noises]) => [weight, only(weight) ? new Map([...noises].map(scale)) : noises] as const,
      ),
    );
    const rounded = new Map(
      [...this.rounded].map(([weight, noise]) => [weight, only(weight) ? noise * factor : noise]),
    );
    return new Sensitivity(this.options, measured, rounded, this.samples);
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

export interface MeasureRequest {
  model: Model;
  provider: Provider;
  options: ReadonlyMap<string, readonly FormatOption[]>;
  /** Samples, or made-up inputs. */
  dataset: Dataset;
  runtime: Runtime;
  /** For a temporary model. */
  folder: string;
  /** After this, the session once open, no further weight is tried; what was not reached follows from what was. */
  seconds: number;
  /** Most samples to compare answers on; default 64. */
  samples?: number;
  onProgress?: (done: number, total: number, weight: string) => void;
  signal?: AbortSignal;
}

/** Samples whose run tells how many there is time for. */
const timedSamples = 4;

/** Samples run at once while answers are compared. */
const atOnce = 32;

/** Part of the time meant for running every weight three times: it sets how many samples are run. */
const shareForFirst = 0.3;

/**
 * Runs the model with one weight changed at a time and compares the answers. First every weight is plainly rounded to
 * 4 bits, the largest before the others, which takes little time and tells weights apart; then its formats are tried as
 * they would be written, 4 bits in blocks of 32 and 8 bits before any third one.
 *
 * @throws SnugError of quantizing and of the runtime; a model whose weights cannot be inputs measures nothing
 */
export async function measureSensitivity(request: MeasureRequest): Promise<Sensitivity> {
  const { model, provider, options, dataset, runtime, folder, signal } = request;
  const names = [...options].filter(([, list]) => list.some((o) => o.weightNoise > 0)).map(([name]) => name);
  const measured = new Map<string, Map<string, number>>();
  const probe = await WeightProbe.open({
    ...{ model, weights: names, dataset, runtime, folder },
    ...(signal ? { signal } : {}),
  });
  if (probe === null) return new Sensitivity(options);
  try {
    // The first run also settles buffers; the second tells the time.
    await probe.takeSamples(0, 1, 1);
    const milliseconds = await probe.takeSamples(0, timedSamples, timedSamples);
    const affordable = (request.seconds * 1000 * shareForFirst) / (3 * names.length * milliseconds);
    await probe.takeSamples(0, Math.max(1, Math.min(request.samples ?? 64, Math.floor(affordable))), atOnce);
    const started = performance.now();
    const late = (): boolean => performance.now() - started > request.seconds * 1000;
    const rounded = new Map<string, number>();
    for (const [at, weight] of bySize(options, names).entries()) {
      signal?.throwIfAborted();
      if (late()) break;
      request.onProgress?.(at, names.length, weight);
      const original = probe.values(weight);
      if (original === null) continue;
      const { values, noise } = roundedTo4Bits(original);
      if (noise === 0) continue;
      await probe.change(weight, values);
      const { sqnrDb } = await probe.compare();
      await probe.restore(weight, original);
      rounded.set(weight, 10 ** (-sqnrDb / 10) / noise);
    }
    const trials = trialsOf(options, (name) => probe.has(name));
    const quantizedBy = new Map<string, Model>();
    for (const [at, { weight, option }] of trials.entries()) {
      signal?.throwIfAborted();
      if (late()) break;
      request.onProgress?.(at, trials.length, weight);
      const key = formatKey(option.format);
      let quantized = quantizedBy.get(key);
      if (quantized === undefined) {
        const assignment = new Map(names.map((name) => [name, option.format]));
        quantizedBy.set(key, (quantized = quantizeModel(model, assignment, { provider }).model));
      }
      const values = decodeWeight(model, quantized, weight);
      if (values === null) continue;
      await probe.change(weight, values);
      const { sqnrDb } = await probe.compare();
      await probe.restore(weight);
      const noises = measured.get(weight) ?? new Map<string, number>();
      measured.set(weight, noises.set(key, 10 ** (-sqnrDb / 10)));
    }
    return new Sensitivity(options, measured, rounded, probe.samples);
  } finally {
    await probe.close();
  }
}

function bySize(options: MeasureRequest['options'], names: readonly string[]): string[] {
  const bytes = (name: string): number =>
    options.get(name)?.find(({ weightNoise }) => weightNoise === 0)?.storedBytes ?? 0;
  return [...names].sort((a, b) => bytes(b) - bytes(a));
}

/** Values that plain rounding shares a scale over. */
const roundedBlock = 32;

/** Every run of 32 values rounded to 15 steps between ± its largest, and the noise of that over the power of the values. */
export function roundedTo4Bits(original: Float32Array): { values: Float32Array; noise: number } {
  const values = new Float32Array(original.length);
  let [power, error] = [0, 0];
  for (let start = 0; start < original.length; start += roundedBlock) {
    const end = Math.min(original.length, start + roundedBlock);
    let largest = 0;
    for (let i = start; i < end; i++) largest = Math.max(largest, Math.abs(original[i]!));
    const scale = largest / 7;
    for (let i = start; i < end; i++) {
      const value = original[i]!;
      const near = scale === 0 ? 0 : Math.round(value / scale) * scale;
      values[i] = near;
      power += value * value;
      error += (value - near) ** 2;
    }
  }
  return { values, noise: power === 0 ? 0 : error / power };
}

interface Trial {
  weight: string;
  option: FormatOption;
}

/** What to try, in order: see {@link measureSensitivity}. */
function trialsOf(
  options: ReadonlyMap<string, readonly FormatOption[]>,
  possible: (weight: string) => boolean,
): Trial[] {
  const rounds: Trial[][] = [];
  for (const [weight, list] of options) {
    if (!possible(weight)) continue;
    const rank = ({ format }: FormatOption): number => {
      if (format.dtype === 'int4') return format.blockSize === 32 && format.zeroPoints !== true ? 0 : 2;
      return 1;
    };
    const tried = list.filter(({ weightNoise }) => weightNoise > 0);
    [...tried]
      .sort((a, b) => rank(a) - rank(b))
      .forEach((option, round) => (rounds[round] ??= []).push({ weight, option }));
  }
  return rounds.flat();
}
