/**
 * `C −= A·B` for float64 matrices at several times the speed of plain JavaScript: a WebAssembly function multiplies
 * packed panels with two lanes per instruction. The module is assembled here from opcodes (WebAssembly core
 * specification 2.0, sections 5 and SIMD), so that nothing has to be compiled beforehand or loaded from disk.
 */

/** A matrix inside an array: entry (i, j) lies at `offset + i·rowStride + j·columnStride`. */
export interface MatrixView {
  data: Float64Array;
  offset: number;
  rowStride: number;
  columnStride: number;
}

/** Rows and columns of one register tile. */
const tile = 4;
/** Panel sizes: a packed panel of A and one of B stay in the second-level cache. */
const panelRows = 64;
const panelColumns = 192;
const panelDepth = 192;

interface Kernel {
  /** `out[4×4] = A·B` over `depth` packed rows of A and of B (addresses in bytes). */
  multiply: (depth: number, a: number, b: number, out: number) => void;
  memory: Float64Array;
}

/** The part of WebAssembly used here; the types of the runtime have it only together with a DOM. */
declare const WebAssembly: {
  Module: new (bytes: Uint8Array<ArrayBuffer>) => object;
  Instance: new (module: object) => { exports: { multiply: Kernel['multiply']; memory: { buffer: ArrayBuffer } } };
};

let kernel: Kernel | null = null;

/** `target −= left·right`; `left` is rows × depth, `right` depth × columns. Only entries with column ≤ row when `lower`. */
export function subtractProduct(
  target: MatrixView,
  left: MatrixView,
  right: MatrixView,
  rows: number,
  columns: number,
  depth: number,
  lower = false,
): void {
  if (rows === 0 || columns === 0 || depth === 0) return;
  const { multiply, memory } = (kernel ??= instantiate());
  const outAt = 0;
  const aAt = tile * tile;
  const bAt = aAt + panelRows * panelDepth;
  for (let k = 0; k < depth; k += panelDepth) {
    const d = Math.min(panelDepth, depth - k);
    for (let j = 0; j < columns; j += panelColumns) {
      const n = Math.min(panelColumns, columns - j);
      packColumns(memory, bAt, right, k, d, j, n);
      for (let i = lower ? j - (j % panelRows) : 0; i < rows; i += panelRows) {
        const m = Math.min(panelRows, rows - i);
        packRows(memory, aAt, left, i, m, k, d);
        for (let ti = 0; ti < m; ti += tile) {
          const height = Math.min(tile, m - ti);
          for (let tj = 0; tj < n && !(lower && j + tj > i + ti + tile - 1); tj += tile) {
            multiply(d, (aAt + ti * d) * 8, (bAt + tj * d) * 8, outAt * 8);
            const width = Math.min(tile, n - tj);
            const { data, offset, rowStride, columnStride } = target;
            for (let r = 0; r < height; r++) {
              let at = offset + (i + ti + r) * rowStride + (j + tj) * columnStride;
              for (let c = 0; c < width; c++, at += columnStride) {
                if (!lower || j + tj + c <= i + ti + r) data[at]! -= memory[outAt + r * tile + c]!;
              }
            }
          }
        }
      }
    }
  }
}

/** Four rows of A side by side, depth by depth; rows past the end are zero. */
function packRows(
  memory: Float64Array,
  at: number,
  view: MatrixView,
  i: number,
  m: number,
  k: number,
  d: number,
): void {
  const { data, offset, rowStride, columnStride } = view;
  for (let ti = 0; ti < m; ti += tile) {
    for (let r = 0; r < tile; r++) {
      let to = at + ti * d + r;
      if (ti + r >= m) {
        for (let p = 0; p < d; p++, to += tile) memory[to] = 0;
        continue;
      }
      let from = offset + (i + ti + r) * rowStride + k * columnStride;
      for (let p = 0; p < d; p++, to += tile, from += columnStride) memory[to] = data[from]!;
    }
  }
}

/** Four columns of B side by side, depth by depth; columns past the end are zero. */
function packColumns(
  memory: Float64Array,
  at: number,
  view: MatrixView,
  k: number,
  d: number,
  j: number,
  n: number,
): void {
  const turned = { ...view, rowStride: view.columnStride, columnStride: view.rowStride };
  packRows(memory, at, turned, j, n, k, d);
}

function instantiate(): Kernel {
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(moduleBytes()));
  return { multiply: exports.multiply, memory: new Float64Array(exports.memory.buffer) };
}

const pageBytes = 65536;

/** Opcodes used below, by their names in the specification. */
const op = {
  loop: 0x03,
  end: 0x0b,
  branchIf: 0x0d,
  get: 0x20,
  set: 0x21,
  tee: 0x22,
  constant: 0x41,
  add: 0x6a,
  subtract: 0x6b,
  vector: 0xfd,
} as const;
const vectorLoad = 0x00;
const vectorLoadSplat64 = 0x0a;
const vectorStore = 0x0b;
const float64Add = 0xf0;
const float64Multiply = 0xf2;
const int32 = 0x7f;
const vector128 = 0x7b;

function moduleBytes(): Uint8Array<ArrayBuffer> {
  const doubles = tile * tile + panelRows * panelDepth + panelColumns * panelDepth;
  const pages = Math.ceil((doubles * 8) / pageBytes);
  const name = (text: string): number[] => [text.length, ...new TextEncoder().encode(text)];
  const body = [1, 10, vector128, ...multiplyCode(), op.end];
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
    ...section(1, [1, 0x60, 4, int32, int32, int32, int32, 0]),
    ...section(3, [1, 0]),
    ...section(5, [1, 0x00, ...unsigned(pages)]),
    ...section(7, [2, ...name('memory'), 2, 0, ...name('multiply'), 0, 0]),
    ...section(10, [1, ...unsigned(body.length), ...body]),
  ]);
}

/** Locals: 0 depth, 1 a, 2 b, 3 out, 4–11 the sums (row · 2 + half), 12 and 13 the four entries of B. */
function multiplyCode(): number[] {
  const vector = (code: number): number[] => [op.vector, ...unsigned(code)];
  const access = (code: number, offset: number): number[] => [...vector(code), 3, ...unsigned(offset)];
  const step = (local: number, bytes: number): number[] => [
    ...[op.get, local, op.constant, ...signed(bytes), op.add, op.set, local],
  ];
  const code = [op.loop, 0x40];
  for (const half of [0, 1]) code.push(op.get, 2, ...access(vectorLoad, half * 16), op.set, 12 + half);
  for (let row = 0; row < tile; row++) {
    for (const half of [0, 1]) {
      const sum = 4 + row * 2 + half;
      code.push(op.get, 1, ...access(vectorLoadSplat64, row * 8), op.get, 12 + half, ...vector(float64Multiply));
      code.push(op.get, sum, ...vector(float64Add), op.set, sum);
    }
  }
  code.push(...step(1, tile * 8), ...step(2, tile * 8));
  code.push(op.get, 0, op.constant, 1, op.subtract, op.tee, 0, op.branchIf, 0, op.end);
  for (let row = 0; row < tile; row++) {
    for (const half of [0, 1]) {
      code.push(op.get, 3, op.get, 4 + row * 2 + half, ...access(vectorStore, row * 32 + half * 16));
    }
  }
  return code;
}

function section(id: number, content: readonly number[]): number[] {
  return [id, ...unsigned(content.length), ...content];
}

/** LEB128. */
function unsigned(value: number): number[] {
  const bytes: number[] = [];
  for (let rest = value; ; rest >>>= 7) {
    if (rest < 0x80) return [...bytes, rest];
    bytes.push((rest & 0x7f) | 0x80);
  }
}

/** Signed LEB128 of a small positive number. */
function signed(value: number): number[] {
  const bytes: number[] = [];
  for (let rest = value; ; rest >>= 7) {
    if (rest < 0x40) return [...bytes, rest];
    bytes.push((rest & 0x7f) | 0x80);
  }
}
