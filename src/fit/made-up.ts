import { constantValue, indexGraph } from '../onnx/graph.js';
import type { Model } from '../onnx/model.js';
import type { Dataset } from '../runtime/dataset-types.js';
import { syntheticFeeds } from '../runtime/synthetic.js';
import type { Feeds, RuntimeValue } from '../runtime/types.js';

const samples = 256;
/**
 * Floats are drawn around the middle of 0…1, narrowly enough that few lie outside: images come that way. Of the spreads
 * from 0.1 to 1 this one kept most answers of the networks that are sensitive to it (`npm run bench:prune`).
 */
export const usualNoise = { mean: 0.5, deviation: 0.3 };

/**
 * Inputs for a model nobody gave samples of: noise around 0.5 for floats, ids from the whole vocabulary for tokens,
 * the rest (masks, positions, caches) as their names say. What hidden units have in common shows on noise too, which
 * is what a repair after pruning needs; it is no substitute for real samples where those can be had.
 * @param dims sizes of named dimensions; see `concreteDims` of the runtime for those left out.
 * @param noise how floats are drawn.
 */
export function madeUpDataset(
  model: Model,
  inputs: readonly RuntimeValue[],
  dims: Record<string, number>,
  noise: Readonly<typeof usualNoise> = usualNoise,
): Dataset {
  const first = inputs[0]?.dims[0];
  const fixedBatch = typeof first === 'number' ? first : null;
  const vocabularies = vocabulariesOf(model);
  return {
    name: 'made-up inputs',
    samples: fixedBatch === null ? samples : Math.max(1, Math.floor(samples / fixedBatch)) * fixedBatch,
    dims,
    fixedBatch,
    feeds: (start, count) => {
      const batchName = typeof first === 'string' ? { [first]: count } : {};
      const feeds = syntheticFeeds(inputs, { ...dims, batch: count, ...batchName }, start + 1);
      return Promise.resolve(narrowed(feeds, vocabularies, start, noise));
    },
    close: () => Promise.resolve(),
  };
}

function narrowed(
  feeds: Feeds,
  vocabularies: ReadonlyMap<string, number>,
  start: number,
  { mean, deviation }: Readonly<typeof usualNoise>,
): Feeds {
  let state = start + 1;
  const random = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
  return Object.fromEntries(
    Object.entries(feeds).map(([name, tensor]) => {
      const { data } = tensor;
      const vocabulary = vocabularies.get(name);
      if (vocabulary !== undefined && data instanceof BigInt64Array) {
        return [name, { ...tensor, data: data.map(() => BigInt(Math.floor(random() * vocabulary))) }];
      }
      if (vocabulary !== undefined && data instanceof Int32Array) {
        return [name, { ...tensor, data: data.map(() => Math.floor(random() * vocabulary)) }];
      }
      // The runtime's own noise has mean and deviation one half.
      if (data instanceof Float32Array) {
        return [name, { ...tensor, data: data.map((value) => mean + ((value - 0.5) / 0.5) * deviation) }];
      }
      return [name, tensor];
    }),
  );
}

/** Graph inputs that pick rows of a constant table, with the number of its rows. */
function vocabulariesOf(model: Model): Map<string, number> {
  const index = indexGraph(model.graph);
  const found = new Map<string, number>();
  for (const node of model.graph.nodes) {
    if (node.opType !== 'Gather') continue;
    const rows = constantValue(model.graph, index, node.inputs[0] ?? '')?.dims[0];
    let ids = node.inputs[1] ?? '';
    for (let from = index.producer.get(ids); from?.opType === 'Cast'; from = index.producer.get(ids)) {
      ids = from.inputs[0] ?? '';
    }
    if (rows !== undefined && rows > 0) found.set(ids, Math.min(rows, found.get(ids) ?? rows));
  }
  return found;
}
