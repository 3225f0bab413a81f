import type { Dataset } from '../runtime/dataset-types.js';
import type { Feeds, Runtime, RuntimeTensor } from '../runtime/types.js';
import type { InputDims } from '../train/forward.js';
import { trainingLevers } from '../train/train.js';
import { mixSeed, randomNumbers } from '../train/random.js';
import { isPerSample } from '../train/samples.js';
import { bytesOf } from './recover-data.js';

export interface VariantRequest {
  dataset: Dataset;
  /** Samples to add behind the copies as they are. */
  last: Dataset;
  /** Tells inputs that count samples from those all samples share. */
  inputDims: InputDims;
  copies: number;
  /** The model that will answer them, and its output. */
  modelPath: string;
  output: string;
  runtime: Runtime;
  seed: number;
  signal?: AbortSignal;
}

/** Samples in one run. */
const runBatch = 16;

/** Copies are kept in memory up to so many bytes; beyond it there are fewer. */
const mostCopiedBytes = 256e6;

/** Largest share of the tokens of a sample that one copy changes. */
const mostReplaced = 0.3;

/**
 * A data set with changed copies behind its samples: a teacher can answer any input, and few samples are learned by
 * heart. Numbers are mixed, two samples each by a random share; token ids are drawn anew, some in each copy, from what
 * the model itself expects at that place. The samples of `dataset` are read into memory.
 */
export async function withVariants(request: VariantRequest): Promise<Dataset> {
  const { dataset, last, inputDims, copies, seed } = request;
  const random = randomNumbers(mixSeed(seed, 17));
  const added: Feeds[] = [];
  let latest: Feeds[] = [];
  for (let sample = 0; sample < dataset.samples; sample++) latest.push(await dataset.feeds(sample, 1));
  const originals = latest;
  const bytes = originals.reduce((sum, feeds) => sum + bytesOf(feeds), 0);
  for (let copy = 0; copy < Math.min(copies, Math.floor(mostCopiedBytes / bytes)); copy++) {
    const mixed = latest.map((_, at) => {
      const other = originals[Math.floor(random() * originals.length)]!;
      return mixNumbers(originals[at]!, other, random());
    });
    const ids = tokenInput(latest[0]!);
    latest = ids === null ? mixed : await redraw(request, latest, ids, random);
    added.push(...latest);
  }
  const behind = dataset.samples + added.length;
  return {
    name: dataset.name,
    samples: behind + last.samples,
    dims: dataset.dims,
    fixedBatch: null,
    feeds: async (start, count) => {
      const end = start + count;
      const first = Math.max(0, Math.min(end, dataset.samples) - start);
      const final = Math.max(0, end - Math.max(start, behind));
      const parts = first > 0 ? [await dataset.feeds(start, first)] : [];
      for (let at = start + first; at < end - final; at++) parts.push(added[at - dataset.samples]!);
      if (final > 0) parts.push(await last.feeds(end - final - behind, final));
      return join(parts, count, inputDims);
    },
    close: () => dataset.close(),
  };
}

function mixNumbers(feeds: Feeds, other: Feeds, share: number): Feeds {
  return Object.fromEntries(
    Object.entries(feeds).map(([name, tensor]) => {
      const { data } = tensor;
      const second = other[name]?.data;
      if (!(data instanceof Float32Array) || !(second instanceof Float32Array)) return [name, tensor];
      return [name, { ...tensor, data: data.map((x, i) => share * x + (1 - share) * (second[i] ?? 0)) }];
    }),
  );
}

function tokenInput(feeds: Feeds): string | null {
  const name = Object.keys(feeds).find((key) => key.endsWith('input_ids'));
  return name !== undefined && feeds[name]!.data instanceof BigInt64Array ? name : null;
}

/** Puts, at random places, a token that the model draws from what comes before. */
async function redraw(
  { runtime, modelPath, output, inputDims, signal }: VariantRequest,
  feeds: readonly Feeds[],
  ids: string,
  random: () => number,
): Promise<Feeds[]> {
  const session = await runtime.open({ modelPath, provider: 'cpu', levers: trainingLevers });
  const drawn: Feeds[] = [];
  try {
    for (let start = 0; start < feeds.length; start += runBatch) {
      signal?.throwIfAborted();
      const part = feeds.slice(start, start + runBatch);
      const { data, dims } = (await session.run(join(part, part.length, inputDims), [output]))[output]!;
      const classes = dims.at(-1) ?? 1;
      part.forEach((one, row) => {
        const tokens = (one[ids]!.data as BigInt64Array).slice();
        const share = random() * mostReplaced;
        for (let at = 0; at + 1 < tokens.length; at++) {
          if (random() >= share) continue;
          const offset = (row * tokens.length + at) * classes;
          tokens[at + 1] = BigInt(draw(data as Float32Array, offset, classes, random()));
        }
        drawn.push({ ...one, [ids]: { ...one[ids]!, data: tokens } });
      });
    }
  } finally {
    await session.close();
  }
  return drawn;
}

/** Index of a class drawn by the softmax of a row of logits; `point` is uniform in 0…1. */
function draw(logits: Float32Array, offset: number, classes: number, point: number): number {
  const row = logits.subarray(offset, offset + classes);
  const top = row.reduce((a, b) => Math.max(a, b), -Infinity);
  const total = row.reduce((sum, x) => sum + Math.exp(x - top), 0);
  let left = point * total;
  for (let i = 0; i < classes; i++) {
    left -= Math.exp((row[i] as number) - top);
    if (left <= 0) return i;
  }
  return classes - 1;
}

/** Samples one behind the other; what does not count samples is taken from the first. */
function join(parts: readonly Feeds[], count: number, inputDims: InputDims): Feeds {
  const [first] = parts;
  if (!first || parts.length === 1) return first ?? {};
  return Object.fromEntries(
    Object.entries(first).map(([name, tensor]) => [
      name,
      isPerSample(inputDims, name)
        ? joinRows(
            parts.map((part) => part[name]!),
            tensor,
            count,
          )
        : tensor,
    ]),
  );
}

function joinRows(parts: readonly RuntimeTensor[], first: RuntimeTensor, count: number): RuntimeTensor {
  const Kind = first.data.constructor as new (length: number) => RuntimeTensor['data'];
  const joined = new Kind(parts.reduce((sum, { data }) => sum + data.length, 0));
  let at = 0;
  for (const { data } of parts) {
    joined.set(data as never, at);
    at += data.length;
  }
  return { ...first, dims: [count, ...first.dims.slice(1)], data: joined };
}
