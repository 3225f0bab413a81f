import { SnugError } from '../contract/errors.js';

/** An output by name and shape; sizes that are not known are symbols or null. */
export interface AnswerShape {
  name: string;
  dims: readonly (number | string | null)[];
}

/**
 * Whether the last axis of an output may count classes or tokens. Feature maps (rank > 3), single numbers, and
 * embeddings without a telling name do not.
 */
export function countsClasses({ name, dims }: AnswerShape): boolean {
  const classes = dims.at(-1);
  if (dims.length < 2 || dims.length > 3 || (typeof classes === 'number' && classes < 2)) return false;
  if (/embed|hidden|feature/i.test(name)) return false;
  return dims.length === 2 || /logit|score|prob/i.test(name);
}

/**
 * The output that right classes are held against: the first with one row of classes for each sample.
 * @param outputs the answers of a model, in its order
 * @throws SnugError E_DATA_SHAPE when there is none
 */
export function labelledOutput<T extends AnswerShape>(outputs: readonly T[]): T {
  const found = outputs.find((output) => output.dims.length === 2 && countsClasses(output));
  if (found) return found;
  const names = outputs.map(({ name }) => name).join(', ');
  throw new SnugError(
    'E_DATA_SHAPE',
    `No output of the model can be held against labels (it has: ${names || 'none'}).`,
    {
      action: 'Leave the labels out: they need an output [samples, classes] with a number for each class.',
      params: { outputs: names },
    },
  );
}

/** @throws SnugError E_DATA_SHAPE when a label is none of the classes, which count from 0 */
export function checkLabels(labels: ArrayLike<number | bigint>, classes: number): void {
  for (let i = 0; i < labels.length; i++) {
    const label = Number(labels[i]);
    if (label >= 0 && label < classes) continue;
    throw new SnugError('E_DATA_SHAPE', `Label ${label} (sample ${i}) is none of the model's ${classes} classes.`, {
      action: `Number the classes from 0 to ${classes - 1}, in the order the model has them.`,
      params: { label, classes },
    });
  }
}
