import { rmSync } from 'node:fs';
import type { Dtype, Provider, WeightFormat } from '../contract/types.js';
import { cloneModel } from '../onnx/graph.js';
import type { Model } from '../onnx/model.js';
import type { Dataset } from '../runtime/dataset-types.js';
import type { Runtime } from '../runtime/types.js';
import { dequantizeRow, type BlockFormat, type BlockMatrix } from './block-matrix.js';
import { DescentMemory, descend } from './descent.js';
import { biasOf } from './matmul-nbits.js';
import { readRows, type WeightMatrix } from './matrix.js';
import {
  MomentCollector,
  momentRows,
  readsTransposed,
  type ActivationMoments,
  type TappedActivation,
} from './moments.js';
import { beforeQuantizing } from './passes.js';
import { blockBits, blockFormatOf, matrixOf, planEncoding } from './plan.js';
import { collectSites, type WeightSite, type WeightUse } from './sites.js';

/** Codes of a weight chosen by what its operator computes on samples. */
export interface RefinedWeight {
  matrix: BlockMatrix;
  order: WeightMatrix['order'];
  /** To be added to the bias that follows, one for each row: what the rounding changes on average. */
  biasShift: Float32Array | null;
}

export interface RefineOptions {
  provider: Provider;
  /** Power of two ≥ 16 where a format names none. */
  blockSize?: number;
  /** Folder for temporary models; it must exist. */
  workDirectory: string;
  /** Samples used at most, or as many as the model takes at a time; default 128. */
  samples?: number;
  signal?: AbortSignal;
  onProgress?: (done: number, total: number, item?: string) => void;
  /** Told of every weight that is too large to look at samples for. */
  onTooLarge?: (weight: string, reason: string) => void;
}

/** Wider inputs keep the search without samples: their moments alone would take more than 64 MB. */
const widestColumns = 4096;
/** Multiplications of one pass over a weight, rows · columns²: more would take it a minute or longer. */
const mostMultiplications = 2 ** 35;
/** Bytes of moments collected in one go, as much as the widest activation alone may take; each go starts a process. */
const momentBytes = 48 * 2 ** 20;

interface Task {
  site: WeightSite;
  matrix: WeightMatrix;
  format: BlockFormat;
  activations: TappedActivation[];
  /** Every use is followed by a bias that can take what rounding changes on average. */
  hasBias: boolean;
}

/**
 * Chooses codes and scales of 4-bit and 2-bit weights by what their operators compute on samples ({@link descend}), and how
 * their biases make up for the mean of the rounding error. Weights it says nothing about (other formats, bodies of If
 * and Loop, inputs wider than 4096, very large ones) are left to the search without samples. Codes are kept in memory; the moments of
 * a few activations at a time.
 * @param assignment as for quantizeModel; pass the result to it as `refined`.
 * @throws SnugError of the runtime and of the data set.
 */
export async function refineWeights(
  runtime: Runtime,
  model: Model,
  dataset: Dataset,
  assignment: ReadonlyMap<string, Dtype | WeightFormat>,
  options: RefineOptions,
): Promise<Map<string, RefinedWeight>> {
  const clone = cloneModel(model);
  beforeQuantizing(clone);
  const tasks = collectSites(clone).flatMap((site) => taskFor(clone, site, assignment.get(site.name), options));
  const refined = new Map<string, RefinedWeight>();
  if (tasks.length === 0) return refined;
  let done = 0;
  const collector = new MomentCollector(runtime, clone, dataset, tapsOf(tasks), options);
  const first = ({ activations }: Task): number => Math.min(...activations.map((tap) => collector.positionOf(tap)));
  tasks.sort((a, b) => first(a) - first(b));
  try {
    const all = groups(tasks, momentBytes);
    for (const [at, group] of all.entries()) {
      const activations = tapsOf(group);
      const moments = await collector.collect(activations, tapsOf(all.slice(at + 1).flat()));
      try {
        const byKey = new Map(activations.map((tap, index) => [keyOf(tap), moments[index]!]));
        for (const task of group) {
          options.signal?.throwIfAborted();
          options.onProgress?.(done++, tasks.length, task.site.name);
          refined.set(task.site.name, await refine(task, byKey, options.signal));
        }
      } finally {
        for (const { file } of moments) rmSync(file, { force: true });
      }
    }
  } finally {
    collector.close();
  }
  options.onProgress?.(tasks.length, tasks.length);
  return refined;
}

/** What tasks look at, each once. */
function tapsOf(tasks: readonly Task[]): TappedActivation[] {
  return [...new Map(tasks.flatMap((task) => task.activations).map((tap) => [keyOf(tap), tap])).values()];
}

const keyOf = (tap: TappedActivation): string => `${tap.transposed} ${tap.name}`;

function taskFor(
  model: Model,
  site: WeightSite,
  asked: Dtype | WeightFormat | undefined,
  { provider, blockSize, onTooLarge }: RefineOptions,
): Task[] {
  if (asked === undefined) return [];
  const format = {
    ...(blockSize === undefined ? {} : { blockSize }),
    ...(typeof asked === 'string' ? { dtype: asked } : asked),
  };
  if (format.dtype !== 'int4' && format.dtype !== 'int2') return [];
  const plan = planEncoding(model, site, format, provider);
  if (!plan.allowed) return [];
  const uses = site.uses.filter((_, at) => plan.encodings[at] === 'MatMulNBits');
  const [first] = uses;
  if (first === undefined || uses.some((use) => use.graph !== model.graph || use.role === 'matmul-left')) return [];
  const matrix = matrixOf(site, first);
  if (uses.some((use) => matrixOf(site, use).order !== matrix.order)) return [];
  const activations = uses.map((use) => ({
    name: use.node.inputs[0]!,
    columns: matrix.columns,
    transposed: readsTransposed(use.node),
  }));
  // A constant activation is no input to learn from.
  if (activations.some(({ name }) => model.graph.initializers.has(name))) return [];
  const { rows, columns } = matrix;
  if (columns > widestColumns || rows * columns ** 2 > mostMultiplications) {
    onTooLarge?.(
      site.name,
      `too large (${rows} × ${columns}) to choose its ${blockBits(format.dtype)}-bit codes on samples`,
    );
    return [];
  }
  const hasBias = uses.every((use: WeightUse) => biasOf(model.graph, use, matrix.rows, provider) !== null);
  return [{ site, matrix, format: blockFormatOf(matrix, format, provider), activations, hasBias }];
}

/** Tasks in order, cut where their moments would take too much memory. */
function groups(tasks: readonly Task[], mostBytes: number): Task[][] {
  const result: Task[][] = [];
  let known = new Set<string>();
  let bytes = 0;
  for (const task of tasks) {
    const fresh = task.activations.filter((tap) => !known.has(keyOf(tap)));
    const needed = fresh.reduce((sum, { columns }) => sum + columns * columns * 4, 0);
    if (result.length === 0 || bytes + needed > mostBytes) {
      result.push([]);
      known = new Set();
      bytes = 0;
    }
    result.at(-1)!.push(task);
    for (const tap of task.activations) {
      if (!known.has(keyOf(tap))) bytes += tap.columns * tap.columns * 4;
      known.add(keyOf(tap));
    }
  }
  return result;
}

async function refine(
  { matrix, format, activations, hasBias }: Task,
  known: ReadonlyMap<string, ActivationMoments>,
  signal: AbortSignal | undefined,
): Promise<RefinedWeight> {
  const memory = new DescentMemory(matrix.columns, matrix.rows);
  const parts = activations.map((tap) => known.get(keyOf(tap))!);
  const mean = pool(parts, hasBias, memory);
  const result = await descend(matrix, format, memory, undefined, signal);
  return { matrix: result, order: matrix.order, biasShift: hasBias ? meanError(matrix, result, mean) : null };
}

/**
 * What the noise of quantized operators before a weight adds to its inputs, as a share of their mean square: 20 dB,
 * what 4 bits leave. It keeps descent from trusting inputs to be exactly what the samples showed.
 */
const inputNoise = 0.01;

/** Fills in moments over all places a weight is used, about the mean where a bias takes the mean; returns the mean. */
function pool(parts: readonly ActivationMoments[], centred: boolean, { values, stride }: DescentMemory): Float32Array {
  const { columns, samples } = parts[0]!;
  const rows = parts.reduce((sum, part) => sum + part.rows, 0);
  const mean = new Float32Array(columns);
  values.fill(0, 0, columns * stride);
  for (const part of parts) {
    const share = part.rows / Math.max(1, rows);
    let to = 0;
    for (const row of momentRows(part)) {
      for (let j = 0; j < columns; j++) values[to + j]! += share * row[j]!;
      to += stride;
    }
    for (let i = 0; i < columns; i++) mean[i]! += share * part.mean[i]!;
  }
  const squares = Float32Array.from({ length: columns }, (_, i) => values[i * stride + i]!);
  if (centred) {
    for (let i = 0; i < columns; i++) {
      for (let j = 0; j < columns; j++) values[i * stride + j]! -= mean[i]! * mean[j]!;
    }
  }
  shrink(values, columns, stride, rows);
  // As if one more sample had all inputs alike: of a few samples, not even the strengths of inputs are to be believed.
  const alike = squares.reduce((sum, value) => sum + value, 0) / columns / Math.max(1, samples);
  for (let i = 0; i < columns; i++) values[i * stride + i]! += inputNoise * squares[i]! + alike;
  return mean;
}

/**
 * Draws products of different inputs towards zero as far as so few rows can be wrong about them: by the share
 * `Σ var(hᵢⱼ) / Σ hᵢⱼ²` over i ≠ j (Ledoit and Wolf 2004; Schäfer and Strimmer 2005, target D), the variance as for
 * normal inputs, `(hᵢᵢhⱼⱼ + hᵢⱼ²) / rows`.
 */
function shrink(values: Float32Array, columns: number, stride: number, rows: number): void {
  let [trace, diagonalSquares, squares] = [0, 0, 0];
  for (let i = 0; i < columns; i++) {
    const own = values[i * stride + i]!;
    trace += own;
    diagonalSquares += own * own;
    for (let j = 0; j < columns; j++) squares += values[i * stride + j]! ** 2;
  }
  const products = squares - diagonalSquares;
  if (!(products > 0)) return;
  const variance = (trace * trace - diagonalSquares + products) / Math.max(1, rows);
  const keep = 1 - Math.min(1, variance / products);
  for (let i = 0; i < columns; i++) {
    for (let j = 0; j < columns; j++) if (i !== j) values[i * stride + j]! *= keep;
  }
}

/** `(W − Ŵ) · mean`, one for each row. */
function meanError(matrix: WeightMatrix, result: BlockMatrix, mean: Float32Array): Float32Array {
  const shift = new Float32Array(matrix.rows);
  const panelRows = Math.max(1, Math.floor(2 ** 22 / matrix.columns));
  const approximate = new Float32Array(matrix.columns);
  for (let first = 0; first < matrix.rows; first += panelRows) {
    const count = Math.min(panelRows, matrix.rows - first);
    const exact = readRows(matrix, first, count);
    for (let row = 0; row < count; row++) {
      dequantizeRow(result, first + row, approximate);
      let sum = 0;
      for (let i = 0; i < matrix.columns; i++) sum += (exact[row * matrix.columns + i]! - approximate[i]!) * mean[i]!;
      shift[first + row] = sum;
    }
  }
  return shift;
}
