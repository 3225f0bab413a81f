import { mkdir, rm } from 'node:fs/promises';
import path from 'node:path';
import type { Model } from '../onnx/model.js';
import { writeModel } from '../onnx/write.js';
import type { RuntimeSession } from '../runtime/types.js';
import { keptIndices } from './axis-atoms.js';
import type { AxisGraph } from './axis-graph.js';
import type { AnalysedClass } from './classes.js';
import { linearConsumer, readWeights, unitColumns, writeRepair, type LinearConsumer } from './consumer.js';
import { greedyObs, type ObsConsumer } from './greedy-obs.js';
import {
  addMoments,
  emptyMoments,
  normalizeMoments,
  relativeError,
  ridgedCholesky,
  ridgeUnit,
  solveRepair,
  type CentredMoments,
  type Moments,
  type Repair,
} from './least-squares.js';
import { inverseFromCholesky, solveCholesky } from './linear-algebra.js';
import { analysisBatch, type ClassRepair, type PruneRequest, type PruneSamples } from './request.js';
import { noEdits, rewriteModel, type Edits } from './rewrite.js';
import { rankByMagnitude } from './scores.js';
import { buildTapModel } from './taps.js';

const ridges = [1e-4, 1e-3, 1e-2, 1e-1, 1];
/** Ridge for choosing units: enough to tell correlated units apart when rows are few. */
const selectionRidge = 1e-2;
/** Wider consumers are not refitted: time grows with the cube, memory with the square of this. */
const maximumColumns = 4608;
/** Rows that make a fit of so many columns stable, with a floor for narrow ones. More only costs time. */
const enoughRows = (columns: number): number => Math.max(8192, 16 * columns);
/** However many rows one sample has: fewer samples than this would not be diverse. */
const leastSamples = 16;
/** Bytes of patches (im2col and its transposes) one run may hold. */
const patchBytes = 384e6;

/**
 * Chooses units by greedy Optimal Brain Surgeon and refits every consumer to the dense model's outputs, class by
 * class from the input of the network to its end, each fitted on what the already pruned layers before it produce.
 * Adds the kept units to `kept`.
 */
export async function repairClasses(
  model: Model,
  graph: AxisGraph,
  shrinking: readonly { one: AnalysedClass; width: number }[],
  kept: Map<number, readonly number[]>,
  samples: PruneSamples,
  { onProgress, signal }: Pick<PruneRequest, 'onProgress' | 'signal'>,
): Promise<{ edits: Edits; repair: Record<string, ClassRepair> }> {
  const edits = noEdits();
  const repair: Record<string, ClassRepair> = {};
  for (const [at, { one, width }] of shrinking.entries()) {
    signal?.throwIfAborted();
    const consumers = one.consuming
      .map((use) => linearConsumer(graph, use))
      .filter((consumer) => consumer !== null)
      .filter((consumer) => consumer.indices * consumer.columnsPerIndex <= maximumColumns);
    if (consumers.length === 0) {
      kept.set(one.leaf.id, ascending(rankByMagnitude(graph, one).slice(0, width)));
      repair[one.id] = {
        heldOutError: null,
        unrepairedError: null,
        ridges: [],
        rows: 0,
        skipped: one.consuming.length,
      };
    } else {
      const current = rewriteModel(model, graph, kept, edits);
      const fits = await measure(model, current, graph, edits, kept, consumers, one, samples);
      const keptUnits = selectUnits(fits, one.width, width);
      kept.set(one.leaf.id, keptUnits);
      repair[one.id] = {
        ...refit(graph, edits, fits, keptUnits),
        skipped: one.consuming.length - consumers.length,
      };
    }
    onProgress?.(at + 1, shrinking.length, one.name);
  }
  return { edits, repair };
}

function ascending(values: readonly number[]): number[] {
  return [...values].sort((a, b) => a - b);
}

/** Everything needed to refit one consumer. Columns are those of the current model. */
interface Fit {
  consumer: LinearConsumer;
  /** Current column → column in the original widths. */
  columns: number[];
  /** Unit → current columns. */
  units: number[][];
  weights: Float64Array;
  training: Moments;
  heldOut: Moments;
  withBias: boolean;
}

async function measure(
  dense: Model,
  current: Model,
  graph: AxisGraph,
  edits: Edits,
  kept: ReadonlyMap<number, readonly number[]>,
  consumers: readonly LinearConsumer[],
  one: AnalysedClass,
  samples: PruneSamples,
): Promise<Fit[]> {
  const fits = consumers.map((consumer): Fit => {
    const k = consumer.columnsPerIndex;
    const indices = keptIndices(consumer.use.input, kept);
    const columns = indices.flatMap((index) => Array.from({ length: k }, (_, tap) => index * k + tap));
    const position = new Map(columns.map((column, at) => [column, at]));
    const all = readWeights(graph, edits, consumer);
    const { outputs } = consumer;
    const weights = new Float64Array(columns.length * outputs);
    columns.forEach((column, at) => weights.set(all.subarray(column * outputs, (column + 1) * outputs), at * outputs));
    return {
      consumer,
      columns,
      units: unitColumns(consumer, one.leaf, one.width).map((unit) => unit.map((column) => position.get(column)!)),
      weights,
      training: emptyMoments(columns.length, outputs),
      heldOut: emptyMoments(columns.length, outputs),
      withBias: consumer.bias !== 'none',
    };
  });
  const taps = fits.map((fit) => ({
    consumer: fit.consumer,
    indices: fit.columns.length / fit.consumer.columnsPerIndex,
  }));
  const tapped = buildTapModel(dense, current, taps);
  await mkdir(samples.workDirectory, { recursive: true });
  const file = path.join(samples.workDirectory, 'prune-taps.onnx');
  writeModel(tapped.model, file, { overwrite: true });
  const session = await samples.runtime.open({ modelPath: file, provider: samples.provider ?? 'cpu' });
  try {
    await accumulate(session, fits, tapped.names, samples, graph);
  } finally {
    await session.close();
    await rm(file, { force: true });
  }
  return fits;
}

async function accumulate(
  session: RuntimeSession,
  fits: readonly Fit[],
  names: ReturnType<typeof buildTapModel>['names'],
  samples: PruneSamples,
  graph: AxisGraph,
): Promise<void> {
  const { total, batch } = runSizes(fits, samples, graph);
  // A model that takes exactly so many samples at a time gets whole batches only.
  const whole = samples.dataset.fixedBatch ?? 1;
  const split = total < 5 * whole ? total : Math.floor((total * 0.8) / whole) * whole;
  for (let start = 0; start < total;) {
    const end = Math.min(start + batch, start < split ? split : total);
    const results = await session.run(await samples.dataset.feeds(start, end - start));
    fits.forEach((fit, at) => {
      const tap = names[at]!;
      const numbers = (name: string) => results[name]!.data as Float32Array;
      addMoments(start < split ? fit.training : fit.heldOut, {
        rows: Number((results[tap.shape]!.data as BigInt64Array)[0]),
        gram: numbers(tap.gram),
        cross: numbers(tap.cross),
        inputSum: numbers(tap.inputSum),
        outputSum: numbers(tap.outputSum),
        outputSquares: numbers(tap.outputSquares),
      });
    });
    start = end;
  }
}

/** How many samples are enough, and how many fit into one run. */
function runSizes(fits: readonly Fit[], samples: PruneSamples, graph: AxisGraph): { total: number; batch: number } {
  let total = 0;
  let bytes = 1;
  for (const { consumer, columns } of fits) {
    const elements = graph.axes(consumer.target)?.reduce((product, axis) => product * axis.size, 1) ?? 0;
    const rows = Math.max(1, elements / consumer.outputs / analysisBatch);
    total = Math.max(total, Math.ceil(enoughRows(columns.length) / rows));
    bytes += rows * columns.length * 4 * 3;
  }
  const whole = samples.dataset.fixedBatch ?? 1;
  const wholes = (count: number): number => Math.max(1, Math.floor(count / whole)) * whole;
  return {
    total: wholes(Math.min(samples.dataset.samples, samples.maxSamples ?? 256, Math.max(total, leastSamples))),
    batch: samples.dataset.fixedBatch ?? Math.max(1, Math.min(samples.batch ?? 32, Math.floor(patchBytes / bytes))),
  };
}

function selectUnits(fits: readonly Fit[], units: number, width: number): number[] {
  const layers = fits.map((fit): ObsConsumer => {
    const moments = normalizeMoments(pooled(fit), fit.withBias);
    const { inputs, outputs } = moments;
    const ridge = selectionRidge * ridgeUnit(moments.gram, inputs);
    const { factor, ridge: used } = ridgedCholesky(moments.gram, inputs, ridge);
    const weights = Float64Array.from(moments.cross, (value, at) => value + used * fit.weights[at]!);
    solveCholesky(factor, inputs, weights, outputs);
    const scale = moments.targetEnergy > 0 ? 1 / moments.targetEnergy : 1;
    return { inverse: inverseFromCholesky(factor, inputs), weights, inputs, outputs, rows: fit.units, scale };
  });
  const removed = new Set(greedyObs(layers, units, units - width).order);
  return Array.from({ length: units }, (_, unit) => unit).filter((unit) => !removed.has(unit));
}

function pooled(fit: Fit): Moments {
  const sum = emptyMoments(fit.training.inputs, fit.training.outputs);
  addMoments(sum, fit.training);
  addMoments(sum, fit.heldOut);
  return sum;
}

function refit(
  graph: AxisGraph,
  edits: Edits,
  fits: readonly Fit[],
  keptUnits: readonly number[],
): Omit<ClassRepair, 'skipped'> {
  const chosen: number[] = [];
  let heldOutError = 0;
  let unrepairedError = 0;
  let rows = 0;
  const staying = new Set(keptUnits);
  for (const fit of fits) {
    const gone = new Set(fit.units.flatMap((columns, unit) => (staying.has(unit) ? [] : columns)));
    const kept = fit.columns.map((_, at) => at).filter((at) => !gone.has(at));
    const judge = fit.heldOut.rows > 0 ? fit.heldOut : fit.training;
    const training = normalizeMoments(fit.training, fit.withBias);
    let best = { ridge: ridges[0]!, error: Infinity };
    for (const ridge of ridges) {
      const error = relativeError(judge, kept, solveRepair(training, kept, fit.weights, ridge), fit.withBias);
      if (error < best.error) best = { ridge, error };
    }
    const all = pooled(fit);
    const final = solveRepair(normalizeMoments(all, fit.withBias), kept, fit.weights, best.ridge);
    writeRepair(
      graph,
      edits,
      fit.consumer,
      kept.map((at) => fit.columns[at]!),
      final,
    );
    chosen.push(best.ridge);
    heldOutError = Math.max(heldOutError, best.error);
    const untouched = relativeError(judge, kept, unrepaired(training, fit, kept), fit.withBias);
    unrepairedError = Math.max(unrepairedError, untouched);
    rows = Math.max(rows, all.rows);
  }
  return { heldOutError, unrepairedError, ridges: chosen, rows };
}

/** Plain removal: kept weights as they are, the bias moved by the mean of what is gone (a mean shift at best). */
function unrepaired(moments: CentredMoments, fit: Fit, kept: readonly number[]): Repair {
  const { outputs } = moments;
  const weights = new Float64Array(kept.length * outputs);
  const bias = Float64Array.from(moments.outputMean);
  kept.forEach((column, row) => {
    for (let o = 0; o < outputs; o++) {
      const weight = fit.weights[column * outputs + o]!;
      weights[row * outputs + o] = weight;
      bias[o]! -= moments.inputMean[column]! * weight;
    }
  });
  return { weights, bias };
}
