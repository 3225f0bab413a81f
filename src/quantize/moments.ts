import { closeSync, openSync, readSync, rmSync } from 'node:fs';
import path from 'node:path';
import { randomUUID } from 'node:crypto';
import {
  cloneModel,
  getInt,
  intAttribute,
  intsAttribute,
  makeNode,
  removeDeadNodesAndInitializers,
} from '../onnx/graph.js';
import { DataType, type Attribute, type Model, type Node } from '../onnx/model.js';
import { int64Tensor } from '../onnx/tensor.js';
import { writeModelInSteps } from '../onnx/write.js';
import type { Dataset } from '../runtime/dataset-types.js';
import type { Runtime, RuntimeSession } from '../runtime/types.js';
import { appendTaps } from './statistics.js';

/** An activation some matrices multiply. */
export interface TappedActivation {
  /** Value of the main graph. */
  name: string;
  columns: number;
  /** A Gemm reads it turned. */
  transposed: boolean;
}

/** What the samples showed of one activation, as rows of `columns`. The second moments stay on disk. */
export interface ActivationMoments {
  columns: number;
  /** Mean of each column. */
  mean: Float32Array;
  rows: number;
  /** Rows of one sample are alike: what is known is known from so many. */
  samples: number;
  /** Sums of xᵢxⱼ over the rows, row-major float32 ({@link readMoments}); whoever asked for the moments removes it. */
  file: string;
  /** 1 / rows. */
  share: number;
}

/** Bytes read in one call. */
const chunkBytes = 16 * 2 ** 20;

export interface MomentOptions {
  /** Folder for temporary models; it must exist. */
  workDirectory: string;
  /** Samples used at most, or as many as the model takes at a time; default 128. */
  samples?: number;
  signal?: AbortSignal;
}

/** Rows of an activation looked at once in a run, about; a run takes at least one sample. */
const rowsPerRun = 1024;
const largestBatch = 32;

/**
 * Second moments and means of activations over samples. The sums are taken in the graph, which ends at the last
 * activation asked for, so that only small matrices leave the session.
 * @param model constants hoisted; it is not changed.
 * @throws SnugError of the runtime and of the data set.
 */
export async function collectMoments(
  runtime: Runtime,
  model: Model,
  dataset: Dataset,
  activations: readonly TappedActivation[],
  options: MomentOptions,
): Promise<ActivationMoments[]> {
  const file = path.join(options.workDirectory, `moments-${randomUUID()}.onnx`);
  try {
    const tapped = tapModel(model, activations);
    const inputs = new Set(tapped.graph.inputs.map((input) => input.name));
    // Weights beside the model are mapped, not copied.
    const onProgress = (): void => options.signal?.throwIfAborted();
    await writeModelInSteps(tapped, file, { externalData: 'always', onProgress });
    const session = await runtime.open({
      modelPath: file,
      provider: 'cpu',
      graphOptimization: 'extended',
      lean: true,
    });
    try {
      return await sum(session, inputs, dataset, activations, options);
    } finally {
      await session.close();
    }
  } finally {
    rmSync(file, { force: true });
    rmSync(`${file}.data`, { force: true });
  }
}

const valueNames = (at: number): Record<'before' | 'gram' | 'sum' | 'shape', string> => ({
  /** Input: the sums of the runs before. */
  before: `moments/${at}/before`,
  /** Output: with those of this run. */
  gram: `moments/${at}/gram`,
  sum: `moments/${at}/sum`,
  shape: `moments/${at}/shape`,
});

function tapModel(model: Model, activations: readonly TappedActivation[]): Model {
  const clone = cloneModel(model);
  const { graph } = clone;
  const opset = clone.opsets.get('') ?? 1;
  graph.outputs = [];
  const ints = (name: string, values: readonly number[]): string => {
    graph.initializers.set(name, int64Tensor(name, [values.length], values));
    return name;
  };
  const perm = intsAttribute([1, 0]);
  const taps = activations.map(({ name, columns, transposed }, at): Node[] => {
    const names = valueNames(at);
    const inner = (part: string): string => `moments/${at}/${part}`;
    const nodes: Node[] = [];
    const add = (
      output: string,
      opType: string,
      inputs: string[],
      attributes: Record<string, Attribute> = {},
    ): string => {
      nodes.push(makeNode(opType, inputs, [output], attributes, { name: output }));
      return output;
    };
    const cast = add(inner('float'), 'Cast', [name], { to: intAttribute(DataType.FLOAT) });
    const upright = transposed ? add(inner('upright'), 'Transpose', [cast], { perm }) : cast;
    const rows = add(inner('rows'), 'Reshape', [upright, ints(inner('rowShape'), [-1, columns])]);
    const keep = { keepdims: intAttribute(0) };
    add(names.shape, 'Shape', [rows]);
    if (opset < 13) add(names.sum, 'ReduceSum', [rows], { ...keep, axes: intsAttribute([0]) });
    else add(names.sum, 'ReduceSum', [rows, ints(inner('axes'), [0])], keep);
    add(names.gram, 'Gemm', [rows, rows, names.before], { transA: intAttribute(1) });
    graph.inputs.push({ name: names.before, dataType: DataType.FLOAT, dims: null });
    graph.outputs.push(
      { name: names.gram, dataType: DataType.FLOAT, dims: [columns, columns] },
      { name: names.sum, dataType: DataType.FLOAT, dims: [columns] },
      { name: names.shape, dataType: DataType.INT64, dims: [2] },
    );
    return nodes;
  });
  appendTaps(graph, taps);
  removeDeadNodesAndInitializers(graph);
  return clone;
}

async function sum(
  session: RuntimeSession,
  wanted: ReadonlySet<string>,
  dataset: Dataset,
  activations: readonly TappedActivation[],
  { samples = 128, signal, workDirectory }: MomentOptions,
): Promise<ActivationMoments[]> {
  const sums = activations.map(({ columns }) => ({ mean: new Float32Array(columns), rows: 0, samples: 0 }));
  const names = activations.map((_, at) => valueNames(at));
  const zero = { dtype: 'float32', dims: [1], data: new Float32Array(1) } as const;
  await session.hold(Object.fromEntries(names.map(({ before }) => [before, { ...zero, dims: [1] }])));
  const carry = Object.fromEntries(names.map(({ gram, before }) => [gram, before]));
  const fetches = names.flatMap(({ sum: total, shape }) => [total, shape]);
  const fixed = dataset.fixedBatch ?? null;
  const total = Math.min(Math.max(samples, fixed ?? 0), dataset.samples);
  let batch = fixed ?? 1;
  for (let done = 0; done < total;) {
    signal?.throwIfAborted();
    const count = Math.min(batch, total - done);
    // A model that takes exactly so many samples at a time gets whole batches only.
    if (fixed !== null && count < fixed && done > 0) break;
    const feeds = Object.entries(await dataset.feeds(done, count)).filter(([name]) => wanted.has(name));
    const results = await session.run(Object.fromEntries(feeds), fetches, carry);
    let most = 1;
    sums.forEach((one, at) => {
      addTo(one.mean, results[names[at]!.sum]!.data as Float32Array);
      const rows = Number((results[names[at]!.shape]!.data as BigInt64Array)[0]);
      one.rows += rows;
      one.samples += count;
      most = Math.max(most, rows);
    });
    done += count;
    if (fixed === null) batch = Math.max(1, Math.min(largestBatch, Math.floor((rowsPerRun * count) / most)));
  }
  const moments: ActivationMoments[] = [];
  try {
    for (const [at, { columns }] of activations.entries()) {
      const { mean, rows, samples: seen } = sums[at]!;
      const share = 1 / Math.max(1, rows);
      const file = path.join(workDirectory, `moments-${randomUUID()}.bin`);
      mean.forEach((value, i) => (mean[i] = value * share));
      moments.push({ columns, mean, rows, samples: seen, file, share });
      await session.store([names[at]!.before], file);
    }
  } catch (error) {
    for (const { file } of moments) rmSync(file, { force: true });
    throw error;
  }
  return moments;
}

function addTo(sums: Float32Array, values: Float32Array): void {
  for (let i = 0; i < sums.length; i++) sums[i]! += values[i]!;
}

/** Reads second moments: mean of xᵢxⱼ, row-major. */
export function readMoments({ columns, file, share }: ActivationMoments): Float32Array {
  const values = new Float32Array(columns * columns);
  const handle = openSync(file, 'r');
  try {
    const bytes = new Uint8Array(values.buffer);
    for (let at = 0; at < bytes.length;) at += readSync(handle, bytes, at, Math.min(chunkBytes, bytes.length - at), at);
  } finally {
    closeSync(handle);
  }
  for (let i = 0; i < values.length; i++) values[i]! *= share;
  return values;
}

/** Whether a Gemm reads its first input turned. */
export const readsTransposed = (node: Node): boolean => node.opType === 'Gemm' && getInt(node, 'transA', 0) === 1;
