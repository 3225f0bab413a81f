import { advance, Kernel, op, types } from './wasm.js';

/** Adds `factor` times the floats at byte address `from` to those at `to`; `floats` is a multiple of 16, above 0. */
export type Axpy = (to: number, from: number, floats: number, factor: number) => void;

/** `g += a · h`, the inner step of coordinate descent: sixteen floats a turn. */
const kernel = new Kernel<Axpy>(() => {
  const [to, from, floats, factor, factors] = [0, 1, 2, 3, 4];
  const lanes = [0, 16, 32, 48].flatMap((offset) => [
    ...op.get(to),
    ...[...op.get(to), ...op.load(offset)],
    ...[...op.get(from), ...op.load(offset), ...op.get(factors), ...op.multiply],
    ...[...op.add, ...op.store(offset)],
  ]);
  return {
    parameters: [types.i32, types.i32, types.i32, types.f32],
    result: null,
    locals: [types.v128],
    body: [
      ...[...op.get(factor), ...op.splat, ...op.set(factors)],
      ...[...op.loop, ...lanes, ...advance(to, 64), ...advance(from, 64)],
      ...[...op.get(floats), ...op.constant(16), ...op.i32Subtract, ...op.tee(floats), ...op.branchIf(0), ...op.end],
    ],
  };
});

/** Memory for a number of float32 values and the function over it; the caller lays its arrays out itself. */
export function axpyMemory(floats: number): { values: Float32Array; axpy: Axpy } {
  const { run, buffer } = kernel.instantiate(floats * 4);
  return { values: new Float32Array(buffer), axpy: run };
}
