import { mkdtempSync } from 'node:fs';
import path from 'node:path';
import { SnugError } from '../contract/errors.js';
import type { Dtype, JobProgress, Plan } from '../contract/types.js';
import type { Model } from '../onnx/model.js';
import { readModel } from '../onnx/read.js';
import { dataTypeName } from '../onnx/tensor.js';
import { writeModelInSteps } from '../onnx/write.js';
import { answerOutputs } from '../quality/compare.js';
import { bandRank } from '../quality/metrics.js';
import type { Quantized } from '../quantize/index.js';
import type { Dataset } from '../runtime/dataset-types.js';
import type { TrainingRuntime } from '../runtime/training-types.js';
import type { Runtime } from '../runtime/types.js';
import type { Attempt } from './attempt.js';
import { recoverModel, type RecoverOutcome, type RecoverRequest } from './recover.js';
import { pickSamples } from './recover-data.js';

/** Training what pruning and quantization left, as a step of a plan. */
export interface RecoveryOptions {
  /** `auto`: only where they did harm; `always`: whenever something was pruned or quantized. */
  mode: 'auto' | 'always';
  runtime: Runtime & TrainingRuntime;
  /** Bytes that training all weights at once may take. */
  memoryBytes: number;
}

/** The same with the seconds that training may take. */
export type TimedRecovery = RecoveryOptions & { seconds: number };

/** Why nothing was trained where that was asked for. */
export const notShared =
  'Nothing was trained: there are too few samples to train on some and judge by others, or the model takes a fixed number at a time.';

/** Updates of one training, at most. */
const mostUpdates = { auto: 600, always: 1600 };

/** Fewest samples that are shared, and which of them judge: every fifth, because data sets are often sorted by class. */
const leastShared = 50;
const judgeEach = 5;

/** Whether there are samples enough to train on some and judge by others, and the model takes any number at a time. */
export const canShare = (calibration: Dataset | null): calibration is Dataset =>
  calibration !== null && typeof calibration.fixedBatch !== 'number' && calibration.samples >= leastShared;

/**
 * The samples to prune, quantize and train with, and those that judge the training. The samples a report compares answers with
 * are none of them; null when {@link canShare} says no.
 */
export async function shareForRecovery(
  calibration: Dataset | null,
): Promise<{ calibration: Dataset; heldOut: Dataset } | null> {
  if (!canShare(calibration)) return null;
  const all = Array.from({ length: calibration.samples }, (_, i) => i);
  const judges = (sample: number): boolean => sample % judgeEach === judgeEach - 1;
  return {
    calibration: await pickSamples(
      calibration,
      all.filter((sample) => !judges(sample)),
    ),
    heldOut: await pickSamples(calibration, all.filter(judges)),
  };
}

/** Seconds that training may take: where nobody asked for it, about as long as everything before it. */
export const recoverySeconds = (mode: RecoveryOptions['mode'], spent: number): number =>
  mode === 'always' ? 600 : Math.min(120, Math.max(30, spent));

/** Formats whose rounding training can make up for. */
const coarse: ReadonlySet<Dtype> = new Set(['int8', 'int8-static', 'int8-dynamic', 'int4', 'nf4', 'int2']);

/** Whether a weight of a plan is rounded to few numbers. */
export const isQuantized = (weights: readonly { dtype: Dtype }[]): boolean =>
  weights.some(({ dtype }) => coarse.has(dtype));

const isPruned = ({ classes }: Plan): boolean => classes.some(({ before, after }) => after < before);

/** Whether training a pruned or quantized candidate is worth its time. */
export function worthRecovering({ plan, quality }: Attempt, { mode }: RecoveryOptions): boolean {
  if (!isPruned(plan) && !isQuantized(plan.weights)) return false;
  return mode === 'always' || bandRank(quality?.damage.band ?? 'none') > bandRank('negligible');
}

/** How a recovered candidate of a plan is named. */
export const recoveredLabel = (plan: Plan): string =>
  isPruned(plan) ? 'trained on samples after pruning' : 'trained on samples after quantization';

/** What is told where training was tried and the answers did not get closer. */
export const inVain = (plan: Plan): string =>
  isPruned(plan)
    ? 'Training what pruning left was tried; answers did not get closer for it.'
    : 'Training after quantization was tried; answers did not get closer for it.';

/** What is told of a quantized model that training cannot go through. */
export const noGradient =
  'Nothing was trained after quantization: no gradient leads through some operator of the model.';

/** Share of the time for what pruning left, where quantization comes after it. */
const pruningShare = 2 / 3;

/** Seconds for training what pruning left. @param follows whether quantization comes after it */
export const secondsAfterPruning = ({ seconds }: TimedRecovery, follows: boolean): number =>
  follows ? seconds * pruningShare : seconds;

/** What is told where training after pruning took all the time there was. */
export const timeUsedUp = 'Nothing was trained after quantization: the time for training was used up before.';

export interface CandidateRecovery extends TimedRecovery, Pick<RecoverRequest, 'unlike' | 'spareHarmless'> {
  /** What the candidate lost its answers to. */
  after: 'pruning' | 'quantization';
  original: Model;
  changed: Model;
  parts: { calibration: Dataset; heldOut: Dataset };
  /** For temporary files. */
  folder: string;
  onProgress: (progress: JobProgress) => void;
  signal?: AbortSignal | undefined;
}

/** A candidate after recovery, and what to tell about it. */
export interface RecoveredCandidate {
  /** The one given where nothing was trained. */
  model: Model;
  trained: boolean;
  note: string;
  seconds: number;
}

/** Why nothing is trained in a candidate. */
function whyLeft(after: CandidateRecovery['after'], left: RecoverOutcome['left']): string {
  const what = after === 'pruning' ? 'Training what pruning left' : 'Training after quantization';
  if (left === 'harmless')
    return `Nothing was trained after ${after}: the answers are close to the original’s already.`;
  if (left === 'nothing to train')
    return `Nothing was trained after ${after}: no weight that can be trained acts on the answers.`;
  if (left === 'no time') return timeUsedUp;
  if (left === 'others further') {
    return `${what} brought one answer closer and another further away, so it was left out.`;
  }
  return `${what} did not bring the answers closer, so it was left out.`;
}

/**
 * A pruned model after training, or a quantized one after that of its small weights, and what to tell about it.
 * @throws SnugError as {@link recoverModel}; a quantized model that cannot be trained stays as it is
 */
export async function recoverCandidate(request: CandidateRecovery): Promise<RecoveredCandidate> {
  const { mode, after, original, changed, parts, signal, ...rest } = request;
  const outputs = original.graph.outputs.map(({ name, dataType }) => ({ name, dtype: dataTypeName(dataType) }));
  const [output = outputs[0]?.name ?? '', ...others] = answerOutputs(outputs);
  const outcome = await recoverModel({
    ...{ ...rest, original, changed, dataset: parts.calibration, heldOut: parts.heldOut, output, others },
    updates: mostUpdates[mode],
    ...(signal ? { signal } : {}),
  }).catch((error: unknown) => {
    // Weights that were trained after pruning are worth keeping whatever comes behind them.
    if (after === 'quantization' && error instanceof SnugError && error.code === 'E_NOT_SUPPORTED') return error;
    throw error;
  });
  if (outcome instanceof SnugError) return { model: changed, trained: false, note: noGradient, seconds: 0 };
  const { model, blocks, whole, left, seconds } = outcome;
  if (left !== null) return { model, trained: false, note: whyLeft(after, left), seconds };
  const all = after === 'pruning' ? 'all weights together' : 'scales, biases and other small weights';
  const what = whole ? all : `${blocks} blocks`;
  const [from, to, unit] =
    outcome.before.klNats === null || outcome.after.klNats === null
      ? [outcome.before.sqnrDb.toFixed(1), outcome.after.sqnrDb.toFixed(1), 'dB signal to noise']
      : [outcome.before.klNats.toPrecision(2), outcome.after.klNats.toPrecision(2), 'nats from the original'];
  return {
    model,
    trained: true,
    note: `After ${after}, ${what} were trained on unlabelled samples for ${Math.ceil(seconds)} s: ${from} → ${to} ${unit} on the samples that chose the best step.`,
    seconds,
  };
}

/**
 * {@link recoverCandidate} after quantization. The model is written first: its weights are quantized whenever they are
 * read, and training would do that again and again. What comes out reads from that file.
 */
export async function recoverQuantized(
  { model, scaled }: Pick<Quantized, 'model' | 'scaled'>,
  request: Omit<CandidateRecovery, 'after' | 'changed' | 'unlike'>,
): Promise<RecoveredCandidate> {
  if (request.seconds <= 0) return { model, trained: false, note: timeUsedUp, seconds: 0 };
  const file = path.join(mkdtempSync(path.join(request.folder, 'quantized-')), 'model.onnx');
  await writeModelInSteps(model, file);
  return recoverCandidate({
    ...{ ...request, after: 'quantization', changed: readModel(file), unlike: new Set(scaled.keys()) },
  });
}
