import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkModel } from '../../../src/onnx/check.js';
import type { Model } from '../../../src/onnx/model.js';
import type { Feeds } from '../../../src/runtime/types.js';
import { analyseModel, difference } from './masking.js';
import { numbers, randomModel } from './random-graph.js';
import { randomSequenceModel, sequenceFeeds } from './sequence-models.js';

/** SNUG_PROPERTY_RUNS graphs of each family at random, every class alone; without it the same few every time. */
const wanted = process.env.SNUG_PROPERTY_RUNS;
const numRuns = Number(wanted ?? 40);
const parameters = { numRuns, ...(wanted === undefined ? { seed: 6 } : {}) };

interface Family {
  name: string;
  build: (seed: number) => Model;
  feeds: (seed: number) => Feeds;
  /** Kinds of classes that have to be met, or the test proves less than it says. */
  kinds: string[];
}

const families: Family[] = [
  {
    name: 'convolutional graphs',
    build: randomModel,
    feeds: (seed) => {
      const random = numbers(seed);
      const data = Float32Array.from({ length: 2 * 3 * 36 }, () => random() * 2 - 1);
      return { x: { dtype: 'float32', dims: [2, 3, 6, 6], data } };
    },
    kinds: ['channels', 'features', 'groups', 'stream'],
  },
  {
    name: 'sequence models',
    build: randomSequenceModel,
    feeds: sequenceFeeds,
    kinds: `heads head-width query-key-width value-width kv-groups query-heads features recurrent stream
      channels`.split(/\s+/),
  },
];

describe.each(families)('slicing equals masking on random $name', ({ build, feeds, kinds }) => {
  it(
    'for classes alone and for all together',
    async () => {
      const met = new Map<string, number>();
      await fc.assert(
        fc.asyncProperty(fc.integer({ min: 0, max: 1_000_000 }), async (seed) => {
          const model = build(seed);
          checkModel(model);
          const analysis = analyseModel(model);
          for (const one of analysis.classes) met.set(one.kind, (met.get(one.kind) ?? 0) + 1);
          const exact = analysis.classes.filter((one) => one.approximate === null);
          const alone = wanted === undefined ? exact.filter((_, at) => at === seed % exact.length) : exact;
          for (const one of alone) {
            const options = { seed: seed + 1 };
            const apart = await difference(model, analysis, [one], feeds(seed), options);
            expect(apart, `${seed}: ${one.name}`).toBeLessThan(1e-4);
          }
          const all = await difference(model, analysis, exact, feeds(seed), { seed });
          expect(all, `${seed}: all classes`).toBeLessThan(1e-4);
        }),
        parameters,
      );
      for (const kind of kinds) expect(met.get(kind) ?? 0, kind).toBeGreaterThan(0);
    },
    numRuns * 2000 + 60_000,
  );
});
