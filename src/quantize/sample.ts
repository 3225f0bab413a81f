import type { TensorData } from '../onnx/model.js';
import { blocksPerRow, type BlockFormat } from './block-matrix.js';
import { BlockSearch } from './block-search.js';
import { readFloatRange } from './floats.js';
import type { WeightMatrix } from './matrix.js';

/** A deterministic sample of a weight: some rows, each cut to runs of consecutive columns. */
export interface WeightSample {
  /** Sampled rows. */
  rows: number;
  /** Values taken from each row. */
  columns: number;
  /** `[rows, columns]`. */
  values: Float32Array;
}

const sampledRows = 64;
/** Columns per sampled row: at most this many runs of at most this length (a run covers the largest block). */
const runs = 2;
const runLength = 128;
/** A panel of a column-major matrix is read at once up to this many values, else value by value range. */
const panelLimit = 2 ** 21;

const samples = new WeakMap<TensorData, Map<string, number>>();

/** Remembers a figure derived from the bytes of a weight for as long as the weight is referenced. */
export function remembered(data: TensorData, key: string, compute: () => number): number {
  let known = samples.get(data);
  if (known === undefined) samples.set(data, (known = new Map()));
  let value = known.get(key);
  if (value === undefined) known.set(key, (value = compute()));
  return value;
}

/** Reads at most 64 · 256 values, evenly spread, without reading the whole weight. */
export function sampleMatrix(matrix: WeightMatrix): WeightSample {
  const rows = Math.min(sampledRows, matrix.rows);
  const whole = matrix.columns <= runs * runLength;
  const length = whole ? matrix.columns : runLength;
  const starts = whole ? [0] : [0, Math.floor((matrix.columns - runLength) / runLength / 2) * runLength + runLength];
  const columns = length * starts.length;
  const values = new Float32Array(rows * columns);
  const rowAt = (index: number): number => Math.floor((index * matrix.rows) / rows);
  starts.forEach((start, run) => {
    if (matrix.order === 'row-major') {
      for (let row = 0; row < rows; row++) {
        const read = readFloatRange(matrix.tensor, rowAt(row) * matrix.columns + start, length);
        values.set(read, row * columns + run * length);
      }
      return;
    }
    if (length * matrix.rows <= panelLimit) {
      const panel = readFloatRange(matrix.tensor, start * matrix.rows, length * matrix.rows);
      for (let row = 0; row < rows; row++) {
        for (let i = 0; i < length; i++)
          values[row * columns + run * length + i] = panel[i * matrix.rows + rowAt(row)]!;
      }
      return;
    }
    // Neighbouring rows, so that each column costs one short read.
    const first = Math.floor((matrix.rows - rows) / 2);
    for (let i = 0; i < length; i++) {
      const read = readFloatRange(matrix.tensor, (start + i) * matrix.rows + first, rows);
      for (let row = 0; row < rows; row++) values[row * columns + run * length + i] = read[row]!;
    }
  });
  return { rows, columns, values };
}

/** Signal-to-noise ratio in dB of a sample quantized in blocks; `blockSize` null takes each sampled row as one block. */
export function blockSqnr(
  sample: WeightSample,
  format: Pick<BlockFormat, 'bits' | 'zeroPoints'>,
  blockSize: number | null,
): number {
  const size = Math.min(blockSize ?? sample.columns, sample.columns);
  const search = new BlockSearch(format.bits, size, format.zeroPoints);
  let signal = 0;
  let noise = 0;
  for (let row = 0; row < sample.rows; row++) {
    for (let block = 0; block < blocksPerRow(sample.columns, size); block++) {
      const start = row * sample.columns + block * size;
      const count = Math.min(size, sample.columns - block * size);
      search.run(sample.values, start, count, null);
      for (let i = 0; i < count; i++) {
        const value = sample.values[start + i]!;
        signal += value * value;
        noise += (value - (search.codes[i]! - search.zeroPoint) * search.scale) ** 2;
      }
    }
  }
  return decibels(signal, noise);
}

/** 10 · log10(signal / noise), capped at 150 dB (about float32's own precision). */
export function decibels(signal: number, noise: number): number {
  if (noise <= 0 || signal <= 0) return 150;
  return Math.min(150, 10 * Math.log10(signal / noise));
}

/** 6.02 dB is one bit: zero points of 4 bits a block of 32 (1/8 bit a weight) must win 0.75 dB. */
const decibelsPerBit = 6.02;

/**
 * Whether zero points are worth their bytes for this weight, judged on a sample. Weights whose bytes would have
 * to be computed first (a pruned model being planned) are taken as symmetric.
 */
export function zeroPointsPay(matrix: WeightMatrix, format: BlockFormat): boolean {
  const { data } = matrix.tensor;
  if (data.origin === 'computed') return false;
  const gain = remembered(data, `zero points ${format.bits} ${format.blockSize} ${matrix.order}`, () => {
    const sample = sampleMatrix(matrix);
    const { bits, blockSize } = format;
    return (
      blockSqnr(sample, { bits, zeroPoints: true }, blockSize) -
      blockSqnr(sample, { bits, zeroPoints: false }, blockSize)
    );
  });
  return gain > (decibelsPerBit * format.bits) / format.blockSize;
}
