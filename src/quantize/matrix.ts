import type { Tensor } from '../onnx/model.js';
import { heldFinite, readFloatRange } from './floats.js';

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

/** A contiguous part of a matrix: whole rows of a row-major one, whole columns of the other, as the tensor holds them. */
export interface MatrixPanel {
  values: Float32Array;
  firstRow: number;
  rows: number;
  firstColumn: number;
  columns: number;
}

/**
 * Reads a matrix once in panels that end with a block of columns, so that memory stays near 2 · 16 MiB (or one row, or
 * one block of columns) whatever the size of the weight. Values are {@link heldFinite}.
 */
export function forEachPanel(matrix: WeightMatrix, blockSize: number, visit: (panel: MatrixPanel) => void): void {
  const { tensor, rows, columns, order } = matrix;
  if (order === 'row-major') {
    const panelRows = Math.max(1, Math.floor(panelValues / columns));
    for (let firstRow = 0; firstRow < rows; firstRow += panelRows) {
      const count = Math.min(panelRows, rows - firstRow);
      const values = heldFinite(readFloatRange(tensor, firstRow * columns, count * columns));
      visit({ values, firstRow, rows: count, firstColumn: 0, columns });
    }
    return;
  }
  const panelColumns = Math.max(1, Math.floor(panelValues / (rows * blockSize))) * blockSize;
  for (let firstColumn = 0; firstColumn < columns; firstColumn += panelColumns) {
    const count = Math.min(panelColumns, columns - firstColumn);
    const values = heldFinite(readFloatRange(tensor, firstColumn * rows, count * rows));
    visit({ values, firstRow: 0, rows, firstColumn, columns: count });
  }
}

/** Visits every block of a matrix once. */
export function forEachBlock(matrix: WeightMatrix, blockSize: number, visit: BlockVisitor): void {
  const visitPanel = matrix.order === 'row-major' ? visitRows : visitColumns;
  const tile = new Float32Array(tileRows * blockSize);
  forEachPanel(matrix, blockSize, (panel) => visitPanel(panel, blockSize, visit, tile));
}

function visitRows({ values, firstRow, rows, columns }: MatrixPanel, blockSize: number, visit: BlockVisitor): void {
  for (let row = 0; row < rows; row++) {
    for (let block = 0, column = 0; column < columns; block++, column += blockSize) {
      visit(firstRow + row, block, values, row * columns + column, Math.min(blockSize, columns - column));
    }
  }
}

function visitColumns(
  { values, rows, firstColumn, columns }: MatrixPanel,
  blockSize: number,
  visit: BlockVisitor,
  tile: Float32Array,
): void {
  for (let start = 0; start < columns; start += blockSize) {
    const count = Math.min(blockSize, columns - start);
    for (let firstRow = 0; firstRow < rows; firstRow += tileRows) {
      const tiled = Math.min(tileRows, rows - firstRow);
      for (let i = 0; i < count; i++) {
        const base = (start + i) * rows + firstRow;
        for (let row = 0; row < tiled; row++) tile[row * blockSize + i] = values[base + row]!;
      }
      for (let row = 0; row < tiled; row++) {
        visit(firstRow + row, (firstColumn + start) / blockSize, tile, row * blockSize, count);
      }
    }
  }
}

/** Rows `[first, first + count)` as `[count, columns]` in a new array, read in bounded panels. */
export function readRows({ tensor, rows, columns, order }: WeightMatrix, first: number, count: number): Float32Array {
  if (order === 'row-major') return heldFinite(readFloatRange(tensor, first * columns, count * columns)).slice();
  const result = new Float32Array(count * columns);
  const panelColumns = Math.max(1, Math.floor(panelValues / rows));
  for (let start = 0; start < columns; start += panelColumns) {
    const width = Math.min(panelColumns, columns - start);
    const values = heldFinite(readFloatRange(tensor, start * rows, width * rows));
    for (let row = 0; row < count; row++) {
      for (let i = 0; i < width; i++) result[row * columns + start + i] = values[i * rows + first + row]!;
    }
  }
  return result;
}
