import type {
  Candidate,
  ClassPlan,
  Damage,
  Dtype,
  Estimate,
  MixPlan,
  Pins,
  Plan,
  PruneCurve,
  Provider,
  PruneMethod,
  SessionLevers,
  Verdict,
  WeightFormat,
  WeightPlan,
} from '../contract/types.js';
import type { PreparedEstimate } from '../memory/estimate.js';
import { prepareEstimate } from '../memory/estimate.js';
import { withKnownError } from '../memory/interval.js';
import type { Model } from '../onnx/model.js';
import { listConstantNodesFirst } from '../onnx/topology.js';
import { previewPrune } from '../prune/index.js';
import { quantizableWeights, quantizeModel, type WeightInfo } from '../quantize/index.js';
import type { Analysis } from './analysis.js';
import { damageOfNoise, expectedDamage } from './expected-damage.js';
import { type CpuNode, cpuNodes } from './cpu-nodes.js';
import type { Assignment, Level } from './levels.js';
import { assignDtypes, formatsOf } from './levels.js';
import type { Mix } from './mixed-precision.js';
import { withFewestLiveBytes } from './node-order.js';
import { planningRanges } from './planning-ranges.js';
import { relaxDims } from './relax.js';
import type { Sensitivity } from './sensitivity.js';

/** One structure (prune ratio × level), edited but not yet written: sizes are real, weight bytes are not computed. */
export interface Structure {
  id: string;
  label: string;
  level: Level;
  pruneRatio: number;
  pruneMethod: PruneMethod;
  classes: ClassPlan[];
  assignment: Assignment;
  weights: WeightPlan[];
  mix?: MixPlan;
  /** Bytes of the weights that the provider holds between runs, packed copies included, as far as known. */
  residentBytes: number;
  relaxDims: boolean;
  reorderNodes: boolean;
  externalWeights: boolean;
  session: SessionLevers;
  fileBytes: number;
  /** Expected; follows the measured curve as soon as there is one. */
  damage: () => Damage;
  prepared: PreparedEstimate;
  /** What webgpu may leave to the CPU, best first. */
  cpuNodes: (batch: number, dims: Readonly<Record<string, number>>) => CpuNode[];
  /** Estimates already made, by batch and sizes: a move of the budget alone costs nothing. */
  estimates: Map<string, Estimate>;
}

export function structureLabel(level: Level, ratio: number): string {
  const pruned = ratio > 0 ? `${Math.round(ratio * 100)} % pruned` : '';
  if (level.id === 'fp32') return pruned || 'unchanged';
  return pruned ? `${level.label}, ${pruned}` : level.label;
}

/** Bytes of graph structure, names and constants that no dtype changes. */
function overheadBytes(analysis: Analysis): number {
  return Math.max(0, analysis.summary.fileBytes - analysis.weights.reduce((sum, w) => sum + w.bytesBefore, 0));
}

/**
 * Edits the model as this ratio and level say, without computing any weight, and prepares the memory
 * estimate of the result.
 *
 * @param like a structure that differs in some widths only: rewrites that only move memory are taken over from it
 */
export function buildStructure(
  analysis: Analysis,
  level: Level,
  ratio: number,
  method: PruneMethod,
  pins: Pins,
  like?: Structure,
): Structure {
  let model: Model = analysis.model;
  let classes: ClassPlan[] = analysis.classes.map((c) => ({ id: c.id, name: c.name, before: c.width, after: c.width }));
  const prunes = ratio > 0 || Object.keys(pins.classes ?? {}).length > 0;
  if (prunes) {
    const pruned = previewPrune(model, {
      ratio,
      provider: analysis.provider,
      ...(pins.classes ? { perClass: pins.classes } : {}),
    });
    model = pruned.model;
    classes = pruned.classes;
  }
  const infos = prunes ? quantizableWeights(model, analysis.provider) : analysis.weights;
  const assignment = assignDtypes(analysis, infos, level, pins);
  const quantized = quantizeModel(model, formatsOf(level, assignment.dtypes), {
    provider: analysis.provider,
    ranges: planningRanges(model),
  });
  const weights: WeightPlan[] = quantized.weights.map((w) => {
    const reason = w.reason ?? assignment.reasons.get(w.name);
    return {
      name: w.name,
      operator: w.operator,
      dims: infos.find((info) => info.name === w.name)?.dims ?? [],
      dtype: w.dtype,
      bytesBefore: w.bytesBefore,
      bytesAfter: w.bytesAfter,
      ...blocksOf(w),
      noise: noiseOf(analysis, level, w),
      ...(reason === undefined ? {} : { reason }),
    };
  });
  // The writer lists constant nodes first, and the order decides what is live at once.
  quantized.model.graph.nodes = listConstantNodesFirst(quantized.model.graph);
  const layout = like === undefined ? pickLayout(quantized.model, analysis) : takeLayout(quantized.model, like);
  const weightBytes = weights.reduce((sum, w) => sum + w.bytesAfter, 0);
  return {
    id: `${level.id}@${Math.round(ratio * 100)}`,
    label: structureLabel(level, ratio),
    level,
    pruneRatio: ratio,
    pruneMethod: method,
    classes,
    assignment,
    weights,
    ...(level.mix === undefined ? {} : { mix: mixPlan(level.mix) }),
    residentBytes: residentBytes(infos, weights, level),
    relaxDims: layout.relaxDims,
    reorderNodes: layout.reorderNodes,
    session: layout.session,
    externalWeights: analysis.provider === 'cpu' && weightBytes >= mappedFrom,
    fileBytes: overheadBytes(analysis) + weightBytes,
    damage: onceForCurve(analysis, () => expectedDamage(analysis, level, ratio, method, pins)),
    prepared: layout.prepared,
    cpuNodes: (batch, dims) => cpuNodes(quantized.model, batch, dims),
    estimates: new Map(),
  };
}

/** Sum over the weights; a mix says it itself, for the weights pruning left whole. */
function residentBytes(infos: readonly WeightInfo[], weights: readonly WeightPlan[], { mix }: Level): number {
  const dtypes = new Map(weights.map(({ name, dtype }) => [name, dtype]));
  let held = 0;
  let whole = 0;
  for (const { name, options, bytesBefore } of infos) {
    held += options.find(({ dtype }) => dtype === dtypes.get(name))?.residentBytes ?? bytesBefore;
    whole += bytesBefore;
  }
  return mix === undefined ? held : (mix.residentBytes * whole) / mix.bytesBefore;
}

/** Block size and zero points of a weight, where they were asked for. */
export function blocksOf({ blockSize, zeroPoints }: WeightFormat): Pick<WeightPlan, 'blockSize' | 'zeroPoints'> {
  return { ...(blockSize === undefined ? {} : { blockSize }), ...(zeroPoints === undefined ? {} : { zeroPoints }) };
}

/** What a format of one weight is expected to add to the answers: as the mix weighed it, or by the values of the weight. */
export function noiseOf(analysis: Analysis, { mix }: Level, { name, dtype }: { name: string; dtype: Dtype }): number {
  return mix === undefined ? analysis.outputNoise(name, dtype) : (mix.noises.get(name) ?? 0);
}

export function mixPlan(mix: Mix): MixPlan {
  return { weightBytes: mix.residentBytes, basis: mix.basis, expected: damageOfNoise(mix.noise) };
}

/** Works a damage out again only when more has been measured: every re-solve asks for all of them. */
function onceForCurve(analysis: Analysis, work: () => Damage): () => Damage {
  let known: { curve: PruneCurve | null; sensitivity: Sensitivity | null; damage: Damage } | null = null;
  return () => {
    const { curve, measuredSensitivity: sensitivity } = analysis;
    if (known?.curve !== curve || known.sensitivity !== sensitivity) known = { curve, sensitivity, damage: work() };
    return known.damage;
  };
}

/** The batch at which rewrites of the graph are compared. */
export const layoutBatch = 8;

/** Below this, mapping the weights saves too little to be worth a second file. */
const mappedFrom = 32 * 2 ** 20;

/** Share of the peak that a rewrite of the graph has to save; otherwise it stays as it was. */
const leastSaving = 0.02;

/** Its kernel on the CPU takes a scratch as large as its result, which the two operators it stands for do not. */
const scratchFusion = 'BiasGeluFusion';

/** Which rewrites that only move memory are taken: each is tried on the estimate, one after the other. */
function pickLayout(
  model: Model,
  analysis: Analysis,
): { prepared: PreparedEstimate; relaxDims: boolean; reorderNodes: boolean; session: SessionLevers } {
  const session: SessionLevers = { memoryPattern: false };
  const peakOf = (prepared: PreparedEstimate, levers = session): number =>
    prepared.estimate({ provider: analysis.provider, batch: layoutBatch, dims: {}, levers }).peakBytes;
  let layout = { prepared: prepareEstimate(model), relaxDims: false, reorderNodes: false, session };
  let peak = peakOf(layout.prepared);
  const tryOut = (rewritten: Model | null, taken: { relaxDims?: boolean; reorderNodes?: boolean }): Model | null => {
    if (!rewritten) return null;
    const prepared = prepareEstimate(rewritten);
    const rewrittenPeak = peakOf(prepared);
    if (rewrittenPeak >= peak * (1 - leastSaving)) return null;
    layout = { ...layout, ...taken, prepared };
    peak = rewrittenPeak;
    return rewritten;
  };
  const relaxed = relaxDims(model);
  if (relaxed) relaxed.graph.nodes = listConstantNodesFirst(relaxed.graph);
  const chosen = tryOut(relaxed, { relaxDims: true }) ?? model;
  tryOut(withFewestLiveBytes(chosen, layoutBatch), { reorderNodes: true });
  if (analysis.provider === 'cpu' && model.graph.nodes.some(({ opType }) => opType === 'Erf' || opType === 'Gelu')) {
    const unfused = { ...session, disabledOptimizers: [scratchFusion] };
    if (peakOf(layout.prepared, unfused) < peak * (1 - leastSaving)) layout.session = unfused;
  }
  return layout;
}

/** The rewrites another structure was found to gain by, without trying each of them again. */
function takeLayout(
  model: Model,
  { relaxDims: relaxes, reorderNodes, session }: Structure,
): ReturnType<typeof pickLayout> {
  const relaxed = relaxes ? relaxDims(model) : null;
  if (relaxed) relaxed.graph.nodes = listConstantNodesFirst(relaxed.graph);
  const chosen = relaxed ?? model;
  const reordered = reorderNodes ? withFewestLiveBytes(chosen, layoutBatch) : null;
  return {
    prepared: prepareEstimate(reordered ?? chosen),
    relaxDims: relaxed !== null,
    reorderNodes: reordered !== null,
    session,
  };
}

export function verdictFor(estimate: Estimate, budgetBytes: number): Verdict {
  if (estimate.unknown.length > 0 && estimate.peakBytes <= budgetBytes) return 'cannot-tell';
  if (estimate.highBytes <= budgetBytes) return 'fits';
  if (estimate.peakBytes <= budgetBytes) return 'tight';
  return 'does-not-fit';
}

/** The estimate by the provider's rules; made once. */
export function estimateAt(
  structure: Structure,
  provider: Provider,
  batch: number,
  dims: Readonly<Record<string, number>>,
  session: SessionLevers = structure.session,
): Estimate {
  const key = `${batch}|${JSON.stringify(dims)}|${session.cpuNodes?.length ?? 0}`;
  let estimate = structure.estimates.get(key);
  if (!estimate) {
    estimate = structure.prepared.estimate({ provider, batch, dims, levers: session });
    structure.estimates.set(key, estimate);
  }
  return estimate;
}

/** Puts a structure at a batch: the estimate and the verdict against the budget. */
export function candidateAt(
  analysis: Analysis,
  structure: Structure,
  batch: number,
  dims: Record<string, number>,
  budgetBytes: number,
  session: SessionLevers = structure.session,
): Candidate {
  const estimate = withKnownError(estimateAt(structure, analysis.provider, batch, dims, session), analysis.known);
  const plan: Plan = {
    provider: analysis.provider,
    batch,
    dims,
    pruneRatio: structure.pruneRatio,
    pruneMethod: structure.pruneMethod,
    classes: structure.classes,
    weights: structure.weights,
    ...(structure.mix === undefined ? {} : { mix: structure.mix }),
    session,
    relaxDims: structure.relaxDims,
    reorderNodes: structure.reorderNodes,
    externalWeights: structure.externalWeights,
  };
  return {
    id: structure.id,
    plan,
    estimate,
    fileBytes: structure.fileBytes,
    damage: structure.damage(),
    verdict: verdictFor(estimate, budgetBytes),
  };
}

/**
 * A structure whose weights do not all fit on the GPU, with just as many nodes left to the CPU as it takes; null when
 * the provider cannot do that or all it can leave is not enough.
 */
export function candidateSpilling(
  analysis: Analysis,
  structure: Structure,
  batch: number,
  dims: Record<string, number>,
  budgetBytes: number,
): Candidate | null {
  if (analysis.provider !== 'webgpu') return null;
  const whole = candidateAt(analysis, structure, batch, dims, budgetBytes).estimate.peakBytes;
  const left: string[] = [];
  let savedBytes = 0;
  for (const node of structure.cpuNodes(batch, dims)) {
    left.push(node.name);
    savedBytes += node.savedBytes;
    // Too little for sure: no need to estimate.
    if (whole - savedBytes > budgetBytes) continue;
    const session = { ...structure.session, cpuNodes: [...left] };
    const candidate = candidateAt(analysis, structure, batch, dims, budgetBytes, session);
    if (candidate.verdict !== 'does-not-fit') return { ...candidate, id: `${candidate.id}+cpu` };
  }
  return null;
}
