import type { Dataset } from '../runtime/dataset-types.js';
import type { Feeds, Runtime } from '../runtime/types.js';
import { mixSeed, randomNumbers } from '../train/random.js';
import { joinSamples, SampleSource } from '../train/samples.js';
import { trainingLevers } from '../train/train.js';
import { bytesOf } from './recover-data.js';

export interface VariantRequest {
  /** Samples to vary; they are read into memory. */
  dataset: Dataset;
  /** How many are wanted. Tokens are costly to draw: where time or memory ends there are fewer. */
  count: number;
  /** The model that will answer them, and its output. */
  modelPath: string;
  output: string;
  /** Whether its answers are logits or probabilities of classes. */
  classes: boolean;
  runtime: Runtime;
  seed: number;
  /** Time (of `performance.now`) at which no more tokens are drawn. */
  until: number;
  signal?: AbortSignal;
}

/** Samples in one run. */
const runBatch = 16;

/** Drawn tokens are kept in memory up to so many bytes. */
const mostDrawnBytes = 256e6;

/** Largest share of the tokens of a sample that one pass changes. */
const mostReplaced = 0.5;

/**
 * Changed copies of samples: a teacher can answer any input, and few samples are learned by heart. Numbers are mixed
 * whenever they are read, two samples by a random share (Zhang et al. 2018, mixup; the answer is the teacher's own:
 * Beyer et al. 2022). Token ids are drawn anew, some in each pass, from what the model itself expects at that place; where
 * it expects no tokens, some are taken from another sample.
 */
export async function variantsOf(request: VariantRequest): Promise<Dataset> {
  const { dataset, count, seed } = request;
  const originals: Feeds[] = [];
  for (let sample = 0; sample < dataset.samples; sample++) originals.push(await dataset.feeds(sample, 1));
  const { inputDims } = await SampleSource.open(dataset, 0);
  const ids = tokenInput(originals[0]!);
  const drawn = ids === null || !request.classes ? null : await drawAll(request, originals, ids);
  const variant = (at: number): Feeds => {
    if (drawn) return drawn[at]!;
    const random = randomNumbers(mixSeed(seed, 17 + at));
    const other = originals[Math.floor(random() * originals.length)]!;
    const one = originals[at % originals.length]!;
    return ids === null ? mixNumbers(one, other, random()) : mixTokens(one, other, ids, random);
  };
  return {
    name: dataset.name,
    samples: drawn?.length ?? count,
    dims: dataset.dims,
    fixedBatch: null,
    feeds: (start, length) =>
      Promise.resolve(
        joinSamples(
          Array.from({ length }, (_, i) => variant(start + i)),
          inputDims,
        ),
      ),
    close: () => Promise.resolve(),
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

function mixTokens(feeds: Feeds, other: Feeds, ids: string, random: () => number): Feeds {
  const { data } = feeds[ids]!;
  const second = other[ids]!.data;
  const share = random() * mostReplaced;
  const mixed = BigInt64Array.from({ length: data.length }, (_, at) =>
    BigInt((random() < share ? second[at] : undefined) ?? data[at]!),
  );
  return { ...feeds, [ids]: { ...feeds[ids]!, data: mixed } };
}

function tokenInput(feeds: Feeds): string | null {
  const name = Object.keys(feeds).find((key) => key.endsWith('input_ids'));
  return name !== undefined && feeds[name]!.data instanceof BigInt64Array ? name : null;
}

/**
 * Passes over the samples, each from what the one before it left, until there are enough; null where the model expects no
 * token at each place.
 */
async function drawAll(
  { dataset, count, runtime, modelPath, output, seed, until, signal }: VariantRequest,
  originals: readonly Feeds[],
  ids: string,
): Promise<Feeds[] | null> {
  const random = randomNumbers(mixSeed(seed, 17));
  const { inputDims } = await SampleSource.open(dataset, 0);
  const most = Math.min(count, Math.floor(mostDrawnBytes / bytesOf(originals[0]!)));
  const drawn: Feeds[] = [];
  const session = await runtime.open({ modelPath, provider: 'cpu', levers: trainingLevers });
  try {
    while (drawn.length < most && performance.now() < until) {
      signal?.throwIfAborted();
      const before = drawn.length;
      const part = Array.from({ length: Math.min(runBatch, most - before, originals.length) }, (_, i) => {
        const at = before + i;
        return at < originals.length ? originals[at]! : drawn[at - originals.length]!;
      });
      const { data, dims } = (await session.run(joinSamples(part, inputDims), [output]))[output]!;
      if (dims.length !== 3 || dims[1] !== part[0]![ids]!.data.length) return null;
      const classes = dims[2]!;
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
