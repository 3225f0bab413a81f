import { DataType, type Tensor, type TensorData } from '../onnx/model.js';
import { elementCount } from '../onnx/tensor.js';
import { blocksPerRow, type BlockFormat } from './block-matrix.js';
import { BlockSearch } from './block-search.js';
import { heldFinite, readFloatRange } from './floats.js';
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
  return { rows, columns, values: heldFinite(values) };
}

/** Signal-to-noise ratio in dB of a sample quantized in blocks; `blockSize` null takes each sampled row as one block. */
export function blockSqnr(
  sample: WeightSample,
  format: Pick<BlockFormat, 'bits' | 'zeroPoints' | 'nearest'>,
  blockSize: number | null,
): number {
  const size = Math.min(blockSize ?? sample.columns, sample.columns);
  const search = new BlockSearch(format.bits, size, format.zeroPoints, false, format.nearest);
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

/** Runs of a tensor looked at for its magnitudes, and their length. */
const [magnitudeRuns, magnitudeRun] = [16, 256];

/**
 * Whether block scales of a float32 weight can be stored as float16, judged on a sample: neither so small that
 * float16 loses digits of them nor near its largest number. Bytes that would have to be computed first are not looked
 * at: such weights keep float32 scales.
 */
function scalesFitHalf(tensor: Tensor): boolean {
  const { data, dims, dataType } = tensor;
  if (dataType !== DataType.FLOAT || data.origin === 'computed') return false;
  const fits = remembered(data, 'half scales', () => {
    const count = elementCount(dims);
    const length = Math.min(magnitudeRun, count);
    let largest = 0;
    let squares = 0;
    for (let run = 0; run < magnitudeRuns; run++) {
      for (const value of readFloatRange(tensor, Math.floor(((count - length) * run) / magnitudeRuns), length)) {
        largest = Math.max(largest, Math.abs(value));
        squares += value * value;
      }
    }
    const typical = Math.sqrt(squares / (magnitudeRuns * length));
    return typical > 2 ** -13 && largest < 2 ** 12 ? 1 : 0;
  });
  return fits === 1;
}

/**
 * How the scales of a weight are stored: in its own type, or as float16 that the runtime widens once, at load.
 * @param constant the operator's kernel needs them as an initializer of its own type.
 */
export function storedScaleType(tensor: Tensor, constant = false): { dataType: number; half: boolean; bytes: number } {
  const half = tensor.dataType === DataType.FLOAT16 || (!constant && scalesFitHalf(tensor));
  return { dataType: half ? DataType.FLOAT16 : tensor.dataType, half, bytes: half ? 2 : 4 };
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
