import type { Model } from '../onnx/model.js';
import { inferShapes } from '../onnx/shape.js';
import { leavesOf, type Atom } from './axis-atoms.js';
import { analyse, type AnalysedClass, type PruneClass } from './classes.js';
import { analysisDims } from './request.js';
import { sampledUnitEnergies } from './scores.js';
import { planWidths, type WidthRequest } from './widths.js';

/**
 * Share of a layer's error that reaches the output when the layer adds to a stream that is normalized later
 * (transformers), where each branch is small beside the stream. Set from measured output errors of a vision
 * transformer and a decoder (7 and 18 dB better than the bare sum).
 */
const streamShare = 0.1;

/** For every class the share of its output energy that is lost with its weakest units, by number of units removed. */
export interface PruneCurve {
  /** Class id → share lost after removing 0, 1, … width units, damped for layers that add to a normalized stream. */
  lost: Map<string, Float64Array>;
}

const curves = new WeakMap<Model, PruneCurve>();

/**
 * Reads the weights of all classes once per model, a sample of the large ones, and orders units by a guess of what they contribute: the energy of
 * their producer rows times that of their consumer columns, as if inputs were white and units independent.
 */
export function pruneCurve(model: Model): PruneCurve {
  const known = curves.get(model);
  if (known !== undefined) return known;
  const { graph, classes: analysed } = analyse(model, inferShapes(model, analysisDims(model)));
  const normalized = new Set(
    graph.marks.filter(({ mark }) => mark === 'normalized').flatMap(({ axis }) => leavesOf(axis)),
  );
  const lost = new Map<string, Float64Array>();
  for (const one of analysed) {
    const made = new Float64Array(one.width).fill(1e-30);
    const used = new Float64Array(one.width);
    for (const member of one.members) {
      if (member.role === 'elementwise') continue;
      const into = member.role === 'producer' ? made : used;
      sampledUnitEnergies(graph, member, one.width).forEach((energy, unit) => (into[unit]! += energy));
    }
    const energies = made.map((energy, unit) => energy * used[unit]!).sort();
    const total = energies.reduce((sum, energy) => sum + energy, 0) || 1;
    const share = feedsStream(one, normalized) ? streamShare : 1;
    const curve = new Float64Array(one.width + 1);
    energies.forEach((energy, removed) => (curve[removed + 1] = curve[removed]! + (share * energy) / total));
    lost.set(one.id, curve);
  }
  const curve = { lost };
  curves.set(model, curve);
  return curve;
}

/** Whether the class's consumers add to an axis that a norm (or its mean of squares) runs over. */
function feedsStream(one: AnalysedClass, normalized: ReadonlySet<Atom>): boolean {
  return one.consuming.every((use) => leavesOf(use.output).some((leaf) => normalized.has(leaf)));
}

/**
 * Output signal-to-noise in dB to expect after pruning to the widths of {@link planWidths}
 * without repair: the mean share of energy lost over all classes. A guess to rank plans with, made without running
 * the model; correlated units and what later layers make of the error are left out. `Infinity` when nothing shrinks.
 */
export function expectedPruneDamage(model: Model, classes: readonly PruneClass[], request: WidthRequest): number {
  const { lost } = pruneCurve(model);
  const shares = planWidths(classes, request).map(({ id, before, after }) => lost.get(id)?.[before - after] ?? 0);
  const mean = shares.length === 0 ? 0 : shares.reduce((sum, share) => sum + share, 0) / shares.length;
  return mean > 0 ? -10 * Math.log10(mean) : Infinity;
}
