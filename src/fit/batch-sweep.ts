import { SnugError } from '../contract/errors.js';
import type { BatchKnee, BatchSweep, Throughput, ThroughputPoint } from '../contract/throughput.js';
import type { PlanView, Provider, SessionLevers } from '../contract/types.js';
import { prepareEstimate } from '../memory/estimate.js';
import type { Model } from '../onnx/model.js';
import type { Dataset } from '../runtime/dataset-types.js';
import type { Runtime, RuntimeValue } from '../runtime/types.js';
import { feedsForBatch } from './reference.js';

/** Sizes double: what one more sample costs shows between them. */
const sizes = [1, 2, 4, 8, 16, 32, 64, 128, 256];
const timedRuns = 4;
/** A run that would take longer is not started; the machine is somebody's. */
const longestRunMs = 4000;
/** A doubled batch that gains less has not gained; after two of them nothing more is to be found. */
const leastGain = 1.05;
/** How close to the fastest batch the smallest worthwhile one comes. */
export const kneeShare = 0.9;

export interface SweepRequest {
  model: Model;
  modelPath: string;
  inputs: RuntimeValue[];
  dataset: Dataset | null;
  runtime: Runtime;
  provider: Provider;
  dims: Record<string, number>;
  /** No size is run whose estimate is above it. */
  limitBytes: number;
  onSweep: (sweep: BatchSweep) => void;
}

/**
 * Runs a model at doubling batch sizes, each in a fresh process, and reads speed and peak memory back. Ends where the
 * memory does, where a run would take long, and where two larger batches in a row were no faster. A size that was no
 * faster than a smaller one, and the one below the knee, are run twice and the faster run counts.
 * @throws SnugError of the first run, and `E_CANCELLED`; a later run that fails only ends the sweep
 */
export async function sweepBatches(request: SweepRequest): Promise<BatchSweep> {
  const { model, modelPath, inputs, dataset, runtime, provider, dims, limitBytes, onSweep } = request;
  // As `snug batch` runs a model: no block planned for one shape and held beside the next.
  const levers: Partial<SessionLevers> = { memoryPattern: false };
  const prepared = prepareEstimate(model);
  const first = inputs[0]?.dims[0];
  // A batch that the file fixes is the only one there is.
  const batches = typeof first === 'number' ? [Math.max(1, first)] : sizes;
  const estimates = batches.map((batch) => ({ batch, estimate: prepared.estimate({ provider, batch, dims, levers }) }));
  const reachable = estimates.filter(({ estimate }) => estimate.peakBytes <= limitBytes);
  const points: ThroughputPoint[] = [];
  const sweep = (state: BatchSweep['state']): BatchSweep => ({
    provider,
    points: [...points],
    state,
    total: state === 'done' ? points.length : reachable.length,
  });
  onSweep(sweep('measuring'));
  const run = async ({ batch, estimate }: (typeof reachable)[number]): Promise<ThroughputPoint> => {
    const feeds = await feedsForBatch(dataset, inputs, estimate.dims, batch);
    const measured = await runtime.measure({ modelPath, provider, levers }, feeds, { warmRuns: timedRuns, batch });
    return {
      batch,
      samplesPerSecond: measured.samplesPerSecond,
      latencyMs: measured.latencyMs,
      measuredBytes: measured.peakBytes,
      estimatedBytes: estimate.peakBytes,
    };
  };
  for (const size of reachable) {
    if (isOver(points)) break;
    try {
      const point = await run(size);
      const gained = points.every((before) => point.samplesPerSecond > before.samplesPerSecond * leastGain);
      points.push(point);
      if (!gained && !isSlow(point)) points[points.length - 1] = faster(point, await run(size));
    } catch (error) {
      if (points.length === 0 || SnugError.from(error).code === 'E_CANCELLED') throw error;
      break;
    }
    onSweep(sweep('measuring'));
  }
  await checkBelowKnee(points, (batch) => {
    const size = reachable.find((one) => one.batch === batch);
    return size === undefined ? Promise.resolve(null) : run(size);
  });
  return sweep('done');
}

/** What else runs on the machine makes a run slower, never faster. */
function faster(a: ThroughputPoint, b: ThroughputPoint): ThroughputPoint {
  return b.samplesPerSecond > a.samplesPerSecond ? b : a;
}

function isSlow({ latencyMs }: ThroughputPoint): boolean {
  return latencyMs * 2 > longestRunMs;
}

/** The size below the knee is run again: one run that something else slowed down would move the knee past it. */
async function checkBelowKnee(
  points: ThroughputPoint[],
  run: (batch: number) => Promise<ThroughputPoint | null>,
): Promise<void> {
  const knee = kneeOf(points.map((point) => ({ ...point, fits: true })));
  const at = points.findIndex(({ batch }) => batch === knee?.batch) - 1;
  const before = points[at];
  if (before === undefined) return;
  try {
    const again = await run(before.batch);
    if (again !== null) points[at] = faster(before, again);
  } catch (error) {
    if (SnugError.from(error).code === 'E_CANCELLED') throw error;
  }
}

function isOver(points: readonly ThroughputPoint[]): boolean {
  const last = points.at(-1);
  if (!last) return false;
  const before = Math.max(...points.slice(0, -2).map(({ samplesPerSecond }) => samplesPerSecond));
  const gained = points.slice(-2).some(({ samplesPerSecond }) => samplesPerSecond > before * leastGain);
  return isSlow(last) || (points.length > 2 && !gained);
}

/**
 * The smallest batch whose throughput is at least {@link kneeShare} of the best among those that fit: beyond it memory
 * grows and speed hardly does. Null when none fits.
 */
export function kneeOf(
  points: readonly { batch: number; samplesPerSecond: number; fits: boolean }[],
): BatchKnee | null {
  const fitting = points.filter(({ fits }) => fits).toSorted((a, b) => a.batch - b.batch);
  const best = fitting.reduce<(typeof fitting)[number] | null>(
    (top, point) => (top === null || point.samplesPerSecond > top.samplesPerSecond ? point : top),
    null,
  );
  const knee = best && fitting.find((point) => point.samplesPerSecond >= kneeShare * best.samplesPerSecond);
  if (!knee) return null;
  const { batch, samplesPerSecond } = knee;
  return { batch, samplesPerSecond, share: samplesPerSecond / best.samplesPerSecond, fastest: best.batch };
}

/** The knee of what was measured of the model as it is, among the batches at which the plan fits. */
export function throughputOf(view: PlanView, sweep: BatchSweep): Throughput {
  const fitting = new Set(view.charts.batches.filter(({ fits }) => fits).map(({ batch }) => batch));
  return { sweep, knee: kneeOf(sweep.points.map((point) => ({ ...point, fits: fitting.has(point.batch) }))) };
}
