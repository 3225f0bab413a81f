import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { openModel } from '../../../src/app/open.js';
import { SnugError } from '../../../src/contract/errors.js';
import type { BatchSweep } from '../../../src/contract/throughput.js';
import type { Measurement } from '../../../src/contract/types.js';
import { kneeOf, kneeShare, sweepBatches } from '../../../src/fit/batch-sweep.js';
import type { Runtime } from '../../../src/runtime/types.js';

const point = fc.record({
  batch: fc.integer({ min: 1, max: 512 }),
  samplesPerSecond: fc.double({ min: 0.1, max: 1e6, noNaN: true }),
  fits: fc.boolean(),
});

describe('the knee', () => {
  it('is the smallest batch nearly as fast as the fastest that fits', () => {
    const points = [
      { batch: 1, samplesPerSecond: 100, fits: true },
      { batch: 8, samplesPerSecond: 550, fits: true },
      { batch: 32, samplesPerSecond: 600, fits: true },
      { batch: 64, samplesPerSecond: 2000, fits: false },
    ];
    expect(kneeOf(points)).toEqual({ batch: 8, samplesPerSecond: 550, share: 550 / 600, fastest: 32 });
    expect(kneeOf(points.map((each) => ({ ...each, fits: false })))).toBeNull();
    expect(kneeOf([])).toBeNull();
  });

  it('fits, comes close to the best, and no smaller batch does', () => {
    fc.assert(
      fc.property(fc.array(point, { minLength: 1, maxLength: 12 }), (points) => {
        const fitting = points.filter(({ fits }) => fits);
        const knee = kneeOf(points);
        expect(knee === null).toBe(fitting.length === 0);
        if (knee === null) return;
        const bar = kneeShare * Math.max(...fitting.map(({ samplesPerSecond }) => samplesPerSecond));
        expect(knee.samplesPerSecond).toBeGreaterThanOrEqual(bar);
        for (const each of fitting) {
          if (each.batch < knee.batch) expect(each.samplesPerSecond).toBeLessThan(bar);
        }
      }),
    );
  });
});

describe('the sweep', () => {
  const opened = openModel(path.resolve('src/app/samples/digits-mlp.onnx'));

  /** Sweeps with a runtime that tells what `latency` says, and notes what it was asked to run. */
  async function sweep(latency: (batch: number) => number, limitBytes = Infinity, failure = new Error('no memory')) {
    const ran: number[] = [];
    const told: BatchSweep[] = [];
    const runtime = {
      measure: (_spec, feeds, { batch }): Promise<Measurement> => {
        ran.push(Object.values(feeds)[0]?.dims[0] ?? 0);
        const latencyMs = latency(batch);
        if (latencyMs < 0) return Promise.reject(failure);
        return Promise.resolve({
          latencyMs,
          samplesPerSecond: (batch / latencyMs) * 1000,
          peakBytes: 1000 * batch,
        } as Measurement);
      },
    } as Partial<Runtime> as Runtime;
    const { model, path: modelPath, inputs } = opened;
    const done = await sweepBatches({
      ...{ model, modelPath, inputs, runtime, limitBytes },
      ...{ dataset: null, provider: 'cpu', dims: {}, onSweep: (part) => told.push(part) },
    });
    return { done, ran, told };
  }

  it('doubles the batch while that is faster, and ends two sizes after it no longer is', async () => {
    const { done, ran, told } = await sweep((batch) => (batch <= 8 ? 2 : batch / 4));
    // What gained nothing, and the size below the knee, are run twice.
    expect(ran).toEqual([1, 2, 4, 8, 16, 16, 32, 32, 4]);
    expect(done).toMatchObject({ state: 'done', total: 6 });
    expect(done.points[3]).toMatchObject({ batch: 8, samplesPerSecond: 4000, measuredBytes: 8000 });
    expect(told.map(({ points, state }) => [points.length, state])).toEqual(
      [0, 1, 2, 3, 4, 5, 6].map((n) => [n, 'measuring']),
    );
  });

  it('runs nothing above the limit, nothing that takes long, and keeps what it has when a run fails', async () => {
    const all = await sweep(() => 2);
    const { points } = all.done;
    const limit = points[3]?.estimatedBytes ?? 0;
    expect((await sweep(() => 2, limit)).ran).toEqual([1, 2, 4, 8, 4]);
    expect((await sweep((batch) => batch * 900)).ran).toEqual([1, 2, 2, 4]);
    const failed = await sweep((batch) => (batch > 2 ? -1 : 1));
    expect(failed.done).toMatchObject({ state: 'done', total: 2 });
    await expect(sweep(() => -1)).rejects.toThrow('no memory');
  });

  it('finds the same knee when one run of a size was slowed down by something else', async () => {
    const quiet = (batch: number): number => (batch <= 16 ? 2 : batch / 8);
    const wanted = kneeOf((await sweep(quiet)).done.points.map((each) => ({ ...each, fits: true })));
    expect(wanted?.batch).toBe(16);
    for (const disturbed of [2, 8, 16, 32]) {
      const times = new Map<number, number>();
      const { done } = await sweep((batch) => {
        times.set(batch, (times.get(batch) ?? 0) + 1);
        return quiet(batch) * (batch === disturbed && times.get(batch) === 1 ? 3 : 1);
      });
      expect(kneeOf(done.points.map((each) => ({ ...each, fits: true })))?.batch).toBe(16);
    }
  });

  it('stopped in the middle, gives no result', async () => {
    const stopped = new SnugError('E_CANCELLED', 'Stopped.');
    await expect(sweep((batch) => (batch > 2 ? -1 : 1), Infinity, stopped)).rejects.toBe(stopped);
  });
});
