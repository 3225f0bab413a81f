import { SnugError } from '../contract/errors.js';
import type { ClassPlan } from '../contract/types.js';
import type { Model } from '../onnx/model.js';
import { inferShapes } from '../onnx/shape.js';
import { allocate, damageOf } from './allocation.js';
import { analyse, type Analysis, type AnalysedClass } from './classes.js';
import { measureLosses, type LossCurve } from './losses.js';
import { refuseQuantized } from './quantized.js';
import { repairClasses } from './repair.js';
import { analysisDims, type ClassRepair, type PruneDamage, type PruneRequest } from './request.js';
import { finishModel, noEdits, rewriteModel, type Edits } from './rewrite.js';
import { rankAtRandom, rankByMagnitude } from './scores.js';
import { planWidths, type WidthRequest } from './widths.js';

export interface ModelSize {
  parameters: number;
  weightBytes: number;
}

export interface PruneResult {
  model: Model;
  classes: ClassPlan[];
  before: ModelSize;
  after: ModelSize;
  /** Per class id, for method `repair`. */
  repair?: Record<string, ClassRepair>;
  /** For methods that run samples. */
  damage?: PruneDamage;
}

/**
 * Removes hidden units of MLPs and inner channels of convolutions. The given model stays as it is; the new one
 * shares its weights by reference and slices them when they are read.
 * @throws SnugError E_NOT_SUPPORTED when weights are already quantized; E_BAD_REQUEST for impossible widths or
 * `repair` without samples; whatever the runtime reports while calibrating.
 */
export async function pruneModel(model: Model, request: PruneRequest): Promise<PruneResult> {
  refuseQuantized(model);
  const bindings = analysisDims(model, { ...request.samples?.dataset.dims, ...request.samples?.dims });
  const analysis = analyse(model, inferShapes(model, bindings));
  const uniform = planWidths(analysis.classes, request);
  const ranked = request.method === 'random' || request.method === 'magnitude';
  const outcome = ranked ? rankUnits(analysis, uniform, request) : await repairBest(model, analysis, uniform, request);
  const pruned = finishModel(rewriteModel(model, analysis.graph, outcome.kept, outcome.edits));
  return {
    model: pruned,
    classes: outcome.plans,
    before: sizeOf(model),
    after: sizeOf(pruned),
    ...(outcome.repair === undefined ? {} : { repair: outcome.repair }),
    ...(outcome.damage === undefined ? {} : { damage: outcome.damage }),
  };
}

interface Outcome {
  plans: ClassPlan[];
  kept: Map<number, readonly number[]>;
  edits: Edits;
  repair?: Record<string, ClassRepair>;
  damage?: PruneDamage;
}

/** Classes that a plan makes narrower. */
function shrinkingOf(analysis: Analysis, plans: readonly ClassPlan[]): { one: AnalysedClass; width: number }[] {
  return analysis.classes
    .map((one, at) => ({ one, width: plans[at]!.after }))
    .filter(({ one, width }) => width < one.width);
}

function rankUnits(analysis: Analysis, plans: ClassPlan[], { method, seed = 0, onProgress }: PruneRequest): Outcome {
  const kept = new Map<number, readonly number[]>();
  const shrinking = shrinkingOf(analysis, plans);
  shrinking.forEach(({ one, width }, at) => {
    const order = method === 'random' ? rankAtRandom(one, seed) : rankByMagnitude(analysis.graph, one);
    kept.set(one.leaf.id, best(order, width));
    onProgress?.(at + 1, shrinking.length, one.name);
  });
  return { plans, kept, edits: noEdits() };
}

/** Repairs at uniform widths and, where losses are measured, at those chosen by them; the less harmful result wins. */
async function repairBest(
  model: Model,
  analysis: Analysis,
  uniform: ClassPlan[],
  request: PruneRequest,
): Promise<Outcome> {
  const { samples } = request;
  if (samples === undefined) {
    throw new SnugError('E_BAD_REQUEST', `Pruning by ${request.method} needs inputs to run.`, {
      action: 'Give samples or made-up inputs, or prune by magnitude.',
    });
  }
  const curves = (await lossCurves(model, analysis, uniform, request)) ?? new Map<string, LossCurve>();
  const choices = [uniform];
  if (curves.size > 1) {
    const chosen = allocate(model, analysis, uniform, curves, request);
    if (chosen.some((plan, at) => plan.after !== uniform[at]!.after)) choices.push(chosen);
  }
  let winner: { outcome: Outcome; error: number } | null = null;
  for (const plans of choices) {
    const kept = new Map<number, readonly number[]>();
    const shrinking = shrinkingOf(analysis, plans);
    const repaired = await repairClasses(model, analysis.graph, shrinking, kept, samples, request);
    const { edits, repair, outputError } = repaired;
    const damage = outputError === null ? undefined : damageOf(analysis.classes, plans, outputError, curves, request);
    const error = outputError ?? Infinity;
    if (winner !== null && error >= winner.error) continue;
    winner = { outcome: { plans, kept, edits, repair, ...(damage === undefined ? {} : { damage }) }, error };
  }
  return winner!.outcome;
}

/** Curves of the classes that a ratio cuts, or may cut instead; null when the widths are given anyway. */
async function lossCurves(
  model: Model,
  { graph, classes }: Analysis,
  uniform: readonly ClassPlan[],
  request: PruneRequest,
): Promise<Map<string, LossCurve> | null> {
  if (request.allocation !== 'measured' || request.method !== 'repair' || request.samples === undefined) return null;
  if (request.ratio === 0) return null;
  const free = classes.filter(
    (one, at) => request.perClass?.[one.id] === undefined && (one.byMeasure || uniform[at]!.after < one.width),
  );
  return measureLosses(model, graph, free, request.samples, request);
}

/** Analyses by model: planning asks for many widths of the same one. */
const previewed = new WeakMap<Model, Analysis>();

/**
 * The pruned model's structure alone, in milliseconds: the first units of every class are kept and no weight is read.
 * For planning: its shapes and bytes are those any method reaches, its numbers mean nothing.
 * @throws SnugError as {@link pruneModel}.
 */
export function previewPrune(model: Model, request: WidthRequest): Omit<PruneResult, 'repair' | 'damage'> {
  refuseQuantized(model);
  const analysis = previewed.get(model) ?? analyse(model, inferShapes(model, analysisDims(model)));
  previewed.set(model, analysis);
  const plans = planWidths(analysis.classes, request);
  const kept = new Map<number, readonly number[]>();
  plans.forEach(({ before, after }, at) => {
    if (after < before)
      kept.set(
        analysis.classes[at]!.leaf.id,
        Array.from({ length: after }, (_, unit) => unit),
      );
  });
  const pruned = finishModel(rewriteModel(model, analysis.graph, kept, noEdits()));
  return { model: pruned, classes: plans, before: sizeOf(model), after: sizeOf(pruned) };
}

function best(order: readonly number[], width: number): number[] {
  return order.slice(0, width).sort((a, b) => a - b);
}

function sizeOf(model: Model): ModelSize {
  let parameters = 0;
  let weightBytes = 0;
  for (const tensor of model.graph.initializers.values()) {
    parameters += tensor.dims.reduce((product, dim) => product * dim, 1);
    weightBytes += tensor.data.byteLength;
  }
  return { parameters, weightBytes };
}
