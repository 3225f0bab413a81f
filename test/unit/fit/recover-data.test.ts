import { describe, expect, it } from 'vitest';
import { shareForRecovery } from '../../../src/fit/recover-candidate.js';
import { windowForTraining } from '../../../src/fit/recover-data.js';
import { withVariants } from '../../../src/fit/variants.js';
import type { Dataset } from '../../../src/runtime/dataset-types.js';
import type { Runtime } from '../../../src/runtime/types.js';

/** Samples [n, width] that count up, and a mask [2, 3] all of them share. */
function dataset(samples: number, width: number, read: number[] = []): Dataset {
  return {
    name: 'counted',
    samples,
    dims: {},
    fixedBatch: null,
    feeds: (start, count) => {
      read.push(start);
      return Promise.resolve({
        x: {
          dtype: 'float32',
          dims: [count, width],
          data: Float32Array.from({ length: count * width }, (_, i) => start + Math.floor(i / width)),
        },
        mask: { dtype: 'float32', dims: [2, 3], data: new Float32Array(6).fill(1) },
      });
    },
    close: () => Promise.resolve(),
  };
}

describe('samples to train on', () => {
  it('are few of a large data set, fewer where each is large, and only one is read to tell', async () => {
    const read: number[] = [];
    const many = await windowForTraining({ dataset: dataset(50_000, 4, read), heldOut: dataset(12_500, 4) });
    expect([many.dataset.samples, many.heldOut.samples]).toEqual([1024, 256]);
    expect(read).toEqual([0]);
    const large = await windowForTraining({ dataset: dataset(50_000, 1e6), heldOut: dataset(100, 1e6) });
    expect(large.dataset.samples).toBe(63);
    expect(large.heldOut.samples).toBe(100);
  });

  it('are shared with those that judge where there are enough, and the model takes several at a time', () => {
    const parts = shareForRecovery(dataset(50, 4));
    expect([parts?.calibration.samples, parts?.heldOut.samples]).toEqual([40, 10]);
    expect(shareForRecovery(dataset(49, 4))).toBeNull();
    expect(shareForRecovery({ ...dataset(50, 4), fixedBatch: 1 })).toBeNull();
    expect(shareForRecovery(null)).toBeNull();
  });

  it('keep what all samples share as it is when samples are put together', async () => {
    const varied = await withVariants({
      ...{ dataset: dataset(4, 5), last: dataset(2, 5), inputDims: { x: ['batch', 5], mask: [2, 3] }, copies: 1 },
      ...{ modelPath: '', output: '', runtime: {} as Runtime, seed: 1 },
    });
    expect(varied.samples).toBe(10);
    const feeds = await varied.feeds(0, 10);
    expect(feeds.x).toMatchObject({ dims: [10, 5] });
    expect(feeds.x!.data).toHaveLength(50);
    expect(feeds.mask).toMatchObject({ dims: [2, 3] });
    expect(feeds.mask!.data).toHaveLength(6);
  });
});
