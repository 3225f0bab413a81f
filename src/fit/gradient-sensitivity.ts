import { mkdtempSync, rmSync } from 'node:fs';
import path from 'node:path';
import { SnugError } from '../contract/errors.js';
import { cloneModel } from '../onnx/graph.js';
import type { Model } from '../onnx/model.js';
import { writeModelInSteps } from '../onnx/write.js';
import { answerOutputs } from '../quality/compare.js';
import { blockAxes, hoistConstants } from '../quantize/index.js';
import type { Dataset } from '../runtime/dataset-types.js';
import type { Feeds, Runtime, RuntimeSession, RuntimeTensor } from '../runtime/types.js';
import { buildEnergyGraph, type EnergyGraph } from '../train/gradient-energy.js';
import type { InputDims } from '../train/forward.js';
import { randomNumbers } from '../train/random.js';
import { SampleSource } from '../train/samples.js';
import { activationBytes } from './activation-bytes.js';

export interface GradientRequest {
  model: Model;
  weights: readonly string[];
  dataset: Dataset;
  runtime: Runtime;
  /** For a temporary model. */
  folder: string;
  /** Time for runs, the session once open; one is made in any case. */
  seconds: number;
  /** Most samples. */
  samples: number;
  onProgress?: (done: number, total: number) => void;
  signal?: AbortSignal;
}

export interface GradientFactors {
  /** Noise-to-signal power at the answers for each noise-to-signal power of the weight, to first order. */
  factors: Map<string, number>;
  samples: number;
  /** That its runs took. */
  seconds: number;
}

/** Samples in one run, at most: their gradients add up, and with signs of their own so do the squares of these. */
const mostAtOnce = 8;
/** Bytes of activations of one run, about, unless one sample has more: on the way back all of them are needed. */
const activationsAtOnce = 32 * 2 ** 20;

/** Weights from so many bytes on are run with as little memory as can be. */
const large = 4 * 2 ** 20;

/** Folding would turn every weight for the way back at load, all of them a second time in memory. */
const levers = { disabledOptimizers: ['ConstantFolding'] };

/**
 * How strongly every weight acts on the answers, from a few runs forward and back: see {@link buildEnergyGraph}. The
 * errors of the elements of a weight count as independent of each other.
 *
 * @returns null where the model cannot be differentiated
 * @throws SnugError of writing and of the runtime
 */
export async function gradientFactors(request: GradientRequest): Promise<GradientFactors | null> {
  const graph = await energyGraph(request);
  if (graph === null) return null;
  const folder = mkdtempSync(path.join(request.folder, 'gradients-'));
  try {
    const modelPath = path.join(folder, 'model.onnx');
    const bytes = [...graph.model.graph.initializers.values()].reduce((sum, { data }) => sum + data.byteLength, 0);
    const lean = bytes > large;
    // From a file of their own, weights are mapped.
    await writeModelInSteps(graph.model, modelPath, { externalData: lean ? 'always' : 'never' });
    const session = await request.runtime.open({ modelPath, provider: 'cpu', lean, levers });
    try {
      return await runs(graph, session, request);
    } finally {
      await session.close();
    }
  } catch (error) {
    // Running back takes more memory than running forward.
    if (!request.signal?.aborted && error instanceof SnugError && survivable.has(error.code)) return null;
    throw error;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const survivable = new Set(['E_OUT_OF_MEMORY', 'E_ENGINE_CRASHED', 'E_MODEL_REJECTED', 'E_RUN_FAILED']);

async function runs(
  graph: EnergyGraph,
  session: RuntimeSession,
  { model, dataset, seconds, samples, onProgress, signal }: GradientRequest,
): Promise<GradientFactors> {
  const random = randomNumbers(1);
  const bytes = activationBytes(model, dataset.dims).reduce((sum, each) => sum + each, 0);
  const atOnce = Math.max(1, Math.min(mostAtOnce, Math.floor(activationsAtOnce / Math.max(1, bytes))));
  const energies = new Float64Array(graph.weights.length);
  const end = Math.min(dataset.samples, samples);
  const fixed = dataset.fixedBatch ?? null;
  const started = performance.now();
  let [power, done] = [0, 0];
  for (;;) {
    signal?.throwIfAborted();
    onProgress?.(done, end);
    const passed = performance.now() - started;
    const each = passed / Math.max(1, done);
    const affordable = Math.floor((seconds * 1000 - passed) / each);
    // The first run tells the time.
    const count = fixed ?? (done === 0 ? 1 : Math.min(atOnce, end - done, affordable));
    if (done > 0 && (count < 1 || count > affordable || done + count > end)) break;
    const feeds = await dataset.feeds(done, count);
    const answers = await session.run({ ...feeds, ...signsFor(graph, count, random) });
    (answers[graph.energies]!.data as Float32Array).forEach((value, at) => (energies[at]! += value));
    power += Number(answers[graph.signal]!.data[0]);
    done += count;
  }
  const known = graph.weights
    .map((weight, at) => [weight, energies[at]! / power] as const)
    .filter(([, factor]) => Number.isFinite(factor));
  return { factors: new Map(known), samples: done, seconds: (performance.now() - started) / 1000 };
}

async function energyGraph({ model, weights, dataset }: GradientRequest): Promise<EnergyGraph | null> {
  const clone = cloneModel(model);
  hoistConstants(clone);
  const { graph } = clone;
  const outputs = answerOutputs(
    graph.outputs.map(({ name, dataType }) => ({ name, dtype: dataType === 1 ? 'float32' : '' })),
  );
  try {
    const fixed = dataset.fixedBatch ?? 1;
    const inputDims =
      fixed > 1 ? sizesOf(await dataset.feeds(0, fixed)) : (await SampleSource.open(dataset, 0)).inputDims;
    const axes = blockAxes(model);
    const blocked = new Map(weights.flatMap((name) => (axes.has(name) ? [[name, axes.get(name)!] as const] : [])));
    return buildEnergyGraph(clone, { inputDims, outputs, weights: blocked });
  } catch (error) {
    if (error instanceof SnugError) return null;
    throw error;
  }
}

function sizesOf(feeds: Feeds): InputDims {
  return Object.fromEntries(Object.entries(feeds).map(([name, { dims }]) => [name, dims]));
}

function signsFor({ signs }: EnergyGraph, samples: number, random: () => number): Feeds {
  return Object.fromEntries(
    signs.map(({ name, dims }): [string, RuntimeTensor] => {
      const sizes = dims!.map((dim) => (typeof dim === 'number' ? dim : samples));
      const data = new Float32Array(sizes.reduce((a, b) => a * b, 1));
      for (let i = 0; i < data.length; i++) data[i] = random() < 0.5 ? -1 : 1;
      return [name, { dtype: 'float32', dims: sizes, data }];
    }),
  );
}
