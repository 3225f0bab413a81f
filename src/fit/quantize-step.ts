import type { JobProgress, Provider, WeightFormat } from '../contract/types.js';
import { SnugError } from '../contract/errors.js';
import type { Model } from '../onnx/model.js';
import {
  collectMagnitudes,
  collectRanges,
  needsUnsignedWeights,
  quantizeModel,
  refineWeights,
  roundsActivations,
  type Quantized,
  type QuantizeOptions,
} from '../quantize/index.js';
import type { Dataset } from '../runtime/dataset-types.js';
import type { Runtime, RuntimeValue } from '../runtime/types.js';
import { madeUpDataset } from './made-up.js';
import { notShared, recoverQuantized, shareForRecovery, type TimedRecovery } from './recover-candidate.js';
import { survivable } from './survivable.js';

export interface QuantizeStep {
  model: Model;
  provider: Provider;
  formats: ReadonlyMap<string, WeightFormat>;
  /** Why weights have another format than was asked for. */
  reasons: ReadonlyMap<string, string>;
  /** Samples that choose ranges and codes; null: formats that need none. */
  samples: Dataset | null;
  /** Of the model, for made-up ones where samples are missing. */
  inputs: RuntimeValue[];
  dims: Record<string, number>;
  runtime: Runtime;
  /** For temporary models. */
  folder: string;
  rounding?: QuantizeOptions['rounding'];
  onProgress: (progress: JobProgress) => void;
  signal?: AbortSignal | undefined;
}

/** A quantized model; `reasons` tells of every weight that has another format than was asked for, or lost something. */
export type QuantizedStep = Quantized & { reasons: Map<string, string> };

/**
 * Quantizes a model in the formats given, with all that samples can do for them: ranges of activations, and codes by what
 * their operators compute.
 * @throws SnugError of quantizing and of the runtime
 */
export async function quantizeOnSamples(step: QuantizeStep): Promise<QuantizedStep> {
  const { model, provider, formats, samples, dims, runtime, folder, onProgress } = step;
  const signal = step.signal ? { signal: step.signal } : {};
  const reasons = new Map(step.reasons);
  const dtypes = [...formats.values()].map(({ dtype }) => dtype);
  const calibrated = new Set([...formats].flatMap(([name, { dtype }]) => (roundsActivations(dtype) ? [name] : [])));
  const progress = (done: number, total: number, item?: string): void =>
    onProgress({ phase: 'quantizing', done, total, unit: 'weights', ...(item === undefined ? {} : { item }) });
  const ranges =
    samples && calibrated.size > 0
      ? await collectRanges(runtime, model, samples, {
          ...{ workDirectory: folder, weights: calibrated, dims, provider: 'cpu' },
          ...signal,
        })
      : undefined;
  step.signal?.throwIfAborted();
  const magnitudes = dtypes.includes('fp16')
    ? await collectMagnitudes(runtime, model, samples ?? madeUpDataset(model, step.inputs, dims), {
        workDirectory: folder,
        ...signal,
      })
    : null;
  const refined = samples
    ? await refineWeights(runtime, model, samples, formats, {
        ...{ provider, workDirectory: folder, onProgress: progress, ...signal },
        onTooLarge: (weight, reason) => reasons.set(weight, reasons.get(weight) ?? reason),
      })
    : undefined;
  const quantized = quantizeModel(model, formats, {
    provider,
    unsignedWeights: await needsUnsignedWeights(runtime, dtypes, folder),
    ...(ranges ? { ranges } : {}),
    ...(magnitudes ? { magnitudes } : {}),
    ...(refined ? { refined } : {}),
    ...(step.rounding ? { rounding: step.rounding } : {}),
    onProgress: progress,
  });
  for (const { name, reason } of quantized.weights) if (reason !== undefined) reasons.set(name, reason);
  return { ...quantized, reasons };
}

/** What is told of a model whose training was stopped. */
export const trainingStopped =
  'Training after quantization was stopped: the model is as it was quantized on four fifths of the samples.';

export interface QuantizeAndRecover {
  dataset: Dataset | null;
  recovery: TimedRecovery;
  original: Model;
  /** For temporary files. The result reads from there. */
  folder: string;
  onProgress: (progress: JobProgress) => void;
  signal: AbortSignal;
}

/**
 * Quantizes on most samples and trains what that lost, where there is harm to make up for; the others judge the training.
 * Where nothing trained is kept, all samples are quantized on. A training that fails or is stopped leaves the
 * quantized model.
 *
 * @param quantizeOn quantizes on the samples given
 * @throws SnugError of quantizing; of training what every other run would fail with too, a full disk for instance
 */
export async function quantizeAndRecover<Result extends Pick<Quantized, 'model' | 'scaled'>>(
  quantizeOn: (samples: Dataset | null) => Promise<Result>,
  { dataset, recovery, original, folder, onProgress, signal }: QuantizeAndRecover,
): Promise<{ quantized: Result; model: Model; note: string }> {
  const parts = await shareForRecovery(dataset);
  const quantized = await quantizeOn(parts?.calibration ?? dataset);
  const left = (result: Result, note: string): { quantized: Result; model: Model; note: string } => ({
    ...{ quantized: result, model: result.model, note },
  });
  if (parts === null) return left(quantized, notShared);
  let note: string;
  try {
    const recovered = await recoverQuantized(quantized, {
      ...{ ...recovery, original, parts, folder, onProgress, signal },
      spareHarmless: true,
    });
    if (recovered.trained) return { quantized, ...recovered };
    ({ note } = recovered);
  } catch (error) {
    if (signal.aborted) return left(quantized, trainingStopped);
    const failure = SnugError.from(error);
    if (!survivable.has(failure.code)) throw failure;
    note = trainingFailed(failure);
  }
  try {
    return left(await quantizeOn(dataset), note);
  } catch (error) {
    if (signal.aborted) return left(quantized, trainingStopped);
    throw error;
  }
}

/** What is told of a model that could not be trained. */
export const trainingFailed = ({ message }: SnugError): string =>
  `Training after quantization failed, so it was left out: ${message}`;
