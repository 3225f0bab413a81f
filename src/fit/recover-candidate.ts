import type { JobProgress } from '../contract/types.js';
import { dataTypeName } from '../onnx/tensor.js';
import type { Model } from '../onnx/model.js';
import { answerOutputs } from '../quality/compare.js';
import { bandRank } from '../quality/metrics.js';
import type { Dataset } from '../runtime/dataset-types.js';
import type { TrainingRuntime } from '../runtime/training-types.js';
import type { Runtime } from '../runtime/types.js';
import type { Attempt } from './attempt.js';
import { recoverModel } from './recover.js';
import { pickSamples } from './recover-data.js';

/** Training what pruning left, as a step of a plan. */
export interface RecoveryOptions {
  /** `auto`: only where pruning did harm; `always`: whenever something was pruned. */
  mode: 'auto' | 'always';
  runtime: Runtime & TrainingRuntime;
  /** Bytes that training all weights at once may take. */
  memoryBytes: number;
}

/** The same with the seconds that training may take. */
export type TimedRecovery = RecoveryOptions & { seconds: number };

/** How a recovered candidate is named. */
export const recoveredLabel = 'trained on samples after pruning';

/** Why nothing was trained where that was asked for. */
export const notShared =
  'Nothing was trained after pruning: there are too few samples to train on some and judge by others, or the model takes a fixed number at a time.';

/** Updates of one training, at most. */
const mostUpdates = { auto: 600, always: 1600 };

/** Fewest samples that are shared, and which of them judge: every fifth, because data sets are often sorted by class. */
const leastShared = 50;
const judgeEach = 5;

/** Whether there are samples enough to train on some and judge by others, and the model takes any number at a time. */
export const canShare = (calibration: Dataset | null): calibration is Dataset =>
  calibration !== null && typeof calibration.fixedBatch !== 'number' && calibration.samples >= leastShared;

/**
 * The samples to prune and train with, and those that judge the training. The samples a report compares answers with
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

/** Whether training a pruned candidate is worth its time. */
export function worthRecovering({ plan, quality }: Attempt, { mode }: RecoveryOptions): boolean {
  if (!plan.classes.some(({ before, after }) => after < before)) return false;
  return mode === 'always' || bandRank(quality?.damage.band ?? 'none') > bandRank('negligible');
}

/**
 * A pruned model after training, and what to tell about it.
 * @throws SnugError as {@link recoverModel}
 */
export async function recoverPruned(
  { mode, runtime, memoryBytes, seconds }: TimedRecovery,
  parts: { calibration: Dataset; heldOut: Dataset },
  models: { original: Model; pruned: Model },
  folder: string,
  { onProgress, signal }: { onProgress: (progress: JobProgress) => void; signal?: AbortSignal | undefined },
): Promise<{ model: Model; note: string }> {
  const outputs = models.original.graph.outputs.map(({ name, dataType }) => ({ name, dtype: dataTypeName(dataType) }));
  const {
    model,
    before,
    after,
    blocks,
    whole,
    seconds: taken,
  } = await recoverModel({
    original: models.original,
    changed: models.pruned,
    output: answerOutputs(outputs)[0] ?? outputs[0]?.name ?? '',
    dataset: parts.calibration,
    heldOut: parts.heldOut,
    runtime,
    folder,
    memoryBytes,
    updates: mostUpdates[mode],
    seconds,
    onProgress,
    ...(signal ? { signal } : {}),
  });
  if (blocks === 0 && !whole) {
    return { model, note: 'Training what pruning left did not bring the answers closer, so it was left out.' };
  }
  const what = whole ? 'all weights together' : `${blocks} blocks`;
  const [from, to, unit] =
    before.klNats === null || after.klNats === null
      ? [before.sqnrDb.toFixed(1), after.sqnrDb.toFixed(1), 'dB signal to noise']
      : [before.klNats.toPrecision(2), after.klNats.toPrecision(2), 'nats from the original'];
  return {
    model,
    note: `After pruning, ${what} were trained on unlabelled samples for ${Math.ceil(taken)} s: ${from} → ${to} ${unit} on samples kept out.`,
  };
}
