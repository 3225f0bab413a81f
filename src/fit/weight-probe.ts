import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import path from 'node:path';
import type { Quality } from '../contract/types.js';
import { cloneModel } from '../onnx/graph.js';
import { DataType, type Model } from '../onnx/model.js';
import { writeError } from '../onnx/output.js';
import { readFloat32 } from '../onnx/tensor.js';
import { writeModelInSteps } from '../onnx/write.js';
import { answerOutputs, Comparison } from '../quality/compare.js';
import { hoistConstants } from '../quantize/index.js';
import type { Dataset } from '../runtime/dataset-types.js';
import { Garbage } from '../runtime/garbage.js';
import type { Feeds, Runtime, RuntimeSession } from '../runtime/types.js';
import { activationBytes } from './activation-bytes.js';

/** Reference answers kept at once. */
const maxAnswerBytes = 128e6;
/** Bytes of the largest activation in one run, about: several are alive at once. */
const largestBytes = 8 * 2 ** 20;
/** Bytes of a weight copied at once. */
const chunkBytes = 2 ** 22;

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
  private readonly garbage = new Garbage();
  /** Weight → where its values begin in the file of all originals. */
  private readonly offsets = new Map<string, number>();

  private constructor(
    private readonly request: ProbeRequest,
    private readonly session: RuntimeSession,
    private readonly tensors: Model['graph']['initializers'],
    private readonly folder: string,
    private readonly mostAtOnce: number,
  ) {}

  /**
   * @returns null where none of the weights can be an input, as in float16
   * @throws SnugError of writing and of the runtime
   */
  static async open(request: ProbeRequest): Promise<WeightProbe | null> {
    const model = cloneModel(request.model);
    hoistConstants(model);
    const largest = Math.max(1, ...activationBytes(model, request.dataset.dims));
    const mostAtOnce = Math.max(1, Math.floor(largestBytes / largest));
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
      session = await request.runtime.open({ modelPath, provider: 'cpu', lean: true });
      const probe = new WeightProbe(request, session, tensors, folder, mostAtOnce);
      probe.writeOriginals();
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
    const step = fixed ?? Math.min(atOnce, this.mostAtOnce, count);
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

  private get originals(): string {
    return path.join(this.folder, 'weights.bin');
  }

  /** From a file the session reads weights without a second copy of them anywhere. */
  private writeOriginals(): void {
    let handle: number | null = null;
    try {
      handle = openSync(this.originals, 'wx');
      let end = 0;
      for (const [name, { data }] of this.tensors) {
        this.request.signal?.throwIfAborted();
        this.offsets.set(name, end);
        const whole = data.origin === 'computed' ? data.read() : null;
        for (let at = 0; at < data.byteLength; at += chunkBytes) {
          const length = Math.min(chunkBytes, data.byteLength - at);
          end += writeWhole(handle, whole ? whole.subarray(at, at + length) : data.readRange(at, length));
        }
      }
    } catch (error) {
      throw writeError(error, this.originals);
    } finally {
      if (handle !== null) closeSync(handle);
    }
  }

  private async holdFrom(file: string, name: string, offset: number): Promise<void> {
    const { dims } = this.tensors.get(name)!;
    await this.session.holdFile(file, [{ name, dtype: 'float32', dims: [...dims], offset }]);
  }

  /** Gives a weight other values until {@link restore}. */
  async change(weight: string, values: Float32Array): Promise<void> {
    const file = path.join(this.folder, 'changed.bin');
    try {
      writeFileSync(file, new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    } catch (error) {
      throw writeError(error, file);
    }
    this.changed.add(weight);
    await this.holdFrom(file, weight, 0);
    // Whoever made the values has no more use for them, nor for what they were made of.
    this.garbage.add(2 * values.byteLength);
  }

  /** The original values, for the caller to change; null for weights that cannot be changed. */
  values(weight: string): Float32Array | null {
    const tensor = this.tensors.get(weight);
    return tensor === undefined ? null : readFloat32(tensor);
  }

  async restore(weight: string): Promise<void> {
    await this.holdFrom(this.originals, weight, this.offsets.get(weight)!);
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

function writeWhole(handle: number, bytes: Uint8Array): number {
  for (let at = 0; at < bytes.length;) at += writeSync(handle, bytes, at);
  return bytes.length;
}
