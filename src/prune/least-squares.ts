import { cholesky, meanDiagonal, notFinite, solveCholesky, withRidge } from './linear-algebra.js';
import { subtractProduct } from './matrix-kernel.js';

/**
 * Sums over calibration rows for one consumer: `a` = its input columns as they reach it now, `y` = the output it
 * had in the dense model. All a least-squares repair needs; adding two of them merges their rows.
 */
export interface Moments {
  rows: number;
  inputs: number;
  outputs: number;
  /** Σ aᵀa, inputs × inputs. */
  gram: Float64Array;
  /** Σ aᵀy, inputs × outputs. */
  cross: Float64Array;
  inputSum: Float64Array;
  outputSum: Float64Array;
  /** Σ y², per output. */
  outputSquares: Float64Array;
}

export function emptyMoments(inputs: number, outputs: number): Moments {
  return {
    rows: 0,
    inputs,
    outputs,
    gram: new Float64Array(inputs * inputs),
    cross: new Float64Array(inputs * outputs),
    inputSum: new Float64Array(inputs),
    outputSum: new Float64Array(outputs),
    outputSquares: new Float64Array(outputs),
  };
}

/** Adds one batch's sums (any array type) into `target`. */
export function addMoments(
  target: Moments,
  batch: {
    rows: number;
    gram: ArrayLike<number>;
    cross: ArrayLike<number>;
    inputSum: ArrayLike<number>;
    outputSum: ArrayLike<number>;
    outputSquares: ArrayLike<number>;
  },
): void {
  target.rows += batch.rows;
  for (const field of ['gram', 'cross', 'inputSum', 'outputSum', 'outputSquares'] as const) {
    const into = target[field];
    const from = batch[field];
    for (let i = 0; i < into.length; i++) into[i]! += from[i]!;
  }
}

/** The sums of two sets of rows together. */
export function pooledMoments({ training, heldOut }: { training: Moments; heldOut: Moments }): Moments {
  const sum = emptyMoments(training.inputs, training.outputs);
  addMoments(sum, training);
  addMoments(sum, heldOut);
  return sum;
}

/** The sums of every `every`-th output alone; those of the inputs are shared, not copied. */
export function sampleOutputs(moments: Moments, every: number): Moments {
  if (every === 1) return moments;
  const outputs = Math.ceil(moments.outputs / every);
  const some = (values: Float64Array): Float64Array => sampleColumns(values, moments.outputs, every);
  return {
    ...moments,
    outputs,
    cross: some(moments.cross),
    outputSum: some(moments.outputSum),
    outputSquares: some(moments.outputSquares),
  };
}

/** Every `every`-th column of a matrix with `columns` columns. */
export function sampleColumns(values: Float64Array, columns: number, every: number): Float64Array {
  return every === 1 ? values : values.filter((_, at) => (at % columns) % every === 0);
}

export interface CentredMoments {
  inputs: number;
  outputs: number;
  gram: Float64Array;
  cross: Float64Array;
  inputMean: Float64Array;
  outputMean: Float64Array;
  /** Mean squared norm of the (centred) target. */
  targetEnergy: number;
}

/** Relative error to expect of a sum taken in float32. */
const float32Rounding = 1e-7;

/** Means per row; centred when the consumer has a bias to take the intercept, else raw with zero means. */
export function normalizeMoments(moments: Moments, withBias: boolean): CentredMoments {
  const { inputs, outputs } = moments;
  const rows = Math.max(moments.rows, 1);
  const inputMean = withBias ? moments.inputSum.map((sum) => sum / rows) : new Float64Array(inputs);
  const outputMean = withBias ? moments.outputSum.map((sum) => sum / rows) : new Float64Array(outputs);
  const gram = new Float64Array(inputs * inputs);
  const cross = new Float64Array(inputs * outputs);
  for (let i = 0; i < inputs; i++) {
    const mean = inputMean[i]!;
    for (let j = 0; j < inputs; j++) gram[i * inputs + j] = moments.gram[i * inputs + j]! / rows - mean * inputMean[j]!;
    // Sums come from float32: a variance below its rounding is noise and could even turn out negative.
    const own = i * inputs + i;
    gram[own] = Math.max(gram[own]!, (moments.gram[own]! / rows) * float32Rounding, 0);
    for (let o = 0; o < outputs; o++) {
      cross[i * outputs + o] = moments.cross[i * outputs + o]! / rows - mean * outputMean[o]!;
    }
  }
  let targetEnergy = 0;
  for (let o = 0; o < outputs; o++) targetEnergy += moments.outputSquares[o]! / rows - outputMean[o]! ** 2;
  return { inputs, outputs, gram, cross, inputMean, outputMean, targetEnergy: Math.max(targetEnergy, 0) };
}

export interface Repair {
  /** kept × outputs. */
  weights: Float64Array;
  /** The whole new bias (dense bias included), zeros when the fit had no intercept. */
  bias: Float64Array;
}

/**
 * Ridge regression of the dense output on the kept columns, pulled toward the old weights:
 * `(G_SS + λI) W′ = C_S + λ W_S`, `b′ = ȳ − ā_S W′`. `ridge` is relative to the mean diagonal of `G_SS`.
 */
export function solveRepair(
  moments: CentredMoments,
  kept: readonly number[],
  oldWeights: Float64Array,
  ridge: number,
): Repair {
  const { inputs, outputs } = moments;
  const k = kept.length;
  const gram = new Float64Array(k * k);
  const weights = new Float64Array(k * outputs);
  kept.forEach((row, r) => {
    kept.forEach((column, c) => (gram[r * k + c] = moments.gram[row * inputs + column]!));
  });
  const factorized = ridgedCholesky(gram, k, ridge * ridgeUnit(gram, k));
  kept.forEach((row, r) => {
    for (let o = 0; o < outputs; o++) {
      const at = row * outputs + o;
      weights[r * outputs + o] = moments.cross[at]! + factorized.ridge * oldWeights[at]!;
    }
  });
  solveCholesky(factorized.factor, k, weights, outputs);
  const bias = Float64Array.from(moments.outputMean);
  kept.forEach((row, r) => {
    const mean = moments.inputMean[row]!;
    if (mean !== 0) for (let o = 0; o < outputs; o++) bias[o]! -= mean * weights[r * outputs + o]!;
  });
  return { weights, bias };
}

/** What relative ridges are multiples of: the mean diagonal, or 1 where that says nothing. */
export function ridgeUnit(a: Float64Array, n: number): number {
  const mean = meanDiagonal(a, n);
  return mean > 0 ? mean : 1;
}

/**
 * Cholesky of `a + ridge·I`, with the ridge raised tenfold until the matrix is positive definite.
 * @throws SnugError E_RUN_FAILED when `a` holds values that are no numbers.
 */
export function ridgedCholesky(a: Float64Array, n: number, ridge: number): { factor: Float64Array; ridge: number } {
  const floor = ridgeUnit(a, n) * 1e-9;
  for (let used = ridge; Number.isFinite(used); used = Math.max(used * 10, floor)) {
    const factor = cholesky(withRidge(a, n, used), n);
    if (factor) return { factor, ridge: used };
  }
  throw notFinite();
}

/**
 * Mean squared error of a repair on (held-out) moments, relative to the energy of the target:
 * `E‖a_S W′ + b′ − y‖² / E‖y − ȳ‖²` (without centring when the consumer has no bias).
 */
export function relativeError(moments: Moments, kept: readonly number[], repair: Repair, withBias: boolean): number {
  const { inputs, outputs } = moments;
  const rows = Math.max(moments.rows, 1);
  const { weights, bias } = repair;
  const k = kept.length;
  const gram = new Float64Array(k * k);
  kept.forEach((row, r) => kept.forEach((column, c) => (gram[r * k + c] = moments.gram[row * inputs + column]!)));
  // −G W′, as the product subtracts.
  const projected = new Float64Array(k * outputs);
  const view = (data: Float64Array, columns: number) => ({ data, offset: 0, rowStride: columns, columnStride: 1 });
  subtractProduct(view(projected, outputs), view(gram, k), view(weights, outputs), k, outputs, k);
  let error = 0;
  let energy = 0;
  for (let r = 0; r < k; r++) {
    const sum = moments.inputSum[kept[r]!]!;
    for (let o = 0; o < outputs; o++) {
      const at = r * outputs + o;
      error += weights[at]! * (-projected[at]! - 2 * moments.cross[kept[r]! * outputs + o]! + 2 * sum * bias[o]!);
    }
  }
  for (let o = 0; o < outputs; o++) {
    const b = bias[o]!;
    const mean = withBias ? moments.outputSum[o]! / rows : 0;
    error += rows * b * b - 2 * b * moments.outputSum[o]! + moments.outputSquares[o]!;
    energy += moments.outputSquares[o]! - rows * mean * mean;
  }
  return energy > 0 ? Math.max(error, 0) / energy : error > 0 ? Infinity : 0;
}
