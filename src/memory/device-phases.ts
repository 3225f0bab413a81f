import type { MemoryParts, PhaseEstimate, Provider } from '../contract/types.js';
import type { Tensor } from '../onnx/model.js';
import type { Shape } from '../onnx/shape.js';
import { Arena } from './arena.js';
import { dmlBucket, runPooled } from './device.js';
import { runWebgpu, type WebgpuTrace } from './device-webgpu.js';
import { placeNodes } from './device-webgpu-placement.js';
import { operatorKey } from './inplace.js';
import { runDynamic, type SizedPlan } from './simulate.js';
import type { WeightMemory } from './weights.js';
import { valueBytes } from './workspace.js';

export interface DeviceRequest {
  provider: Exclude<Provider, 'cpu'>;
  sized: SizedPlan;
  weights: WeightMemory;
  initializers: ReadonlyMap<string, Tensor>;
  /** Names of the graph's inputs without constants, and of its outputs. */
  inputs: readonly string[];
  outputs: readonly string[];
  /** Those of them that carry keys and values from run to run. */
  cacheValues: ReadonlySet<string>;
  shapes: ReadonlyMap<string, Shape>;
  /** Names of nodes that webgpu leaves to the CPU. */
  cpuNodes: readonly string[];
}

export interface DevicePhases {
  load: PhaseEstimate;
  cold: PhaseEstimate;
  warm: PhaseEstimate;
  /** Bytes of values in use on the device after each node, weights included. */
  live: number[];
  /** What the rules are sure of; the phases are their best guess in between. */
  lowBytes: number;
  highBytes: number;
}

const noParts: MemoryParts = {
  weightsBytes: 0,
  activationsBytes: 0,
  cacheBytes: 0,
  workspaceBytes: 0,
  runtimeBytes: 0,
};

/** Device memory a model adds on a provider other than the CPU, with what is sure of it. */
export function devicePhases(request: DeviceRequest): DevicePhases {
  switch (request.provider) {
    case 'webgpu':
      return webgpuPhases(request);
    case 'cuda':
      return cudaPhases(request);
    case 'dml':
      return dmlPhases(request);
    case 'coreml':
      return coremlPhases(request);
  }
}

const sum = (values: Iterable<number>): number => [...values].reduce((total, value) => total + value, 0);

function bytesOf(names: Iterable<string>, shapes: ReadonlyMap<string, Shape>): number {
  return sum([...names].map((name) => valueBytes(shapes, name)));
}

/** Measured over estimated: what was seen on a software driver, with room beyond. */
const webgpuTrust = { low: 0.9, high: 1.1 };

function webgpuPhases(request: DeviceRequest): DevicePhases {
  const { sized, initializers, inputs, outputs, shapes, cacheValues } = request;
  const nodes = sized.plan.steps.map(({ node }) => node);
  const dataTypeOf = (value: string): number => shapes.get(value)?.dataType ?? 0;
  const placement = placeNodes(nodes, initializers, inputs, dataTypeOf, new Set(request.cpuNodes));
  const run = (unified: boolean): WebgpuTrace =>
    runWebgpu({ sized, inputs, outputs, initializers, shapes, placement, unified });
  const trace = run(true);
  // Cards with memory of their own hold weights in heaps and load them through staging buffers.
  const apart = run(false);
  const cache = bytesOf(cacheValues, shapes);
  const phase = (peakBytes: number, running: boolean): PhaseEstimate => {
    const weightsBytes = Math.min(trace.weightsBytes, peakBytes);
    const staging = running ? trace.inputBytes + trace.outputBytes : 0;
    const cacheBytes = running ? Math.min(cache, Math.max(0, peakBytes - weightsBytes - staging)) : 0;
    const rest = peakBytes - weightsBytes - cacheBytes;
    const activationsBytes = running ? rest : 0;
    return {
      peakBytes,
      parts: { ...noParts, weightsBytes, cacheBytes, activationsBytes, workspaceBytes: rest - activationsBytes },
    };
  };
  const peak = Math.max(trace.loaded, trace.cold, trace.warm);
  return {
    load: phase(trace.loaded, false),
    cold: phase(trace.cold, true),
    warm: phase(trace.warm, true),
    live: trace.live.map((bytes) => bytes + trace.weightsBytes),
    // Originals of converted filters may be gone before loading ends, and outputs of the run before when it is read.
    lowBytes: Math.min(peak, trace.cold) * webgpuTrust.low,
    highBytes: Math.max(trace.highest, apart.highest, apart.cold, apart.warm) * webgpuTrust.high,
  };
}

/** Highest bytes of values alive at once, without any allocator's rounding. */
function highestLive({ plan, bytesOf: size }: SizedPlan): number {
  let live = 0;
  let highest = 0;
  for (const step of plan.steps) {
    for (const { buffer } of step.allocates) live += size(buffer);
    highest = Math.max(highest, live);
    for (const buffer of step.frees) live -= size(buffer);
  }
  return highest;
}

/**
 * Working memory kernels may want at most: a convolution unfolded (cuDNN's exhaustive search tries algorithms that
 * do), a quantized matrix unpacked to half precision.
 */
function largestWorkspace({ sized, initializers, shapes }: DeviceRequest): number {
  let largest = 0;
  for (const { node } of sized.plan.steps) {
    const key = operatorKey(node);
    if (key === 'Conv' || key === 'com.microsoft:FusedConv') {
      const [, depth = 0, ...kernel] = shapes.get(node.inputs[1] ?? '')?.dims ?? [];
      const [batch = 1, , ...pixels] = shapes.get(node.outputs[0] ?? '')?.dims ?? [];
      if (kernel.every((size) => size === 1)) continue;
      largest = Math.max(
        largest,
        [batch, depth, ...kernel, ...pixels].reduce((a, b) => a * b, 4),
      );
    } else if (key === 'com.microsoft:MatMulNBits') {
      largest = Math.max(largest, 4 * (initializers.get(node.inputs[1] ?? '')?.data.byteLength ?? 0));
    }
  }
  return largest;
}

interface Guess {
  /** Bytes that are there after loading and while running, best guess. */
  loading: number;
  weightsBytes: number;
  activationsBytes: number;
  runtimeBytes: number;
  lowBytes: number;
  highBytes: number;
  live: readonly number[];
}

function guessed({ cacheValues, shapes }: DeviceRequest, guess: Guess): DevicePhases {
  const { weightsBytes, activationsBytes, runtimeBytes, live } = guess;
  const cacheBytes = Math.min(activationsBytes, bytesOf(cacheValues, shapes));
  const running: PhaseEstimate = {
    peakBytes: weightsBytes + activationsBytes + runtimeBytes,
    parts: { ...noParts, weightsBytes, activationsBytes: activationsBytes - cacheBytes, cacheBytes, runtimeBytes },
  };
  return {
    load: {
      peakBytes: guess.loading + runtimeBytes,
      parts: {
        ...noParts,
        weightsBytes,
        workspaceBytes: guess.loading - weightsBytes,
        runtimeBytes,
      },
    },
    cold: running,
    warm: running,
    live: live.map((bytes) => bytes + weightsBytes),
    lowBytes: guess.lowBytes,
    highBytes: guess.highBytes,
  };
}

/**
 * CUDA: onnxruntime's arena grows by powers of two for weights, values and workspace alike. Not measured here; the
 * context and the libraries' own memory range from next to nothing (already loaded) to a gigabyte (eager loading).
 */
function cudaPhases(request: DeviceRequest): DevicePhases {
  const { sized, weights, inputs, outputs, shapes } = request;
  const arena = new Arena();
  for (const bytes of weights.perTensor.values()) arena.allocate(bytes);
  const weightsBytes = arena.held;
  for (const name of inputs) arena.allocate(valueBytes(shapes, name));
  const { live } = runDynamic(arena, sized);
  const exact = sum(weights.perTensor.values());
  const values = highestLive(sized) + bytesOf(inputs, shapes);
  const held = arena.held;
  const workspace = largestWorkspace(request);
  return guessed(request, {
    loading: weightsBytes,
    weightsBytes,
    activationsBytes: held - weightsBytes + Math.min(workspace, 32 * 2 ** 20),
    runtimeBytes: cudaRuntime.usual,
    lowBytes: exact + values,
    // One more region of the arena at most holds the workspace; outputs may be fetched while they are still held.
    highBytes: held + 2 * workspace + bytesOf(outputs, shapes) + cudaRuntime.most,
    live: live.map((bytes) => bytes - exact),
  });
}

/** Context, modules, cuBLAS and cuDNN: 250–500 MB with lazy loading, up to 1 GB without. */
const cudaRuntime = { usual: 300e6, most: 1e9 };

/**
 * DirectML: a whole graph becomes one compiled operator with its values in one temporary resource; weights are
 * copied once more while it is set up. Where the graph is cut, values come from pools in powers of two. Not
 * measured here.
 */
function dmlPhases(request: DeviceRequest): DevicePhases {
  const { sized, weights, inputs, outputs, shapes } = request;
  const exact = weights.outside;
  const values = highestLive(sized) + bytesOf(inputs, shapes);
  const pooled = runPooled(sized, dmlBucket);
  const edges = sum([...inputs, ...outputs].map((name) => dmlBucket(valueBytes(shapes, name))));
  return guessed(request, {
    loading: 2 * exact,
    weightsBytes: exact,
    activationsBytes: pooled.held + edges,
    runtimeBytes: 100e6,
    lowBytes: exact + values,
    highBytes: 2 * exact + pooled.held + edges + largestWorkspace(request) + 500e6,
    live: pooled.live,
  });
}

/**
 * CoreML compiles the model to a file and maps it; the GPU and the neural engine compute in half precision. Between
 * half the weights (all of it there) and three times (while compiling, with nodes left to the CPU). Not measured
 * here.
 */
function coremlPhases(request: DeviceRequest): DevicePhases {
  const { sized, weights, inputs, shapes } = request;
  const exact = weights.outside;
  const pooled = runPooled(sized, (bytes) => bytes);
  const activationsBytes = pooled.held + bytesOf(inputs, shapes);
  return guessed(request, {
    loading: exact + weights.largest,
    weightsBytes: exact,
    activationsBytes,
    runtimeBytes: 50e6,
    lowBytes: exact / 2 + highestLive(sized) / 2,
    highBytes: 3 * exact + 2 * activationsBytes + 200e6,
    live: pooled.live,
  });
}
