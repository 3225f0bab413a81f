import { describe, expect, it } from 'vitest';
import { shareForRecovery } from '../../../src/fit/recover-candidate.js';
import { joinDatasets, windowForTraining } from '../../../src/fit/recover-data.js';
import { isHopeless } from '../../../src/fit/recover-train.js';
import { variantsOf } from '../../../src/fit/variants.js';
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

const first = async (data: Dataset, sample: number): Promise<unknown> => (await data.feeds(sample, 1)).x!.data[0];

describe('samples to train on', () => {
  it('are few of a large data set, spread over it, and fewer where each is large; hardly any is read to tell', async () => {
    const read: number[] = [];
    const many = await windowForTraining({ dataset: dataset(50_000, 4, read), heldOut: dataset(12_500, 4) });
    expect([many.dataset.samples, many.heldOut.samples]).toEqual([1024, 256]);
    expect(new Set(read)).toEqual(new Set([0]));
    expect([await first(many.dataset, 0), await first(many.dataset, 1023)]).toEqual([24, 49_975]);
    const large = await windowForTraining({ dataset: dataset(50_000, 1e6), heldOut: dataset(100, 4) });
    expect(large.dataset.samples).toBe(63);
    expect(large.heldOut.samples).toBe(100);
  });

  it('are shared with those that judge, which come from everywhere', async () => {
    const parts = (await shareForRecovery(dataset(50, 4)))!;
    expect([parts.calibration.samples, parts.heldOut.samples]).toEqual([40, 10]);
    expect([...(await parts.heldOut.feeds(0, 3)).x!.data].filter((_, i) => i % 4 === 0)).toEqual([4, 9, 14]);
    expect([...(await parts.calibration.feeds(3, 2)).x!.data].filter((_, i) => i % 4 === 0)).toEqual([3, 5]);
  });

  it('are not shared where there are few, or the model takes a fixed number at a time', async () => {
    expect(await shareForRecovery(dataset(49, 4))).toBeNull();
    expect(await shareForRecovery({ ...dataset(50, 4), fixedBatch: 1 })).toBeNull();
    expect(await shareForRecovery(null)).toBeNull();
  });

  it('are mixed two by two, the same at each reading, and keep what all samples share', async () => {
    const variants = await variantsOf({
      ...{
        dataset: dataset(4, 5),
        count: 100,
        modelPath: '',
        output: '',
        classes: true,
        runtime: {} as Runtime,
        seed: 1,
      },
      until: 0,
    });
    expect(variants.samples).toBe(100);
    const feeds = await variants.feeds(0, 100);
    const values = [...(feeds.x!.data as Float32Array)].filter((_, i) => i % 5 === 0);
    expect(new Set(values).size).toBeGreaterThan(50);
    expect(Math.min(...values)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...values)).toBeLessThanOrEqual(3);
    expect(await first(variants, 42)).toBe(values[42]);
    expect(feeds.mask).toMatchObject({ dims: [2, 3] });
    expect(feeds.mask!.data).toHaveLength(6);
  });

  it('lie one behind the other', async () => {
    const joined = await joinDatasets([dataset(3, 2), dataset(2, 2), dataset(4, 2)]);
    expect(joined.samples).toBe(9);
    const { x } = await joined.feeds(2, 5);
    expect(x!.dims).toEqual([5, 2]);
    expect([...x!.data]).toEqual([2, 2, 0, 0, 1, 1, 0, 0, 1, 1]);
  });
});

describe('a training without hope', () => {
  const seen = (step: number, ...losses: number[]): boolean =>
    isHopeless({
      step,
      totalSteps: 100,
      evaluations: losses.map((loss, i) => ({
        step: (step * i) / (losses.length - 1),
        ...{ loss, accuracy: null },
      })),
    });

  it('is far above where it began after a quarter, or not below it after three', () => {
    expect(seen(20, 1, 5)).toBe(false);
    expect(seen(25, 1, 1.4)).toBe(false);
    expect(seen(25, 1, 1.6)).toBe(true);
    expect(seen(50, 1, 1.4, 1.3)).toBe(true);
    expect(seen(50, 1, 1.4, 1.1)).toBe(false);
    expect(seen(75, 1, 1.4, 1)).toBe(true);
    expect(seen(75, 1, 0.9, 1.2)).toBe(false);
  });

  it('is told by an evaluation only', () => {
    const evaluations = [0, 25].map((step) => ({ step, loss: 1 + step, accuracy: null }));
    expect(isHopeless({ step: 30, totalSteps: 100, evaluations })).toBe(false);
  });
});
