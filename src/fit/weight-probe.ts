import { mkdtempSync, rmSync } from 'node:fs';
import path from 'node:path';
import type { Quality } from '../contract/types.js';
import { cloneModel } from '../onnx/graph.js';
import { DataType, type Model } from '../onnx/model.js';
import { readFloat32 } from '../onnx/tensor.js';
import { writeModelInSteps } from '../onnx/write.js';
import { answerOutputs, Comparison } from '../quality/compare.js';
import { hoistConstants } from '../quantize/index.js';
import type { Dataset } from '../runtime/dataset-types.js';
import type { Feeds, Runtime, RuntimeSession } from '../runtime/types.js';

/** Reference answers kept at once. */
const maxAnswerBytes = 128e6;

export interface ProbeRequest {
  model: Model;
  /** Weights that will be changed; those the graph cannot take as inputs are left out. */
  weights: readonly string[];
  dataset: Dataset;
  runtime: Runtime;
  /** For a temporary model. */
  folder: string;
  signal?: AbortSignal;
}

/**
 * A session of the original whose weights are inputs, held in its process: other values of a weight are one transfer
 * and one run away, and no session is made anew. Runs on the cpu, whose answers are those of every provider.
 */
export class WeightProbe {
  private batches: { feeds: Feeds; answers: Feeds; samples: number }[] = [];
  private changed = new Set<string>();

  private constructor(
    private readonly request: ProbeRequest,
    private readonly session: RuntimeSession,
    private readonly tensors: Model['graph']['initializers'],
    private readonly folder: string,
  ) {}

  /**
   * @returns null where none of the weights can be an input, as in float16
   * @throws SnugError of writing and of the runtime
   */
  static async open(request: ProbeRequest): Promise<WeightProbe | null> {
    const model = cloneModel(request.model);
    hoistConstants(model);
    const { graph } = model;
    const tensors: Model['graph']['initializers'] = new Map();
    const given = new Set([...graph.inputs, ...graph.outputs].map(({ name }) => name));
    for (const name of request.weights) {
      const tensor = graph.initializers.get(name);
      if (tensor === undefined || tensor.dataType !== DataType.FLOAT || given.has(name)) continue;
      tensors.set(name, tensor);
      graph.initializers.delete(name);
      graph.inputs.push({ name, dataType: DataType.FLOAT, dims: [...tensor.dims] });
    }
    if (tensors.size === 0) return null;
    const folder = mkdtempSync(path.join(request.folder, 'probe-'));
    let session: RuntimeSession | null = null;
    try {
      const modelPath = path.join(folder, 'model.onnx');
      await writeModelInSteps(model, modelPath, {});
      session = await request.runtime.open({ modelPath, provider: 'cpu' });
      const probe = new WeightProbe(request, session, tensors, folder);
      for (const name of tensors.keys()) {
        request.signal?.throwIfAborted();
        await probe.restore(name);
      }
      return probe;
    } catch (error) {
      // What opening failed with is told, not that closing failed too.
      await session?.close().catch(() => undefined);
      rmSync(folder, { recursive: true, force: true });
      throw error;
    }
  }

  has(weight: string): boolean {
    return this.tensors.has(weight);
  }

  /**
   * Takes samples to compare answers on, and runs the original on them.
   * @returns milliseconds one sample took
   */
  async takeSamples(start: number, count: number, atOnce: number): Promise<number> {
    const { dataset, signal } = this.request;
    const fetches = answerOutputs(this.session.outputs);
    this.batches = [];
    let bytes = 0;
    const fixed = dataset.fixedBatch ?? null;
    const step = fixed ?? Math.min(atOnce, count);
    const end = Math.min(dataset.samples, start + Math.max(count, step));
    const started = performance.now();
    let done = 0;
    for (let at = start; at < end && bytes < maxAnswerBytes; at += step) {
      signal?.throwIfAborted();
      const samples = Math.min(step, end - at);
      if (fixed !== null && samples < fixed) break;
      const feeds = await dataset.feeds(at, samples);
      const answers = await this.session.run(feeds, fetches);
      for (const { data } of Object.values(answers)) bytes += data.byteLength;
      this.batches.push({ feeds, answers, samples });
      done += samples;
    }
    return (performance.now() - started) / Math.max(1, done);
  }

  get samples(): number {
    return this.batches.reduce((sum, batch) => sum + batch.samples, 0);
  }

  /** Gives a weight other values until {@link restore}. */
  async change(weight: string, values: Float32Array): Promise<void> {
    await this.session.hold({
      [weight]: { dtype: 'float32', dims: [...this.tensors.get(weight)!.dims], data: values },
    });
    this.changed.add(weight);
  }

  /** The original values; null for weights that cannot be changed. */
  values(weight: string): Float32Array | null {
    const tensor = this.tensors.get(weight);
    return tensor === undefined ? null : readFloat32(tensor);
  }

  /** @param values the original ones, where they are at hand */
  async restore(weight: string, values = this.values(weight)): Promise<void> {
    await this.change(weight, values!);
    this.changed.delete(weight);
  }

  async restoreAll(): Promise<void> {
    for (const weight of this.changed) await this.restore(weight);
  }

  /** How far the answers are from the original's with the weights as they are now. */
  async compare(): Promise<Quality> {
    const comparison = new Comparison('samples');
    for (const { feeds, answers, samples } of this.batches) {
      this.request.signal?.throwIfAborted();
      comparison.add(answers, await this.session.run(feeds, Object.keys(answers)), samples);
    }
    return comparison.quality();
  }

  async close(): Promise<void> {
    try {
      await this.session.close();
    } finally {
      rmSync(this.folder, { recursive: true, force: true });
    }
  }
}
