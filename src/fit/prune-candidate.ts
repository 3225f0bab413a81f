import { mkdtempSync, rmSync } from 'node:fs';
import path from 'node:path';
import type { ClassPlan, JobProgress, Pins, Plan, PruneMethod, Quality } from '../contract/types.js';
import { SnugError } from '../contract/errors.js';
import { estimateMemory } from '../memory/estimate.js';
import type { Model } from '../onnx/model.js';
import { writeModelInSteps } from '../onnx/write.js';
import { pruneModel, type PruneRequest } from '../prune/index.js';
import type { Dataset } from '../runtime/dataset-types.js';
import type { Runtime, RuntimeValue } from '../runtime/types.js';
import { madeUpDataset } from './made-up.js';
import type { Reference } from './reference.js';

export interface PruneContext {
  runtime: Runtime;
  inputs: RuntimeValue[];
  pins: Pins;
  calibration: Dataset | null;
  /** What the original answers; null where it could not run. */
  reference: Reference | null;
  onProgress: (progress: JobProgress) => void;
  signal?: AbortSignal;
}

export interface PrunedCandidate {
  model: Model;
  classes: ClassPlan[];
  /** What was done, which may be less than the plan had. */
  method: PruneMethod;
  notes: string[];
}

/** How widths are chosen: every class by the same ratio, or where measured loss is least at the same peak. */
export type Allocation = NonNullable<PruneRequest['allocation']>;

/**
 * Prunes as a plan says. `repair` without samples runs made-up inputs; where a person did not ask for it by name it
 * is kept only if its answers are no worse than those of plain removal.
 *
 * @param folder for temporary models
 * @throws SnugError of pruning, writing and running
 */
export async function pruneCandidate(
  context: PruneContext,
  model: Model,
  plan: Plan,
  allocation: Allocation,
  folder: string,
): Promise<PrunedCandidate> {
  const { pins, calibration } = context;
  const cut = async (method: PruneMethod, dataset: Dataset | null): Promise<PrunedCandidate> => {
    const pruned = await pruneModel(model, requestOf(context, plan, method, dataset, allocation, folder));
    return { model: pruned.model, classes: pruned.classes, method, notes: [] };
  };
  const method = plan.pruneMethod;
  if (method === 'random' || method === 'magnitude' || calibration) return cut(method, calibration);
  const madeUp = madeUpDataset(model, context.inputs, plan.dims);
  if (pins.pruneMethod !== undefined) {
    return { ...(await cut(method, madeUp)), notes: ['Without samples, the layers were refitted on made-up inputs.'] };
  }
  const plain = await cut('magnitude', null);
  if (context.reference === null) return plain;
  try {
    const repaired = await cut(method, madeUp);
    const [plainDb, repairedDb] = [
      await outputSqnr(context, context.reference, plain.model, folder),
      await outputSqnr(context, context.reference, repaired.model, folder),
    ];
    if (repairedDb >= plainDb) {
      return {
        ...repaired,
        notes: ['Without samples, the layers were refitted on made-up inputs; the answers are closer for it.'],
      };
    }
    return { ...plain, notes: ['Refitting the layers on made-up inputs did not help, so it was left out.'] };
  } catch (error) {
    const { code } = SnugError.from(error);
    // Made-up inputs may be none that the model takes; plain removal runs nothing.
    if (code !== 'E_RUN_FAILED' && code !== 'E_OUT_OF_MEMORY') throw error;
    return { ...plain, notes: ['The model did not take made-up inputs, so nothing was refitted.'] };
  }
}

function requestOf(
  { runtime, pins, onProgress, signal }: PruneContext,
  plan: Plan,
  method: PruneMethod,
  dataset: Dataset | null,
  allocation: Allocation,
  folder: string,
): PruneRequest {
  const { provider, batch, dims } = plan;
  return {
    ratio: plan.pruneRatio,
    provider,
    method,
    allocation,
    bytesOf: (pruned) => estimateMemory(pruned, { provider, batch, dims, levers: plan.session }).peakBytes,
    ...(pins.classes ? { perClass: pins.classes } : {}),
    ...(dataset ? { samples: { runtime, dataset, workDirectory: folder, dims } } : {}),
    ...(signal ? { signal } : {}),
    onProgress: (done, total, item) =>
      onProgress({ phase: 'pruning', done, total, unit: 'weights', ...(item === undefined ? {} : { item }) }),
  };
}

async function outputSqnr(
  { runtime, signal }: PruneContext,
  reference: Reference,
  model: Model,
  folder: string,
): Promise<number> {
  return (await compareWritten(runtime, reference, model, folder, signal)).sqnrDb;
}

/** Writes a model for one comparison and takes it away again. */
export async function compareWritten(
  runtime: Runtime,
  reference: Reference,
  model: Model,
  folder: string,
  signal?: AbortSignal,
): Promise<Quality> {
  const trial = mkdtempSync(path.join(folder, 'trial-'));
  try {
    const modelPath = path.join(trial, 'model.onnx');
    await writeModelInSteps(model, modelPath, {});
    return await reference.compare(runtime, { modelPath, provider: 'cpu' }, signal);
  } finally {
    rmSync(trial, { recursive: true, force: true });
  }
}
