import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { PruneCurve, PrunePoint } from '../contract/types.js';
import { inferShapes } from '../onnx/shape.js';
import type { Model } from '../onnx/model.js';
import { analysisDims, findClasses, planWidths, pruneModel } from '../prune/index.js';
import type { Dataset } from '../runtime/dataset-types.js';
import type { Runtime, RuntimeValue } from '../runtime/types.js';
import { compareWritten } from './prune-candidate.js';
import { Reference, splitDataset } from './reference.js';

/** Coarse first, so that the shape of the curve shows early. */
const measuredRatios = [0.3, 0.6, 0.1, 0.5, 0.2, 0.4, 0.7, 0.8];

/** Samples per run while answers are compared. */
const comparedAtOnce = 16;

export interface PruneCurveRequest {
  model: Model;
  modelPath: string;
  inputs: RuntimeValue[];
  dataset: Dataset;
  dims: Record<string, number>;
  runtime: Runtime;
  /** Called with all that is measured so far. */
  onCurve: (curve: PruneCurve) => void;
  signal?: AbortSignal;
}

/**
 * Prunes a model at several ratios with repair on the calibration samples, runs each result on samples kept out of
 * the repair, and tells what its answers lost. Always on the cpu: the answers are the same everywhere.
 *
 * @returns the whole curve, by ratio; ratios that round to the same widths are measured once
 * @throws SnugError of pruning, writing and running; what was measured before has been told by then
 */
export async function measurePruneCurve(request: PruneCurveRequest): Promise<PruneCurve> {
  const { model, runtime, signal } = request;
  const { calibration, heldOut, apart } = splitDataset(request.dataset);
  const classes = findClasses(model, inferShapes(model, analysisDims(model, request.dims)));
  const ratios = distinctRatios((ratio) => planWidths(classes, { ratio }).map(({ after }) => after));
  const points = new Map<number, PrunePoint>();
  const curve = (state: PruneCurve['state']): PruneCurve => ({
    points: [...points.values()].sort((a, b) => a.ratio - b.ratio),
    samples: heldOut.samples,
    fitted: !apart,
    state,
    total: ratios.length,
  });
  request.onCurve(curve('measuring'));
  const folder = mkdtempSync(path.join(os.tmpdir(), 'snug-prune-'));
  try {
    const reference = await Reference.collect(
      runtime,
      { modelPath: request.modelPath, provider: 'cpu' },
      heldOut,
      request.dims,
      comparedAtOnce,
      request.inputs,
      signal,
    );
    for (const ratio of ratios) {
      signal?.throwIfAborted();
      const pruned = await pruneModel(model, {
        ratio,
        method: 'repair',
        samples: { runtime, dataset: calibration, workDirectory: folder, dims: request.dims },
        ...(signal ? { signal } : {}),
      });
      const quality = await compareWritten(runtime, reference, pruned.model, folder, signal);
      points.set(ratio, { ratio, damage: quality.damage, top1Agreement: quality.top1Agreement });
      request.onCurve(curve('measuring'));
    }
    return curve('done');
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Ratios that lead to widths of their own; narrow classes are rounded to few. */
export function distinctRatios(widthsAt: (ratio: number) => readonly number[]): number[] {
  const seen = new Set([widthsAt(0).join()]);
  return measuredRatios.filter((ratio) => {
    const key = widthsAt(ratio).join();
    const isNew = !seen.has(key);
    seen.add(key);
    return isNew;
  });
}
