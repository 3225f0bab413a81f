import { elementCount } from '../onnx/tensor.js';

/** A tensor of float32 numbers that is computed when read. */
export interface Computed {
  dims: number[];
  read: () => Float32Array;
}

type Operation = (a: number, b: number) => number;

const operations: Readonly<Record<string, Operation>> = {
  Add: (a, b) => a + b,
  Sub: (a, b) => a - b,
  Mul: (a, b) => a * b,
  Div: (a, b) => a / b,
};

/** Whether an operator is one of {@link combine}. */
export const isArithmetic = (opType: string): boolean => Object.hasOwn(operations, opType);

/** Two tensors added, subtracted, multiplied or divided, broadcast as NumPy does (ONNX "Multidirectional broadcasting"); null where their dims do not fit. */
export function combine(opType: string, left: Computed, right: Computed): Computed | null {
  const rank = Math.max(left.dims.length, right.dims.length);
  const widened = [left, right].map(({ dims }) => [...Array<number>(rank - dims.length).fill(1), ...dims]);
  const [a, b] = [widened[0]!, widened[1]!];
  if (a.some((dim, axis) => dim !== b[axis] && dim !== 1 && b[axis] !== 1)) return null;
  const dims = a.map((dim, axis) => (dim === 1 ? b[axis]! : dim));
  const operation = operations[opType]!;
  const read = (): Float32Array => {
    const [x, y] = [left.read(), right.read()];
    const [rowsX, rowsY] = [rowsOf(dims, stridesOf(a, dims)), rowsOf(dims, stridesOf(b, dims))];
    const result = new Float32Array(elementCount(dims));
    for (let first = 0; first < result.length; first += rowsX.length) {
      let [atX, atY] = [rowsX.next(), rowsY.next()];
      for (let i = first; i < first + rowsX.length; i++, atX += rowsX.step, atY += rowsY.step) {
        result[i] = operation(x[atX]!, y[atY]!);
      }
    }
    return result;
  };
  return { dims, read };
}

/** Euclidean norm along axes (ReduceL2), which stay with one element or go. */
export function norm(whole: Computed, axes: readonly number[], keep: boolean): Computed {
  const { dims } = whole;
  const summed = new Set(axes.map((axis) => (axis < 0 ? axis + dims.length : axis)));
  const kept = dims.map((dim, axis) => (summed.has(axis) ? 1 : dim));
  const read = (): Float32Array => {
    const values = whole.read();
    const sums = new Float64Array(elementCount(kept));
    const rows = rowsOf(dims, stridesOf(kept, dims));
    for (let first = 0; first < values.length; first += rows.length) {
      let at = rows.next();
      for (let i = first; i < first + rows.length; i++, at += rows.step) sums[at]! += values[i]! * values[i]!;
    }
    return Float32Array.from(sums, Math.sqrt);
  };
  return { dims: keep ? kept : dims.filter((_, axis) => !summed.has(axis)), read };
}

/** Axes in another order (Transpose). */
export function permuted(whole: Computed, perm: readonly number[]): Computed {
  const strides = stridesOf(whole.dims, whole.dims);
  const dims = perm.map((axis) => whole.dims[axis]!);
  const read = (): Float32Array => {
    const values = whole.read();
    const rows = rowsOf(
      dims,
      perm.map((axis) => strides[axis]!),
    );
    const result = new Float32Array(values.length);
    for (let first = 0; first < result.length; first += rows.length) {
      let at = rows.next();
      for (let i = first; i < first + rows.length; i++, at += rows.step) result[i] = values[at]!;
    }
    return result;
  };
  return { dims, read };
}

/** Elements from one index to the next along each axis of `dims`, 0 where it is broadcast to `full`. */
function stridesOf(dims: readonly number[], full: readonly number[]): number[] {
  return dims.map((dim, axis) => (dim === 1 && full[axis] !== 1 ? 0 : elementCount(dims.slice(axis + 1))));
}

/** Rows of `dims` along the last axis: their length, how far their elements are apart, and where the next one starts. */
function rowsOf(
  dims: readonly number[],
  strides: readonly number[],
): { length: number; step: number; next: () => number } {
  const [length, step] = [dims[dims.length - 1] ?? 1, strides[dims.length - 1] ?? 0];
  return { length, step, next: walk(dims.slice(0, -1), strides) };
}

/** Gives, call by call, where each element of `dims` in row-major order lies. */
function walk(dims: readonly number[], strides: readonly number[]): () => number {
  const index = dims.map(() => 0);
  let next = 0;
  return () => {
    const current = next;
    for (let axis = dims.length - 1; axis >= 0; axis--) {
      next += strides[axis]!;
      if (++index[axis]! < dims[axis]!) break;
      next -= strides[axis]! * dims[axis]!;
      index[axis] = 0;
    }
    return current;
  };
}
