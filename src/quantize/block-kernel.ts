import { advance, Kernel, op, types } from './wasm.js';

/**
 * Judges candidate scales of one block. With p = clamp(nearest(v · inverse), lowest, highest), a candidate explains
 * `gain = (Σ u·p)² / Σ w·p²` of the block; `u = w·v`.
 * @param bytes of the block: a multiple of 16, padded with zeros.
 * @param weighted byte address of u.
 * @param first @param end byte addresses of the candidates.
 * @param least gain to be exceeded.
 * @returns byte address of the best candidate, 0 when none exceeds `least`.
 */
type Judge = (bytes: number, weighted: number, first: number, end: number, least: number) => number;

/** Byte addresses; a block has at most 256 values. */
const at = { values: 0, weighted: 1024, weights: 2048, candidates: 4096, result: 8192 } as const;
const candidateBytes = 16;
export const mostCandidates = (at.result - at.candidates) / candidateBytes;

const kernel = new Kernel<Judge>(() => {
  const [bytes, weighted, candidate, end, gain] = [0, 1, 2, 3, 4];
  const [index, best, inverse, lowest, highest, p, cross, square, crossSum, squareSum, found] = [
    5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
  ];
  const sum = (from: number, to: number): number[] => [
    ...[0, 1].flatMap((lane) => [...op.get(from), ...op.lane(lane)]),
    ...op.f32Add,
    ...[2, 3].flatMap((lane) => [...op.get(from), ...op.lane(lane)]),
    ...[...op.f32Add, ...op.f32Add, ...op.set(to)],
  ];
  return {
    parameters: [types.i32, types.i32, types.i32, types.i32, types.f32],
    result: types.i32,
    locals: [
      ...[types.i32, types.i32],
      ...[types.v128, types.v128, types.v128, types.v128, types.v128, types.v128],
      ...[types.f32, types.f32, types.f32],
    ],
    body: [
      ...op.loop,
      ...[...op.get(candidate), ...op.loadSplat(0), ...op.set(inverse)],
      ...[...op.get(candidate), ...op.loadSplat(4), ...op.set(lowest)],
      ...[...op.get(candidate), ...op.loadSplat(8), ...op.set(highest)],
      ...[...op.zero, ...op.tee(cross), ...op.set(square)],
      ...[...op.constant(0), ...op.set(index)],
      ...op.loop,
      ...[...op.get(index), ...op.load(at.values), ...op.get(inverse), ...op.multiply, ...op.nearest],
      ...[...op.get(lowest), ...op.maximum, ...op.get(highest), ...op.minimum, ...op.set(p)],
      ...[...op.get(index), ...op.get(weighted), ...op.i32Add, ...op.load(0), ...op.get(p), ...op.multiply],
      ...[...op.get(cross), ...op.add, ...op.set(cross)],
      ...[...op.get(index), ...op.load(at.weights), ...op.get(p), ...op.multiply, ...op.get(p), ...op.multiply],
      ...[...op.get(square), ...op.add, ...op.set(square)],
      ...advance(index, 16),
      ...[...op.get(index), ...op.get(bytes), ...op.i32Less, ...op.branchIf(0), ...op.end],
      ...[...sum(cross, crossSum), ...sum(square, squareSum)],
      ...[...op.get(crossSum), ...op.get(crossSum), ...op.f32Multiply, ...op.get(squareSum), ...op.f32Divide],
      ...[...op.tee(found), ...op.get(gain), ...op.f32Greater, ...op.when],
      ...[...op.get(found), ...op.set(gain), ...op.get(candidate), ...op.set(best)],
      ...[...op.constant(0), ...op.get(crossSum), ...op.f32Store(at.result)],
      ...[...op.constant(0), ...op.get(squareSum), ...op.f32Store(at.result + 4)],
      ...[...op.constant(0), ...op.get(found), ...op.f32Store(at.result + 8)],
      ...op.end,
      ...advance(candidate, candidateBytes),
      ...[...op.get(candidate), ...op.get(end), ...op.i32Less, ...op.branchIf(0), ...op.end],
      ...op.get(best),
    ],
  };
});

/** The memory of one block search and what judges it. */
export class BlockKernel {
  /** Values of the block, padded with zeros to a multiple of four. */
  readonly values: Float32Array;
  /** What weights the squared error, and its product with the values; ones at the start. */
  readonly weights: Float32Array;
  readonly weighted: Float32Array;
  private readonly candidates: Float32Array;
  private readonly result: Float32Array;
  private readonly run: Judge;
  private count = 0;

  constructor() {
    const { run, buffer } = kernel.instantiate(at.result + 16);
    this.run = run;
    this.values = new Float32Array(buffer, at.values, 256);
    this.weighted = new Float32Array(buffer, at.weighted, 256);
    this.weights = new Float32Array(buffer, at.weights, 256).fill(1);
    this.candidates = new Float32Array(buffer, at.candidates, (at.result - at.candidates) / 4);
    this.result = new Float32Array(buffer, at.result, 4);
  }

  /** Forgets the candidates. */
  clear(): void {
    this.count = 0;
  }

  /** One more candidate, up to {@link mostCandidates}. */
  add(inverse: number, lowest: number, highest: number): void {
    const base = this.count++ * 4;
    this.candidates[base] = inverse;
    this.candidates[base + 1] = lowest;
    this.candidates[base + 2] = highest;
  }

  /** Index of the candidate that explains most, above `least`; −1 when none does. */
  judge(count: number, weighted: boolean, least: number): number {
    const bytes = (count + 3) & ~3;
    const first = at.candidates;
    const end = first + this.count * candidateBytes;
    const best = this.run(bytes * 4, weighted ? at.weighted : at.values, first, end, least);
    return best === 0 ? -1 : (best - first) / candidateBytes;
  }

  /** Of the candidate {@link judge} returned last. */
  get gain(): number {
    return this.result[2]!;
  }

  /** Its least-squares scale. */
  get scale(): number {
    return this.result[0]! / this.result[1]!;
  }
}
