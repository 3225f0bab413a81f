import type { WeightMatrix } from './matrix.js';
import { advance, Kernel, kernelMemory, op, types } from './wasm.js';

/**
 * Plain rounding of one block of columns for many rows, four rows at a time: a vector holds the values of one column in
 * four rows. Rows past the last one up to a multiple of four are computed on whatever is there.
 */

/**
 * Smallest and largest value of each row, 0 included, to `at.first` and `at.second`.
 * @param from byte address of the first value
 * @param stride bytes from row to row (row-major) or from column to column (column-major)
 */
type Extremes = (from: number, stride: number, columns: number, rows: number) => void;

/**
 * `clamp(nearest(value · inverse) + zero, 0, 2^bits − 1)` with `inverse` from `at.first` and `zero` from `at.second`,
 * low bits first, to `at.codes`.
 * @param words 32-bit words of codes in each row
 */
type Encode = (from: number, stride: number, words: number, bits: number, rows: number) => void;

type Order = WeightMatrix['order'];

/** Values of a tile with its rows filled up to a multiple of four, at most. */
export const tileValues = 2 ** 17;
/** Blocks have at least 16 values. */
const mostRows = tileValues / 16;
const at = {
  values: 0,
  first: tileValues * 4,
  second: tileValues * 4 + mostRows * 4,
  codes: tileValues * 4 + mostRows * 8,
} as const;
const memoryBytes = at.codes + tileValues;

/** Code that takes the values of one column in four rows from the addresses in four locals, and goes to the next column. */
function column(
  order: Order,
  stride: number,
  address: readonly number[],
): { start: number[]; load: number[]; next: number[] } {
  const [one, two, three, four] = address as [number, number, number, number];
  if (order === 'column-major') {
    const next = [...op.get(one), ...op.get(stride), ...op.i32Add, ...op.set(one)];
    return { start: [], load: [...op.get(one), ...op.load(0)], next };
  }
  const following = (to: number, from: number): number[] => [
    ...op.get(from),
    ...op.get(stride),
    ...op.i32Add,
    ...op.set(to),
  ];
  return {
    start: [...following(two, one), ...following(three, two), ...following(four, three)],
    load: [
      ...[...op.get(four), ...op.get(three), ...op.get(two), ...op.get(one)],
      ...[...op.loadSplat(0), ...op.loadLane(1), ...op.loadLane(2), ...op.loadLane(3)],
    ],
    next: address.flatMap((local) => advance(local, 4)),
  };
}

/** Moves the address of the first value four rows on. */
const fourRows = (order: Order, from: number, stride: number): number[] =>
  order === 'column-major'
    ? advance(from, 16)
    : [...op.get(from), ...op.get(stride), ...op.constant(4), ...op.i32Multiply, ...op.i32Add, ...op.set(from)];

const extremes = (order: Order): Kernel<Extremes> =>
  new Kernel<Extremes>(() => {
    const [from, stride, columns, rows] = [0, 1, 2, 3];
    const [row, left, one, two, three, four, low, high, value] = [4, 5, 6, 7, 8, 9, 10, 11, 12];
    const { start, load, next } = column(order, stride, [one, two, three, four]);
    return {
      parameters: [types.i32, types.i32, types.i32, types.i32],
      result: null,
      locals: [
        ...[types.i32, types.i32, types.i32, types.i32, types.i32, types.i32],
        ...[types.v128, types.v128, types.v128],
      ],
      body: [
        ...op.loop,
        ...[...op.get(from), ...op.set(one), ...start],
        ...[...op.zero, ...op.tee(low), ...op.set(high)],
        ...[...op.get(columns), ...op.set(left)],
        ...op.loop,
        ...[...load, ...op.set(value), ...next],
        ...[...op.get(low), ...op.get(value), ...op.lesser, ...op.set(low)],
        ...[...op.get(high), ...op.get(value), ...op.greater, ...op.set(high)],
        ...[...op.get(left), ...op.constant(1), ...op.i32Subtract, ...op.tee(left), ...op.branchIf(0), ...op.end],
        ...[...op.get(row), ...op.get(low), ...op.store(at.first)],
        ...[...op.get(row), ...op.get(high), ...op.store(at.second)],
        ...fourRows(order, from, stride),
        // `row` counts bytes of one float for each row.
        ...advance(row, 16),
        ...[...op.get(row), ...op.get(rows), ...op.constant(4), ...op.i32Multiply, ...op.i32Less, ...op.branchIf(0)],
        ...op.end,
      ],
    };
  });

const encode = (order: Order): Kernel<Encode> =>
  new Kernel<Encode>(() => {
    const [from, stride, words, bits, rows] = [0, 1, 2, 3, 4];
    const [row, left, shift, to, blob, one, two, three, four] = [5, 6, 7, 8, 9, 10, 11, 12, 13];
    const [inverse, zero, largest, word] = [14, 15, 16, 17];
    const { start, load, next } = column(order, stride, [one, two, three, four]);
    /** Bytes from row to row of codes times `count`, on the address of the row. */
    const rowOfCodes = (count: number): number[] => [
      ...[...op.get(to), ...op.get(blob), ...op.constant(count), ...op.i32Multiply, ...op.i32Add],
    ];
    return {
      parameters: [types.i32, types.i32, types.i32, types.i32, types.i32],
      result: null,
      locals: [
        ...[types.i32, types.i32, types.i32, types.i32, types.i32, types.i32, types.i32, types.i32, types.i32],
        ...[types.v128, types.v128, types.v128, types.v128],
      ],
      body: [
        ...[...op.get(words), ...op.constant(4), ...op.i32Multiply, ...op.set(blob)],
        ...[...op.constant(at.codes), ...op.set(to)],
        ...[...op.constant(1), ...op.get(bits), ...op.i32ShiftLeft, ...op.constant(1), ...op.i32Subtract],
        ...[...op.f32FromInteger, ...op.splat, ...op.set(largest)],
        ...op.loop,
        ...[...op.get(from), ...op.set(one), ...start],
        ...[...op.get(row), ...op.load(at.first), ...op.set(inverse)],
        ...[...op.get(row), ...op.load(at.second), ...op.set(zero)],
        ...[...op.get(words), ...op.set(left)],
        ...op.loop,
        ...[...op.zero, ...op.set(word), ...op.constant(0), ...op.set(shift)],
        ...op.loop,
        ...[...op.get(word), ...load, ...op.get(inverse), ...op.multiply, ...op.nearest, ...op.get(zero), ...op.add],
        ...[...op.zero, ...op.greater, ...op.get(largest), ...op.lesser, ...op.toIntegers],
        ...[...op.get(shift), ...op.shiftLeft, ...op.or, ...op.set(word), ...next],
        ...[...op.get(shift), ...op.get(bits), ...op.i32Add, ...op.tee(shift)],
        ...[...op.constant(32), ...op.i32Less, ...op.branchIf(0), ...op.end],
        ...[0, 1, 2, 3].flatMap((lane) => [...rowOfCodes(lane), ...op.get(word), ...op.storeLane(lane)]),
        ...advance(to, 4),
        ...[...op.get(left), ...op.constant(1), ...op.i32Subtract, ...op.tee(left), ...op.branchIf(0), ...op.end],
        ...[...rowOfCodes(3), ...op.set(to)],
        ...fourRows(order, from, stride),
        ...advance(row, 16),
        ...[...op.get(row), ...op.get(rows), ...op.constant(4), ...op.i32Multiply, ...op.i32Less, ...op.branchIf(0)],
        ...op.end,
      ],
    };
  });

const kernels = {
  'row-major': { extremes: extremes('row-major'), encode: encode('row-major') },
  'column-major': { extremes: extremes('column-major'), encode: encode('column-major') },
} as const;

/** Memory for one tile of a matrix and the two functions over it. */
export class NearestKernel {
  /** The tile, {@link tileValues} at most. */
  readonly values: Float32Array;
  /** By row: least values, then inverse scales. */
  readonly first: Float32Array;
  /** By row: largest values, then zero points. */
  readonly second: Float32Array;
  /** Codes, row by row. */
  readonly codes: Int32Array;
  readonly extremes: Extremes;
  readonly encode: Encode;

  constructor(order: Order) {
    const memory = kernelMemory(memoryBytes);
    const { buffer } = memory;
    this.values = new Float32Array(buffer, at.values, tileValues);
    this.first = new Float32Array(buffer, at.first, mostRows);
    this.second = new Float32Array(buffer, at.second, mostRows);
    this.codes = new Int32Array(buffer, at.codes, tileValues / 4);
    this.extremes = kernels[order].extremes.over(memory);
    this.encode = kernels[order].encode.over(memory);
  }
}
