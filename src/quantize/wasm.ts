/**
 * Puts WebAssembly modules together from opcodes (WebAssembly core specification 2.0), so that kernels need nothing
 * compiled beforehand or loaded from disk.
 */

/** The part of WebAssembly used here; the types of the runtime have it only together with a DOM. */
declare const WebAssembly: {
  Module: new (bytes: Uint8Array<ArrayBuffer>) => object;
  Instance: new (module: object, imports: object) => { exports: Record<string, unknown> };
  Memory: new (limits: { initial: number }) => { buffer: ArrayBuffer };
};

export const types = { i32: 0x7f, f32: 0x7d, v128: 0x7b } as const;

/** LEB128. */
export function unsigned(value: number): number[] {
  const bytes: number[] = [];
  for (let rest = value; ; rest >>>= 7) {
    if (rest < 0x80) return [...bytes, rest];
    bytes.push((rest & 0x7f) | 0x80);
  }
}

/** Signed LEB128 of a number that is not negative. */
function signed(value: number): number[] {
  const bytes: number[] = [];
  for (let rest = value; ; rest >>>= 7) {
    if (rest < 0x40) return [...bytes, rest];
    bytes.push((rest & 0x7f) | 0x80);
  }
}

const simd = (code: number): number[] => [0xfd, ...unsigned(code)];

/** Opcodes by their names in the specification. */
export const op = {
  get: (local: number) => [0x20, local],
  set: (local: number) => [0x21, local],
  tee: (local: number) => [0x22, local],
  constant: (value: number) => [0x41, ...signed(value)],
  loop: [0x03, 0x40],
  when: [0x04, 0x40],
  end: [0x0b],
  branchIf: (depth: number) => [0x0d, depth],
  i32Add: [0x6a],
  i32Subtract: [0x6b],
  i32Multiply: [0x6c],
  i32ShiftLeft: [0x74],
  i32Less: [0x49],
  f32Load: (offset: number) => [0x2a, 2, ...unsigned(offset)],
  f32Store: (offset: number) => [0x38, 2, ...unsigned(offset)],
  f32FromInteger: [0xb2],
  f32Add: [0x92],
  f32Multiply: [0x94],
  f32Divide: [0x95],
  f32Greater: [0x5e],
  load: (offset: number) => [...simd(0x00), 4, ...unsigned(offset)],
  loadSplat: (offset: number) => [...simd(0x09), 2, ...unsigned(offset)],
  store: (offset: number) => [...simd(0x0b), 4, ...unsigned(offset)],
  loadLane: (index: number) => [...simd(0x56), 2, 0, index],
  storeLane: (index: number) => [...simd(0x5a), 2, 0, index],
  zero: [...simd(0x0c), ...new Array<number>(16).fill(0)],
  splat: simd(0x13),
  lane: (index: number) => [...simd(0x1f), index],
  nearest: simd(0x6a),
  toIntegers: simd(0xf8),
  shiftLeft: simd(0xab),
  or: simd(0x50),
  add: simd(0xe4),
  multiply: simd(0xe6),
  minimum: simd(0xe8),
  maximum: simd(0xe9),
  /** The second operand where it is less (greater), else the first: one instruction, and no NaN comes through. */
  lesser: simd(0xea),
  greater: simd(0xeb),
} as const;

/** Adds to a local. */
export const advance = (local: number, bytes: number): number[] => [
  ...op.get(local),
  ...op.constant(bytes),
  ...op.i32Add,
  ...op.set(local),
];

export interface KernelCode {
  parameters: readonly number[];
  result: number | null;
  /** Types of the locals after the parameters. */
  locals: readonly number[];
  body: readonly number[];
}

export interface KernelMemory {
  readonly buffer: ArrayBuffer;
}

/** A new memory of at least `bytes` bytes, zeroed. */
export const kernelMemory = (bytes: number): KernelMemory =>
  new WebAssembly.Memory({ initial: Math.ceil(bytes / 65536) });

/** A compiled function over a memory it is given. */
export class Kernel<F> {
  private compiled: object | null = null;

  constructor(private readonly code: () => KernelCode) {}

  /** The function over a new memory of at least `bytes` bytes. */
  instantiate(bytes: number): { run: F; buffer: ArrayBuffer } {
    const memory = kernelMemory(bytes);
    return { run: this.over(memory), buffer: memory.buffer };
  }

  /** The function over a memory that several share. */
  over(memory: KernelMemory): F {
    this.compiled ??= new WebAssembly.Module(moduleBytes(this.code()));
    return new WebAssembly.Instance(this.compiled, { m: { m: memory } }).exports.f as F;
  }
}

const section = (id: number, content: readonly number[]): number[] => [id, ...unsigned(content.length), ...content];

/** One function `f` over the imported memory `m.m`. */
function moduleBytes({ parameters, result, locals, body }: KernelCode): Uint8Array<ArrayBuffer> {
  const results = result === null ? [0] : [1, result];
  const declared = locals.flatMap((type) => [1, type]);
  const whole = [...unsigned(locals.length), ...declared, ...body, ...op.end];
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
    ...section(1, [1, 0x60, parameters.length, ...parameters, ...results]),
    ...section(2, [1, 1, 0x6d, 1, 0x6d, 0x02, 0x00, 0x01]),
    ...section(3, [1, 0]),
    ...section(7, [1, 1, 0x66, 0, 0]),
    ...section(10, [1, ...unsigned(whole.length), ...whole]),
  ]);
}
