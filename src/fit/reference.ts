import type { Provider, Quality } from '../contract/types.js';
import { answerOutputs, Comparison } from '../quality/compare.js';
import { checkLabels, labelledOutput } from '../quality/labels.js';
import type { Dataset } from '../runtime/dataset-types.js';
import { syntheticFeeds } from '../runtime/synthetic.js';
import type { Feeds, Runtime, RuntimeValue, SessionSpec } from '../runtime/types.js';
import { SampleSource } from '../train/samples.js';

/** Reference outputs kept in memory are bounded: comparing needs no more than this. */
const maxReferenceBytes = 128e6;
/** Samples answers are compared on, at most. */
export const maxSamples = 256;

interface ReferenceBatch {
  feeds: Feeds;
  outputs: Feeds;
  samples: number;
  /** Right classes, where they are known. */
  labels?: ArrayLike<number | bigint>;
}

/** A window of a data set: calibration and checking use different samples of the same file. */
export function datasetWindow(dataset: Dataset, start: number, samples: number): Dataset {
  return {
    name: dataset.name,
    samples,
    dims: dataset.dims,
    fixedBatch: dataset.fixedBatch ?? null,
    feeds: (from, count) => dataset.feeds(start + from, Math.min(count, samples - from)),
    close: () => dataset.close(),
  };
}

/**
 * Splits a data set into calibration samples and held-out samples (the last fifth), so that the quality
 * Snug reports was not fitted to. Below 50 samples, and where fixed batches leave no whole one to keep out, both are
 * the whole set: too few to share. Then `apart` is false, and the report says so.
 */
export function splitDataset(dataset: Dataset): { calibration: Dataset; heldOut: Dataset; apart: boolean } {
  const together = { calibration: dataset, heldOut: dataset, apart: false };
  if (dataset.samples < 50) return together;
  const whole = dataset.fixedBatch ?? 1;
  const kept = Math.floor((dataset.samples * 0.8) / whole) * whole;
  if (kept === 0 || dataset.samples - kept < whole) return together;
  return {
    calibration: datasetWindow(dataset, 0, kept),
    heldOut: datasetWindow(dataset, kept, dataset.samples - kept),
    apart: true,
  };
}

/**
 * Feeds of exactly `batch` samples (of as many as the model takes where that is fixed): from the data, made up
 * where it has fewer. Peak memory depends on their shapes only.
 */
export async function feedsForBatch(
  dataset: Dataset | null,
  inputs: RuntimeValue[],
  dims: Record<string, number>,
  batch: number,
): Promise<Feeds> {
  const count = dataset?.fixedBatch ?? batch;
  if (!dataset || dataset.samples < count) return syntheticFeeds(inputs, { ...dataset?.dims, ...dims }, 7);
  return dataset.feeds(0, count);
}

/** `most` places at equal distances among `count`; all of them where there are no more. */
export const evenPlaces = (count: number, most: number): number[] =>
  Array.from({ length: Math.min(count, most) }, (_, i) => (count <= most ? i : Math.floor(((i + 0.5) * count) / most)));

/**
 * Samples that stand for a data set, at most so many, at equal distances: data sets are often sorted by class. Whole
 * batches, at least one, where the model takes exactly so many samples at a time.
 */
function evenSamples({ samples, fixedBatch }: Dataset, most: number): number[] {
  const whole = fixedBatch ?? 1;
  const places = evenPlaces(Math.floor(samples / whole), Math.max(1, Math.floor(most / whole)));
  return places.flatMap((place) => Array.from({ length: whole }, (_, i) => place * whole + i));
}

/** Reads samples, given in ascending order; those side by side at once. */
function readerOf(dataset: Dataset): (chosen: readonly number[]) => Promise<Feeds> {
  let source: SampleSource | null = null;
  return async (chosen) => {
    const [first = 0, last = 0] = [chosen[0], chosen.at(-1)];
    if (last - first === chosen.length - 1) return dataset.feeds(first, chosen.length);
    source ??= await SampleSource.open(dataset, 0);
    return source.take(chosen);
  };
}

/** @throws SnugError E_DATA_SHAPE when the labels say nothing of these outputs of so many samples */
function checkAgainst(outputs: Feeds, samples: number, labels: readonly (number | bigint)[]): void {
  const shapes = Object.entries(outputs).map(([name, { dims }]) => ({ name, dims: dims[0] === samples ? dims : [] }));
  checkLabels(labels, labelledOutput(shapes).dims[1] ?? 0);
}

/** What the original answers on the held-out samples (or on random inputs), kept to compare candidates with. */
export class Reference {
  private constructor(
    private readonly batches: ReferenceBatch[],
    private readonly source: Quality['source'],
    private readonly fetches: string[],
  ) {}

  /**
   * Runs the original once over the samples: at most {@link maxSamples}, and fewer where their answers are large,
   * at equal distances.
   * @param labels right classes of the held-out samples, in order, where they are known
   * @throws SnugError E_DATA_SHAPE when no output can be held against the labels, or one is none of its classes
   */
  static async collect(
    runtime: Runtime,
    spec: SessionSpec,
    heldOut: Dataset | null,
    dims: Record<string, number>,
    batch: number,
    inputs: RuntimeValue[],
    signal?: AbortSignal,
    labels: readonly (number | bigint)[] = [],
  ): Promise<Reference> {
    const session = await runtime.open(spec);
    try {
      const fetches = answerOutputs(session.outputs);
      const answer = async (feeds: Feeds, samples: number): Promise<ReferenceBatch> => {
        signal?.throwIfAborted();
        return { feeds, outputs: await session.run(feeds, fetches), samples };
      };
      if (!heldOut) return new Reference([await answer(syntheticFeeds(inputs, dims, 11), batch)], 'random', fetches);

      const read = readerOf(heldOut);
      let picked = evenSamples(heldOut, maxSamples);
      const step = heldOut.fixedBatch ?? Math.min(batch, picked.length);
      const answerAt = async (at: number): Promise<ReferenceBatch> => {
        const chosen = picked.slice(at, at + step);
        const known = chosen.map((sample) => labels[sample]).filter((label) => label !== undefined);
        const answered = await answer(await read(chosen), chosen.length);
        return { ...answered, ...(known.length === chosen.length ? { labels: known } : {}) };
      };
      const batches: ReferenceBatch[] = [];
      if (picked.length > 0) {
        const first = await answerAt(0);
        if (labels.length > 0) checkAgainst(first.outputs, first.samples, labels);
        const bytes = Object.values(first.outputs).reduce((sum, { data }) => sum + data.byteLength, 0);
        const room = Math.max(1, Math.floor(maxReferenceBytes / bytes)) * step;
        if (room >= picked.length) batches.push(first);
        else picked = evenSamples(heldOut, room);
      }
      for (let at = batches.length * step; at < picked.length; at += step) batches.push(await answerAt(at));
      return new Reference(batches, 'samples', fetches);
    } finally {
      await session.close();
    }
  }

  /** Runs a candidate over the same inputs and says what was lost. */
  async compare(runtime: Runtime, spec: SessionSpec & { provider: Provider }, signal?: AbortSignal): Promise<Quality> {
    const session = await runtime.open(spec);
    try {
      const comparison = new Comparison(this.source);
      for (const { feeds, outputs, samples, labels } of this.batches) {
        signal?.throwIfAborted();
        comparison.add(outputs, await session.run(feeds, this.fetches), samples, {
          feeds,
          ...(labels ? { labels } : {}),
        });
      }
      return comparison.quality();
    } finally {
      await session.close();
    }
  }
}
