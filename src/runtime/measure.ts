import { readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import type { InferenceSession, Tensor } from 'onnxruntime-node';
import { SnugError } from '../contract/errors.js';
import type { Measurement } from '../contract/types.js';
import { readModel } from '../onnx/read.js';
import { DeviceMeter } from './device-memory.js';
import { readProfile, type Profile, type ProfiledNode } from './profile.js';
import { sharedWeightExcess } from './shared-weights.js';
import { createSession, openTiny, runSession, runTiny, toTensors } from './session.js';
import type { Feeds, SessionSpec } from './types.js';

/** Below this median, the cost of writing the profile would show in the latency (about 10 µs per node). */
const profilingMattersBelowMs = 200;

const profilePrefix = `snug-profile-${process.pid}`;
const cpuProvider = 'CPUExecutionProvider';

export interface MeasureRequest {
  spec: SessionSpec;
  feeds: Feeds;
  warmRuns: number;
  batch: number;
}

/**
 * Loads, runs `1 + warmRuns` times with profiling on, reads peak memory and placement from the profile.
 * Outputs are given back after each run, so exactly one set of outputs is alive at a time.
 *
 * cpu: peak = the arena's own high-water mark + weights that live outside of it. Weights a kernel has packed
 * are inside the arena's counters (and their originals are gone); all others are kept as they are outside of
 * it, and the profile names their bytes per node (measured with onnxruntime 1.30; constants folded at load are
 * outside too). A weight that several nodes share counts once, see {@link sharedWeightExcess}.
 * Other providers: highest level of {@link DeviceMeter} above the one with a tiny session, read after
 * loading and after each run: these providers pool their buffers and keep them between runs, while the moments
 * in between hold what the driver needs to compile kernels. What loading needs for a moment only is not seen.
 *
 * @param workDirectory folder for the profile, which is removed again
 * @param onBaseline called when the tiny session has run and nothing of the model is loaded yet
 */
export async function measureModel(
  { spec, feeds, warmRuns, batch }: MeasureRequest,
  workDirectory: string,
  onBaseline: () => Promise<void>,
): Promise<Measurement> {
  const onDevice = spec.provider !== 'cpu';
  const tiny = onDevice ? await openTiny(spec.provider) : null;
  const levels = new DeviceLevels();
  if (onDevice) {
    await levels.start();
    await onBaseline();
  }
  const profiled = await createSession(spec, {
    enableProfiling: true,
    profileFilePrefix: path.join(workDirectory, profilePrefix),
  });
  if (tiny) {
    // At once, while weights that were converted may still be there, and when all work is done.
    const atOnce = await levels.level();
    await runTiny(tiny);
    await levels.read(atOnce);
  }
  const tensors = await toTensors(feeds);
  const times = await timedRuns(profiled, tensors, 1 + warmRuns, () => (onDevice ? levels.read() : Promise.resolve()));
  profiled.endProfiling();
  await profiled.release();
  const profile = await takeProfile(workDirectory);

  let timed = times.slice(warmRuns > 0 ? 1 : 0);
  if (warmRuns > 0 && median(timed) < profilingMattersBelowMs) {
    const plain = await createSession(spec);
    timed = (await timedRuns(plain, tensors, 1 + warmRuns)).slice(1);
    await plain.release();
  }
  await tiny?.release();

  const latencyMs = median(timed);
  return {
    provider: spec.provider,
    batch,
    ...(onDevice ? levels.result() : arenaResult(profile, sharedExcess(profile.nodes, spec.modelPath))),
    latencyMs,
    samplesPerSecond: latencyMs > 0 ? (batch * 1000) / latencyMs : 0,
    placement: placementOf(profile),
    fallbacks: onDevice ? fallbacksOf(profile.nodes) : [],
  };
}

type Memory = Pick<Measurement, 'peakBytes' | 'load' | 'cold' | 'warm' | 'weightsOutsideArenaBytes' | 'method'>;

/** Reads the structure of the model again, without its weights; a file only the runtime can read shares none. */
function sharedExcess(nodes: readonly ProfiledNode[], modelPath: string): number {
  try {
    return sharedWeightExcess(nodes, readModel(modelPath).graph);
  } catch {
    return 0;
  }
}

function arenaResult({ arena, nodes }: Profile, sharedBytes: number): Memory {
  const outside = weightsOutsideArena(nodes) - sharedBytes;
  const add = (level: number | null): number | null => (level === null ? null : level + outside);
  return {
    peakBytes: (arena.peak ?? 0) + outside,
    load: add(arena.load),
    cold: add(arena.cold),
    warm: add(arena.warm),
    weightsOutsideArenaBytes: outside,
    method: 'arena',
  };
}

/** Levels of the device above its baseline, in the order load, first run, later runs. */
class DeviceLevels {
  readonly #meter = new DeviceMeter();
  #baseline = 0;
  readonly #above: number[] = [];

  async start(): Promise<void> {
    // The first readings also pay for the reading itself.
    for (let reading = 0; reading < 3; reading += 1) this.#baseline = await this.#meter.level();
  }

  /** Bytes above the baseline now. */
  async level(): Promise<number> {
    return Math.max(0, (await this.#meter.level()) - this.#baseline);
  }

  /** Notes the level of a phase. @param least a level seen earlier in it */
  async read(least = 0): Promise<void> {
    this.#above.push(Math.max(least, await this.level()));
  }

  result(): Memory {
    const [load = null, cold = null, ...later] = this.#above;
    return {
      peakBytes: Math.max(0, ...this.#above),
      load,
      cold,
      warm: later.length > 0 ? Math.max(...later) : null,
      weightsOutsideArenaBytes: 0,
      method: 'process',
    };
  }
}

async function timedRuns(
  session: InferenceSession,
  tensors: Record<string, Tensor>,
  runs: number,
  afterRun: () => Promise<void> = () => Promise.resolve(),
): Promise<number[]> {
  const times: number[] = [];
  for (let run = 0; run < runs; run += 1) {
    const start = performance.now();
    const outputs = await runSession(session, tensors);
    times.push(performance.now() - start);
    for (const tensor of Object.values(outputs)) tensor.dispose();
    await afterRun();
  }
  return times;
}

async function takeProfile(directory: string): Promise<Profile> {
  const name = (await readdir(directory)).find((file) => file.startsWith(profilePrefix));
  if (name === undefined) {
    throw new SnugError('E_INTERNAL', 'The runtime wrote no profile.', {
      action: 'Check that the folder for temporary files has room.',
    });
  }
  const file = path.join(directory, name);
  const profile = await readProfile(file);
  await rm(file);
  return profile;
}

/** Bytes of every node's constants that were not packed; a weight of two nodes counts at both. */
function weightsOutsideArena(nodes: readonly ProfiledNode[]): number {
  return nodes.reduce((sum, node) => sum + (node.provider === cpuProvider ? node.parameterBytes : 0), 0);
}

function placementOf({ nodes }: Profile): Record<string, number> {
  const placement: Record<string, number> = {};
  for (const node of nodes) placement[node.provider] = (placement[node.provider] ?? 0) + 1;
  return placement;
}

/** Data up to this size is about shapes and indices, not about the work of the model. */
const shapeBytes = 1024;

/**
 * Nodes on the CPU although another provider was asked for. Nodes that only compute shapes (few bytes in and
 * out, no weights but small integers) belong there and are left out; so are the copies between the two.
 */
function fallbacksOf(nodes: readonly ProfiledNode[]): Measurement['fallbacks'] {
  return nodes
    .filter((node) => node.provider === cpuProvider && !node.operator.startsWith('Memcpy'))
    .filter(
      (node) =>
        Math.max(node.parameterBytes, node.outputBytes, node.activationBytes) > shapeBytes ||
        (node.parameterBytes > 0 && node.inputTypes.some((type) => /float|double/.test(type))),
    )
    .map((node) => ({
      node: node.name,
      operator: node.operator,
      provider: node.provider,
      weightBytes: node.parameterBytes,
    }));
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? 0;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? 0) + upper) / 2;
}
