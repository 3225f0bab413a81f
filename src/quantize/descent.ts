import { axpyMemory, type Axpy } from './axpy.js';
import {
  blockMatrixSize,
  blocksPerRow,
  packBlock,
  packZeroPoints,
  type BlockFormat,
  type BlockMatrix,
} from './block-matrix.js';
import { BlockSearch, roundToHalf } from './block-search.js';
import { readRows, type WeightMatrix } from './matrix.js';

/** Second moments of what a matrix multiplies: `moments[i, j] = mean of xᵢxⱼ`, row-major, columns × columns. */
export interface Moments {
  columns: number;
  /** Symmetric, not negative definite. */
  values: Float32Array;
}

/**
 * The memory that {@link descend} works in. Whoever fills the moments in here spares a second copy of what is most of
 * all that descent needs.
 */
export class DescentMemory {
  /** Floats from one row of the moments to the next. */
  readonly stride: number;
  /** Rows of a matrix worked on at once. */
  readonly panelRows: number;
  /** Moments `[columns, stride]`, then what descent needs of its own; {@link descend} damps the moments. */
  readonly values: Float32Array;
  readonly axpy: Axpy;

  constructor(
    readonly columns: number,
    readonly rows: number,
  ) {
    this.stride = Math.ceil(columns / 16) * 16;
    this.panelRows = Math.max(1, Math.min(rows, Math.floor(panelFloats / this.stride)));
    const { values, axpy } = axpyMemory((columns + this.panelRows) * this.stride);
    this.values = values;
    this.axpy = axpy;
  }

  static holding({ columns, values }: Moments, rows: number): DescentMemory {
    const memory = new DescentMemory(columns, rows);
    for (let k = 0; k < columns; k++) {
      memory.values.set(values.subarray(k * columns, (k + 1) * columns), k * memory.stride);
    }
    return memory;
  }
}

export interface DescentOptions {
  /** Passes over all codes after the first; the scales are fitted anew before the last. */
  passes: number;
  /** Added to the diagonal, times its mean: what the samples do not show is not free. */
  damping: number;
}

export const defaultDescent: DescentOptions = { passes: 3, damping: 0.01 };

/** Floats of working rows held at once. */
const panelFloats = 2 ** 21;

/** Milliseconds of work between two turns of others, about. */
const betweenTurnsMs = 50;

/** Columns go by in groups, so that the rows of the moments they touch stay in the second-level cache. */
const groupColumns = 32;

/**
 * Codes and scales of a matrix that lose least in its products, `‖X(W − Ŵ)ᵀ‖²`, given the second moments of X
 * (columns × columns), one row of W after the other.
 *
 * Scale and zero point of each block come from a search weighted by the diagonal. Then coordinate descent: with
 * Δ = ŵ − w and g = HΔ, the best value of coordinate k given all others is `ŵₖ − gₖ / Hₖₖ`; the nearest code is
 * taken, and g follows. The first pass starts from the float weights, so that each code makes up for the rounding
 * of those before it. Before the last pass each block's scale is fitted again: with codes p in the block,
 * `δs = −pᵀg / pᵀHp`. Every step lowers the loss; no matrix is inverted.
 *
 * A large matrix takes minutes: timers, messages and signals get a turn in between.
 * @throws the reason of `signal` when it is aborted.
 */
export async function descend(
  matrix: WeightMatrix,
  format: BlockFormat,
  moments: Moments | DescentMemory,
  options: DescentOptions = defaultDescent,
  signal?: AbortSignal,
): Promise<BlockMatrix> {
  const { rows, columns } = matrix;
  const { bits, blockSize } = format;
  const blocks = blocksPerRow(columns, blockSize);
  const memory = moments instanceof DescentMemory ? moments : DescentMemory.holding(moments, rows);
  const { stride, panelRows, values, axpy } = memory;
  const diagonal = damp(memory, options.damping);
  const inverse = diagonal.map((value) => 1 / value);
  const size = blockMatrixSize(rows, columns, format);
  const result: BlockMatrix = {
    format,
    rows,
    columns,
    codes: new Uint8Array(size.codes),
    scales: new Float32Array(size.scales),
    zeroPoints: format.zeroPoints ? new Uint8Array(size.zeroPoints) : null,
  };
  const search = new BlockSearch(bits, blockSize, format.zeroPoints, format.halfScales);
  const importance = Float32Array.from(diagonal);
  const gradients = columns * stride;
  const turns = new Turns(signal);
  for (let first = 0; first < rows; first += panelRows) {
    const count = Math.min(panelRows, rows - first);
    const current = readRows(matrix, first, count);
    const scales = new Float32Array(count * blocks);
    const zeros = new Float32Array(count * blocks);
    for (let row = 0; row < count; row++) {
      if (turns.due()) await turns.pass();
      for (let block = 0; block < blocks; block++) {
        const start = block * blockSize;
        search.run(current, row * columns + start, Math.min(blockSize, columns - start), importance, start);
        scales[row * blocks + block] = search.scale;
        zeros[row * blocks + block] = search.zeroPoint;
      }
    }
    values.fill(0, gradients, gradients + count * stride);
    const panel = { rows: count, columns, stride, blocks, blockSize, current, scales, zeros };
    const work = { values, axpy, gradients, inverse, largest: 2 ** bits - 1, half: format.halfScales === true };
    for (let pass = 0; pass <= options.passes; pass++) {
      for (let block = 0; block < blocks && pass === options.passes && pass > 0; block++) {
        if (turns.due()) await turns.pass();
        refitScales(panel, work, block);
      }
      for (let start = 0; start < columns; start += groupColumns) {
        if (turns.due()) await turns.pass();
        roundColumns(panel, work, start, Math.min(columns, start + groupColumns));
      }
    }
    store(result, panel, first, search.codes);
  }
  return result;
}

/** When the other work of the process gets a turn. */
class Turns {
  private last = performance.now();

  constructor(private readonly signal: AbortSignal | undefined) {}

  due(): boolean {
    return performance.now() - this.last > betweenTurnsMs;
  }

  async pass(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    this.signal?.throwIfAborted();
    this.last = performance.now();
  }
}

interface Panel {
  rows: number;
  columns: number;
  stride: number;
  blocks: number;
  blockSize: number;
  /** ŵ, `[rows, columns]`; float weights before the first pass. */
  current: Float32Array;
  scales: Float32Array;
  zeros: Float32Array;
}

interface Work {
  /** Moments `[columns, stride]`, then g `[rows, stride]`. */
  values: Float32Array;
  axpy: Axpy;
  /** Where g starts. */
  gradients: number;
  /** 1 / Hₖₖ. */
  inverse: Float64Array;
  largest: number;
  /** Scales are float16 numbers. */
  half: boolean;
}

/** Adds the damping, and returns the diagonal. */
function damp({ columns, stride, values }: DescentMemory, damping: number): Float64Array {
  let sum = 0;
  for (let k = 0; k < columns; k++) sum += values[k * stride + k]!;
  // Inputs that are always zero cost nothing and must not divide by zero.
  const added = sum > 0 ? (damping * sum) / columns : 1;
  const diagonal = new Float64Array(columns);
  for (let k = 0; k < columns; k++) {
    values[k * stride + k]! += added;
    diagonal[k] = values[k * stride + k]!;
  }
  return diagonal;
}

/** Adding and subtracting 1.5 · 2⁵² rounds a double to the nearest integer, ties to even. */
const roundingMagic = 6755399441055744;

function roundColumns(
  panel: Panel,
  { values, axpy, gradients, inverse, largest }: Work,
  start: number,
  end: number,
): void {
  const { rows, columns, stride, blocks, blockSize, current, scales, zeros } = panel;
  for (let row = 0; row < rows; row++) {
    const g = gradients + row * stride;
    for (let k = start; k < end; k++) {
      const block = row * blocks + Math.floor(k / blockSize);
      const scale = scales[block]!;
      if (scale === 0) continue;
      const zero = zeros[block]!;
      const at = row * columns + k;
      const before = current[at]!;
      const wanted = (before - values[g + k]! * inverse[k]!) / scale;
      let p = wanted + roundingMagic - roundingMagic;
      p = p < -zero ? -zero : p > largest - zero ? largest - zero : p;
      const after = Math.fround(p * scale);
      if (after === before) continue;
      current[at] = after;
      axpy(g * 4, k * stride * 4, stride, after - before);
    }
  }
}

function refitScales(panel: Panel, { values, axpy, gradients, half }: Work, block: number): void {
  const { rows, columns, stride, blocks, blockSize, current, scales } = panel;
  const start = block * blockSize;
  const end = Math.min(columns, start + blockSize);
  for (let row = 0; row < rows; row++) {
    const g = gradients + row * stride;
    const scale = scales[row * blocks + block]!;
    if (scale === 0) continue;
    const base = row * columns;
    let slope = 0;
    let curvature = 0;
    for (let i = start; i < end; i++) {
      const p = current[base + i]!;
      if (p === 0) continue;
      slope += p * values[g + i]!;
      const h = i * stride;
      let sum = 0;
      for (let j = start; j < end; j++) sum += current[base + j]! * values[h + j]!;
      curvature += p * sum;
    }
    if (!(curvature > 0)) continue;
    // ŵ = s·p, so a relative change of the scale is the same relative change of the values.
    const wanted = scale * (1 - slope / curvature);
    const fitted = half ? roundToHalf(wanted) : Math.fround(wanted);
    if (!(fitted / scale > 0.5 && fitted / scale < 2)) continue;
    scales[row * blocks + block] = fitted;
    for (let i = start; i < end; i++) {
      const before = current[base + i]!;
      if (before === 0) continue;
      const after = Math.fround(Math.round(before / scale) * fitted);
      current[base + i] = after;
      axpy(g * 4, i * stride * 4, stride, after - before);
    }
  }
}

function store(result: BlockMatrix, panel: Panel, first: number, codes: Uint8Array): void {
  const { rows, columns, blocks, blockSize, current, scales, zeros } = panel;
  for (let row = 0; row < rows; row++) {
    for (let block = 0; block < blocks; block++) {
      const index = row * blocks + block;
      const [scale, zero] = [scales[index]!, zeros[index]!];
      const start = block * blockSize;
      const count = Math.min(blockSize, columns - start);
      codes.fill(zero);
      for (let i = 0; scale !== 0 && i < count; i++) {
        codes[i] = Math.round(current[row * columns + start + i]! / scale) + zero;
      }
      const target = (first + row) * blocks + block;
      result.scales[target] = scale;
      packBlock(result, target, codes);
    }
  }
  packZeroPoints(result, zeros, first, rows);
}
