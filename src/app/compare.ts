import { SnugError } from '../contract/errors.js';
import type { Provider, Quality } from '../contract/types.js';
import { Reference } from '../fit/reference.js';
import { answerOutputs } from '../quality/compare.js';
import type { Dataset } from '../runtime/dataset-types.js';
import type { Runtime, RuntimeValue } from '../runtime/types.js';
import type { OpenedModel } from './open.js';

export interface CompareRequest {
  original: OpenedModel;
  result: OpenedModel;
  /** Null for random inputs, which are no measure of accuracy. */
  dataset: Dataset | null;
  /** Right classes of the samples, in order. */
  labels: ArrayLike<number | bigint> | null;
  /** Samples run at a time, and the random inputs where there are none; the model's own where its file fixes it. */
  batch: number;
  /** The other dimensions. */
  dims: Record<string, number>;
  provider: Provider;
  runtime: Runtime;
  signal: AbortSignal;
}

/**
 * How far the answers of one model are from those of another with the same inputs and outputs, whoever made it: the
 * damage report of `snug compare`. Of many samples, 256 at equal distances are compared.
 * @throws SnugError E_USAGE when the two cannot be held against each other, E_DATA_SHAPE when the samples are too few
 *   for one batch, and of running them
 */
export async function compareModels(request: CompareRequest): Promise<Quality> {
  const { original, result, dataset, labels, batch, dims, provider, runtime, signal } = request;
  checkSameForm(original, result);
  if (dataset && dataset.samples < (dataset.fixedBatch ?? 1)) {
    throw new SnugError(
      'E_DATA_SHAPE',
      `The models take exactly ${dataset.fixedBatch} samples at a time, ${dataset.name} holds ${dataset.samples}.`,
      { action: 'Give more samples, or export the models with an open batch dimension.' },
    );
  }
  const bound = Object.fromEntries(original.summary.dimensions.map((name) => [name, 1]));
  const batchName = original.summary.batchDimension;
  const shape = { ...bound, ...(batchName === null ? {} : { [batchName]: batch }), ...dataset?.dims, ...dims };
  const known = labels === null ? [] : Array.from(labels);
  const spec = { modelPath: original.path, provider };
  const reference = await Reference.collect(runtime, spec, dataset, shape, batch, original.inputs, signal, known);
  const quality = await reference.compare(runtime, { modelPath: result.path, provider }, signal);
  if (quality.outputs?.length === 0) throw noForms('The two models have no float output of the same name and size.');
  return dataset && quality.samples < dataset.samples ? { ...quality, samplesGiven: dataset.samples } : quality;
}

/** @throws SnugError E_USAGE when inputs, answers or fixed batches of the two differ */
function checkSameForm(original: OpenedModel, result: OpenedModel): void {
  for (const [one, other] of [
    [original, result],
    [result, original],
  ] as const) {
    const missing = one.inputs.find(({ name }) => !other.inputs.some((input) => input.name === name));
    if (missing) {
      throw noForms(`${other.summary.name} has no input "${missing.name}", ${one.summary.name} has.`);
    }
  }
  const answers = new Set(result.summary.outputs.map(({ name }) => name));
  const unanswered = answerOutputs(original.summary.outputs).find((name) => !answers.has(name));
  if (unanswered !== undefined) {
    throw noForms(`${result.summary.name} has no output "${unanswered}", ${original.summary.name} has.`);
  }
  for (const input of original.inputs) {
    const other = result.inputs.find(({ name }) => name === input.name);
    if (!other || takeTheSame(input, other, original, result)) continue;
    throw new SnugError(
      'E_USAGE',
      `The input "${input.name}" is ${typeText(input)} in ${original.summary.name}, ${typeText(other)} in ${result.summary.name}.`,
      { action: 'Export both with inputs of the same type and size; the batch open in both, or fixed at one number.' },
    );
  }
}

/** Whether two inputs can be fed with the same samples, as far as the files say. */
function takeTheSame(a: RuntimeValue, b: RuntimeValue, original: OpenedModel, result: OpenedModel): boolean {
  if (a.dtype !== b.dtype) return false;
  if (a.anyShape || b.anyShape) return true;
  if (a.dims.length !== b.dims.length) return false;
  return a.dims.every((size, axis) => {
    const other = b.dims[axis];
    if (typeof size === 'number' && typeof other === 'number') return size === other;
    if (typeof size === 'number') return other !== result.summary.batchDimension;
    return typeof other !== 'number' || size !== original.summary.batchDimension;
  });
}

const typeText = ({ dtype, dims, anyShape }: RuntimeValue): string =>
  anyShape ? dtype : `${dtype} [${dims.join(', ')}]`;

const noForms = (message: string): SnugError =>
  new SnugError('E_USAGE', message, {
    action: 'Compare two forms of one model: their inputs and outputs have the same names.',
  });
