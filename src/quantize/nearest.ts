import type { BlockMatrix } from './block-matrix.js';
import { BlockSearch } from './block-search.js';
import { forEachPanel, type MatrixPanel, type WeightMatrix } from './matrix.js';
import { NearestKernel, tileValues } from './nearest-kernel.js';

/** Rows of `columns` values that fill a tile, a multiple of four. */
const rowsOfTile = (columns: number): number => Math.floor(tileValues / columns) & ~3;

/**
 * Rounds a matrix to the nearest codes of scales that reach from end to end of each block's values, without a search:
 * the rule of onnxruntime's own block quantizer, values of four rows at once.
 * @param result of the matrix's shape; gets codes and scales
 * @returns zero points, one for each block of each row
 */
export function roundToNearest(matrix: WeightMatrix, result: BlockMatrix): Uint8Array {
  const { blockSize } = result.format;
  const kernel = new NearestKernel(matrix.order);
  const tile = new Tile(kernel, result);
  const roundPanel = matrix.order === 'row-major' ? roundRows : roundColumns;
  forEachPanel(matrix, blockSize, (panel) => roundPanel(panel, kernel.values, tile));
  return tile.zeroPoints;
}

/** Tiles of whole rows, or of parts of them where they are long; a row ends with a whole block, zeros at its end. */
function roundRows({ values, firstRow, rows, columns }: MatrixPanel, to: Float32Array, tile: Tile): void {
  const { blockSize } = tile;
  const longest = Math.floor(tileValues / 4 / blockSize) * blockSize;
  for (let first = 0; first < columns; first += longest) {
    const width = Math.min(longest, columns - first);
    const stride = Math.ceil(width / blockSize) * blockSize;
    const most = rowsOfTile(stride);
    for (let start = 0; start < rows; start += most) {
      const count = Math.min(most, rows - start);
      if (stride === columns) to.set(values.subarray(start * columns, (start + count) * columns));
      else {
        for (let row = 0; row < count; row++) {
          const from = (start + row) * columns + first;
          to.set(values.subarray(from, from + width), row * stride);
          to.fill(0, row * stride + width, (row + 1) * stride);
        }
      }
      for (let at = 0; at < stride; at += blockSize) {
        tile.round(firstRow + start, count, (first + at) / blockSize, at, stride);
      }
    }
  }
}

/** Tiles of one block of columns. */
function roundColumns({ values, rows, firstColumn, columns }: MatrixPanel, to: Float32Array, tile: Tile): void {
  const { blockSize } = tile;
  const most = rowsOfTile(blockSize);
  for (let first = 0; first < columns; first += blockSize) {
    const width = Math.min(blockSize, columns - first);
    for (let start = 0; start < rows; start += most) {
      const count = Math.min(most, rows - start);
      if (count === rows) to.set(values.subarray(first * rows, (first + width) * rows));
      else {
        for (let i = 0; i < width; i++) {
          const from = (first + i) * rows + start;
          to.set(values.subarray(from, from + count), i * count);
        }
      }
      to.fill(0, width * count, blockSize * count);
      tile.round(start, count, (firstColumn + first) / blockSize, 0, count);
    }
  }
}

/** Rounds what lies in the kernel's memory, and puts it where it belongs in the result. */
class Tile {
  readonly blockSize: number;
  /** One for each block of each row. */
  readonly zeroPoints: Uint8Array;
  private readonly reach: BlockSearch;
  private readonly blocks: number;
  private readonly words: number;
  private readonly codes: Int32Array;

  constructor(
    private readonly kernel: NearestKernel,
    private readonly result: BlockMatrix,
  ) {
    const { format, rows, codes, scales } = result;
    this.blockSize = format.blockSize;
    this.blocks = scales.length / rows;
    this.zeroPoints = new Uint8Array(scales.length);
    this.words = (format.blockSize * format.bits) / 32;
    this.codes = new Int32Array(codes.buffer, codes.byteOffset, codes.byteLength / 4);
    this.reach = new BlockSearch(format.bits, format.blockSize, format.zeroPoints, format.halfScales, true);
  }

  /** One block of `count` rows, its values from `from` on, rows (or columns, in column-major tiles) `stride` apart. */
  round(firstRow: number, count: number, block: number, from: number, stride: number): void {
    const { kernel, reach, blocks, words, codes, blockSize, zeroPoints } = this;
    const { scales, format } = this.result;
    const { first, second } = kernel;
    kernel.extremes(from * 4, stride * 4, blockSize, count);
    for (let row = 0; row < count; row++) {
      reach.reach(first[row]!, second[row]!);
      const { scale, zeroPoint } = reach;
      const index = (firstRow + row) * blocks + block;
      scales[index] = scale;
      zeroPoints[index] = zeroPoint;
      first[row] = scale === 0 ? 0 : 1 / scale;
      second[row] = zeroPoint;
    }
    kernel.encode(from * 4, stride * 4, words, format.bits, count);
    for (let row = 0, at = 0; row < count; row++) {
      const to = ((firstRow + row) * blocks + block) * words;
      for (let i = 0; i < words; i++) codes[to + i] = kernel.codes[at++]!;
    }
  }
}
