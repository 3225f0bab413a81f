import { SnugError } from '../contract/errors.js';

/**
 * Dense symmetric positive definite algebra in float64. Matrices are row-major `Float64Array`s. The work is done by
 * {@link subtractRows}, four contiguous rows at a time, which is what makes plain JavaScript fast enough (an order
 * of 1000 takes about a second).
 */

/**
 * Lower Cholesky factor of `a` (n × n, only its lower triangle is read).
 * Returns null when `a` is not numerically positive definite: the caller raises its ridge and tries again.
 */
export function cholesky(a: Float64Array, n: number): Float64Array | null {
  const factor = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    const rowI = i * n;
    for (let j = 0; j <= i; j++) {
      const rowJ = j * n;
      let sum = a[rowI + j]!;
      for (let k = 0; k < j; k++) sum -= factor[rowI + k]! * factor[rowJ + k]!;
      if (j < i) {
        factor[rowI + j] = sum / factor[rowJ + j]!;
      } else {
        if (!(sum > 0) || !Number.isFinite(sum)) return null;
        factor[rowI + i] = Math.sqrt(sum);
      }
    }
  }
  return factor;
}

/** What a factorization that no ridge can save means: the model made NaN or infinity out of the samples. */
export function notFinite(): SnugError {
  return new SnugError('E_RUN_FAILED', 'The samples drive the model to values that are not finite.', {
    action: 'Check the samples, or prune by magnitude.',
  });
}

/** Solves `L Lᵀ X = B` in place; `factor` is n × n lower, `b` is n × m. */
export function solveCholesky(factor: Float64Array, n: number, b: Float64Array, m: number): void {
  for (let i = 0; i < n; i++) {
    subtractRows(b, i * m, m, b, 0, m, i, factor, i * n, 1);
    scaleRow(b, i * m, m, 1 / factor[i * n + i]!);
  }
  for (let i = n - 1; i >= 0; i--) {
    subtractRows(b, i * m, m, b, (i + 1) * m, m, n - 1 - i, factor, (i + 1) * n + i, n);
    scaleRow(b, i * m, m, 1 / factor[i * n + i]!);
  }
}

/** `(L Lᵀ)⁻¹` as a full symmetric n × n matrix. */
export function inverseFromCholesky(factor: Float64Array, n: number): Float64Array {
  const lower = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    subtractRows(lower, i * n, i, lower, 0, n, i, factor, i * n, 1);
    lower[i * n + i] = 1;
    scaleRow(lower, i * n, i + 1, 1 / factor[i * n + i]!);
  }
  const inverse = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    subtractRows(inverse, i * n, i + 1, lower, i * n, n, n - i, lower, i * n + i, n);
    scaleRow(inverse, i * n, i + 1, -1);
  }
  for (let i = 0; i < n; i++) for (let j = 0; j < i; j++) inverse[j * n + i] = inverse[i * n + j]!;
  return inverse;
}

/** `a` with `ridge` added to its diagonal, as a copy. */
export function withRidge(a: Float64Array, n: number, ridge: number): Float64Array {
  const copy = Float64Array.from(a);
  for (let i = 0; i < n; i++) copy[i * n + i]! += ridge;
  return copy;
}

/** Mean of the diagonal of an n × n matrix: the unit in which ridges are given. */
export function meanDiagonal(a: Float64Array, n: number): number {
  let sum = 0;
  for (let i = 0; i < n; i++) sum += a[i * n + i]!;
  return n === 0 ? 0 : sum / n;
}

/**
 * `target[t…] −= Σ_r scales[s + r·scaleStride] · source[f + r·sourceStride …]` over `length` entries and `count`
 * rows. Target and source may be one array as long as the ranges differ.
 */
export function subtractRows(
  target: Float64Array,
  t: number,
  length: number,
  source: Float64Array,
  f: number,
  sourceStride: number,
  count: number,
  scales: Float64Array,
  s: number,
  scaleStride: number,
): void {
  let r = 0;
  for (; r + 4 <= count; r += 4) {
    const at = s + r * scaleStride;
    const a = scales[at]!;
    const b = scales[at + scaleStride]!;
    const c = scales[at + 2 * scaleStride]!;
    const d = scales[at + 3 * scaleStride]!;
    if (a === 0 && b === 0 && c === 0 && d === 0) continue;
    const rowA = f + r * sourceStride;
    const rowB = rowA + sourceStride;
    const rowC = rowB + sourceStride;
    const rowD = rowC + sourceStride;
    for (let i = 0; i < length; i++) {
      target[t + i]! -= a * source[rowA + i]! + b * source[rowB + i]! + c * source[rowC + i]! + d * source[rowD + i]!;
    }
  }
  for (; r < count; r++) {
    const scale = scales[s + r * scaleStride]!;
    if (scale === 0) continue;
    const row = f + r * sourceStride;
    for (let i = 0; i < length; i++) target[t + i]! -= scale * source[row + i]!;
  }
}

function scaleRow(b: Float64Array, start: number, length: number, scale: number): void {
  for (let i = 0; i < length; i++) b[start + i]! *= scale;
}
