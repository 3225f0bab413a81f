import type { Model } from '../onnx/model.js';
import type { AxisGraph } from './axis-graph.js';
import type { AnalysedClass } from './classes.js';
import type { LinearConsumer } from './consumer.js';
import { addRun, prepareFit, refittable, scoreProducers, tapSize, turnableBases, type ConsumerFit } from './fits.js';
import type { Basis } from './linear-space.js';
import { keptUnits, refit, traceByActivation, traceUnits } from './refit.js';
import type { ClassRepair, PruneRequest, PruneSamples } from './request.js';
import { noEdits, rewriteModel, type Edits } from './rewrite.js';
import { rotateClass } from './rotation.js';
import { rankByMagnitude } from './scores.js';
import { Stages, type TapSize } from './stages.js';

/**
 * Chooses units by greedy Optimal Brain Surgeon and refits every consumer to the dense model's outputs, class by
 * class from the input of the network to its end, each fitted on what the already pruned layers before it produce.
 * Also measures the squared error of the outputs on samples kept out of the fit, relative to their energy.
 * With method `activation`: chooses by what units contribute alone, and only keeps their mean. Adds the kept units to
 * `kept`.
 */
export async function repairClasses(
  model: Model,
  graph: AxisGraph,
  shrinking: readonly { one: AnalysedClass; width: number }[],
  kept: Map<number, readonly number[]>,
  samples: PruneSamples,
  { method, onProgress, signal }: Pick<PruneRequest, 'method' | 'onProgress' | 'signal'>,
): Promise<{ edits: Edits; repair: Record<string, ClassRepair>; outputError: number | null }> {
  const edits = noEdits();
  const repair: Record<string, ClassRepair> = {};
  const bases = basesByClass(graph, method === 'repair' ? shrinking.map(({ one }) => one) : []);
  const sizes = shrinking.flatMap(({ one }) => tapSizes(graph, one, bases.get(one) ?? null));
  const stages = new Stages(model, graph, samples, sizes);
  for (const [at, { one, width }] of shrinking.entries()) {
    signal?.throwIfAborted();
    const consumers = refittable(graph, one);
    const skipped = one.consuming.length - consumers.length;
    const turned = bases.get(one) ?? null;
    if (consumers.length === 0 && turned === null) {
      kept.set(one.leaf.id, ascending(rankByMagnitude(graph, one).slice(0, width)));
      repair[one.id] = { heldOutError: null, unrepairedError: null, ridges: [], rows: 0, skipped };
    } else {
      const undecided = shrinking.slice(at).map((later) => later.one);
      const { fits, inputs } = await measureClass(model, graph, edits, kept, { one, bases: turned }, stages, undecided);
      const byActivation = method === 'activation';
      const { order } = byActivation
        ? traceByActivation(fits, one.width)
        : turned !== null
          ? rotateClass(graph, edits, turned, one.width, fits, inputs)
          : traceUnits(fits, one.width, one.width - width);
      const stays = keptUnits(order, one.width, width);
      kept.set(one.leaf.id, stays);
      repair[one.id] = { ...refit(graph, edits, fits, stays, byActivation ? 'mean' : 'least-squares'), skipped };
    }
    onProgress?.(at + 1, shrinking.length, one.name);
  }
  const outputError = shrinking.length === 0 ? 0 : await stages.outputError(rewriteModel(model, graph, kept, edits));
  return { edits, repair, outputError };
}

/** Bases of the classes that can be turned. */
export function basesByClass(graph: AxisGraph, classes: readonly AnalysedClass[]): Map<AnalysedClass, Basis[] | null> {
  return new Map(classes.map((one) => [one, turnableBases(graph, one)]));
}

/** What {@link measureClass} will read. */
export function tapSizes(graph: AxisGraph, one: AnalysedClass, bases: readonly Basis[] | null): TapSize[] {
  return [...refittable(graph, one), ...scoreProducers(bases)].map((consumer) => tapSize(graph, consumer));
}

/** Sums over the samples for every consumer of a class, and for what makes its queries and keys, as the network is now. */
export async function measureClass(
  model: Model,
  graph: AxisGraph,
  edits: Edits,
  kept: ReadonlyMap<number, readonly number[]>,
  { one, bases }: { one: AnalysedClass; bases: readonly Basis[] | null },
  stages: Stages,
  undecided: readonly AnalysedClass[],
): Promise<{ fits: ConsumerFit[]; inputs: ConsumerFit[] }> {
  const prepare = (consumer: LinearConsumer): ConsumerFit =>
    prepareFit(graph, edits, kept, one, consumer, stages.every(tapSize(graph, consumer)));
  const fits = refittable(graph, one).map(prepare);
  const inputs = scoreProducers(bases).map(prepare);
  const all = [...fits, ...inputs];
  const taps = all.flatMap((fit) => fit.pieces.map((piece) => piece.tap));
  await stages.run(rewriteModel(model, graph, kept, edits), taps, undecided, (run) => addRun(all, run));
  return { fits, inputs };
}

function ascending(values: readonly number[]): number[] {
  return [...values].sort((a, b) => a - b);
}
