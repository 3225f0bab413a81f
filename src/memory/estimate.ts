import { availableParallelism } from 'node:os';
import type { Estimate, MemoryParts, PhaseEstimate, Provider, SessionLevers } from '../contract/types.js';
import type { Model } from '../onnx/model.js';
import { inferShapes } from '../onnx/shape.js';
import { Arena } from './arena.js';
import { devicePhases } from './device-phases.js';
import { bufferRules } from './inplace.js';
import { deviceLimits } from './limits.js';
import { PatternPlanner } from './pattern.js';
import { planBuffers, type MemoryPlan } from './plan.js';
import { lowerModel, structuralDims, type RuntimeGraph } from './rewrite/lower.js';
import { runDynamic, runPattern, type RunTrace, type SizedPlan } from './simulate.js';
import { BatchSizes } from './sizes.js';
import { bodyWeights, prepareControls, sizeControls, type PreparedControls } from './subgraph.js';
import { timelineOf } from './timeline.js';
import { weightMemory, type WeightMemory } from './weights.js';
import { cpuScratch, noScratch, valueBytes } from './workspace.js';

export interface EstimateOptions {
  provider: Provider;
  batch: number;
  /** Sizes of named dimensions; those left out are assumed (see `assumed` of the result). */
  dims: Readonly<Record<string, number>>;
  levers?: Partial<SessionLevers>;
  /** Threads the runtime will use; default: as many as this computer has. */
  threads?: number;
}

/** A model made ready for many estimates; each takes milliseconds. */
export interface PreparedEstimate {
  estimate(options: EstimateOptions): Estimate;
}

const mostTensors = 20;

/** What does not depend on sizes: the graph the provider runs, who shares buffers, where weights go. */
interface Prepared {
  graph: RuntimeGraph;
  plan: MemoryPlan;
  weights: WeightMemory;
  cacheValues: Set<string>;
  /** Bodies of control flow; only the CPU's rules for them are known. */
  controls: PreparedControls;
  sizes: BatchSizes;
}

/** @param many whether estimates at several batches are to follow */
function prepare(model: Model, provider: Provider, disabled: readonly string[], many: boolean): Prepared {
  const graph = lowerModel(model, provider, disabled);
  const shapes = inferShapes(graph.model, structuralDims(model));
  const plan = planBuffers({
    nodes: graph.nodes,
    graphInputs: new Set(model.graph.inputs.map((input) => input.name)),
    graphOutputs: new Set(model.graph.outputs.map((output) => output.name)),
    initializers: new Set(graph.initializers.keys()),
    shapes,
    rules: bufferRules[provider],
  });
  const controls =
    provider === 'cpu'
      ? prepareControls({
          nodes: graph.nodes,
          initializers: graph.initializers,
          opsets: model.opsets,
          shapes,
          bindings: structuralDims(model),
        })
      : new Map<number, never>();
  const bodies = bodyWeights(controls);
  const cacheValues = [...model.graph.inputs, ...model.graph.outputs].map((value) => value.name).filter(isCache);
  return {
    graph,
    plan,
    weights: weightMemory(
      provider,
      [...graph.indexed, ...bodies.nodes],
      new Map([...bodies.initializers, ...graph.initializers]),
    ),
    controls,
    cacheValues: new Set(cacheValues),
    sizes: new BatchSizes(model, graph.model, many),
  };
}

/** Names exporters give to key and value caches. */
function isCache(name: string): boolean {
  return /^(past|present)(_key_values)?[._]/.test(name);
}

/**
 * Makes a model ready to be estimated at many batches and sizes. Weights are not read. The model must not
 * change afterwards.
 */
export function prepareEstimate(model: Model): PreparedEstimate {
  const known = new Map<string, Prepared>();
  return {
    estimate(options) {
      const disabled = options.levers?.disabledOptimizers ?? [];
      const key = [options.provider, ...disabled].join(' ');
      let prepared = known.get(key);
      if (!prepared) known.set(key, (prepared = prepare(model, options.provider, disabled, true)));
      return estimatePrepared(model, prepared, options);
    },
  };
}

/**
 * What running `model` will add to memory: bytes while loading, in the first run and in later runs, with
 * parts. On cpu: the runtime's allocator peak plus weights outside of it (ONNX Runtime 1.30's planner, arena
 * and memory pattern are simulated). On a GPU: device memory.
 * @throws SnugError E_DIMENSION when a size is no whole number.
 */
export function estimateMemory(model: Model, options: EstimateOptions): Estimate {
  const prepared = prepare(model, options.provider, options.levers?.disabledOptimizers ?? [], false);
  return estimatePrepared(model, prepared, options);
}

interface Phases {
  load: PhaseEstimate;
  cold: PhaseEstimate;
  warm: PhaseEstimate;
  live: number[];
  /** Bounds of the peak; all sizes known. */
  lowBytes: number;
  highBytes: number;
}

function edgesOf({ graph }: Model, { graph: { initializers } }: Prepared) {
  return {
    initializers,
    inputs: graph.inputs.map((input) => input.name).filter((name) => !initializers.has(name)),
    outputs: graph.outputs.map((output) => output.name),
  };
}

function estimatePrepared(model: Model, prepared: Prepared, options: EstimateOptions): Estimate {
  const { dims, assumed, shapes } = prepared.sizes.sizes(options.batch, options.dims);
  const threads = options.threads ?? availableParallelism();
  const sized: SizedPlan = {
    plan: prepared.plan,
    bytesOf: (buffer) => valueBytes(shapes.shapes, buffer),
    scratch: prepared.graph.nodes.map((node) =>
      options.provider === 'cpu' ? cpuScratch(node, shapes.shapes, threads) : noScratch,
    ),
    control: sizeControls(prepared.controls, { ...prepared.graph, opsets: model.opsets, shapes }, threads),
  };
  const phases =
    options.provider === 'cpu'
      ? cpuPhases(prepared, sized, options.levers?.memoryPattern ?? true)
      : devicePhases({
          provider: options.provider,
          sized,
          ...prepared,
          ...edgesOf(model, prepared),
          shapes: shapes.shapes,
          cpuNodes: options.levers?.cpuNodes ?? [],
        });
  const peakBytes = Math.max(phases.load.peakBytes, phases.cold.peakBytes, phases.warm.peakBytes);
  const unknown = shapes.unknown.map(({ value, reason }) => ({ name: value, reason }));
  return {
    provider: options.provider,
    batch: options.batch,
    dims,
    assumed,
    load: phases.load,
    cold: phases.cold,
    warm: phases.warm,
    peakBytes,
    lowBytes: Math.round(Math.min(peakBytes, phases.lowBytes)),
    highBytes: Math.round(Math.max(peakBytes, phases.highBytes) * (unknown.length > 0 ? 2 : 1)),
    topTensors: topTensors(prepared, sized),
    ...timelineOf(prepared.graph.nodes, phases.live, sized, prepared.cacheValues),
    unknown,
    limits: deviceLimits(options.provider, prepared.weights.perTensor, sized),
  };
}

/** Measured over estimated, with room beyond what was seen on cpu (4 %). */
const trust = { low: 0.95, high: 1.05 };

function cpuPhases(prepared: Prepared, sized: SizedPlan, memoryPattern: boolean): Phases {
  const { weights } = prepared;
  const arena = new Arena();
  loadWeights(arena, weights);
  const loadPeak = arena.peak + weights.outside;
  const phase = (trace: RunTrace): PhaseEstimate => ({
    peakBytes: trace.peak + weights.outside,
    parts: partsAt(trace, prepared, sized),
  });
  const load = weights.reserved + weights.outside;
  const pattern = new PatternPlanner();
  const cold = runDynamic(arena, sized, pattern);
  const later = () => (memoryPattern ? runPattern(arena, sized, pattern.peak) : runDynamic(arena, sized));
  const second = later();
  const third = later();
  const warm = third.peak > second.peak ? third : second;
  const live = memoryPattern ? liveTensors(sized, weights.reserved) : warm.live;
  const peak = Math.max(loadPeak, cold.peak + weights.outside, warm.peak + weights.outside);
  return {
    load: { peakBytes: loadPeak, parts: { ...noParts, weightsBytes: load, workspaceBytes: loadPeak - load } },
    cold: phase(cold),
    warm: phase(warm),
    live: live.map((bytes) => bytes + weights.outside),
    lowBytes: peak * trust.low,
    highBytes: peak * trust.high,
  };
}

/** Packs one constant after the other; what a packing takes besides is given back before the next. */
function loadWeights(arena: Arena, { packing, reserved }: WeightMemory): void {
  let packedBytes = 0;
  for (const { packed, temporary, pooled } of packing) {
    if (pooled) arena.allocate(packed);
    const turned = arena.allocate(temporary);
    if (!pooled) arena.reserve(packed);
    arena.free(turned);
    packedBytes += packed;
  }
  arena.reserve(reserved - packedBytes);
}

const noParts: MemoryParts = {
  weightsBytes: 0,
  activationsBytes: 0,
  cacheBytes: 0,
  workspaceBytes: 0,
  runtimeBytes: 0,
};

/** Bytes of tensors alive after each step, without the allocator's rounding. */
function liveTensors({ plan, bytesOf }: SizedPlan, base: number): number[] {
  let live = base;
  return plan.steps.map((step) => {
    for (const { buffer } of step.allocates) live += bytesOf(buffer);
    const now = live;
    for (const buffer of step.frees) live -= bytesOf(buffer);
    return now;
  });
}

function partsAt(trace: RunTrace, { weights, cacheValues }: Prepared, sized: SizedPlan): MemoryParts {
  const weightsBytes = weights.reserved + weights.outside;
  const workspaceBytes = (trace.high[trace.peakStep] ?? 0) - (trace.live[trace.peakStep] ?? 0);
  let cacheBytes = 0;
  for (const step of sized.plan.steps.slice(0, trace.peakStep + 1)) {
    for (const { buffer } of step.allocates) if (cacheValues.has(buffer)) cacheBytes += sized.bytesOf(buffer);
  }
  const activationsBytes = trace.peak - weights.reserved - workspaceBytes - cacheBytes;
  return { weightsBytes, activationsBytes, cacheBytes, workspaceBytes, runtimeBytes: 0 };
}

function topTensors({ graph, weights, cacheValues }: Prepared, { plan, bytesOf }: SizedPlan): Estimate['topTensors'] {
  const tensors: Estimate['topTensors'] = [];
  for (const [name, bytes] of weights.perTensor) tensors.push({ name, bytes, kind: 'weight' });
  for (const step of plan.steps) {
    for (const { buffer } of step.allocates) {
      tensors.push({ name: buffer, bytes: bytesOf(buffer), kind: cacheValues.has(buffer) ? 'cache' : 'activation' });
    }
  }
  for (const name of cacheValues)
    if (!plan.buffers.has(name) && !graph.initializers.has(name))
      tensors.push({ name, bytes: bytesOf(name), kind: 'cache' });
  return tensors.sort((a, b) => b.bytes - a.bytes).slice(0, mostTensors);
}
