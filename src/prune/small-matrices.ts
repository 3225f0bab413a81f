/** Algebra of square row-major matrices of a few hundred rows, in float64. */

/** Eigenvalues of a symmetric matrix, largest first, with their vectors as the columns of an n × n matrix. */
export interface Eigen {
  values: Float64Array;
  vectors: Float64Array;
}

const mostSweeps = 60;

/**
 * Cyclic Jacobi rotations: small symmetric matrices (a few hundred rows), every vector orthonormal to rounding.
 * Source: Golub and Van Loan, Matrix Computations, 4th edition, section 8.5.
 */
export function symmetricEigen(matrix: Float64Array, n: number): Eigen {
  const a = Float64Array.from(matrix);
  // Rows of `turned` are the vectors: rotations then walk along memory.
  const turned = new Float64Array(n * n);
  for (let i = 0; i < n; i++) turned[i * n + i] = 1;
  let size = 0;
  for (const value of a) size += value * value;
  for (let sweep = 0; sweep < mostSweeps; sweep++) {
    let rest = 0;
    for (let p = 0; p < n; p++) for (let q = p + 1; q < n; q++) rest += a[p * n + q]! ** 2;
    if (rest <= 1e-26 * size) break;
    for (let p = 0; p < n; p++) {
      for (let q = p + 1; q < n; q++) rotate(a, turned, n, p, q);
    }
  }
  const order = Array.from({ length: n }, (_, i) => i).sort((x, y) => a[y * n + y]! - a[x * n + x]!);
  const vectors = new Float64Array(n * n);
  order.forEach((from, to) => {
    for (let i = 0; i < n; i++) vectors[i * n + to] = turned[from * n + i]!;
  });
  return { values: Float64Array.from(order, (i) => a[i * n + i]!), vectors };
}

/** Makes entry (p, q) zero. */
function rotate(a: Float64Array, turned: Float64Array, n: number, p: number, q: number): void {
  const off = a[p * n + q]!;
  if (off === 0) return;
  const theta = (a[q * n + q]! - a[p * n + p]!) / (2 * off);
  const tangent = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.sqrt(theta * theta + 1));
  const cosine = 1 / Math.sqrt(tangent * tangent + 1);
  const sine = tangent * cosine;
  for (let i = 0; i < n; i++) {
    const [ip, iq] = [a[i * n + p]!, a[i * n + q]!];
    a[i * n + p] = cosine * ip - sine * iq;
    a[i * n + q] = sine * ip + cosine * iq;
  }
  for (const rows of [a, turned]) {
    for (let i = 0; i < n; i++) {
      const [pi, qi] = [rows[p * n + i]!, rows[q * n + i]!];
      rows[p * n + i] = cosine * pi - sine * qi;
      rows[q * n + i] = sine * pi + cosine * qi;
    }
  }
}

/** `Lᵀ A L` for a lower L and a symmetric A. */
export function congruent(lower: Float64Array, a: Float64Array, n: number): Float64Array {
  const right = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < n; k++) {
      const value = a[i * n + k]!;
      for (let j = 0; j <= k; j++) right[i * n + j]! += value * lower[k * n + j]!;
    }
  }
  const result = new Float64Array(n * n);
  for (let k = 0; k < n; k++) {
    for (let i = 0; i <= k; i++) {
      const value = lower[k * n + i]!;
      for (let j = 0; j < n; j++) result[i * n + j]! += value * right[k * n + j]!;
    }
  }
  return result;
}

/** `L⁻ᵀ B` as a new n × n matrix. */
export function solveTransposed(lower: Float64Array, b: Float64Array, n: number): Float64Array {
  const x = Float64Array.from(b);
  for (let row = n - 1; row >= 0; row--) {
    for (let below = row + 1; below < n; below++) {
      const factor = lower[below * n + row]!;
      for (let c = 0; c < n; c++) x[row * n + c]! -= factor * x[below * n + c]!;
    }
    for (let c = 0; c < n; c++) x[row * n + c]! /= lower[row * n + row]!;
  }
  return x;
}

/** Columns made orthonormal one after the other (twice, against rounding): the first k span what they spanned. */
export function orthonormal(matrix: Float64Array, n: number): Float64Array {
  const result = Float64Array.from(matrix);
  for (let column = 0; column < n; column++) {
    for (let pass = 0; pass < 2; pass++) {
      scaleColumn(result, n, column);
      for (let before = 0; before < column; before++) {
        let dot = 0;
        for (let i = 0; i < n; i++) dot += result[i * n + before]! * result[i * n + column]!;
        for (let i = 0; i < n; i++) result[i * n + column]! -= dot * result[i * n + before]!;
      }
    }
    scaleColumn(result, n, column);
  }
  return result;
}

function scaleColumn(matrix: Float64Array, n: number, column: number): void {
  let squares = 0;
  for (let i = 0; i < n; i++) squares += matrix[i * n + column]! ** 2;
  const scale = 1 / Math.sqrt(squares);
  for (let i = 0; i < n; i++) matrix[i * n + column]! *= scale;
}

export function transposed(matrix: Float64Array, n: number): Float64Array {
  return matrix.map((_, at) => matrix[(at % n) * n + Math.floor(at / n)]!);
}
