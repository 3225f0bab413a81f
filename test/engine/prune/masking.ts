import { cloneModel, makeNode } from '../../../src/onnx/graph.js';
import type { Model } from '../../../src/onnx/model.js';
import { defaultBindings, inferShapes } from '../../../src/onnx/shape.js';
import { float32Tensor } from '../../../src/onnx/tensor.js';
import { segmentsOf, unitIndices } from '../../../src/prune/axis-atoms.js';
import { analyse, type AnalysedClass, type Analysis } from '../../../src/prune/classes.js';
import { noEdits, rewriteModel } from '../../../src/prune/rewrite.js';
import type { Feeds } from '../../../src/runtime/types.js';
import { numbers } from './random-graph.js';
import * as ort from 'onnxruntime-node';
import { serializeModel } from '../../../src/onnx/serialize.js';

export const analyseModel = (model: Model): Analysis =>
  analyse(model, inferShapes(model, defaultBindings(model, 2).dims));

/** The original model with everything removed units send to where their axis is summed away multiplied by zero. */
export function masked(
  model: Model,
  analysis: Analysis,
  removed: ReadonlyMap<AnalysedClass, readonly number[]>,
): Model {
  const copy = cloneModel(model);
  const masks = new Map<string, { at: number; input: number; axis: number; values: Float32Array; rank: number }>();
  for (const [one, units] of removed) {
    for (const sink of one.sinks) {
      const axes = analysis.graph.axes(sink.node.inputs[sink.input])!;
      const atom = axes[sink.axis]!;
      const at = analysis.graph.position(sink.node);
      const key = [at, sink.input, sink.axis].join();
      const mask = masks.get(key) ?? {
        at,
        input: sink.input,
        axis: sink.axis,
        values: new Float32Array(atom.size).fill(1),
        rank: axes.length,
      };
      for (const unit of units)
        for (const index of unitIndices(segmentsOf(atom, one.leaf), unit)) mask.values[index] = 0;
      masks.set(key, mask);
    }
  }
  const before = new Map<number, ReturnType<typeof makeNode>[]>();
  for (const [key, { at, input, axis, values, rank }] of masks) {
    const node = copy.graph.nodes[at]!;
    const [constant, product] = [`mask:${key}`, `masked:${key}`];
    const dims = Array.from({ length: rank }, (_, i) => (i === axis ? values.length : 1));
    copy.graph.initializers.set(constant, float32Tensor(constant, dims, values));
    before.set(at, [...(before.get(at) ?? []), makeNode('Mul', [node.inputs[input]!, constant], [product])]);
    node.inputs[input] = product;
  }
  copy.graph.nodes = copy.graph.nodes.flatMap((node, at) => [...(before.get(at) ?? []), node]);
  return copy;
}

/** Units to remove, at least one of them and never all, as a share or at random. */
export function removal(one: AnalysedClass, random: () => number, share?: number): number[] {
  const order = Array.from({ length: one.width }, (_, unit) => ({ unit, key: random() })).sort((a, b) => a.key - b.key);
  const count = Math.round(one.width * (share ?? random()));
  return order.slice(0, Math.min(Math.max(count, 1), one.width - 1)).map(({ unit }) => unit);
}

export function keptUnits(removed: ReadonlyMap<AnalysedClass, readonly number[]>): Map<number, readonly number[]> {
  return new Map(
    [...removed].map(([one, units]) => [
      one.leaf.id,
      Array.from({ length: one.width }, (_, unit) => unit).filter((unit) => !units.includes(unit)),
    ]),
  );
}

/** Runs a model from memory, single-threaded and unoptimized: thousands of tiny models are loaded to be run once. */
async function runOnce(model: Model, feeds: Feeds): Promise<Feeds> {
  const session = await ort.InferenceSession.create(serializeModel(model), {
    logSeverityLevel: 3,
    graphOptimizationLevel: 'disabled',
    intraOpNumThreads: 1,
    interOpNumThreads: 1,
  });
  const given = Object.entries(feeds).map(([name, { dtype, data, dims }]) => [
    name,
    new ort.Tensor(dtype as 'float32', data as Float32Array, dims),
  ]);
  const results = await session.run(Object.fromEntries(given) as ort.InferenceSession.FeedsType);
  await session.release();
  return results as unknown as Feeds;
}

/** Largest difference over all outputs between slicing and masking, relative to the largest output above 1. */
export async function difference(
  model: Model,
  analysis: Analysis,
  classes: readonly AnalysedClass[],
  feeds: Feeds,
  { seed, share }: { seed: number; share?: number },
): Promise<number> {
  const random = numbers(seed);
  const removed = new Map(classes.map((one) => [one, removal(one, random, share)]));
  const sliced = rewriteModel(model, analysis.graph, keptUnits(removed), noEdits());
  const expected = await runOnce(masked(model, analysis, removed), feeds);
  const actual = await runOnce(sliced, feeds);
  let worst = 0;
  for (const [name, tensor] of Object.entries(expected)) {
    const [left, right] = [tensor.data as Float32Array, actual[name]!.data as Float32Array];
    if (actual[name]!.dims.join() !== tensor.dims.join() || left.length === 0) return Infinity;
    let largest = 1;
    for (let i = 0; i < left.length; i++) {
      largest = Math.max(largest, Math.abs(left[i]!));
      const apart = Math.abs(left[i]! - right[i]!);
      // A NaN must not pass for equal.
      worst = apart <= worst ? worst : Number.isNaN(apart) && Object.is(left[i], right[i]) ? worst : apart;
    }
    worst /= largest;
  }
  return worst;
}
