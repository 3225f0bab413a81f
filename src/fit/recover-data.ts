import { rmSync } from 'node:fs';
import path from 'node:path';
import type { Model } from '../onnx/model.js';
import { writeModel } from '../onnx/write.js';
import type { Dataset } from '../runtime/dataset-types.js';
import { NpyArray, openSource } from '../runtime/npy.js';
import { NpyWriter } from '../runtime/npy-writer.js';
import type { Feeds, Runtime } from '../runtime/types.js';
import { joinSamples, SampleSource } from '../train/samples.js';
import { trainingLevers } from '../train/train.js';
import { evenPlaces, maxSamples } from './reference.js';

/** Values of one place in a network for every sample, kept on disk. */
export interface KeptValues {
  /** Under which a part of the network is fed with them. */
  name: string;
  rows: NpyArray;
  file: string;
}

/** Samples trained on, at most: they are held in memory with their changed copies, and each is seen many times. */
const mostTrained = { samples: 1024, bytes: 256e6 };

/**
 * As many samples of each part as training has memory and use for, spread evenly: data sets are often sorted by class.
 * The rest of a large data set stays on disk.
 */
export async function windowForTraining({
  dataset,
  heldOut,
}: {
  dataset: Dataset;
  heldOut: Dataset;
}): Promise<{ dataset: Dataset; heldOut: Dataset }> {
  const bytes = bytesOf(await dataset.feeds(0, 1));
  const samples = Math.min(mostTrained.samples, Math.max(1, Math.floor(mostTrained.bytes / bytes)));
  return { dataset: await spread(dataset, samples), heldOut: await spread(heldOut, maxSamples) };
}

/** At most so many samples, at equal distances. */
const spread = async (dataset: Dataset, most: number): Promise<Dataset> =>
  dataset.samples <= most ? dataset : pickSamples(dataset, evenPlaces(dataset.samples, most));

/** Some samples of a data set in the order given, read when asked for. */
export async function pickSamples(dataset: Dataset, samples: readonly number[]): Promise<Dataset> {
  const source = await SampleSource.open(dataset, 0);
  return {
    name: dataset.name,
    samples: samples.length,
    dims: dataset.dims,
    fixedBatch: dataset.fixedBatch ?? null,
    feeds: (start, count) => source.take(samples.slice(start, start + count)),
    close: () => dataset.close(),
  };
}

/** Data sets one behind the other. @param parts what they are fed into has open batch dimensions */
export async function joinDatasets(parts: readonly [Dataset, ...Dataset[]]): Promise<Dataset> {
  const [first] = parts;
  const { inputDims } = await SampleSource.open(first, 0);
  return {
    name: first.name,
    samples: parts.reduce((sum, { samples }) => sum + samples, 0),
    dims: first.dims,
    fixedBatch: null,
    feeds: async (start, count) => {
      const found: Feeds[] = [];
      let from = 0;
      for (const part of parts) {
        const begin = Math.max(start, from);
        const end = Math.min(start + count, from + part.samples);
        if (begin < end) found.push(await part.feeds(begin - from, end - begin));
        from += part.samples;
      }
      return joinSamples(found, inputDims);
    },
    close: () => Promise.resolve(),
  };
}

/** Bytes of values a model is fed. */
export const bytesOf = (feeds: Feeds): number =>
  Object.values(feeds).reduce((sum, { data }) => sum + data.byteLength, 0);

/** Samples in one run of a part. */
const runBatch = 16;

/** A data set with arrays of values beside what the model is fed. */
export function withValues(dataset: Dataset, values: readonly KeptValues[]): Dataset {
  return {
    name: dataset.name,
    samples: dataset.samples,
    dims: dataset.dims,
    fixedBatch: dataset.fixedBatch ?? null,
    feeds: async (start, count) => {
      const feeds: Feeds = { ...(await dataset.feeds(start, count)) };
      for (const { name, rows } of values) {
        feeds[name] = { dtype: rows.dtype, dims: [count, ...rows.rowDims], data: await rows.read(start, count) };
      }
      return feeds;
    },
    close: () => Promise.resolve(),
  };
}

/**
 * Runs a part of a network over a data set and keeps what it gives; one batch is in memory at a time.
 * @param name under which the values are fed later
 */
export async function keepValues(
  runtime: Runtime,
  part: Model,
  dataset: Dataset,
  folder: string,
  name: string,
  signal?: AbortSignal,
): Promise<KeptValues> {
  const modelPath = path.join(folder, 'part.onnx');
  const file = path.join(folder, `values-${kept++}.npy`);
  writeModel(part, modelPath, { overwrite: true });
  const output = part.graph.outputs[0]?.name ?? '';
  const inputs = part.graph.inputs.map((input) => input.name);
  const session = await runtime.open({ modelPath, provider: 'cpu', levers: trainingLevers });
  let writer: NpyWriter | null = null;
  try {
    for (let start = 0; start < dataset.samples; start += runBatch) {
      signal?.throwIfAborted();
      const count = Math.min(runBatch, dataset.samples - start);
      const feeds = await dataset.feeds(start, count);
      const results = await session.run(Object.fromEntries(inputs.map((input) => [input, feeds[input]!])), [output]);
      const { dtype, dims, data } = results[output]!;
      writer ??= await NpyWriter.create(file, dtype, dims.slice(1), { overwrite: true });
      await writer.append(data, count);
    }
    await writer?.finish();
  } catch (error) {
    await writer?.abort();
    throw error;
  } finally {
    await session.close();
    rmSync(modelPath, { force: true });
  }
  return { name, file, rows: await NpyArray.open(await openSource(file), name) };
}

let kept = 0;

/** Closes and removes values that nothing reads any more. */
export async function dropValues(values: KeptValues | null): Promise<void> {
  if (values === null) return;
  await values.rows.close();
  rmSync(values.file, { force: true });
}
