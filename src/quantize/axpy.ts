/**
 * `g += a · h` over float32 rows, in WebAssembly with four lanes an instruction: the inner step of coordinate
 * descent ({@link descend}), several times as fast as a JavaScript loop. The module is assembled here from opcodes
 * (WebAssembly core specification 2.0), so that nothing has to be compiled beforehand or loaded from disk.
 */

/** The part of WebAssembly used here; the types of the runtime have it only together with a DOM. */
declare const WebAssembly: {
  Module: new (bytes: Uint8Array<ArrayBuffer>) => object;
  Instance: new (module: object, imports: object) => { exports: { axpy: Axpy } };
  Memory: new (limits: { initial: number }) => { buffer: ArrayBuffer };
};

/** Adds `factor` times the floats at byte address `from` to those at `to`; `floats` is a multiple of 16, above 0. */
export type Axpy = (to: number, from: number, floats: number, factor: number) => void;

const pageBytes = 65536;

/** Memory for a number of float32 values and the function over it; the caller lays its arrays out itself. */
export function axpyMemory(floats: number): { values: Float32Array; axpy: Axpy } {
  const memory = new WebAssembly.Memory({ initial: Math.ceil((floats * 4) / pageBytes) });
  const { exports } = new WebAssembly.Instance((compiled ??= new WebAssembly.Module(moduleBytes())), {
    m: { m: memory },
  });
  return { values: new Float32Array(memory.buffer), axpy: exports.axpy };
}

let compiled: object | null = null;

/** Opcodes by their names in the specification. */
const op = { loop: 0x03, end: 0x0b, branchIf: 0x0d, get: 0x20, set: 0x21, tee: 0x22, constant: 0x41 } as const;
const i32 = { add: 0x6a, subtract: 0x6b } as const;
const vector = { load: [0xfd, 0x00], store: [0xfd, 0x0b], splat: [0xfd, 0x13], add: [0xfd, 0xe4, 0x01] } as const;
const vectorMultiply = [0xfd, 0xe6, 0x01] as const;
const types = { i32: 0x7f, f32: 0x7d, v128: 0x7b } as const;

const section = (id: number, content: readonly number[]): number[] => [id, ...long(content.length), ...content];

/** Parameters: 0 to, 1 from, 2 floats, 3 factor; local 4 holds the factor in every lane. */
function moduleBytes(): Uint8Array<ArrayBuffer> {
  const text = (name: string): number[] => [name.length, ...new TextEncoder().encode(name)];
  const step = (local: number, bytes: number): number[] => [
    ...[op.get, local, op.constant, ...(bytes < 64 ? [bytes] : [(bytes & 0x7f) | 0x80, bytes >> 7]), i32.add],
    ...[op.set, local],
  ];
  const lanes = [0, 16, 32, 48].flatMap((offset) => [
    ...[op.get, 0],
    ...[op.get, 0, ...vector.load, 4, offset],
    ...[op.get, 1, ...vector.load, 4, offset, op.get, 4, ...vectorMultiply],
    ...[...vector.add, ...vector.store, 4, offset],
  ]);
  const code = [
    ...[op.get, 3, ...vector.splat, op.set, 4],
    ...[op.loop, 0x40, ...lanes, ...step(0, 64), ...step(1, 64)],
    ...[op.get, 2, op.constant, 16, i32.subtract, op.tee, 2, op.branchIf, 0, op.end],
  ];
  const body = [1, 1, types.v128, ...code, op.end];
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
    ...section(1, [1, 0x60, 4, types.i32, types.i32, types.i32, types.f32, 0]),
    ...section(2, [1, ...text('m'), ...text('m'), 0x02, 0x00, 0x01]),
    ...section(3, [1, 0]),
    ...section(7, [1, ...text('axpy'), 0, 0]),
    ...section(10, [1, ...long(body.length), ...body]),
  ]);
}

/** LEB128 of a number below 16 384. */
const long = (value: number): number[] => (value < 128 ? [value] : [(value & 0x7f) | 0x80, value >> 7]);
