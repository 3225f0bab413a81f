import { cholesky, notFinite } from './linear-algebra.js';
import { subtractProduct } from './matrix-kernel.js';

/** One consumer of the class whose units are to be removed. */
export interface ObsConsumer {
  /** `H⁻¹`, inputs × inputs; only the lower triangle is read; overwritten. */
  inverse: Float64Array;
  /** Least-squares weights with every unit present, inputs × outputs. */
  weights: Float64Array;
  inputs: number;
  outputs: number;
  /** Unit → its rows in `weights`: one for a Gemm, kh·kw for a Conv, the head's width for attention heads; none is allowed. */
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
 *
 * The loss needs `W` only through `M = W Wᵀ`, which is downdated as `H⁻¹` is; downdates of both are gathered and
 * applied many at a time, as one matrix product. Every choice is still made on current numbers.
 */
export function greedyObs(consumers: readonly ObsConsumer[], units: number, count: number): ObsTrace {
  const states = consumers.map((consumer) => new Downdates(consumer));
  const alive = Array.from({ length: units }, () => true);
  const trace: ObsTrace = { order: [], losses: [] };
  let total = 0;
  for (let step = 0; step < count; step++) {
    let best = -1;
    let bestLoss = Infinity;
    for (let unit = 0; unit < units; unit++) {
      if (!alive[unit]) continue;
      let loss = 0;
      for (const state of states) loss += state.scale * state.loss(unit);
      if (loss < bestLoss) {
        bestLoss = loss;
        best = unit;
      }
    }
    if (best < 0) break;
    alive[best] = false;
    for (const state of states) state.remove(best);
    total += bestLoss;
    trace.order.push(best);
    trace.losses.push(total);
  }
  return trace;
}

/** Downdates gathered before they are applied. */
const gathered = 64;

/** `H⁻¹` and `M` of one consumer with units removed: `H⁻¹ − UUᵀ` and `M − UVᵀ − VUᵀ`, and the blocks of every unit. */
class Downdates {
  readonly scale: number;
  readonly #n: number;
  readonly #rows: readonly (readonly number[])[];
  readonly #inverse: Float64Array;
  readonly #energy: Float64Array;
  /** Columns of U and V not yet applied, n × `#stride`. */
  readonly #u: Float64Array;
  readonly #v: Float64Array;
  readonly #stride: number;
  #pending = 0;
  /** Current blocks of every unit, of `H⁻¹` and of `M`. */
  readonly #inverseBlocks: Float64Array[];
  readonly #energyBlocks: Float64Array[];
  readonly #removed: boolean[];

  constructor({ inverse, weights, inputs, outputs, rows, scale }: ObsConsumer) {
    this.scale = scale;
    this.#n = inputs;
    this.#rows = rows;
    this.#inverse = inverse;
    this.#energy = new Float64Array(inputs * inputs);
    const view = { data: weights, offset: 0, rowStride: outputs, columnStride: 1 };
    const turned = { ...view, rowStride: 1, columnStride: outputs };
    subtractProduct(square(this.#energy, inputs), view, turned, inputs, inputs, outputs, true);
    for (let i = 0; i < this.#energy.length; i++) this.#energy[i] = -this.#energy[i]!;
    this.#stride = gathered + Math.max(0, ...rows.map((own) => own.length));
    this.#u = new Float64Array(inputs * this.#stride);
    this.#v = new Float64Array(inputs * this.#stride);
    this.#inverseBlocks = rows.map((own) => block(inverse, inputs, own));
    this.#energyBlocks = rows.map((own) => block(this.#energy, inputs, own));
    this.#removed = rows.map(() => false);
  }

  /** Squared error that removing the unit now would add. */
  loss(unit: number): number {
    const inverse = this.#inverseBlocks[unit]!;
    const energy = this.#energyBlocks[unit]!;
    const k = this.#rows[unit]!.length;
    if (k === 0) return 0;
    if (k === 1) return energy[0]! / inverse[0]!;
    // tr(L⁻¹ M L⁻ᵀ): the diagonal of M seen in the basis where the block of H⁻¹ is one.
    const white = whiten(blockFactor(inverse, k), energy, k);
    let loss = 0;
    for (let r = 0; r < k; r++) loss += white[r * k + r]!;
    return loss;
  }

  remove(unit: number): void {
    const rows = this.#rows[unit]!;
    const k = rows.length;
    if (k === 0) return;
    const factor = blockFactor(this.#inverseBlocks[unit]!, k);
    const white = whiten(factor, this.#energyBlocks[unit]!, k);
    const start = this.#pending;
    const newU = new Float64Array(this.#n * k);
    const newV = new Float64Array(this.#n * k);
    rows.forEach((row, r) => {
      this.#currentColumns(row, newU, newV, k, r);
    });
    for (let i = 0; i < this.#n; i++) {
      // (H⁻¹_:J, M_:J) L⁻ᵀ row by row, then V = A − ½ U C.
      forwardSolve(factor, k, newU, i * k);
      forwardSolve(factor, k, newV, i * k);
      const at = i * this.#stride + start;
      for (let c = 0; c < k; c++) {
        let half = 0;
        for (let r = 0; r < k; r++) half += newU[i * k + r]! * white[r * k + c]!;
        this.#u[at + c] = newU[i * k + c]!;
        this.#v[at + c] = newV[i * k + c]! - 0.5 * half;
      }
    }
    this.#removed[unit] = true;
    this.#pending += k;
    this.#updateBlocks(start, k);
    if (this.#pending >= gathered) this.#apply();
  }

  /** Column `row` of the current `H⁻¹` and `M`, into column r of n × k arrays. */
  #currentColumns(row: number, inverse: Float64Array, energy: Float64Array, k: number, r: number): void {
    const n = this.#n;
    const own = row * this.#stride;
    for (let i = 0; i < n; i++) {
      const at = i >= row ? i * n + row : row * n + i;
      const other = i * this.#stride;
      let h = this.#inverse[at]!;
      let m = this.#energy[at]!;
      for (let p = 0; p < this.#pending; p++) {
        const u = this.#u[other + p]!;
        h -= u * this.#u[own + p]!;
        m -= u * this.#v[own + p]! + this.#v[other + p]! * this.#u[own + p]!;
      }
      inverse[i * k + r] = h;
      energy[i * k + r] = m;
    }
  }

  #updateBlocks(start: number, count: number): void {
    this.#rows.forEach((rows, unit) => {
      if (this.#removed[unit]) return;
      const inverse = this.#inverseBlocks[unit]!;
      const energy = this.#energyBlocks[unit]!;
      const k = rows.length;
      for (let r = 0; r < k; r++) {
        const atR = rows[r]! * this.#stride + start;
        for (let c = 0; c < k; c++) {
          const atC = rows[c]! * this.#stride + start;
          for (let p = 0; p < count; p++) {
            const u = this.#u[atR + p]!;
            inverse[r * k + c]! -= u * this.#u[atC + p]!;
            energy[r * k + c]! -= u * this.#v[atC + p]! + this.#v[atR + p]! * this.#u[atC + p]!;
          }
        }
      }
    });
  }

  #apply(): void {
    const n = this.#n;
    const view = (data: Float64Array) => ({ data, offset: 0, rowStride: this.#stride, columnStride: 1 });
    const turned = (data: Float64Array) => ({ data, offset: 0, rowStride: 1, columnStride: this.#stride });
    const u = this.#u;
    const v = this.#v;
    subtractProduct(square(this.#inverse, n), view(u), turned(u), n, n, this.#pending, true);
    subtractProduct(square(this.#energy, n), view(u), turned(v), n, n, this.#pending, true);
    subtractProduct(square(this.#energy, n), view(v), turned(u), n, n, this.#pending, true);
    this.#pending = 0;
  }
}

function square(data: Float64Array, n: number) {
  return { data, offset: 0, rowStride: n, columnStride: 1 };
}

/** The rows and columns of one unit, from the lower triangle. */
function block(a: Float64Array, n: number, rows: readonly number[]): Float64Array {
  const entry = (i: number, j: number): number => (i >= j ? a[i * n + j]! : a[j * n + i]!);
  return Float64Array.from(rows.flatMap((row) => rows.map((column) => entry(row, column))));
}

/** Lower Cholesky factor of a unit's block. */
function blockFactor(inverse: Float64Array, k: number): Float64Array {
  if (k === 1 && inverse[0]! > 0) return Float64Array.of(Math.sqrt(inverse[0]!));
  // Rounding in earlier downdates can push a tiny pivot below zero; a relative nudge restores definiteness.
  const copy = Float64Array.from(inverse);
  let trace = 0;
  for (let r = 0; r < k; r++) trace += Math.abs(copy[r * k + r]!);
  for (let nudge = Math.max(trace / k, 1e-300) * 1e-10; Number.isFinite(nudge); nudge *= 10) {
    const factor = cholesky(copy, k);
    if (factor) return factor;
    for (let r = 0; r < k; r++) copy[r * k + r]! += nudge;
  }
  throw notFinite();
}

/** `L⁻¹ M L⁻ᵀ`. */
function whiten(factor: Float64Array, energy: Float64Array, k: number): Float64Array {
  const white = Float64Array.from(energy);
  for (let pass = 0; pass < 2; pass++) {
    for (let r = 0; r < k; r++) forwardSolve(factor, k, white, r * k);
    for (let r = 0; r < k; r++) {
      for (let c = 0; c < r; c++) {
        [white[r * k + c], white[c * k + r]] = [white[c * k + r]!, white[r * k + c]!];
      }
    }
  }
  return white;
}

/** Solves `L x = b` for the k entries of `b` from `at` on. */
function forwardSolve(factor: Float64Array, k: number, b: Float64Array, at: number): void {
  for (let r = 0; r < k; r++) {
    let sum = b[at + r]!;
    for (let c = 0; c < r; c++) sum -= factor[r * k + c]! * b[at + c]!;
    b[at + r] = sum / factor[r * k + r]!;
  }
}
