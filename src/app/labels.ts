import { SnugError } from '../contract/errors.js';
import type { ModelSummary } from '../contract/types.js';
import { answerOutputs } from '../quality/compare.js';
import { checkLabels, labelledOutput } from '../quality/labels.js';
import { readRows } from './train.js';

/**
 * The output that labels are held against; null where the file leaves shapes open: then it is known when the model has
 * answered.
 */
function labelled(outputs: ModelSummary['outputs']): ModelSummary['outputs'][number] | null {
  const names = answerOutputs(outputs);
  const answers = outputs.filter(({ name }) => names.includes(name));
  return answers.some(({ anyShape }) => anyShape) ? null : labelledOutput(answers);
}

/** Whether right answers of a model can be counted, as far as its file says what it answers. */
export function countsLabels({ outputs }: ModelSummary): boolean {
  try {
    labelled(outputs);
    return true;
  } catch (error) {
    if (SnugError.from(error).code !== 'E_DATA_SHAPE') throw error;
    return false;
  }
}

/**
 * Right classes of samples from a `.npy` file, one whole number for each sample.
 * @param model what answers: as far as its file says which classes it has, labels are checked against them
 * @throws SnugError E_DATA_SHAPE unless there is one class for each sample and the model has an output for them; of
 *   reading the file
 */
export async function readLabels(
  file: string,
  samples: number,
  { outputs }: ModelSummary,
): Promise<ArrayLike<number | bigint>> {
  const output = labelled(outputs);
  const { data } = await readRows(file, 'int64', (dims) => {
    const labels = dims.reduce((a, b) => a * b, 1);
    if (labels === samples) return;
    throw new SnugError('E_DATA_SHAPE', `The labels have the shape [${dims.join(', ')}], wanted is [${samples}].`, {
      action: 'Give one class for each sample.',
      params: { labels, samples },
    });
  });
  const classes = output?.dims[1];
  if (typeof classes === 'number') checkLabels(data as ArrayLike<number | bigint>, classes);
  return data;
}
