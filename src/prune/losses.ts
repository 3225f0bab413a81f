import type { Model } from '../onnx/model.js';
import type { AxisGraph } from './axis-graph.js';
import type { AnalysedClass } from './classes.js';
import { refittable } from './fits.js';
import { keptUnits, refit, traceUnits } from './refit.js';
import { basesByClass, measureClass, tapSizes } from './repair.js';
import type { PruneRequest, PruneSamples } from './request.js';
import { noEdits, rewriteModel } from './rewrite.js';
import { rotateClass } from './rotation.js';
import { Stages } from './stages.js';
import { minimumKept } from './widths.js';

/** What removing units of one class costs at the network's output. */
export interface LossCurve {
  /** Squared output error relative to the output's energy after removing 0, 1, 2 … units with repair. */
  losses: Float64Array;
}

/** Shares of a class at which the output is really measured; the trace alone is too hopeful where much is gone. */
const measuredShares = [0.35, 0.7];

/** Output error per unit of traced loss, between the measured points. */
function heightAt(points: readonly { removed: number; height: number }[], removed: number): number {
  const [low, high] = [points[0]!, points[points.length - 1]!];
  if (high.removed === low.removed) return high.height;
  const share = Math.min(1, Math.max(0, (removed - low.removed) / (high.removed - low.removed)));
  return low.height + share * (high.height - low.height);
}

/**
 * Measures for each class what its removal does to the network's output: the greedy trace gives the shape of the
 * curve, runs with part of the class really removed and repaired give its height. Classes are measured one at a
 * time in the otherwise dense network. Classes that cannot be refitted get no curve.
 */
export async function measureLosses(
  model: Model,
  graph: AxisGraph,
  classes: readonly AnalysedClass[],
  samples: PruneSamples,
  { onProgress, signal }: Pick<PruneRequest, 'onProgress' | 'signal'>,
): Promise<Map<string, LossCurve>> {
  const curves = new Map<string, LossCurve>();
  const basesOf = basesByClass(graph, classes);
  const sizes = classes.flatMap((one) => tapSizes(graph, one, basesOf.get(one) ?? null));
  const stages = new Stages(model, graph, samples, sizes);
  for (const [at, one] of classes.entries()) {
    signal?.throwIfAborted();
    const bases = basesOf.get(one) ?? null;
    if (refittable(graph, one).length === 0 && bases === null) continue;
    const own = { one, bases };
    const { fits, inputs } = await measureClass(model, graph, noEdits(), new Map(), own, stages, classes.slice(at));
    const turned = noEdits();
    const most = one.width - Math.max(1, Math.ceil(one.width * minimumKept));
    const { order, losses } =
      bases === null ? traceUnits(fits, one.width, most) : rotateClass(graph, turned, bases, one.width, fits, inputs);
    const heights: { removed: number; height: number }[] = [];
    for (const share of measuredShares) {
      const removed = Math.max(1, Math.min(most, Math.floor(one.width * share)));
      const stays = keptUnits(order, one.width, one.width - removed);
      const trial = { constants: new Map(turned.constants), nodes: new Map(turned.nodes) };
      refit(graph, trial, fits, stays, 'least-squares');
      const error = await stages.outputError(rewriteModel(model, graph, new Map([[one.leaf.id, stays]]), trial));
      const loss = losses[removed - 1]!;
      heights.push({ removed, height: error === null || !(loss > 0) ? 1 : error / loss });
    }
    curves.set(one.id, {
      losses: Float64Array.from([0, ...losses], (loss, at) => Math.max(0, loss) * heightAt(heights, at)),
    });
    onProgress?.(at + 1, classes.length, one.name);
  }
  return curves;
}
