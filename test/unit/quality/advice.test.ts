import { describe, expect, it } from 'vitest';
import { adviceOf, measureBands } from '../../../src/contract/damage-bands.js';
import type { DamageBand } from '../../../src/contract/types.js';
import { datasetWindow, splitDataset } from '../../../src/fit/reference.js';
import type { Dataset } from '../../../src/runtime/dataset-types.js';

const dataset = (samples: number, fixedBatch: number | null = null): Dataset => ({
  ...{ name: 'rows', samples, dims: {}, fixedBatch },
  feeds: () => Promise.resolve({}),
  close: () => Promise.resolve(),
});
const advice = (band: DamageBand, source: 'samples' | 'random', fitted?: boolean): string =>
  adviceOf({ source, damage: { band }, ...(fitted === undefined ? {} : { fitted }) });

describe('advice', () => {
  it('promises no harmless result on the samples that were fitted to, nor on random inputs', () => {
    for (const band of ['none', 'negligible', 'small'] as const) {
      expect(advice(band, 'samples', true)).toBe('fitted');
      expect(advice(band, 'random')).toBe('unknown');
      expect(advice(band, 'samples', false)).toBe(band);
      expect(advice(band, 'samples')).toBe(band);
    }
    for (const band of ['moderate', 'large', 'severe'] as const) expect(advice(band, 'samples', true)).toBe(band);
  });
});

describe('splitDataset', () => {
  it('tells whether samples are kept apart', () => {
    expect(splitDataset(dataset(49))).toMatchObject({ apart: false, heldOut: { samples: 49 } });
    expect(splitDataset(dataset(50))).toMatchObject({ apart: true, heldOut: { samples: 10 } });
    expect(splitDataset(dataset(60, 40))).toMatchObject({ apart: false, heldOut: { samples: 60 } });
    expect(splitDataset(datasetWindow(dataset(80, 40), 0, 80))).toMatchObject({ apart: true });
  });
});

describe('measureBands', () => {
  it('calls every measure of a perfect copy none', () => {
    const same = { top1Agreement: 1, klNats: 0, sqnrDb: 200 };
    expect(measureBands({ ...same, damage: { band: 'none' } })).toEqual({ top1: 'none', kl: 'none', sqnr: 'none' });
    expect(measureBands({ ...same, sqnrDb: 40, damage: { band: 'negligible' } })).toEqual({
      ...{ top1: 'negligible', kl: 'negligible', sqnr: 'negligible' },
    });
    expect(measureBands({ ...same, top1Agreement: null, klNats: null, damage: { band: 'none' } })).toEqual({
      ...{ top1: null, kl: null, sqnr: 'none' },
    });
  });
});
