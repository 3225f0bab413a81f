import { mkdtempSync, rmSync } from 'node:fs';
import path from 'node:path';
import type { Dtype, LayerDamage, Quality, WeightPlan } from '../contract/types.js';
import {
  cloneModel,
  indexGraph,
  intAttribute,
  makeNode,
  nodeLabel,
  removeDeadNodesAndInitializers,
} from '../onnx/graph.js';
import { DataType, type Model } from '../onnx/model.js';
import { readModel } from '../onnx/read.js';
import { defaultBindings, inferShapes } from '../onnx/shape.js';
import { float32Tensor } from '../onnx/tensor.js';
import { writeModelInSteps } from '../onnx/write.js';
import { valueDamage } from '../quality/compare.js';
import { addSignal, emptySignalSums, type SignalSums } from '../quality/metrics.js';
import { weightReaders, type Quantized } from '../quantize/index.js';
import type { Dataset } from '../runtime/dataset-types.js';
import type { Feeds, Runtime } from '../runtime/types.js';
import type { Attempt } from './attempt.js';
import type { FitRequest } from './fit.js';
import { feedsForBatch } from './reference.js';

/** Values of layers that leave a session in one run, at most; more layers take more sessions. */
const groupBytes = 64 * 2 ** 20;
/** Samples compared where their values have room. */
const mostSamples = 8;
/** More groups would write the model too often; then layers are left out, evenly. */
const mostGroups = 4;

export interface LayerRequest {
  original: Model;
  /** As it was written and will be read back. */
  result: Model;
  weights: readonly WeightPlan[];
  /** Values the result holds divided by scales; they are compared multiplied by them again. */
  scaled: Quantized['scaled'];
  /** Inputs to compare on: so many samples, or as many as the model takes at a time. */
  feeds: (samples: number) => Promise<Feeds>;
  dims: Record<string, number>;
  runtime: Runtime;
  /** For temporary models. */
  folder: string;
  signal?: AbortSignal;
}

interface Layer {
  node: string;
  operator: string;
  /** The value compared: present in both graphs. */
  value: string;
  weights: string[];
  dtype: Dtype;
  bytes: number;
}

/**
 * Runs the original and the result on the same inputs and compares the output of every layer whose weights changed, as
 * many layers at a time as their values have room. Both run on the cpu: the answers are those of every provider.
 *
 * @returns in the order of the graph; layers whose output has another shape, or went into a fused operator, are missing
 * @throws SnugError of writing and of the runtime
 */
export async function measureLayers(request: LayerRequest): Promise<LayerDamage[]> {
  const { original, result } = request;
  let samples = mostSamples;
  while (samples > 1 && totalBytes(layersOf(request, samples)) > groupBytes) samples /= 2;
  const layers = layersOf(request, samples);
  const feeds = layers.length > 0 ? await request.feeds(samples) : {};
  const sums = new Map(layers.map(({ value }) => [value, emptySignalSums()]));
  for (const group of inGroups(layers)) {
    const values = group.map(({ value }) => value);
    request.signal?.throwIfAborted();
    const exact = await answersOf(request, original, values, feeds);
    addAll(sums, exact, await answersOf(request, result, values, feeds, request.scaled));
  }
  return layers.flatMap(({ node, operator, value, weights, dtype }) => {
    const signal = sums.get(value)!;
    return signal.count === 0 ? [] : [{ ...valueDamage(value, signal), layer: node, operator, weights, dtype }];
  });
}

const totalBytes = (layers: readonly Layer[]): number => layers.reduce((sum, { bytes }) => sum + bytes, 0);

/**
 * The quality of a finished attempt with the damage of each layer; as it was where the model cannot be run so.
 */
export async function withLayers(
  { model, inputs, runtime, signal }: Pick<FitRequest, 'model' | 'inputs' | 'runtime' | 'signal'>,
  { quality, plan, folder, files, scaled }: Attempt,
  dims: Record<string, number>,
  heldOut: Dataset | null,
): Promise<Quality | null> {
  if (quality === null || signal?.aborted || plan.weights.every(({ dtype }) => dtype === 'fp32')) return quality;
  try {
    const layers = await measureLayers({
      original: model,
      result: readModel(path.join(folder, files[0]!.name)),
      weights: plan.weights,
      scaled,
      feeds: (samples) => feedsForBatch(heldOut, inputs, defaultBindings(model, samples, dims).dims, samples),
      dims,
      runtime,
      folder,
      ...(signal ? { signal } : {}),
    });
    return { ...quality, layers };
  } catch {
    // The result is built, run and compared: that the layers could not be looked into takes nothing from it.
    return quality;
  }
}

function addAll(sums: ReadonlyMap<string, SignalSums>, before: Feeds, after: Feeds): void {
  for (const [value, signal] of sums) {
    const [expected, actual] = [before[tapName(value)], after[tapName(value)]];
    if (!expected || !actual || expected.data.length !== actual.data.length) continue;
    addSignal(signal, expected.data as Float32Array, actual.data as Float32Array);
  }
}

function layersOf({ original, result, weights, dims }: LayerRequest, samples: number): Layer[] {
  const { graph } = original;
  const index = indexGraph(graph);
  const made = indexGraph(result.graph).producer;
  const planned = new Map(weights.map((weight) => [weight.name, weight]));
  const { shapes } = inferShapes(original, defaultBindings(original, samples, dims).dims);
  const byValue = new Map<string, Layer>();
  for (const { weight, node } of weightReaders(original)) {
    const plan = planned.get(weight);
    const output = node.outputs[0] ?? '';
    // A bias added right after may have gone into the operator: then the sum is what both have.
    const sum = (index.consumers.get(output) ?? []).find((reader) => reader.node.opType === 'Add')?.node.outputs[0];
    const value = [output, sum ?? ''].find((name) => made.has(name) && index.producer.has(name));
    if (plan === undefined || plan.dtype === 'fp32' || value === undefined) continue;
    const elements = shapes.get(value)?.dims.reduce((product, dim) => product * dim, 1) ?? 0;
    const layer = byValue.get(value) ?? {
      ...{ node: nodeLabel(node), operator: node.opType, value, weights: [], dtype: plan.dtype },
      bytes: elements * 4,
    };
    layer.weights.push(weight);
    byValue.set(value, layer);
  }
  return [...byValue.values()];
}

function inGroups(layers: readonly Layer[]): Layer[][] {
  const share = Math.min(1, (groupBytes * mostGroups) / Math.max(1, totalBytes(layers)));
  // Evenly thinned where even so many groups cannot hold all of them.
  const kept = layers.filter((_, at) => Math.floor((at + 1) * share) > Math.floor(at * share));
  const groups: Layer[][] = [];
  let bytes = Infinity;
  for (const layer of kept) {
    if (bytes + layer.bytes > groupBytes) {
      groups.push([]);
      bytes = 0;
    }
    groups.at(-1)!.push(layer);
    bytes += layer.bytes;
  }
  return groups;
}

const tapName = (value: string): string => `${value}/compared`;

/** Runs a copy that hands out some of its values as float32, made of nothing but what leads to them. */
async function answersOf(
  { runtime, folder: parent }: LayerRequest,
  model: Model,
  values: readonly string[],
  feeds: Feeds,
  scaled: LayerRequest['scaled'] = new Map(),
): Promise<Feeds> {
  const copy = cloneModel(model);
  copy.graph.outputs = values.map((value) => ({ name: tapName(value), dataType: DataType.FLOAT, dims: null }));
  for (const value of values) {
    const name = tapName(value);
    const scales = scaled.get(value);
    const cast = scales === undefined ? name : `${name}/scaled`;
    copy.graph.nodes.push(makeNode('Cast', [value], [cast], { to: intAttribute(DataType.FLOAT) }, { name: cast }));
    if (scales === undefined) continue;
    const { factors, behind } = scales;
    const tensor = float32Tensor(
      `${name}/scales`,
      [factors.length, ...new Array<number>(behind).fill(1)],
      Float32Array.from(factors),
    );
    copy.graph.initializers.set(tensor.name, tensor);
    copy.graph.nodes.push(makeNode('Mul', [cast, tensor.name], [name], {}, { name }));
  }
  removeDeadNodesAndInitializers(copy.graph);
  const folder = mkdtempSync(path.join(parent, 'layers-'));
  try {
    const modelPath = path.join(folder, 'model.onnx');
    await writeModelInSteps(copy, modelPath, {});
    const session = await runtime.open({ modelPath, provider: 'cpu' });
    try {
      return await session.run(feeds);
    } finally {
      await session.close();
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
