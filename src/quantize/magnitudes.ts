import { rmSync } from 'node:fs';
import path from 'node:path';
import { randomUUID } from 'node:crypto';
import { SnugError } from '../contract/errors.js';
import { cloneModel, constantValue, indexGraph, intAttribute, makeNode, walkGraphs } from '../onnx/graph.js';
import { DataType, type Attribute, type Model, type Tensor } from '../onnx/model.js';
import { elementCount, float32Tensor, int64Tensor } from '../onnx/tensor.js';
import { writeModelInSteps } from '../onnx/write.js';
import type { Dataset } from '../runtime/dataset-types.js';
import type { Runtime } from '../runtime/types.js';
import type { Magnitudes } from './float16-islands.js';
import { readFloatRange } from './floats.js';
import { beforeQuantizing } from './passes.js';
import { valueTypes } from './value-types.js';

export interface MagnitudeOptions {
  /** Folder for the temporary model; it must exist. The model is removed again. */
  workDirectory: string;
  /** Samples used at most, or as many as the model takes at a time; default 8. */
  samples?: number;
  signal?: AbortSignal;
}

/** Runs of a float32 model of more bytes than this would take longer than they are worth. */
const mostWeightBytes = 8e9;

/**
 * Runs a few samples in float32 and says how far every float value reaches, so that float16 can be kept off those
 * that would overflow. Only two numbers a value leave the session. Null when the model cannot be run here (inputs it
 * does not take, more than 8 GB of weights): ranges are then unknown.
 * @throws SnugError E_CANCELLED
 */
export async function collectMagnitudes(
  runtime: Runtime,
  model: Model,
  dataset: Dataset,
  options: MagnitudeOptions,
): Promise<Magnitudes | null> {
  const clone = cloneModel(model);
  beforeQuantizing(clone);
  const { graph } = clone;
  const floats: Tensor[] = [];
  walkGraphs(graph, ({ initializers }) => {
    floats.push(...[...initializers.values()].filter(({ dataType }) => dataType === DataType.FLOAT));
  });
  if (floats.reduce((sum, { data }) => sum + data.byteLength, 0) > mostWeightBytes) return null;
  const magnitudes = new Map<string, { low: number; high: number }>();
  for (const tensor of floats) {
    // Bodies beside each other may share names.
    const [known, { low, high }] = [magnitudes.get(tensor.name) ?? { low: 0, high: 0 }, extremes(tensor)];
    magnitudes.set(tensor.name, { low: Math.min(known.low, low), high: Math.max(known.high, high) });
  }
  const file = path.join(options.workDirectory, `magnitudes-${randomUUID()}.onnx`);
  const observed = addExtremes(clone);
  try {
    await writeModelInSteps(clone, file, {
      externalData: 'always',
      onProgress: () => options.signal?.throwIfAborted(),
    });
    const spec = { modelPath: file, provider: 'cpu', graphOptimization: 'basic', lean: true } as const;
    const session = await runtime.open(spec);
    try {
      const count = dataset.fixedBatch ?? 1;
      const total = Math.min(Math.max(options.samples ?? 8, count), dataset.samples);
      for (let start = 0; start + count <= total; start += count) {
        options.signal?.throwIfAborted();
        const seen = await session.run(
          await dataset.feeds(start, count),
          observed.flatMap(({ low, high }) => [low, high]),
        );
        for (const { value, low, high } of observed) {
          const known = magnitudes.get(value) ?? { low: 0, high: 0 };
          const [least, most] = [low, high].map((name) => Number(seen[name]!.data[0]!)) as [number, number];
          magnitudes.set(value, { low: Math.min(known.low, least), high: Math.max(known.high, most) });
        }
      }
    } finally {
      await session.close();
    }
  } catch (error) {
    if (error instanceof SnugError && error.code !== 'E_CANCELLED') return null;
    throw error;
  } finally {
    rmSync(file, { force: true });
    rmSync(`${file}.data`, { force: true });
  }
  return magnitudes;
}

const panelValues = 2 ** 22;

function extremes(tensor: Tensor): { low: number; high: number } {
  const total = elementCount(tensor.dims);
  let [low, high] = [0, 0];
  for (let first = 0; first < total; first += panelValues) {
    for (const value of readFloatRange(tensor, first, Math.min(panelValues, total - first))) {
      if (value < low) low = value;
      else if (value > high) high = value;
    }
  }
  return { low, high };
}

/**
 * Adds the smallest and largest value of every float activation to the outputs, zero taken along (none are empty then).
 * The runtime goes back from the last output, the input made by the last node first. Each zero is therefore computed
 * from the two numbers before it: an activation is looked at before the next is made, so that none is kept.
 */
function addExtremes({ graph }: Model): { value: string; low: string; high: string }[] {
  const types = valueTypes(graph);
  const index = indexGraph(graph);
  const made = graph.nodes.flatMap((node) => node.outputs).filter((name) => name !== '');
  const values = [...graph.inputs.map(({ name }) => name), ...made].filter(
    (name) => types.get(name) === DataType.FLOAT && constantValue(graph, index, name) === null,
  );
  const prefix = 'snug.magnitude';
  graph.initializers.set(`${prefix}.flat`, int64Tensor(`${prefix}.flat`, [1], [-1]));
  graph.initializers.set(`${prefix}.zero`, float32Tensor(`${prefix}.zero`, [1], Float32Array.of(0)));
  return values.map((value, i) => {
    const [flat, padded, low, high] = ['flat', 'padded', 'low', 'high'].map((part) => `${prefix}.${i}.${part}`) as [
      string,
      string,
      string,
      string,
    ];
    const add = (
      opType: string,
      inputs: string[],
      output: string,
      attributes: Record<string, Attribute> = {},
    ): void => {
      graph.nodes.push(makeNode(opType, inputs, [output], attributes, { name: output }));
    };
    add('Reshape', [value, `${prefix}.flat`], flat);
    let zero = `${prefix}.zero`;
    if (i > 0) {
      const never = `${prefix}.${i}.never`;
      zero = `${prefix}.${i}.zero`;
      add('Less', [`${prefix}.${i - 1}.high`, `${prefix}.${i - 1}.low`], never);
      add('Cast', [never], zero, { to: intAttribute(DataType.FLOAT) });
    }
    add('Concat', [flat, zero], padded, { axis: intAttribute(0) });
    add('ReduceMin', [padded], low);
    add('ReduceMax', [padded], high);
    for (const name of [low, high]) graph.outputs.push({ name, dataType: DataType.FLOAT, dims: null });
    return { value, low, high };
  });
}
