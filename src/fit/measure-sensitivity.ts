import type { Provider } from '../contract/types.js';
import type { Model } from '../onnx/model.js';
import { decodeWeight, quantizeModel, type FormatOption } from '../quantize/index.js';
import type { Dataset } from '../runtime/dataset-types.js';
import type { Runtime } from '../runtime/types.js';
import { gradientFactors } from './gradient-sensitivity.js';
import { formatKey, Sensitivity } from './sensitivity.js';
import { WeightProbe } from './weight-probe.js';

export interface MeasureRequest {
  model: Model;
  provider: Provider;
  options: ReadonlyMap<string, readonly FormatOption[]>;
  /** Samples, or made-up inputs. */
  dataset: Dataset;
  runtime: Runtime;
  /** For a temporary model. */
  folder: string;
  /**
   * For all runs, sessions once open: after this no further one is begun but the few that tell anything at all; what was
   * not reached follows from what was.
   */
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

/** Parts of the time: of all for runs forward and back; of what is left for running every weight three times where that is not possible. */
const shares = { gradients: 0.4, weights: 0.3 };

/** How far gradients may be from a real run before they are not believed (a ratio of noises). */
const mostOff = 8;

/**
 * What each format of each weight does to the answers. Where the model can be differentiated, a few runs forward and back
 * tell it for all weights at once, and one run with all of them rounded corrects it. Where it cannot, or that run shows
 * something else, the model runs with one weight changed at a time.
 *
 * @throws SnugError of quantizing and of the runtime; a model whose weights cannot be inputs measures nothing
 */
export async function measureSensitivity(request: MeasureRequest): Promise<Sensitivity> {
  const { model, options, dataset, runtime, folder, signal } = request;
  const names = [...options].filter(([, list]) => list.some((o) => o.weightNoise > 0)).map(([name]) => name);
  const samples = request.samples ?? 64;
  const gradients = await gradientFactors({
    ...{ model, weights: names, dataset, runtime, folder, samples, seconds: request.seconds * shares.gradients },
    onProgress: (done, total) => request.onProgress?.(done, total, 'gradients'),
    ...(signal ? { signal } : {}),
  });
  const probe = await WeightProbe.open({
    ...{ model, weights: names, dataset, runtime, folder },
    ...(signal ? { signal } : {}),
  });
  if (probe === null) return new Sensitivity(options);
  const until = performance.now() + (request.seconds - (gradients?.seconds ?? 0)) * 1000;
  try {
    // The first run also settles buffers; the second tells the time.
    await probe.takeSamples(0, 1, 1);
    const milliseconds = await probe.takeSamples(0, timedSamples, timedSamples);
    const factors = gradients === null ? null : await corrected(probe, gradients.factors, until, request);
    const others = names.filter((name) => factors?.has(name) !== true);
    if (factors !== null && others.length === 0) {
      return new Sensitivity(options, new Map(), factors, gradients!.samples);
    }
    await probe.restoreAll();
    const left = Math.max(0, until - performance.now());
    const affordable = (left * shares.weights) / (3 * others.length * milliseconds);
    await probe.takeSamples(0, Math.max(1, Math.min(samples, Math.floor(affordable))), atOnce);
    const { measured, rounded } = await oneByOne(probe, others, until, request);
    return new Sensitivity(options, measured, new Map([...(factors ?? []), ...rounded]), probe.samples);
  } finally {
    await probe.close();
  }
}

/**
 * Rounds all weights, or those there is time for, to 4 bits at once and compares what that does with what their gradients
 * say together.
 * @returns the factors multiplied so that both agree; null where they are too far apart to tell of the same
 */
async function corrected(
  probe: WeightProbe,
  factors: ReadonlyMap<string, number>,
  until: number,
  { onProgress, signal }: MeasureRequest,
): Promise<Map<string, number> | null> {
  let expected = 0;
  let done = 0;
  for (const [weight, factor] of factors) {
    signal?.throwIfAborted();
    if (expected > 0 && performance.now() > until) break;
    onProgress?.(done++, factors.size, weight);
    const values = probe.values(weight);
    if (values === null) continue;
    const noise = roundTo4Bits(values);
    await probe.change(weight, values);
    expected += factor * noise;
  }
  const ratio = 10 ** (-(await probe.compare()).sqnrDb / 10) / expected;
  if (!(ratio < mostOff && ratio > 1 / mostOff)) return null;
  return new Map([...factors].map(([weight, factor]) => [weight, factor * ratio]));
}

/**
 * Changes one weight at a time. First every one is plainly rounded to 4 bits, the largest before the others, which takes
 * little time and tells weights apart; then its formats are tried as they would be written, 4 bits in blocks of 32 and
 * 8 bits before any third one.
 */
async function oneByOne(
  probe: WeightProbe,
  names: readonly string[],
  until: number,
  request: MeasureRequest,
): Promise<{ measured: Map<string, Map<string, number>>; rounded: Map<string, number> }> {
  const { model, provider, options, signal } = request;
  const measured = new Map<string, Map<string, number>>();
  const rounded = new Map<string, number>();
  const late = (): boolean => performance.now() > until;
  for (const [at, weight] of bySize(options, names).entries()) {
    signal?.throwIfAborted();
    if (late()) break;
    request.onProgress?.(at, names.length, weight);
    const values = probe.values(weight);
    if (values === null) continue;
    const noise = roundTo4Bits(values);
    if (noise === 0) continue;
    await probe.change(weight, values);
    const { sqnrDb } = await probe.compare();
    await probe.restore(weight);
    rounded.set(weight, 10 ** (-sqnrDb / 10) / noise);
  }
  const tried = new Set(names);
  const trials = trialsOf(options, (name) => tried.has(name) && probe.has(name));
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
  return { measured, rounded };
}

function bySize(options: MeasureRequest['options'], names: readonly string[]): string[] {
  const bytes = (name: string): number =>
    options.get(name)?.find(({ weightNoise }) => weightNoise === 0)?.storedBytes ?? 0;
  return [...names].sort((a, b) => bytes(b) - bytes(a));
}

/** Values that plain rounding shares a scale over. */
const roundedBlock = 32;

/**
 * Rounds every run of 32 values in place to 15 steps between ± its largest.
 * @returns the noise of that over the power of the values
 */
export function roundTo4Bits(values: Float32Array): number {
  let [power, error] = [0, 0];
  for (let start = 0; start < values.length; start += roundedBlock) {
    const end = Math.min(values.length, start + roundedBlock);
    let largest = 0;
    for (let i = start; i < end; i++) largest = Math.max(largest, Math.abs(values[i]!));
    const scale = largest / 7;
    for (let i = start; i < end; i++) {
      const value = values[i]!;
      const near = scale === 0 ? 0 : Math.round(value / scale) * scale;
      values[i] = near;
      power += value * value;
      error += (value - near) ** 2;
    }
  }
  return power === 0 ? 0 : error / power;
}

interface Trial {
  weight: string;
  option: FormatOption;
}

/** What to try, in order: see {@link oneByOne}. */
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
