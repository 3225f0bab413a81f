import type { Provider, Quality } from '../contract/types.js';
import { maxSamples, Reference } from '../fit/reference.js';
import type { Dataset } from '../runtime/dataset-types.js';
import type { Runtime } from '../runtime/types.js';
import { SnugError } from '../contract/errors.js';
import type { OpenedModel } from './open.js';

/** Samples run at a time, and the random inputs where there are none. */
const batch = 8;

export interface CompareRequest {
  original: OpenedModel;
  result: OpenedModel;
  /** Null for random inputs, which are no measure of accuracy. */
  dataset: Dataset | null;
  /** Right classes of the samples, in order. */
  labels: ArrayLike<number | bigint> | null;
  dims: Record<string, number>;
  provider: Provider;
  runtime: Runtime;
  signal: AbortSignal;
}

/**
 * How far the answers of one model are from those of another with the same inputs and outputs, whoever made it: the
 * damage report of `snug compare`. At most {@link maxSamples} samples are compared.
 * @throws SnugError E_USAGE when no output of the two can be held against each other, and of running them
 */
export async function compareModels(request: CompareRequest): Promise<Quality> {
  const { original, result, dataset, labels, dims, provider, runtime, signal } = request;
  const missing = original.inputs.find(({ name }) => !result.inputs.some((input) => input.name === name));
  if (missing) {
    throw new SnugError(
      'E_USAGE',
      `${result.summary.name} has no input "${missing.name}", ${original.summary.name} has.`,
      {
        action: 'Compare two forms of one model: their inputs and outputs have the same names.',
      },
    );
  }
  const bound = Object.fromEntries(original.summary.dimensions.map((name) => [name, 1]));
  const batchName = original.summary.batchDimension;
  const shape = { ...bound, ...(batchName === null ? {} : { [batchName]: batch }), ...dataset?.dims, ...dims };
  const known = labels === null ? [] : Array.from(labels).slice(0, maxSamples);
  const spec = { modelPath: original.path, provider };
  const reference = await Reference.collect(runtime, spec, dataset, shape, batch, original.inputs, signal, known);
  const quality = await reference.compare(runtime, { modelPath: result.path, provider }, signal);
  if (quality.outputs?.length === 0) {
    throw new SnugError('E_USAGE', 'The two models have no float output of the same name and size.', {
      action: 'Compare two forms of one model: their inputs and outputs have the same names.',
    });
  }
  return quality;
}
