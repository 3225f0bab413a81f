import { SnugError } from '../contract/errors.js';
import type { Dataset } from '../runtime/dataset-types.js';
import type { Analysis } from './analysis.js';
import type { Attempt } from './attempt.js';
import type { FitRequest } from './fit.js';
import { madeUpDataset } from './made-up.js';
import { measureSensitivity } from './measure-sensitivity.js';
import type { Sensitivity } from './sensitivity.js';
import type { Planner } from './solve.js';

/** What weighing the weights against each other may take. */
const mostSeconds = 20;

/** Why weighing ended without a result; the values of the weights then decide. */
export const notWeighed =
  'The model could not be run with changed weights, so their values alone decided which format each got.';

/**
 * Measures what each format of each weight does to the answers of this request's model: on its calibration samples, on
 * made-up inputs without.
 *
 * @param folder for a temporary model
 * @returns a sentence instead where the model could not be run that way
 * @throws SnugError when stopped
 */
export async function weigh(
  { model, inputs, provider, runtime, onProgress, signal }: FitRequest,
  analysis: Analysis,
  calibration: Dataset | undefined,
  dims: Record<string, number>,
  folder: string,
): Promise<Sensitivity | string> {
  try {
    return await measureSensitivity({
      model,
      provider,
      options: analysis.sensitivity.options,
      dataset: calibration ?? madeUpDataset(model, inputs, dims),
      runtime,
      folder,
      seconds: mostSeconds,
      onProgress: (done, total, item) => onProgress?.({ phase: 'planning', done, total, unit: 'runs', item }),
      ...(signal ? { signal } : {}),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    const { code } = SnugError.from(error);
    if (code === 'E_CANCELLED' || code === 'E_DISK_FULL') throw error;
    return notWeighed;
  }
}

/** How far the answers of a mix may be from what its weights say together before that is corrected. */
const farOff = 2;

/**
 * A mix was really run: what its 4-bit weights did, against the sum of what each was measured to do alone, corrects all
 * 4-bit formats once. Codes chosen on samples do less than those that were tried.
 *
 * @returns whether the mix said anything about it
 */
export function correctMixes(planner: Planner, sensitivity: Sensitivity, { plan, quality }: Attempt): boolean {
  const expected = plan.mix?.expected.sqnrDb ?? null;
  if (expected === null || quality === null || plan.pruneRatio > 0) return false;
  const factor = 10 ** ((expected - quality.sqnrDb) / 10);
  if (factor > farOff || factor < 1 / farOff)
    planner.setSensitivity(sensitivity.scaled(Math.min(10, Math.max(0.1, factor))));
  return true;
}
