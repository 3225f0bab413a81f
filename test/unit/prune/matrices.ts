import { expect } from 'vitest';

/** Row-major matrix of seeded numbers in [-1, 1). */
export function randomMatrix(rows: number, columns: number, seed: number): Float64Array {
  let state = (seed * 2654435761 + 99991) >>> 0;
  return Float64Array.from({ length: rows * columns }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  });
}

export function multiply(a: Float64Array, b: Float64Array, rows: number, inner: number, columns: number): Float64Array {
  const result = new Float64Array(rows * columns);
  for (let i = 0; i < rows; i++) {
    for (let k = 0; k < inner; k++) {
      for (let j = 0; j < columns; j++) result[i * columns + j]! += a[i * inner + k]! * b[k * columns + j]!;
    }
  }
  return result;
}

export function transpose(a: Float64Array, rows: number, columns: number): Float64Array {
  return Float64Array.from({ length: a.length }, (_, at) => a[(at % rows) * columns + Math.floor(at / rows)]!);
}

/** Well-conditioned symmetric positive definite matrix. */
export function spd(n: number, seed: number): Float64Array {
  const root = randomMatrix(n + 3, n, seed);
  const a = multiply(transpose(root, n + 3, n), root, n, n + 3, n);
  for (let i = 0; i < n; i++) a[i * n + i]! += 0.5;
  return a;
}

/** The rows and columns of a square matrix picked by `rows` × `columns`. */
export function pick(
  a: Float64Array,
  width: number,
  rows: readonly number[],
  columns: readonly number[],
): Float64Array {
  return Float64Array.from(rows.flatMap((row) => columns.map((column) => a[row * width + column]!)));
}

export function closeTo(actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number): void {
  expect(actual.length).toBe(expected.length);
  let worst = 0;
  for (let i = 0; i < expected.length; i++) {
    worst = Math.max(worst, Math.abs(actual[i]! - expected[i]!) / Math.max(1, Math.abs(expected[i]!)));
  }
  expect(worst).toBeLessThan(tolerance);
}
