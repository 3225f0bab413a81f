import type { ClassPlan } from '../contract/types.js';
import type { Model } from '../onnx/model.js';
import type { Analysis, PruneClass } from './classes.js';
import { allocateWidths } from './knapsack.js';
import type { LossCurve } from './losses.js';
import type { PruneDamage, PruneRequest } from './request.js';
import { noEdits, rewriteModel } from './rewrite.js';
import { planWidths, widthLevels } from './widths.js';

/** Ratios the expected damage is told for. */
const ratios = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7];
/** In networks with no more classes than this the first and the last are not protected: there would be no choice. */
const fewClasses = 4;
/** Output signal-to-noise below which pruning goes too far: errors of more than a hundredth of the answer. */
const leastSqnrDb = 20;

/**
 * Plans that save what `uniform` saves at the least measured loss. Classes with a width given, and those nothing is
 * known of, keep their uniform width; the first and the last class are never cut further than uniformly.
 */
export function allocate(
  model: Model,
  { graph, classes }: Analysis,
  uniform: readonly ClassPlan[],
  curves: ReadonlyMap<string, LossCurve>,
  request: PruneRequest,
): ClassPlan[] {
  const bytesOf = request.bytesOf ?? weightBytes;
  const choosable = classes.map((one, at) => {
    const start = uniform[at]!.after;
    const ends = classes.length > fewClasses && (at === 0 || at === classes.length - 1);
    const levels = curves.has(one.id) ? widthLevels(one, request) : [];
    const widths = [...new Set([...levels, start])].filter((width) => !ends || width >= start).sort((a, b) => b - a);
    return { id: one.id, width: one.width, widths };
  });
  const told = new Map<string, number>();
  const preview = (widths: Readonly<Record<string, number>>): number => {
    const key = classes.map(({ id }) => widths[id]).join();
    const known = told.get(key);
    if (known !== undefined) return known;
    const kept = new Map<number, readonly number[]>();
    for (const { id, leaf, width } of classes) {
      if (widths[id]! < width)
        kept.set(
          leaf.id,
          Array.from({ length: widths[id]! }, (_, unit) => unit),
        );
    }
    const bytes = bytesOf(rewriteModel(model, graph, kept, noEdits()));
    told.set(key, bytes);
    return bytes;
  };
  const known = new Map(curves);
  // A width that is fixed costs the same whatever else is chosen.
  for (const { id, width, widths } of choosable) {
    if (widths.length === 1 && !known.has(id)) known.set(id, { losses: new Float64Array(width + 1) });
  }
  const start = Object.fromEntries(uniform.map(({ id, after }) => [id, after]));
  const widths = allocateWidths(choosable, known, start, preview);
  return uniform.map((plan) => ({ ...plan, after: widths[plan.id]! }));
}

function weightBytes(model: Model): number {
  let bytes = 0;
  for (const tensor of model.graph.initializers.values()) bytes += tensor.data.byteLength;
  return bytes;
}

/** The measured damage, and what the curves say of other ratios once they are set right by it. */
export function damageOf(
  classes: readonly PruneClass[],
  plans: readonly ClassPlan[],
  outputError: number,
  curves: ReadonlyMap<string, LossCurve>,
  { roundTo, provider }: Pick<PruneRequest, 'roundTo' | 'provider'> = {},
): PruneDamage {
  const decibels = (error: number): number => (error > 0 ? -10 * Math.log10(error) : Infinity);
  const expected = (widths: readonly ClassPlan[]): number =>
    widths.reduce((sum, { id, before, after }) => {
      const losses = curves.get(id)?.losses;
      return sum + (losses === undefined ? 0 : losses[Math.min(before - after, losses.length - 1)]!);
    }, 0);
  const here = expected(plans);
  if (!(here > 0)) return { sqnrDb: decibels(outputError), byRatio: [], furthestRatio: null };
  const rounding = { ...(roundTo === undefined ? {} : { roundTo }), ...(provider === undefined ? {} : { provider }) };
  const byRatio = ratios.map((ratio) => ({
    ratio,
    sqnrDb: decibels((expected(planWidths(classes, { ratio, ...rounding })) * outputError) / here),
  }));
  const within = byRatio.filter(({ sqnrDb }) => sqnrDb >= leastSqnrDb);
  return { sqnrDb: decibels(outputError), byRatio, furthestRatio: within[within.length - 1]?.ratio ?? 0 };
}
