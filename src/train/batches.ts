import { SnugError } from '../contract/errors.js';
import type { Feeds, RuntimeTensor } from '../runtime/types.js';
import { takeRows } from './samples.js';
import type { TrainRequest } from './train-types.js';

/** What one run is fed, and how many items its loss sums over. */
export interface Batch {
  feeds: Feeds;
  items: number;
}

/** Data and targets of some samples. @throws SnugError of reading; E_DATA_SHAPE when there is no target */
export async function batchOf(
  { targets, source, prepared }: Pick<TrainRequest, 'targets' | 'source' | 'prepared'>,
  samples: readonly number[],
): Promise<Batch> {
  const { graphs } = prepared;
  const all = await source.take(samples);
  const feeds = Object.fromEntries(Object.entries(all).filter(([name]) => graphs.dataInputs.includes(name)));
  if (targets.kind === 'teacher') return { feeds: all, items: samples.length * graphs.itemsPerSample };
  const target =
    targets.kind === 'rows'
      ? takeRows(targets.rows, samples)
      : targets.kind === 'array'
        ? present(all[targets.name], targets.name)
        : nextTokens(present(all[targets.input], targets.input));
  const dims = [samples.length, ...(graphs.target.dims ?? []).slice(1).map(Number)];
  feeds[graphs.target.name] = { ...target, dims };
  const items = target.dtype === 'int64' ? countLabels(target) : samples.length * graphs.itemsPerSample;
  return { feeds, items };
}

/** Samples in groups of at most `size`. */
export function chunks(samples: readonly number[], size: number): number[][] {
  return Array.from({ length: Math.ceil(samples.length / size) }, (_, i) => samples.slice(i * size, (i + 1) * size));
}

function present(tensor: RuntimeTensor | undefined, name: string): RuntimeTensor {
  if (tensor) return tensor;
  throw new SnugError('E_DATA_SHAPE', `The data has no array "${name}".`);
}

/** Labels that count: the graph leaves out those below 0. */
function countLabels({ data }: RuntimeTensor): number {
  let count = 0;
  for (const label of data) if (label >= 0) count++;
  return count;
}

/** The token after each one; the last of a window has none. */
function nextTokens(ids: RuntimeTensor): RuntimeTensor {
  const length = ids.dims[1] ?? 1;
  const labels = BigInt64Array.from({ length: ids.data.length }, (_, i) =>
    i % length === length - 1 ? -100n : BigInt(ids.data[i + 1] ?? 0),
  );
  return { dtype: 'int64', dims: [...ids.dims], data: labels };
}
