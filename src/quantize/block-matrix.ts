import { BlockSearch, type CodeBits } from './block-search.js';
import { Balancer } from './balance.js';
import { roundToNearest } from './nearest.js';
import { forEachBlock, readRows, type WeightMatrix } from './matrix.js';

/** How a matrix is cut into blocks along its columns (the summed axis). */
export interface BlockFormat {
  bits: CodeBits;
  /** Power of two ≥ 16. */
  blockSize: number;
  /** Whether each block has its own zero point (else 2^(bits−1)). */
  zeroPoints: boolean;
  /** Scales are float16 numbers, to be stored in two bytes; default false. */
  halfScales?: boolean;
  /** Plain rounding ({@link roundToNearest}) instead of the search for the best scale; default false. */
  nearest?: boolean;
}

/**
 * A block-quantized matrix in the layout of com.microsoft.MatMulNBits: value (row, column) lives in block
 * `column div blockSize`; codes are packed low bits first within a block, zero points low bits first within a row.
 */
export interface BlockMatrix {
  format: BlockFormat;
  rows: number;
  columns: number;
  /** uint8 `[rows, blocks, blockSize · bits / 8]`; the last block is padded with its zero point. */
  codes: Uint8Array;
  /** `[rows, blocks]`, may be negative. */
  scales: Float32Array;
  /** uint8 `[rows, ceil(blocks · bits / 8)]`, null when the format has none. */
  zeroPoints: Uint8Array | null;
}

export function blocksPerRow(columns: number, blockSize: number): number {
  return Math.ceil(columns / blockSize);
}

/** Bytes of codes and zero points, and number of scales, of a matrix in a format. */
export function blockMatrixSize(
  rows: number,
  columns: number,
  format: BlockFormat,
): { codes: number; zeroPoints: number; scales: number } {
  const blocks = blocksPerRow(columns, format.blockSize);
  return {
    codes: (rows * blocks * format.blockSize * format.bits) / 8,
    zeroPoints: format.zeroPoints ? rows * Math.ceil((blocks * format.bits) / 8) : 0,
    scales: rows * blocks,
  };
}

/**
 * Quantizes a matrix block by block ({@link BlockSearch}).
 * @param importance mean square of each input channel (`columns` values), null = all alike.
 * @param share of the inputs ({@link meanShares}); above 0, errors of a row are balanced. Plain rounding does neither.
 */
export function quantizeMatrix(
  matrix: WeightMatrix,
  format: BlockFormat,
  importance: Float32Array | null = null,
  share = 0,
): BlockMatrix {
  const { rows, columns } = matrix;
  const { bits, blockSize } = format;
  const blocks = blocksPerRow(columns, blockSize);
  const size = blockMatrixSize(rows, columns, format);
  const codes = new Uint8Array(size.codes);
  const scales = new Float32Array(size.scales);
  const zeroPoints = format.zeroPoints ? new Uint8Array(size.zeroPoints) : null;
  const result: BlockMatrix = { format, rows, columns, codes, scales, zeroPoints };
  if (format.nearest) {
    packZeroPoints(result, roundToNearest(matrix, result));
    return result;
  }
  const unpacked = format.zeroPoints ? new Uint8Array(size.scales) : null;
  const search = new BlockSearch(bits, blockSize, format.zeroPoints, format.halfScales);
  forEachBlock(matrix, blockSize, (row, block, values, start, count) => {
    search.run(values, start, count, importance, block * blockSize);
    const index = row * blocks + block;
    scales[index] = search.scale;
    packBlock(result, index, search.codes);
    if (unpacked !== null) unpacked[index] = search.zeroPoint;
  });
  if (unpacked !== null) packZeroPoints(result, unpacked);
  if (share > 0) balanceRows(matrix, result, share);
  return result;
}

/** Values balanced at once. */
const panelValues = 2 ** 22;

function balanceRows(matrix: WeightMatrix, result: BlockMatrix, share: number): void {
  const { rows, columns, format, codes, scales } = result;
  const { bits, blockSize } = format;
  const blocks = blocksPerRow(columns, blockSize);
  const [largest, perByte] = [2 ** bits - 1, 8 / bits];
  const balancer = new Balancer(share);
  const panelRows = Math.max(1, Math.floor(panelValues / columns));
  for (let first = 0; first < rows; first += panelRows) {
    const count = Math.min(panelRows, rows - first);
    const values = readRows(matrix, first, count);
    for (let row = 0; row < count; row++) {
      const start = ((first + row) * blocks * blockSize) / perByte;
      const shift = (i: number): number => bits * (i % perByte);
      const read = (i: number): number => (codes[start + Math.floor(i / perByte)]! >> shift(i)) & largest;
      balancer.balance(columns, {
        exact: (i) => values[row * columns + i]!,
        step: (i) => scales[(first + row) * blocks + Math.floor(i / blockSize)]!,
        code: (i) => read(i) - zeroPointOf(result, first + row, Math.floor(i / blockSize)),
        move: (i, by) => {
          const moved = read(i) + by;
          if (moved < 0 || moved > largest) return false;
          codes[start + Math.floor(i / perByte)]! += by * 2 ** shift(i);
          return true;
        },
      });
    }
  }
}

/** Writes the unsigned codes of one block, of which there are `blocksPerRow` in each row. */
export function packBlock({ format, codes }: BlockMatrix, index: number, unsigned: Uint8Array): void {
  const { bits, blockSize } = format;
  const start = (index * blockSize * bits) / 8;
  if (bits === 8) {
    codes.set(unsigned, start);
    return;
  }
  if (bits === 4) {
    for (let i = 0, byte = start; i < blockSize; i += 2, byte++) codes[byte] = unsigned[i]! | (unsigned[i + 1]! << 4);
    return;
  }
  for (let i = 0, byte = start; i < blockSize; i += 4, byte++) {
    codes[byte] = unsigned[i]! | (unsigned[i + 1]! << 2) | (unsigned[i + 2]! << 4) | (unsigned[i + 3]! << 6);
  }
}

/** Writes the zero points of `count` rows, one for each block of each row, where the format has them. */
export function packZeroPoints(
  { format, rows, columns, zeroPoints }: BlockMatrix,
  unpacked: ArrayLike<number>,
  firstRow = 0,
  count = rows,
): void {
  if (zeroPoints === null) return;
  const { bits, blockSize } = format;
  const blocks = blocksPerRow(columns, blockSize);
  const perByte = 8 / bits;
  // What is left of a row's last byte is the neutral zero point, as onnxruntime's own tools write it.
  const neutral = 2 ** (bits - 1);
  let [from, to] = [0, firstRow * Math.ceil(blocks / perByte)];
  for (let row = 0; row < count; row++) {
    for (let block = 0; block < blocks; block += perByte, to++) {
      let byte = 0;
      for (let i = 0; i < perByte; i++) byte |= (block + i < blocks ? unpacked[from++]! : neutral) << (bits * i);
      zeroPoints[to] = byte;
    }
  }
}

/** The values a runtime sees, `[rows, columns]` row-major: `(code − zero point) · scale`. */
export function dequantizeMatrix(matrix: BlockMatrix): Float32Array {
  const { rows, columns } = matrix;
  const values = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++) dequantizeRow(matrix, row, values.subarray(row * columns, (row + 1) * columns));
  return values;
}

/** One row of {@link dequantizeMatrix}. */
export function dequantizeRow(matrix: BlockMatrix, row: number, values: Float32Array): void {
  const { format, columns, codes, scales } = matrix;
  const { bits, blockSize } = format;
  const blocks = blocksPerRow(columns, blockSize);
  const perByte = 8 / bits;
  const mask = 2 ** bits - 1;
  for (let column = 0; column < columns; column++) {
    const block = Math.floor(column / blockSize);
    const inBlock = column % blockSize;
    const byte = codes[((row * blocks + block) * blockSize + inBlock - (inBlock % perByte)) / perByte]!;
    const code = (byte >> (bits * (inBlock % perByte))) & mask;
    values[column] = (code - zeroPointOf(matrix, row, block)) * scales[row * blocks + block]!;
  }
}

function zeroPointOf(
  { format: { bits, blockSize }, columns, zeroPoints }: BlockMatrix,
  row: number,
  block: number,
): number {
  if (zeroPoints === null) return 2 ** (bits - 1);
  const perByte = 8 / bits;
  const bytes = Math.ceil((blocksPerRow(columns, blockSize) * bits) / 8);
  return (zeroPoints[row * bytes + Math.floor(block / perByte)]! >> (bits * (block % perByte))) & (2 ** bits - 1);
}
