import type { Model } from '../onnx/model.js';
import type { AxisGraph } from './axis-graph.js';
import type { AnalysedClass } from './classes.js';
import { addRun, prepareFit, refittable, tapSize, type ConsumerFit } from './fits.js';
import { keptUnits, refit, traceByActivation, traceUnits } from './refit.js';
import type { ClassRepair, PruneRequest, PruneSamples } from './request.js';
import { noEdits, rewriteModel, type Edits } from './rewrite.js';
import { rankByMagnitude } from './scores.js';
import { Stages } from './stages.js';

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
  const sizes = shrinking.flatMap(({ one }) => refittable(graph, one).map((consumer) => tapSize(graph, consumer)));
  const stages = new Stages(model, graph, samples, sizes);
  for (const [at, { one, width }] of shrinking.entries()) {
    signal?.throwIfAborted();
    const consumers = refittable(graph, one);
    const skipped = one.consuming.length - consumers.length;
    if (consumers.length === 0) {
      kept.set(one.leaf.id, ascending(rankByMagnitude(graph, one).slice(0, width)));
      repair[one.id] = { heldOutError: null, unrepairedError: null, ridges: [], rows: 0, skipped };
    } else {
      const undecided = shrinking.slice(at).map((later) => later.one);
      const fits = await measureClass(model, graph, edits, kept, one, stages, undecided);
      const byActivation = method === 'activation';
      const { order } = byActivation
        ? traceByActivation(fits, one.width)
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

/** Sums over the samples for every consumer of a class, at the widths and with the edits made so far. */
export async function measureClass(
  model: Model,
  graph: AxisGraph,
  edits: Edits,
  kept: ReadonlyMap<number, readonly number[]>,
  one: AnalysedClass,
  stages: Stages,
  undecided: readonly AnalysedClass[],
): Promise<ConsumerFit[]> {
  const fits = refittable(graph, one).map((consumer) =>
    prepareFit(graph, edits, kept, one, consumer, stages.every(tapSize(graph, consumer))),
  );
  const taps = fits.flatMap((fit) => fit.pieces.map((piece) => piece.tap));
  await stages.run(rewriteModel(model, graph, kept, edits), taps, undecided, (run) => addRun(fits, run));
  return fits;
}

function ascending(values: readonly number[]): number[] {
  return [...values].sort((a, b) => a - b);
}
