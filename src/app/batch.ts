import { createHash } from 'node:crypto';
import { statSync } from 'node:fs';
import path from 'node:path';
import type { Provider } from '../contract/types.js';
import { sessionLevers } from '../fit/session-levers.js';
import { prepareEstimate } from '../memory/estimate.js';
import type { Dataset } from '../runtime/dataset-types.js';
import { streamBatches, type StreamOptions, type StreamResult } from '../runtime/stream.js';
import type { Runtime } from '../runtime/types.js';
import { defaultBudget, type OpenedModel } from './open.js';

/** A batch is never grown beyond this: throughput has long stopped rising. */
const largestBatch = 1024;
/** Where the search for the batch begins when nobody named a budget, which memory to use then being a matter of speed. */
const usualBatch = 32;
/** A doubled batch must run this much faster to be worth its memory. */
const worthwhile = 1.05;

export interface StreamDatasetOptions {
  provider: Provider;
  /** Path of the data set, as part of what identifies the work. */
  data: string;
  dims: Record<string, number>;
  /**
   * Samples per run. Left out: with a budget the most that fit, by the estimate and then by what runs show;
   * without one as many as make it faster.
   */
  batch?: number | undefined;
  /** Bytes the model may add; what is free on the device, asked again while the work goes on, when left out. */
  budgetBytes?: number | undefined;
  output: string;
  overwrite: boolean;
  outputs: StreamOptions['outputs'];
  /** Settings that change the answers without changing the files, as part of what identifies the work. */
  settings?: Record<string, string>;
  restart?: boolean;
  onProgress?: StreamOptions['onProgress'];
  signal?: AbortSignal;
}

/**
 * Streams a data set through a model in the largest batches that fit; see {@link streamBatches}. Stopped or
 * killed, the same call goes on where it was.
 *
 * @throws SnugError as streamBatches does
 */
export async function streamDataset(
  runtime: Runtime,
  opened: OpenedModel,
  dataset: Dataset,
  options: StreamDatasetOptions,
): Promise<StreamResult> {
  const { provider, batch, budgetBytes } = options;
  // A whole data set of one shape: a pattern would hold its block on top of what the first run left.
  const levers = { ...sessionLevers(opened.model.metadata), memoryPattern: false };
  const budget = budgetBytes ?? (await freeBudget(runtime, provider));
  const hasBatch = opened.summary.batchDimension !== null;
  const limit = hasBatch ? Math.min(dataset.samples, largestBatch) : 1;
  const prepared = prepareEstimate(opened.model);
  const dims = { ...dataset.dims, ...options.dims };
  const now = typeof budget === 'number' ? budget : await budget(0);
  const fits = (size: number): boolean => prepared.estimate({ provider, batch: size, dims, levers }).peakBytes <= now;
  return streamBatches({
    runtime,
    spec: { modelPath: opened.path, provider, levers },
    dataset,
    batch: hasBatch
      ? (batch ?? largestPower(fits, budgetBytes === undefined ? Math.min(limit, usualBatch) : limit))
      : 1,
    ...(batch === undefined ? { grow: { limit, gain: budgetBytes === undefined ? worthwhile : 0 } } : {}),
    budgetBytes: budget,
    output: options.output,
    ...(options.outputs === undefined ? {} : { outputs: options.outputs }),
    overwrite: options.overwrite,
    resumeKey: resumeKey(opened, dataset, options),
    restart: options.restart ?? false,
    ...(options.onProgress ? { onProgress: options.onProgress } : {}),
    ...(options.signal ? { signal: options.signal } : {}),
  });
}

/** The largest power of two that fits; 1 when even that does not. */
function largestPower(fits: (batch: number) => boolean, limit: number): number {
  let batch = 1;
  while (batch * 2 <= limit && fits(batch * 2)) batch *= 2;
  return batch;
}

/** What may be used of the device now; what the model itself holds counts as free. */
async function freeBudget(runtime: Runtime, provider: Provider): Promise<(heldBytes: number) => Promise<number>> {
  const device = (): Promise<number> => defaultBudget(runtime, provider);
  let last = await device();
  let asked = performance.now();
  return async (heldBytes) => {
    // Reading the hardware starts processes; the batch need not follow every breath of other programs.
    if (performance.now() - asked > 5000) {
      last = (await device()) + heldBytes;
      asked = performance.now();
    }
    return last;
  };
}

function resumeKey(opened: OpenedModel, dataset: Dataset, options: StreamDatasetOptions): string {
  const stamp = (file: string): unknown[] => {
    const { size, mtimeMs } = statSync(file);
    return [path.resolve(file), size, mtimeMs];
  };
  return JSON.stringify({
    model: stamp(opened.path),
    data: stamp(options.data),
    samples: dataset.samples,
    names: createHash('sha256')
      .update((dataset.sampleNames ?? []).join('\n'))
      .digest('hex'),
    provider: options.provider,
    dims: options.dims,
    batch: options.batch ?? null,
    outputs: options.outputs ?? null,
    settings: options.settings ?? {},
  });
}
