import { SnugError } from '../contract/errors.js';
import type { Dataset } from '../runtime/dataset-types.js';
import type { Feeds, RuntimeArray, RuntimeTensor } from '../runtime/types.js';
import type { InputDims } from './forward.js';

/** Data sets up to this size are read once and kept; larger ones are read sample by sample. */
const mostKeptBytes = 256e6;

/** Rows of one array by sample; the first axis counts samples. */
export type TargetRows = RuntimeTensor;

/** Picks samples in any order out of a data set. */
export class SampleSource {
  readonly #dataset: Dataset;
  readonly #kept: Feeds | null;
  readonly inputDims: InputDims;

  /** @param mostBytes data sets above it are read sample by sample */
  static async open(dataset: Dataset, mostBytes = mostKeptBytes): Promise<SampleSource> {
    if (typeof dataset.fixedBatch === 'number' && dataset.fixedBatch > 1) {
      throw new SnugError('E_NOT_SUPPORTED', `The model takes exactly ${dataset.fixedBatch} samples at a time.`, {
        action: 'Export the model with an open batch dimension to train it.',
      });
    }
    const one = await dataset.feeds(0, 1);
    const two = dataset.samples > 1 && dataset.fixedBatch !== 1 ? await dataset.feeds(0, 2) : null;
    const inputDims: Record<string, (number | 'batch')[]> = {};
    let sampleBytes = 0;
    for (const [name, { dims, data }] of Object.entries(one)) {
      inputDims[name] = dims.map((size, axis) => (two && two[name]?.dims[axis] !== size ? 'batch' : size));
      sampleBytes += data.byteLength;
    }
    const keep = two !== null && sampleBytes * dataset.samples <= mostBytes;
    return new SampleSource(dataset, keep ? await dataset.feeds(0, dataset.samples) : null, inputDims);
  }

  private constructor(dataset: Dataset, kept: Feeds | null, inputDims: InputDims) {
    this.#dataset = dataset;
    this.#kept = kept;
    this.inputDims = inputDims;
  }

  /** Feeds with the given samples, in that order. */
  async take(samples: readonly number[]): Promise<Feeds> {
    const { inputDims } = this;
    const kept = this.#kept;
    if (kept) return mapFeeds(kept, (name, whole) => (isPerSample(inputDims, name) ? takeRows(whole, samples) : whole));
    const parts: Feeds[] = [];
    for (const sample of samples) parts.push(await this.#dataset.feeds(sample, 1));
    return joinSamples(parts, inputDims);
  }
}

/** Samples one behind the other; what all of them share is taken from the first. */
export function joinSamples(parts: readonly Feeds[], inputDims: InputDims): Feeds {
  const [first] = parts;
  if (!first) throw new SnugError('E_INTERNAL', 'No sample was asked for.');
  if (parts.length === 1) return first;
  return mapFeeds(first, (name, one) =>
    isPerSample(inputDims, name) ? joinRows(parts.map((part) => part[name] ?? one)) : one,
  );
}

function mapFeeds(feeds: Feeds, map: (name: string, tensor: RuntimeTensor) => RuntimeTensor): Feeds {
  return Object.fromEntries(Object.entries(feeds).map(([name, tensor]) => [name, map(name, tensor)]));
}

/** Whether the first axis of an input counts samples. */
export const isPerSample = (inputDims: InputDims, name: string): boolean => inputDims[name]?.[0] === 'batch';

function emptyLike(data: RuntimeArray, length: number): RuntimeArray {
  const Kind = data.constructor as new (length: number) => RuntimeArray;
  return new Kind(length);
}

/** Rows of an array, in the order asked for. */
export function takeRows({ dtype, dims, data }: RuntimeTensor, samples: readonly number[]): RuntimeTensor {
  const [rows = 0, ...rest] = dims;
  const size = rows === 0 ? 0 : data.length / rows;
  const taken = emptyLike(data, size * samples.length);
  samples.forEach((sample, i) => taken.set(data.subarray(sample * size, (sample + 1) * size) as never, i * size));
  return { dtype, dims: [samples.length, ...rest], data: taken };
}

function joinRows(parts: readonly RuntimeTensor[]): RuntimeTensor {
  const [first] = parts as [RuntimeTensor];
  const joined = emptyLike(
    first.data,
    parts.reduce((sum, { data }) => sum + data.length, 0),
  );
  let at = 0;
  for (const { data } of parts) {
    joined.set(data as never, at);
    at += data.length;
  }
  const rows = parts.reduce((sum, { dims }) => sum + (dims[0] ?? 0), 0);
  return { dtype: first.dtype, dims: [rows, ...first.dims.slice(1)], data: joined };
}
