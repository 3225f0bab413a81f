/**
 * Dense symmetric positive definite algebra in float64. Matrices are row-major `Float64Array`s; all inner loops
 * run over contiguous rows, which is what makes plain JavaScript fast enough (order 1000 in about a second).
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

/** Solves `L Lᵀ X = B` in place; `factor` is n × n lower, `b` is n × m. */
export function solveCholesky(factor: Float64Array, n: number, b: Float64Array, m: number): void {
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < i; k++) subtractRow(b, i * m, k * m, m, factor[i * n + k]!);
    scaleRow(b, i * m, m, 1 / factor[i * n + i]!);
  }
  for (let i = n - 1; i >= 0; i--) {
    scaleRow(b, i * m, m, 1 / factor[i * n + i]!);
    for (let k = 0; k < i; k++) subtractRow(b, k * m, i * m, m, factor[i * n + k]!);
  }
}

/** `(L Lᵀ)⁻¹` as a full symmetric n × n matrix. */
export function inverseFromCholesky(factor: Float64Array, n: number): Float64Array {
  const lower = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    const row = i * n;
    for (let k = 0; k < i; k++) {
      const scale = factor[row + k]!;
      if (scale !== 0) subtractRow(lower, row, k * n, k + 1, scale);
    }
    lower[row + i] = 1;
    scaleRow(lower, row, i + 1, 1 / factor[row + i]!);
  }
  const inverse = new Float64Array(n * n);
  for (let k = 0; k < n; k++) {
    for (let i = 0; i <= k; i++) {
      const scale = lower[k * n + i]!;
      if (scale !== 0) subtractFrom(inverse, i * n, lower, k * n, i + 1, -scale);
    }
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

/** `target[t…] -= scale · source[s…]` over `length` entries. */
export function subtractFrom(
  target: Float64Array,
  targetStart: number,
  source: Float64Array,
  sourceStart: number,
  length: number,
  scale: number,
): void {
  for (let i = 0; i < length; i++) target[targetStart + i]! -= scale * source[sourceStart + i]!;
}

function subtractRow(b: Float64Array, target: number, source: number, length: number, scale: number): void {
  subtractFrom(b, target, b, source, length, scale);
}

function scaleRow(b: Float64Array, start: number, length: number, scale: number): void {
  for (let i = 0; i < length; i++) b[start + i]! *= scale;
}
