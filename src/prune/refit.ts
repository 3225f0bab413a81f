import type { AxisGraph } from './axis-graph.js';
import { writeRepair } from './consumer.js';
import type { ConsumerFit, PieceFit } from './fits.js';
import { greedyObs, type ObsConsumer, type ObsTrace } from './greedy-obs.js';
import {
  normalizeMoments,
  pooledMoments,
  relativeError,
  ridgedCholesky,
  ridgeUnit,
  sampleColumns,
  sampleOutputs,
  solveRepair,
  type CentredMoments,
  type Repair,
} from './least-squares.js';
import { inverseFromCholesky, solveCholesky } from './linear-algebra.js';
import type { ClassRepair } from './request.js';
import type { Edits } from './rewrite.js';

const ridges = [1e-4, 1e-3, 1e-2, 1e-1, 1];
/** Where the search for the best ridge begins: most often next to it. */
const firstRidge = 1;
/** Ridge for choosing units: enough to tell correlated units apart when rows are few. */
const selectionRidge = 1e-2;
/** Units of consumers with more columns are chosen in groups of about {@link selectionGroup} columns. */
const widestSelection = 2048;
const selectionGroup = 1024;
/** A ridge is judged on at most so many outputs of a layer. */
const judgedOutputs = 96;

/** Removes up to `count` units, those first whose loss the consumers can make up for best. */
export function traceUnits(fits: readonly ConsumerFit[], units: number, count: number): ObsTrace {
  const layers = fits.flatMap((fit): ObsConsumer[] => {
    const centred = fit.pieces.map((piece) => normalizeMoments(pooledMoments(piece), fit.withBias));
    const energy = centred.reduce((sum, moments) => sum + moments.targetEnergy, 0);
    const scale = energy > 0 ? 1 / energy : 1;
    return fit.pieces.flatMap((piece, at) => {
      const { gram, cross, inputs, outputs } = centred[at]!;
      if (inputs > widestSelection) return selectionGroups(piece, centred[at]!, scale);
      const { factor, ridge } = ridgedCholesky(gram, inputs, selectionRidge * ridgeUnit(gram, inputs));
      const weights = Float64Array.from(cross, (value, entry) => value + ridge * piece.weights[entry]!);
      solveCholesky(factor, inputs, weights, outputs);
      const inverse = inverseFromCholesky(factor, inputs);
      return [{ inverse, weights, inputs, outputs, rows: piece.units, scale }];
    });
  });
  return greedyObs(layers, units, count);
}

/**
 * A wide consumer in groups of units that are compared among themselves only: what a unit of another group could make
 * up for is left out of the choice, never of the refit, and the choice takes a fraction of the time.
 */
function selectionGroups(piece: PieceFit, { gram, inputs, outputs }: CentredMoments, scale: number): ObsConsumer[] {
  const count = Math.ceil(inputs / selectionGroup);
  return Array.from({ length: count }, (_, group) => {
    const columns: number[] = [];
    const rows = piece.units.map((unit, at) => {
      if (at % count !== group) return [];
      columns.push(...unit);
      return unit.map((__, k) => columns.length - unit.length + k);
    });
    const n = columns.length;
    const own = new Float64Array(n * n);
    const weights = new Float64Array(n * outputs);
    columns.forEach((column, r) => {
      columns.forEach((other, c) => (own[r * n + c] = gram[column * inputs + other]!));
      weights.set(piece.weights.subarray(column * outputs, (column + 1) * outputs), r * outputs);
    });
    const { factor } = ridgedCholesky(own, n, selectionRidge * ridgeUnit(own, n));
    return { inverse: inverseFromCholesky(factor, n), weights, inputs: n, outputs, rows, scale };
  });
}

/**
 * Units by rising share of the consumers' outputs that varies with them, as if they were independent: their variance
 * times the energy of the weights that read them. Same form as {@link traceUnits}, whole class.
 */
export function traceByActivation(fits: readonly ConsumerFit[], units: number): ObsTrace {
  const scores = new Float64Array(units);
  for (const fit of fits) {
    const centred = fit.pieces.map((piece) => normalizeMoments(pooledMoments(piece), fit.withBias));
    const energy = centred.reduce((sum, moments) => sum + moments.targetEnergy, 0) || 1;
    fit.pieces.forEach((piece, at) => {
      const { gram, inputs, outputs } = centred[at]!;
      piece.units.forEach((columns, unit) => {
        for (const column of columns) {
          let squares = 0;
          for (let o = 0; o < outputs; o++) squares += piece.weights[column * outputs + o]! ** 2;
          scores[unit]! += (gram[column * inputs + column]! * squares) / energy;
        }
      });
    });
  }
  const order = [...scores.keys()].sort((a, b) => scores[a]! - scores[b]! || b - a);
  let total = 0;
  return { order, losses: order.map((unit) => (total += scores[unit]!)) };
}

/** The units that stay when those of the trace are gone. */
export function keptUnits(order: readonly number[], units: number, width: number): number[] {
  const removed = new Set(order.slice(0, units - width));
  return Array.from({ length: units }, (_, unit) => unit).filter((unit) => !removed.has(unit));
}

/**
 * Refits every consumer to the kept units, writes the result into `edits`, and says how well it went; `mean` only
 * moves biases by the mean of what is gone.
 */
export function refit(
  graph: AxisGraph,
  edits: Edits,
  fits: readonly ConsumerFit[],
  kept: readonly number[],
  how: 'least-squares' | 'mean',
): Omit<ClassRepair, 'skipped'> {
  const summary: Omit<ClassRepair, 'skipped'> = { heldOutError: 0, unrepairedError: 0, ridges: [], rows: 0 };
  const staying = new Set(kept);
  for (const fit of fits) {
    const columns: number[] = [];
    const weights: Float64Array[] = [];
    const bias = Float64Array.from(fit.pieceBias);
    for (const piece of fit.pieces) {
      const { repair, stays, ridge, heldOutError, unrepairedError, rows } = refitPiece(
        piece,
        staying,
        fit.withBias,
        how,
      );
      columns.push(...stays.map((at) => piece.columns[at]!));
      weights.push(repair.weights);
      repair.bias.forEach((value, output) => (bias[output]! += value));
      if (ridge !== null) summary.ridges.push(ridge);
      summary.rows = Math.max(summary.rows, rows);
      summary.heldOutError = Math.max(summary.heldOutError ?? 0, heldOutError);
      summary.unrepairedError = Math.max(summary.unrepairedError ?? 0, unrepairedError);
    }
    writeRepair(graph, edits, fit.consumer, columns, { weights: joined(weights), bias });
  }
  return summary;
}

function joined(parts: readonly Float64Array[]): Float64Array {
  if (parts.length === 1) return parts[0]!;
  const whole = new Float64Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function refitPiece(
  piece: PieceFit,
  staying: ReadonlySet<number>,
  withBias: boolean,
  how: 'least-squares' | 'mean',
): {
  repair: Repair;
  stays: number[];
  ridge: number | null;
  heldOutError: number;
  unrepairedError: number;
  rows: number;
} {
  const gone = new Set(piece.units.flatMap((columns, unit) => (staying.has(unit) ? [] : columns)));
  const stays = piece.columns.map((_, at) => at).filter((at) => !gone.has(at));
  const judge = piece.heldOut.rows > 0 ? piece.heldOut : piece.training;
  const every = Math.max(1, Math.ceil(judge.outputs / judgedOutputs));
  const few = sampleOutputs(judge, every);
  const fewTraining = normalizeMoments(sampleOutputs(piece.training, every), withBias);
  const fewWeights = sampleColumns(piece.weights, judge.outputs, every);
  const all = pooledMoments(piece);
  const unrepairedError = relativeError(few, stays, unrepaired(fewTraining, fewWeights, stays), withBias);
  if (how === 'mean') {
    const repair = unrepaired(normalizeMoments(all, withBias), piece.weights, stays);
    return { repair, stays, ridge: null, heldOutError: unrepairedError, unrepairedError, rows: all.rows };
  }
  const judged = (ridge: number): number =>
    relativeError(few, stays, solveRepair(fewTraining, stays, fewWeights, ridge), withBias);
  const best = bestRidge(judged);
  const repair = solveRepair(normalizeMoments(all, withBias), stays, piece.weights, best.ridge);
  return { repair, stays, ridge: best.ridge, heldOutError: best.error, unrepairedError, rows: all.rows };
}

/** The ridge with the least error. The error falls and then rises with the ridge: past its lowest point nothing is to be found. */
function bestRidge(judged: (ridge: number) => number): { ridge: number; error: number } {
  let best = { ridge: ridges[firstRidge]!, error: judged(ridges[firstRidge]!) };
  const tryNext = (at: number): boolean => {
    const error = judged(ridges[at]!);
    const rises = error > 1.05 * best.error;
    if (error < best.error) best = { ridge: ridges[at]!, error };
    return !rises;
  };
  let at = firstRidge + 1;
  while (at < ridges.length && tryNext(at)) at++;
  if (best.ridge === ridges[firstRidge]) for (at = firstRidge - 1; at >= 0 && tryNext(at);) at--;
  return best;
}

/** Plain removal: kept weights as they are, the bias moved by the mean of what is gone (a mean shift at best). */
function unrepaired(moments: CentredMoments, old: Float64Array, kept: readonly number[]): Repair {
  const { outputs } = moments;
  const weights = new Float64Array(kept.length * outputs);
  const bias = Float64Array.from(moments.outputMean);
  kept.forEach((column, row) => {
    for (let o = 0; o < outputs; o++) {
      const weight = old[column * outputs + o]!;
      weights[row * outputs + o] = weight;
      bias[o]! -= moments.inputMean[column]! * weight;
    }
  });
  return { weights, bias };
}
