import type { Provider, Quality } from '../contract/types.js';
import { answerOutputs, Comparison } from '../quality/compare.js';
import { checkLabels, labelledOutput } from '../quality/labels.js';
import type { Dataset } from '../runtime/dataset-types.js';
import { syntheticFeeds } from '../runtime/synthetic.js';
import type { Feeds, Runtime, RuntimeValue, SessionSpec } from '../runtime/types.js';

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
   * Runs the original once over the samples.
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
      const batches: ReferenceBatch[] = [];
      let bytes = 0;
      const total = heldOut ? Math.min(heldOut.samples, maxSamples) : batch;
      const fixed = heldOut?.fixedBatch ?? null;
      const step = fixed ?? (heldOut ? Math.min(batch, total) : batch);
      for (let start = 0; start < total && bytes < maxReferenceBytes; start += step) {
        signal?.throwIfAborted();
        const samples = Math.min(step, total - start);
        // A model with a fixed batch cannot take a shorter last one.
        if (fixed !== null && samples < step) break;
        const feeds = heldOut ? await heldOut.feeds(start, samples) : syntheticFeeds(inputs, dims, 11);
        const outputs = await session.run(feeds, fetches);
        if (start === 0 && labels.length > 0) checkAgainst(outputs, samples, labels);
        for (const tensor of Object.values(outputs)) bytes += tensor.data.byteLength;
        const known = labels.slice(start, start + samples);
        batches.push({ feeds, outputs, samples, ...(known.length === samples ? { labels: known } : {}) });
      }
      return new Reference(batches, heldOut ? 'samples' : 'random', fetches);
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
