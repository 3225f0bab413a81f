import { rmSync } from 'node:fs';
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
import type { Moments } from './descent.js';

/** An activation some matrices multiply. */
export interface TappedActivation {
  /** Value of the main graph. */
  name: string;
  columns: number;
  /** A Gemm reads it turned. */
  transposed: boolean;
}

/** What the samples showed of one activation, as rows of `columns`. */
export interface ActivationMoments extends Moments {
  /** Mean of each column. */
  mean: Float32Array;
  rows: number;
  /** Rows of one sample are alike: what is known is known from so many. */
  samples: number;
}

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
    await writeModelInSteps(tapped, file, { onProgress: () => options.signal?.throwIfAborted() });
    const session = await runtime.open({ modelPath: file, provider: 'cpu' });
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

const outputNames = (at: number): { gram: string; sum: string; shape: string } => ({
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
  const add = (name: string, opType: string, inputs: string[], attributes: Record<string, Attribute> = {}): string => {
    graph.nodes.push(makeNode(opType, inputs, [name], attributes, { name }) satisfies Node);
    return name;
  };
  const perm = intsAttribute([1, 0]);
  activations.forEach(({ name, columns, transposed }, at) => {
    const names = outputNames(at);
    const inner = (part: string): string => `moments/${at}/${part}`;
    const cast = add(inner('float'), 'Cast', [name], { to: intAttribute(DataType.FLOAT) });
    const upright = transposed ? add(inner('upright'), 'Transpose', [cast], { perm }) : cast;
    const rows = add(inner('rows'), 'Reshape', [upright, ints(inner('rowShape'), [-1, columns])]);
    add(names.gram, 'MatMul', [add(inner('turned'), 'Transpose', [rows], { perm }), rows]);
    const keep = { keepdims: intAttribute(0) };
    if (opset < 13) add(names.sum, 'ReduceSum', [rows], { ...keep, axes: intsAttribute([0]) });
    else add(names.sum, 'ReduceSum', [rows, ints(inner('axes'), [0])], keep);
    add(names.shape, 'Shape', [rows]);
    graph.outputs.push(
      { name: names.gram, dataType: DataType.FLOAT, dims: [columns, columns] },
      { name: names.sum, dataType: DataType.FLOAT, dims: [columns] },
      { name: names.shape, dataType: DataType.INT64, dims: [2] },
    );
  });
  removeDeadNodesAndInitializers(graph);
  return clone;
}

async function sum(
  session: RuntimeSession,
  wanted: ReadonlySet<string>,
  dataset: Dataset,
  activations: readonly TappedActivation[],
  { samples = 128, signal }: MomentOptions,
): Promise<ActivationMoments[]> {
  const moments = activations.map(({ columns }) => ({
    columns,
    values: new Float32Array(columns * columns),
    mean: new Float32Array(columns),
    rows: 0,
    samples: 0,
  }));
  const fixed = dataset.fixedBatch ?? null;
  const total = Math.min(Math.max(samples, fixed ?? 0), dataset.samples);
  let batch = fixed ?? 1;
  for (let done = 0; done < total;) {
    signal?.throwIfAborted();
    const count = Math.min(batch, total - done);
    // A model that takes exactly so many samples at a time gets whole batches only.
    if (fixed !== null && count < fixed && done > 0) break;
    const feeds = await dataset.feeds(done, count);
    const results = await session.run(Object.fromEntries(Object.entries(feeds).filter(([name]) => wanted.has(name))));
    let most = 1;
    moments.forEach((moment, at) => {
      const names = outputNames(at);
      addTo(moment.values, results[names.gram]!.data as Float32Array);
      addTo(moment.mean, results[names.sum]!.data as Float32Array);
      const rows = Number((results[names.shape]!.data as BigInt64Array)[0]);
      moment.rows += rows;
      moment.samples += count;
      most = Math.max(most, rows);
    });
    done += count;
    if (fixed === null) batch = Math.max(1, Math.min(largestBatch, Math.floor((rowsPerRun * count) / most)));
  }
  for (const moment of moments) {
    const share = 1 / Math.max(1, moment.rows);
    moment.values.forEach((value, i) => (moment.values[i] = value * share));
    moment.mean.forEach((value, i) => (moment.mean[i] = value * share));
  }
  return moments;
}

function addTo(sums: Float32Array, values: Float32Array): void {
  for (let i = 0; i < sums.length; i++) sums[i]! += values[i]!;
}

/** Whether a Gemm reads its first input turned. */
export const readsTransposed = (node: Node): boolean => node.opType === 'Gemm' && getInt(node, 'transA', 0) === 1;
