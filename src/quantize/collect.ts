import { rmSync } from 'node:fs';
import path from 'node:path';
import { randomUUID } from 'node:crypto';
import { SnugError } from '../contract/errors.js';
import type { Provider } from '../contract/types.js';
import { cloneModel } from '../onnx/graph.js';
import { DataType, type Model } from '../onnx/model.js';
import { writeModel } from '../onnx/write.js';
import type { Dataset } from '../runtime/dataset-types.js';
import type { Runtime, RuntimeSession } from '../runtime/types.js';
import { ActivationHistogram } from './histogram.js';
import { planEncoding } from './plan.js';
import type { ActivationRange, ActivationRanges } from './ranges.js';
import { poolSpatialMeans, staticRegion } from './static-region.js';
import { collectSites, hoistConstants } from './sites.js';

export interface CollectOptions {
  /** Folder for the temporary model; it must exist. The model is removed again. */
  workDirectory: string;
  /** Provider that runs the calibration; default cpu. */
  provider?: Provider;
  /** Samples used at most; default 128. */
  samples?: number;
  /** Values of the named dimensions, where the data set does not fix them (unused by feeds that are complete). */
  dims?: Record<string, number>;
  signal?: AbortSignal;
  onProgress?: (done: number, total: number) => void;
}

/** Activation bytes of one calibration batch, at most (one sample is the least). */
const batchBytes = 128 * 2 ** 20;
const largestBatch = 16;

/**
 * Runs calibration samples through a model and returns the range of every activation that static int8 needs
 * ({@link staticRegion}). The activations are added as outputs of a temporary copy; memory stays bounded by the
 * batch, which shrinks with the size of the activations.
 * @throws SnugError E_DATA_SHAPE when the data set is empty; whatever the runtime throws.
 */
export async function collectRanges(
  runtime: Runtime,
  model: Model,
  dataset: Dataset,
  options: CollectOptions,
): Promise<ActivationRanges> {
  const clone = cloneModel(model);
  hoistConstants(clone);
  const values = activationsToObserve(clone);
  const ranges = new Map<string, ActivationRange>();
  if (values.length === 0) return ranges;
  const total = Math.min(options.samples ?? 128, dataset.samples);
  if (total === 0) throw new SnugError('E_DATA_SHAPE', `The data set ${dataset.name} holds no samples.`);
  const known = new Set(clone.graph.outputs.map((output) => output.name));
  const inputs = new Set(clone.graph.inputs.map((input) => input.name));
  for (const name of values) {
    if (!known.has(name) && !inputs.has(name)) {
      clone.graph.outputs.push({ name, dataType: DataType.FLOAT, dims: null });
    }
  }
  const file = path.join(options.workDirectory, `calibration-${randomUUID()}.onnx`);
  try {
    writeModel(clone, file);
    const session = await runtime.open({ modelPath: file, provider: options.provider ?? 'cpu' });
    try {
      const histograms = await observe(session, values, inputs, dataset, total, options);
      for (const [name, histogram] of histograms) {
        const range = histogram.bestRange();
        if (range !== null) ranges.set(name, range);
      }
    } finally {
      await session.close();
    }
  } finally {
    rmSync(file, { force: true });
    rmSync(`${file}.data`, { force: true });
  }
  return ranges;
}

/** Values around every Conv, Gemm and MatMul that could have static int8 weights. */
function activationsToObserve(model: Model): string[] {
  const sites = collectSites(model);
  const nodes = new Set(
    sites.flatMap((site) => {
      const plan = planEncoding(model, site, { dtype: 'int8-static' }, 'cpu');
      return plan.allowed ? site.uses.filter((_, use) => plan.encodings[use] === 'QDQ').map((use) => use.node) : [];
    }),
  );
  if (nodes.size === 0) return [];
  poolSpatialMeans(model.graph, sites);
  return [...staticRegion(model.graph, nodes).values];
}

async function observe(
  session: RuntimeSession,
  values: readonly string[],
  inputs: ReadonlySet<string>,
  dataset: Dataset,
  total: number,
  options: CollectOptions,
): Promise<Map<string, ActivationHistogram>> {
  const histograms = new Map(values.map((name) => [name, new ActivationHistogram()]));
  const fetches = values.filter((name) => !inputs.has(name));
  const fixed = dataset.fixedBatch ?? null;
  let batch = fixed ?? 1;
  for (let done = 0; done < total;) {
    options.signal?.throwIfAborted();
    const count = Math.min(batch, total - done);
    // A model that takes exactly so many samples at a time gets whole batches only.
    if (fixed !== null && count < fixed && done > 0) break;
    const feeds = await dataset.feeds(done, count);
    const results = fetches.length > 0 ? await session.run(feeds, fetches) : {};
    let bytes = 0;
    for (const [name, histogram] of histograms) {
      const tensor = results[name] ?? feeds[name];
      if (tensor === undefined || !(tensor.data instanceof Float32Array)) continue;
      bytes += tensor.data.byteLength;
      histogram.add(tensor.data);
    }
    done += count;
    options.onProgress?.(done, total);
    if (fixed === null)
      batch = Math.max(1, Math.min(largestBatch, Math.floor((batchBytes * count) / Math.max(1, bytes))));
  }
  return histograms;
}
