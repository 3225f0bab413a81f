import { cholesky, notFinite, solveCholesky, subtractRows } from './linear-algebra.js';

/** One consumer of the class whose units are to be removed. */
export interface ObsConsumer {
  /** `H⁻¹`, inputs × inputs; only the lower triangle is read; overwritten. */
  inverse: Float64Array;
  /** Least-squares weights with every unit present, inputs × outputs; overwritten. */
  weights: Float64Array;
  inputs: number;
  outputs: number;
  /** Unit → its rows in `weights` (one for a Gemm, kh·kw for a Conv). */
  rows: readonly (readonly number[])[];
  /** What one unit of squared error is worth, so that consumers can be added up. */
  scale: number;
}

export interface ObsTrace {
  /** Units in the order they were removed. */
  order: number[];
  /** Cumulative loss after each removal: the whole trade-off curve. */
  losses: number[];
}

/**
 * Greedy Optimal Brain Surgeon over blocks of rows (the core of OBC and ZipLM): removes, `count` times, the unit
 * whose loss `tr(W_Jᵀ (H⁻¹_JJ)⁻¹ W_J)`, summed over consumers, is least, and downdates `H⁻¹` and `W` so that
 * correlated units are not both taken for redundant.
 */
export function greedyObs(consumers: readonly ObsConsumer[], units: number, count: number): ObsTrace {
  const alive = Array.from({ length: units }, () => true);
  const trace: ObsTrace = { order: [], losses: [] };
  let total = 0;
  for (let step = 0; step < count; step++) {
    let best = -1;
    let bestLoss = Infinity;
    for (let unit = 0; unit < units; unit++) {
      if (!alive[unit]) continue;
      let loss = 0;
      for (const consumer of consumers) loss += consumer.scale * unitLoss(consumer, unit);
      if (loss < bestLoss) {
        bestLoss = loss;
        best = unit;
      }
    }
    if (best < 0) break;
    alive[best] = false;
    for (const consumer of consumers) removeUnit(consumer, best);
    total += bestLoss;
    trace.order.push(best);
    trace.losses.push(total);
  }
  return trace;
}

function unitLoss(consumer: ObsConsumer, unit: number): number {
  const rows = consumer.rows[unit]!;
  const { inverse, weights, inputs, outputs } = consumer;
  if (rows.length === 1) {
    const row = rows[0]!;
    const diagonal = inverse[row * inputs + row]!;
    let energy = 0;
    for (let o = 0; o < outputs; o++) energy += weights[row * outputs + o]! ** 2;
    return energy / diagonal;
  }
  const solved = solveBlock(consumer, rows);
  let loss = 0;
  rows.forEach((row, r) => {
    for (let o = 0; o < outputs; o++) loss += solved[r * outputs + o]! * weights[row * outputs + o]!;
  });
  return loss;
}

/** `(H⁻¹_JJ)⁻¹ W_J` for the rows J of one unit. */
function solveBlock(consumer: ObsConsumer, rows: readonly number[]): Float64Array {
  const { inverse, weights, inputs, outputs } = consumer;
  const k = rows.length;
  const right = new Float64Array(k * outputs);
  rows.forEach((row, r) => right.set(weights.subarray(row * outputs, (row + 1) * outputs), r * outputs));
  solveCholesky(blockFactor(inverse, inputs, rows), k, right, outputs);
  return right;
}

function blockFactor(inverse: Float64Array, inputs: number, rows: readonly number[]): Float64Array {
  const k = rows.length;
  const block = new Float64Array(k * k);
  for (let r = 0; r < k; r++) for (let c = 0; c < k; c++) block[r * k + c] = entry(inverse, inputs, rows[r]!, rows[c]!);
  // Rounding in earlier downdates can push a tiny pivot below zero; a relative nudge restores definiteness.
  let trace = 0;
  for (let r = 0; r < k; r++) trace += Math.abs(block[r * k + r]!);
  for (let nudge = Math.max(trace / k, 1e-300) * 1e-10; Number.isFinite(nudge); nudge *= 10) {
    const factor = cholesky(block, k);
    if (factor) return factor;
    for (let r = 0; r < k; r++) block[r * k + r]! += nudge;
  }
  throw notFinite();
}

/** Downdates `H⁻¹` (its lower triangle) and `W` as if the unit's columns had never been there. */
function removeUnit(consumer: ObsConsumer, unit: number): void {
  const rows = consumer.rows[unit]!;
  const { inverse, weights, inputs, outputs } = consumer;
  const k = rows.length;
  const factor = blockFactor(inverse, inputs, rows);
  const solvedWeights = solveBlock(consumer, rows);
  const slab = new Float64Array(k * inputs);
  rows.forEach((row, r) => {
    for (let i = 0; i < inputs; i++) slab[r * inputs + i] = entry(inverse, inputs, row, i);
  });
  const solvedSlab = Float64Array.from(slab);
  solveCholesky(factor, k, solvedSlab, inputs);
  for (let i = 0; i < inputs; i++) {
    // Rows removed earlier are all zero and are skipped inside.
    subtractRows(weights, i * outputs, outputs, solvedWeights, 0, outputs, k, slab, i, inputs);
    subtractRows(inverse, i * inputs, i + 1, solvedSlab, 0, inputs, k, slab, i, inputs);
  }
  for (const row of rows) {
    weights.fill(0, row * outputs, (row + 1) * outputs);
    inverse.fill(0, row * inputs, (row + 1) * inputs);
    for (let i = row; i < inputs; i++) inverse[i * inputs + row] = 0;
  }
}

/** Entry of a symmetric matrix of which only the lower triangle is kept up to date. */
function entry(a: Float64Array, n: number, i: number, j: number): number {
  return i >= j ? a[i * n + j]! : a[j * n + i]!;
}
