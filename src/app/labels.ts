import { SnugError } from '../contract/errors.js';
import { readRows } from './train.js';

/**
 * Right classes of samples from a `.npy` file, one whole number for each sample.
 * @throws SnugError E_DATA_SHAPE unless there is one class for each sample, and of reading the file
 */
export async function readLabels(file: string, samples: number): Promise<ArrayLike<number | bigint>> {
  const { dims, data } = await readRows(file, 'int64');
  if (data.length === samples) return data;
  throw new SnugError('E_DATA_SHAPE', `The labels have the shape [${dims.join(', ')}], wanted is [${samples}].`, {
    action: 'Give one class for each sample.',
    params: { rows: data.length, samples },
  });
}
