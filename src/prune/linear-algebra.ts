import { SnugError } from '../contract/errors.js';
import { subtractProduct, type MatrixView } from './matrix-kernel.js';

/**
 * Dense symmetric positive definite algebra in float64. Matrices are row-major `Float64Array`s. The work is done in
 * blocks by {@link subtractProduct} (an order of 3000 takes a second or two), within a block by {@link subtractRows}.
 */

/** Diagonal blocks up to this size are worked on entry by entry; everything off the diagonal is one product. */
const blockSize = 64;

const at = (data: Float64Array, offset: number, rowStride: number): MatrixView => ({
  data,
  offset,
  rowStride,
  columnStride: 1,
});

const turned = (view: MatrixView): MatrixView => ({
  ...view,
  rowStride: view.columnStride,
  columnStride: view.rowStride,
});

/**
 * Lower Cholesky factor of `a` (n × n, only its lower triangle is read), block column by block column.
 * Returns null when `a` is not numerically positive definite: the caller raises its ridge and tries again.
 */
export function cholesky(a: Float64Array, n: number): Float64Array | null {
  const factor = new Float64Array(n * n);
  for (let i = 0; i < n; i++) factor.set(a.subarray(i * n, i * n + i + 1), i * n);
  for (let start = 0; start < n; start += blockSize) {
    const end = Math.min(start + blockSize, n);
    for (let i = start; i < n; i++) {
      const rowI = i * n;
      for (let j = start; j < Math.min(i + 1, end); j++) {
        const rowJ = j * n;
        let sum = factor[rowI + j]!;
        for (let k = start; k < j; k++) sum -= factor[rowI + k]! * factor[rowJ + k]!;
        if (j < i) {
          factor[rowI + j] = sum / factor[rowJ + j]!;
        } else {
          if (!(sum > 0) || !Number.isFinite(sum)) return null;
          factor[rowI + i] = Math.sqrt(sum);
        }
      }
    }
    const panel = at(factor, end * n + start, n);
    subtractProduct(at(factor, end * n + end, n), panel, turned(panel), n - end, n - end, end - start, true);
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
  for (let start = 0; start < n; start += blockSize) {
    const end = Math.min(start + blockSize, n);
    subtractProduct(at(b, start * m, m), at(factor, start * n, n), at(b, 0, m), end - start, m, start);
    for (let i = start; i < end; i++) {
      subtractRows(b, i * m, m, b, start * m, m, i - start, factor, i * n + start, 1);
      scaleRow(b, i * m, m, 1 / factor[i * n + i]!);
    }
  }
  for (let start = Math.floor((n - 1) / blockSize) * blockSize; start >= 0; start -= blockSize) {
    const end = Math.min(start + blockSize, n);
    const below = turned(at(factor, end * n + start, n));
    subtractProduct(at(b, start * m, m), below, at(b, end * m, m), end - start, m, n - end);
    for (let i = end - 1; i >= start; i--) {
      subtractRows(b, i * m, m, b, (i + 1) * m, m, end - 1 - i, factor, (i + 1) * n + i, n);
      scaleRow(b, i * m, m, 1 / factor[i * n + i]!);
    }
  }
}

/** `(L Lᵀ)⁻¹` as a full symmetric n × n matrix. */
export function inverseFromCholesky(factor: Float64Array, n: number): Float64Array {
  const lower = invertLower(factor, n);
  const inverse = new Float64Array(n * n);
  // (L⁻¹)ᵀ L⁻¹, one block of columns at a time: rows above the block are zero there.
  for (let start = 0; start < n; start += blockSize) {
    const end = Math.min(start + blockSize, n);
    subtractProduct(
      at(inverse, start * n, n),
      turned(at(lower, start * n + start, n)),
      at(lower, start * n, n),
      end - start,
      end,
      n - start,
    );
  }
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) inverse[j * n + i] = inverse[i * n + j] = -inverse[i * n + j]!;
  }
  return inverse;
}

function invertLower(factor: Float64Array, n: number): Float64Array {
  const lower = new Float64Array(n * n);
  for (let start = 0; start < n; start += blockSize) {
    const end = Math.min(start + blockSize, n);
    subtractProduct(at(lower, start * n, n), at(factor, start * n, n), at(lower, 0, n), end - start, start, start);
    for (let i = start; i < end; i++) {
      subtractRows(lower, i * n, i, lower, start * n, n, i - start, factor, i * n + start, 1);
      lower[i * n + i] = 1;
      scaleRow(lower, i * n, i + 1, 1 / factor[i * n + i]!);
    }
  }
  return lower;
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
