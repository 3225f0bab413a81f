import type { Tensor } from '../onnx/model.js';
import { readFloatRange } from './floats.js';

/**
 * A 2-D float weight as the block quantizers see it: `rows` output features, each a sum over `columns` inputs.
 * MatMul stores the transpose of that (`[K, N]`, order 'column-major'), Gemm with transB=1 and embedding tables
 * store it as it is (`[N, K]`, order 'row-major').
 */
export interface WeightMatrix {
  tensor: Tensor;
  rows: number;
  columns: number;
  order: 'row-major' | 'column-major';
}

/** Called for each block: `count` values of `row` from column `block * blockSize`, at `values[start …]`. */
export type BlockVisitor = (row: number, block: number, values: Float32Array, start: number, count: number) => void;

/** Values read at once, at most (a panel is never less than one block of columns or one row). */
const panelValues = 2 ** 22;

/** Rows transposed together: a cache line of float32, so that no line is fetched twice. */
const tileRows = 16;

/**
 * Visits every block of a matrix once, reading contiguous panels, so that memory stays near 2 · 16 MiB (or one
 * row, or one block of columns) whatever the size of the weight.
 */
export function forEachBlock(matrix: WeightMatrix, blockSize: number, visit: BlockVisitor): void {
  if (matrix.order === 'row-major') visitRows(matrix, blockSize, visit);
  else visitColumns(matrix, blockSize, visit);
}

function visitRows({ tensor, rows, columns }: WeightMatrix, blockSize: number, visit: BlockVisitor): void {
  const panelRows = Math.max(1, Math.floor(panelValues / columns));
  for (let first = 0; first < rows; first += panelRows) {
    const count = Math.min(panelRows, rows - first);
    const values = readFloatRange(tensor, first * columns, count * columns);
    for (let row = 0; row < count; row++) {
      for (let block = 0, column = 0; column < columns; block++, column += blockSize) {
        visit(first + row, block, values, row * columns + column, Math.min(blockSize, columns - column));
      }
    }
  }
}

function visitColumns({ tensor, rows, columns }: WeightMatrix, blockSize: number, visit: BlockVisitor): void {
  const panelBlocks = Math.max(1, Math.floor(panelValues / (rows * blockSize)));
  const tile = new Float32Array(tileRows * blockSize);
  for (let firstBlock = 0; firstBlock * blockSize < columns; firstBlock += panelBlocks) {
    const firstColumn = firstBlock * blockSize;
    const panelColumns = Math.min(panelBlocks * blockSize, columns - firstColumn);
    const values = readFloatRange(tensor, firstColumn * rows, panelColumns * rows);
    for (let start = 0; start < panelColumns; start += blockSize) {
      const count = Math.min(blockSize, panelColumns - start);
      for (let firstRow = 0; firstRow < rows; firstRow += tileRows) {
        const tiled = Math.min(tileRows, rows - firstRow);
        for (let i = 0; i < count; i++) {
          const base = (start + i) * rows + firstRow;
          for (let row = 0; row < tiled; row++) tile[row * blockSize + i] = values[base + row]!;
        }
        for (let row = 0; row < tiled; row++) {
          visit(firstRow + row, firstBlock + start / blockSize, tile, row * blockSize, count);
        }
      }
    }
  }
}

/** Rows `[first, first + count)` as `[count, columns]` in a new array, read in bounded panels. */
export function readRows({ tensor, rows, columns, order }: WeightMatrix, first: number, count: number): Float32Array {
  if (order === 'row-major') return readFloatRange(tensor, first * columns, count * columns).slice();
  const result = new Float32Array(count * columns);
  const panelColumns = Math.max(1, Math.floor(panelValues / rows));
  for (let start = 0; start < columns; start += panelColumns) {
    const width = Math.min(panelColumns, columns - start);
    const values = readFloatRange(tensor, start * rows, width * rows);
    for (let row = 0; row < count; row++) {
      for (let i = 0; i < width; i++) result[row * columns + start + i] = values[i * rows + first + row]!;
    }
  }
  return result;
}
