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
import { splitDataset } from './reference.js';

/** Training what pruning left, as a step of a plan. */
export interface RecoveryOptions {
  /** `auto`: only where pruning did harm; `always`: whenever something was pruned. */
  mode: 'auto' | 'always';
  runtime: Runtime & TrainingRuntime;
  /** Bytes that training all weights at once may take. */
  memoryBytes: number;
}

/** How a recovered candidate is named. */
export const recoveredLabel = 'trained on samples after pruning';

/** Why nothing was trained where that was asked for. */
export const notShared =
  'Nothing was trained after pruning: there are too few samples to train on some and judge by others, or the model takes a fixed number at a time.';

/** Seconds after which no further training begins. */
const mostSeconds = { auto: 120, always: 600 };

/**
 * The samples to prune and train with, and those that judge the training. The samples a report compares answers with
 * are none of them; null when there are too few to share, or the model takes a fixed number at a time.
 */
export function shareForRecovery(calibration: Dataset | null): { calibration: Dataset; heldOut: Dataset } | null {
  // Blocks are trained on several samples at a time.
  if (calibration === null || typeof calibration.fixedBatch === 'number') return null;
  const parts = splitDataset(calibration);
  return parts.heldOut === parts.calibration ? null : parts;
}

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
  { mode, runtime, memoryBytes }: RecoveryOptions,
  parts: { calibration: Dataset; heldOut: Dataset },
  models: { original: Model; pruned: Model },
  folder: string,
  { onProgress, signal }: { onProgress: (progress: JobProgress) => void; signal?: AbortSignal | undefined },
): Promise<{ model: Model; note: string }> {
  const outputs = models.original.graph.outputs.map(({ name, dataType }) => ({ name, dtype: dataTypeName(dataType) }));
  const { model, before, after, blocks, whole, seconds } = await recoverModel({
    original: models.original,
    changed: models.pruned,
    output: answerOutputs(outputs)[0] ?? outputs[0]?.name ?? '',
    dataset: parts.calibration,
    heldOut: parts.heldOut,
    runtime,
    folder,
    memoryBytes,
    seconds: mostSeconds[mode],
    onProgress,
    ...(signal ? { signal } : {}),
  });
  if (blocks === 0 && !whole) {
    return { model, note: 'Training what pruning left did not bring the answers closer, so it was left out.' };
  }
  const what = [...(blocks > 0 ? [`${blocks} blocks`] : []), ...(whole ? ['all weights together'] : [])].join(
    ', then ',
  );
  const [from, to, unit] =
    before.klNats === null || after.klNats === null
      ? [before.sqnrDb.toFixed(1), after.sqnrDb.toFixed(1), 'dB signal to noise']
      : [before.klNats.toPrecision(2), after.klNats.toPrecision(2), 'nats from the original'];
  return {
    model,
    note: `After pruning, ${what} were trained on unlabelled samples for ${Math.ceil(seconds)} s: ${from} → ${to} ${unit} on samples kept out.`,
  };
}
