import type { CentredMoments } from './least-squares.js';
import { ridgedCholesky, ridgeUnit } from './least-squares.js';
import { cholesky, inverseFromCholesky, notFinite, solveCholesky } from './linear-algebra.js';

/** Which weights become zero: a share of each output's, or all but the n largest of every m along the input. */
export type SparsityPattern = { kind: 'unstructured'; share: number } | { kind: 'n:m'; n: number; m: number };

/** More work than this per layer (multiplications of the exact way) and columns are settled one after the other. */
const exactWork = 4e10;

/**
 * The weights to keep: for each output those with the largest `w² · energy of the input` (Wanda; plain magnitude where
 * no energies are given).
 * @param groups for `n:m`: rows that share a group, in the order of the input axis.
 * @returns 1 = kept, inputs × outputs.
 */
export function sparsityMask(
  weights: Float64Array,
  inputs: number,
  outputs: number,
  pattern: SparsityPattern,
  groups: readonly (readonly number[])[],
  energies?: Float64Array,
): Uint8Array {
  const mask = new Uint8Array(inputs * outputs);
  const rows = pattern.kind === 'unstructured' ? [Array.from({ length: inputs }, (_, row) => row)] : groups;
  for (const group of rows) {
    const whole = pattern.kind === 'unstructured' || group.length === pattern.m;
    const keep = pattern.kind === 'n:m' ? pattern.n : group.length - Math.round(group.length * pattern.share);
    for (let o = 0; o < outputs; o++) {
      // A rest shorter than a group stays dense: hardware wants whole groups.
      const order = whole
        ? [...group].sort((a, b) => score(weights, energies, b, o, outputs) - score(weights, energies, a, o, outputs))
        : group;
      for (const row of whole ? order.slice(0, keep) : order) mask[row * outputs + o] = 1;
    }
  }
  return mask;
}

function score(
  weights: Float64Array,
  energies: Float64Array | undefined,
  row: number,
  output: number,
  outputs: number,
): number {
  return weights[row * outputs + output]! ** 2 * (energies?.[row] ?? 1);
}

/**
 * Weights that are zero outside of `mask` and come closest to the dense outputs: for each output the least-squares
 * solution on its own support, `(G_SS + λI) w = c_S + λ w_S`; for layers where that is too much work, one pass over
 * the columns that hands each removed weight on to those still to come (SparseGPT, Frantar and Alistarh 2023).
 * @param ridge relative to the mean diagonal of the Gram matrix.
 */
export function solveSparse(moments: CentredMoments, old: Float64Array, mask: Uint8Array, ridge: number): Float64Array {
  const { inputs, outputs } = moments;
  let work = 0;
  for (let o = 0; o < outputs; o++) {
    let kept = 0;
    for (let row = 0; row < inputs; row++) kept += mask[row * outputs + o]!;
    work += kept ** 3 / 3;
  }
  return work <= exactWork ? solveExactly(moments, old, mask, ridge) : solveInOrder(moments, old, mask, ridge);
}

function solveExactly(
  { gram, cross, inputs, outputs }: CentredMoments,
  old: Float64Array,
  mask: Uint8Array,
  ridge: number,
): Float64Array {
  const result = new Float64Array(inputs * outputs);
  const lambda = ridge * ridgeUnit(gram, inputs);
  for (let o = 0; o < outputs; o++) {
    const support: number[] = [];
    for (let row = 0; row < inputs; row++) if (mask[row * outputs + o] === 1) support.push(row);
    const s = support.length;
    const own = new Float64Array(s * s);
    support.forEach((row, r) => {
      for (let c = 0; c <= r; c++) own[r * s + c] = gram[row * inputs + support[c]!]!;
    });
    const { factor, ridge: used } = ridgedCholesky(own, s, lambda);
    const solved = Float64Array.from(support, (row) => cross[row * outputs + o]! + used * old[row * outputs + o]!);
    solveCholesky(factor, s, solved, 1);
    support.forEach((row, r) => (result[row * outputs + o] = solved[r]!));
  }
  return result;
}

function solveInOrder(
  { gram, cross, inputs, outputs }: CentredMoments,
  old: Float64Array,
  mask: Uint8Array,
  ridge: number,
): Float64Array {
  const { factor, ridge: used } = ridgedCholesky(gram, inputs, ridge * ridgeUnit(gram, inputs));
  const weights = Float64Array.from(cross, (value, at) => value + used * old[at]!);
  solveCholesky(factor, inputs, weights, outputs);
  // Column j of the lower factor of H⁻¹ is its row once the columns before j are settled.
  const lower = cholesky(inverseFromCholesky(factor, inputs), inputs);
  if (lower === null) throw notFinite();
  const left = new Float64Array(outputs);
  for (let row = 0; row < inputs; row++) {
    const pivot = lower[row * inputs + row]!;
    let any = false;
    for (let o = 0; o < outputs; o++) {
      const at = row * outputs + o;
      left[o] = mask[at] === 1 ? 0 : weights[at]! / pivot;
      if (mask[at] === 0) {
        weights[at] = 0;
        any = true;
      }
    }
    for (let later = row + 1; any && later < inputs; later++) {
      const passedOn = lower[later * inputs + row]!;
      for (let o = 0; o < outputs; o++) weights[later * outputs + o]! -= left[o]! * passedOn;
    }
  }
  return weights;
}
