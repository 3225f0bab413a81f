import { normalLevels } from '../onnx/normal-levels.js';
import { readRows, type WeightMatrix } from './matrix.js';
import { roundToHalf } from './block-search.js';
import { decibels, type WeightSample } from './sample.js';

/** Weights that share a scale; they run on from row to row. */
export const normalBlock = 64;

/** Codes and scales of a matrix as com.microsoft.MatMulBnb4 reads them. */
export interface NormalFloatMatrix {
  rows: number;
  columns: number;
  /** Row-major, even element in the high half of its byte. */
  codes: Uint8Array;
  /** One for each 64 weights of the flattened matrix, may be negative. */
  scales: Float32Array;
}

/** Bytes of codes and number of scales of so many weights. */
export function normalFloatSize(weights: number): { codes: number; scales: number } {
  return { codes: Math.ceil(weights / 2), scales: Math.ceil(weights / normalBlock) };
}

/** Codes for 1024 steps over −1 … 1, each the nearest level of the middle of its step. */
const steps = 1024;
const nearest = Uint8Array.from({ length: steps + 1 }, (_, step) => {
  const value = (2 * step) / steps - 1;
  let best = 0;
  normalLevels.forEach((level, code) => {
    if (Math.abs(level - value) < Math.abs(normalLevels[best]! - value)) best = code;
  });
  return best;
});
const middles = normalLevels.slice(1).map((level, code) => (level + normalLevels[code]!) / 2);

function codeOf(value: number): number {
  if (value <= -1) return 0;
  if (value >= 1) return 15;
  const code = nearest[Math.round(((value + 1) * steps) / 2)]!;
  if (code < 15 && value > middles[code]!) return code + 1;
  return code > 0 && value < middles[code - 1]! ? code - 1 : code;
}

/** Shares of the largest magnitude that are tried as scale, with either sign: the levels are not symmetric. */
const clipRatios = [1, 0.93, 0.86, 0.79];

/** Scale search for one block: as in BlockSearch, with levels in place of integers. Leaves scale and codes here. */
class NormalFloatSearch {
  scale = 0;
  readonly codes = new Uint8Array(normalBlock);

  constructor(private readonly halfScales: boolean) {}

  run(values: Float32Array, start: number, count: number): void {
    let most = 0;
    for (let i = start; i < start + count; i++) most = Math.max(most, Math.abs(values[i]!));
    this.scale = 0;
    if (most > 0) {
      let best = 0;
      const judge = (scale: number): number => {
        let [cross, square] = [0, 0];
        for (let i = start; i < start + count; i++) {
          const level = normalLevels[codeOf(values[i]! / scale)]!;
          cross += values[i]! * level;
          square += level * level;
        }
        const gain = square === 0 ? 0 : (cross * cross) / square;
        if (gain <= best) return 0;
        best = gain;
        this.scale = cross / square;
        return this.scale;
      };
      for (const ratio of clipRatios) for (const sign of [1, -1]) judge(sign * ratio * most);
      // The least-squares scale moves some codes; following them never loses.
      for (let round = 0, scale = this.scale; round < 2 && scale !== 0; round++) scale = judge(scale);
    }
    this.scale = this.halfScales ? roundToHalf(this.scale) : Math.fround(this.scale);
    for (let i = 0; i < count; i++) this.codes[i] = this.scale === 0 ? 7 : codeOf(values[start + i]! / this.scale);
  }
}

const panelValues = 2 ** 22;

/** Quantizes a matrix to NF4 in blocks of 64, reading it in panels of rows. */
export function quantizeNormalFloat(matrix: WeightMatrix, halfScales: boolean): NormalFloatMatrix {
  const { rows, columns } = matrix;
  const size = normalFloatSize(rows * columns);
  const codes = new Uint8Array(size.codes);
  const scales = new Float32Array(size.scales);
  const search = new NormalFloatSearch(halfScales);
  // Panels of so many rows end with a block.
  const panelRows = Math.max(1, Math.floor(panelValues / columns / normalBlock)) * normalBlock;
  for (let first = 0; first < rows; first += panelRows) {
    const count = Math.min(panelRows, rows - first);
    const values = readRows(matrix, first, count);
    const base = first * columns;
    for (let start = 0; start < values.length; start += normalBlock) {
      const length = Math.min(normalBlock, values.length - start);
      search.run(values, start, length);
      scales[(base + start) / normalBlock] = search.scale;
      for (let i = 0; i < length; i++) {
        const element = base + start + i;
        codes[element >> 1]! |= search.codes[i]! << (element % 2 === 0 ? 4 : 0);
      }
    }
  }
  return { rows, columns, codes, scales };
}

/** The values a runtime sees, `[rows, columns]` row-major. */
export function dequantizeNormalFloat({ rows, columns, codes, scales }: NormalFloatMatrix): Float32Array {
  return Float32Array.from({ length: rows * columns }, (_, i) => {
    const code = (codes[i >> 1]! >> (i % 2 === 0 ? 4 : 0)) & 15;
    return normalLevels[code]! * scales[Math.floor(i / normalBlock)]!;
  });
}

/** Signal-to-noise ratio in dB of a sample in NF4. */
export function normalFloatSqnr({ rows, columns, values }: WeightSample): number {
  const search = new NormalFloatSearch(false);
  let [signal, noise] = [0, 0];
  for (let row = 0; row < rows; row++) {
    for (let first = 0; first < columns; first += normalBlock) {
      const count = Math.min(normalBlock, columns - first);
      const start = row * columns + first;
      search.run(values, start, count);
      for (let i = 0; i < count; i++) {
        signal += values[start + i]! ** 2;
        noise += (values[start + i]! - normalLevels[search.codes[i]!]! * search.scale) ** 2;
      }
    }
  }
  return decibels(signal, noise);
}
