import { existsSync } from 'node:fs';
import { mkdtemp, readdir, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { SnugError, type ErrorCode } from '../../../src/contract/errors.js';
import type { Measurement } from '../../../src/contract/types.js';
import type { Dataset } from '../../../src/runtime/dataset-types.js';
import { NpyArray, openSource } from '../../../src/runtime/npy.js';
import { streamBatches } from '../../../src/runtime/stream.js';
import type { Feeds, Runtime } from '../../../src/runtime/types.js';

let folder: string;
let round = 0;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'snug-stream-'));
});
afterAll(() => rm(folder, { recursive: true }));

/** Samples 0, 1, 2… */
function counting(samples: number): Dataset {
  return {
    name: 'counting',
    samples,
    dims: {},
    feeds: (start, count) =>
      Promise.resolve({
        x: { dtype: 'float32', dims: [count, 1], data: Float32Array.from({ length: count }, (_, i) => start + i) },
      }),
    close: () => Promise.resolve(),
  };
}

interface Behaviour {
  /** Runs with more samples fail. */
  limit: number;
  code?: ErrorCode;
  /** Peak of a measurement with so many samples. */
  peak?: (batch: number) => number;
  /** Measurements never fail. */
  measures?: boolean;
  /** Called before each run with the number of runs so far. */
  beforeRun?: (run: number) => void;
}

/** A runtime whose model doubles its input. */
function doubling({ limit, code = 'E_OUT_OF_MEMORY', peak = () => 1, measures = false, beforeRun }: Behaviour): {
  runtime: Runtime;
  opened: () => number;
  open: () => number;
} {
  let opened = 0;
  let open = 0;
  let runs = 0;
  const fail = (feeds: Feeds): void => {
    if ((feeds.x?.dims[0] ?? 0) > limit) throw new SnugError(code, 'too much');
  };
  const runtime: Runtime = {
    providers: () => Promise.resolve(['cpu']),
    open: () => {
      opened += 1;
      open += 1;
      let dead = false;
      return Promise.resolve({
        inputs: [{ name: 'x', dtype: 'float32', dims: ['batch', 1] }],
        outputs: [{ name: 'y', dtype: 'float32', dims: ['batch', 1] }],
        hold: () => Promise.reject(new Error('not used here')),
        holdFile: () => Promise.reject(new Error('not used here')),
        runProducts: () => Promise.reject(new Error('not used here')),
        storeProducts: () => Promise.reject(new Error('not used here')),
        run: (feeds) => {
          if (dead) throw new SnugError('E_ENGINE_CRASHED', 'gone');
          beforeRun?.(runs++);
          try {
            fail(feeds);
          } catch (error) {
            dead = true;
            return Promise.reject(error as SnugError);
          }
          const x = feeds.x;
          if (!x) throw new Error('no x');
          return Promise.resolve({ y: { ...x, data: (x.data as Float32Array).map((value) => value * 2) } });
        },
        close: () => {
          open -= 1;
          return Promise.resolve();
        },
      });
    },
    measure: (_spec, feeds, { batch }) => {
      if (!measures) fail(feeds);
      return Promise.resolve({ peakBytes: peak(batch) } as Measurement);
    },
    close: () => Promise.resolve(),
  };
  return { runtime, opened: () => opened, open: () => open };
}

const spec = { modelPath: 'none', provider: 'cpu' as const };

async function readAll(file: string): Promise<number[]> {
  const array = await NpyArray.open(await openSource(file), file);
  const values = Array.from((await array.read(0, array.rows)) as Float32Array);
  await array.close();
  return values;
}

describe('streamBatches', () => {
  it('loses nothing, whatever batch memory allows and wherever it runs out', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 1, max: 40 }),
        fc.boolean(),
        async (samples, batch, limit, measures) => {
          const output = path.join(folder, `${round++}.npy`);
          const { runtime, open } = doubling({ limit, measures });
          const result = await streamBatches({ runtime, spec, dataset: counting(samples), batch, output });
          expect(await readAll(output)).toEqual(Array.from({ length: samples }, (_, i) => i * 2));
          expect(result.samples).toBe(samples);
          expect(result.batch).toBeLessThanOrEqual(Math.min(limit, batch, samples));
          expect(result.batch * 2 ** (result.halvings + 1)).toBeGreaterThan(Math.min(batch, samples));
          expect(open()).toBe(0);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('goes on in a fresh process where a crash stopped it', async () => {
    let crashed = false;
    const { runtime, opened } = doubling({
      limit: 99,
      beforeRun: (run) => {
        if (run !== 2 || crashed) return;
        crashed = true;
        throw new SnugError('E_ENGINE_CRASHED', 'SIGSEGV');
      },
    });
    const output = path.join(folder, 'crash.npy');
    const result = await streamBatches({ runtime, spec, dataset: counting(20), batch: 4, output });
    expect(result).toMatchObject({ batch: 2, halvings: 1, samples: 20 });
    expect(opened()).toBe(2);
    expect(await readAll(output)).toEqual(Array.from({ length: 20 }, (_, i) => i * 2));
  });

  it('halves until the measured peak is within the budget', async () => {
    const { runtime } = doubling({ limit: 99, peak: (batch) => 100 + batch * 10 });
    const output = path.join(folder, 'budget.npy');
    const result = await streamBatches({ runtime, spec, dataset: counting(64), batch: 32, budgetBytes: 150, output });
    expect(result).toMatchObject({ batch: 4, halvings: 3, peakBytes: 140 });
    const tight = streamBatches({
      runtime,
      spec,
      dataset: counting(64),
      batch: 32,
      budgetBytes: 105,
      output: path.join(folder, 'tight.npy'),
    });
    await expect(tight).rejects.toEqual(expect.objectContaining({ code: 'E_NOTHING_FITS' }));
  });

  it.each(['E_OUT_OF_MEMORY', 'E_ENGINE_CRASHED', 'E_ENGINE_KILLED', 'E_RUN_FAILED', 'E_CANCELLED'] as const)(
    'gives up with %s when no batch helps, leaving nothing',
    async (code) => {
      const { runtime, open } = doubling({ limit: 0, code, measures: true });
      const output = path.join(folder, `${code}.npy`);
      const work = streamBatches({ runtime, spec, dataset: counting(8), batch: 4, output });
      await expect(work).rejects.toEqual(expect.objectContaining({ code }));
      expect((await readdir(folder)).filter((name) => name.includes(code))).toEqual([]);
      expect(open()).toBe(0);
    },
  );

  it('stops when cancelled and leaves nothing', async () => {
    const controller = new AbortController();
    const { runtime } = doubling({ limit: 99 });
    const work = streamBatches({
      runtime,
      spec,
      dataset: counting(20),
      batch: 2,
      output: path.join(folder, 'cancelled.npy'),
      signal: controller.signal,
      onProgress: ({ samples }) => {
        if (samples >= 6) controller.abort();
      },
    });
    await expect(work).rejects.toEqual(expect.objectContaining({ code: 'E_CANCELLED' }));
    expect((await readdir(folder)).filter((name) => name.includes('cancelled'))).toEqual([]);
  });

  it('keeps a file that is there', async () => {
    const { runtime } = doubling({ limit: 99 });
    const options = { runtime, spec, dataset: counting(3), batch: 2, output: path.join(folder, 'kept.npy') };
    await streamBatches(options);
    await expect(streamBatches(options)).rejects.toEqual(expect.objectContaining({ code: 'E_EXISTS' }));
    await expect(streamBatches({ ...options, overwrite: true })).resolves.toMatchObject({ samples: 3 });
  });

  it('lets one process at a time write an output, and takes over from one that is gone', async () => {
    const output = path.join(folder, `out-${round++}.npy`);
    const lock = path.join(folder, `.${path.basename(output)}.snug-lock`);
    const stream = () =>
      streamBatches({
        runtime: doubling({ limit: 4 }).runtime,
        spec: { modelPath: 'm', provider: 'cpu' },
        dataset: counting(8),
        batch: 4,
        output,
        overwrite: true,
      });
    const [first, second] = await Promise.allSettled([stream(), stream()]);
    const refused = first.status === 'rejected' ? first : second;
    expect([first.status, second.status].sort()).toEqual(['fulfilled', 'rejected']);
    expect(refused).toMatchObject({ reason: { code: 'E_EXISTS' } });
    expect(existsSync(lock)).toBe(false);
    // No process can have this number.
    await writeFile(lock, String(2 ** 30));
    await expect(stream()).resolves.toMatchObject({ samples: 8 });
  });

  it('takes the batch a model insists on', async () => {
    const { runtime } = doubling({ limit: 99 });
    const output = path.join(folder, 'fixed.npy');
    const dataset = { ...counting(6), fixedBatch: 3 };
    await expect(streamBatches({ runtime, spec, dataset, batch: 32, output })).resolves.toMatchObject({ batch: 3 });
    const uneven = streamBatches({ runtime, spec, dataset: { ...counting(7), fixedBatch: 3 }, batch: 1, output });
    await expect(uneven).rejects.toBeInstanceOf(SnugError);
  });

  it('halves when a budget that moves falls in the middle, and loses nothing', async () => {
    let budget = 1000;
    const { runtime } = doubling({
      limit: 99,
      peak: (batch) => batch * 10,
      beforeRun: (run) => {
        if (run === 3) budget = 90;
      },
    });
    const clock = vi.spyOn(performance, 'now');
    let now = 0;
    clock.mockImplementation(() => (now += 400));
    const output = path.join(folder, 'falls.npy');
    const held: number[] = [];
    const budgetBytes = (heldBytes: number): number => {
      held.push(heldBytes);
      return budget;
    };
    const result = await streamBatches({ runtime, spec, dataset: counting(200), batch: 32, budgetBytes, output });
    clock.mockRestore();
    expect(result).toMatchObject({ batch: 8, halvings: 2, peakBytes: 80 });
    expect(held).toContain(320);
    expect(await readAll(output)).toEqual(Array.from({ length: 200 }, (_, i) => i * 2));
  });

  it('grows while it fits and pays', async () => {
    const { runtime } = doubling({ limit: 99, peak: (batch) => batch * 10 });
    const measure = runtime.measure.bind(runtime);
    runtime.measure = async (...args) => ({
      ...(await measure(...args)),
      samplesPerSecond: Math.min(args[2].batch, 16),
    });
    const run = (name: string, gain: number, budgetBytes: number) =>
      streamBatches({
        runtime,
        spec,
        dataset: counting(300),
        batch: 2,
        grow: { limit: 64, gain },
        budgetBytes,
        output: path.join(folder, name),
      });
    expect(await run('pays.npy', 1.05, 1e9)).toMatchObject({ batch: 16 });
    expect(await run('fits.npy', 0, 330)).toMatchObject({ batch: 32, peakBytes: 320 });
    expect(await run('limit.npy', 0, 1e9)).toMatchObject({ batch: 64 });
  });

  it('keeps several outputs in a folder', async () => {
    const { runtime } = doubling({ limit: 99 });
    const plain = runtime.open.bind(runtime);
    runtime.open = async (spec) => {
      const session = await plain(spec);
      return {
        ...session,
        outputs: [...session.outputs, { name: 'scope/y:1', dtype: 'float32', dims: ['batch', 1] }],
        run: async (feeds, names) => {
          expect(names).toEqual(['y', 'scope/y:1']);
          const { y } = await session.run(feeds);
          if (y === undefined) throw new Error('no y');
          return { y, 'scope/y:1': { ...y, data: (y.data as Float32Array).map((value) => -value) } };
        },
      };
    };
    const output = path.join(folder, 'all');
    await streamBatches({ runtime, spec, dataset: counting(5), batch: 2, output, outputs: 'all' });
    expect((await readdir(output)).sort()).toEqual(['scope_y_1.npy', 'y.npy']);
    expect(await readAll(path.join(output, 'scope_y_1.npy'))).toEqual([-0, -2, -4, -6, -8]);
  });
});

describe('work that is gone on with', () => {
  const dataset = counting(40);

  /** Stops after about `samples`, with every batch a checkpoint. */
  async function stopped(output: string, samples: number, resumeKey = 'a'): Promise<void> {
    const clock = vi.spyOn(performance, 'now');
    let now = 0;
    clock.mockImplementation(() => (now += 3000));
    const controller = new AbortController();
    const work = streamBatches({
      runtime: doubling({ limit: 99 }).runtime,
      spec,
      dataset,
      batch: 4,
      output,
      resumeKey,
      signal: controller.signal,
      onProgress: (progress) => {
        if (progress.samples >= samples) controller.abort();
      },
    });
    await expect(work).rejects.toEqual(expect.objectContaining({ code: 'E_CANCELLED' }));
    clock.mockRestore();
  }

  it('does only what is left, with the batch it had', async () => {
    const output = path.join(folder, 'resumed.npy');
    await stopped(output, 12);
    expect(existsSync(output)).toBe(false);
    const starts: number[] = [];
    const watched = {
      ...dataset,
      feeds: (start: number, count: number) => (starts.push(start), dataset.feeds(start, count)),
    };
    const { runtime } = doubling({ limit: 99 });
    const result = await streamBatches({ runtime, spec, dataset: watched, batch: 16, output, resumeKey: 'a' });
    expect(result).toMatchObject({ batch: 4, resumedAt: 12, samples: 40 });
    expect(Math.min(...starts)).toBe(12);
    expect(await readAll(output)).toEqual(Array.from({ length: 40 }, (_, i) => i * 2));
    expect((await readdir(folder)).filter((name) => name.includes('resumed'))).toEqual(['resumed.npy']);
  });

  it('is not mixed with other work, and is dropped when asked', async () => {
    const output = path.join(folder, 'other.npy');
    await stopped(output, 8);
    const { runtime } = doubling({ limit: 99 });
    const options = { runtime, spec, dataset, batch: 4, output };
    await expect(streamBatches({ ...options, resumeKey: 'b' })).rejects.toEqual(
      expect.objectContaining({ code: 'E_EXISTS', action: expect.stringContaining('--restart') }),
    );
    const result = await streamBatches({ ...options, resumeKey: 'b', restart: true });
    expect(result.resumedAt).toBe(0);
    expect(await readAll(output)).toEqual(Array.from({ length: 40 }, (_, i) => i * 2));
  });

  it('notices that what was written is gone or damaged', async () => {
    const output = path.join(folder, 'damaged.npy');
    await stopped(output, 8);
    const { runtime } = doubling({ limit: 99 });
    const options = { runtime, spec, dataset, batch: 4, output, resumeKey: 'a' };
    await truncate(path.join(folder, '.damaged.npy.snug-partial'), 200);
    await expect(streamBatches(options)).rejects.toEqual(expect.objectContaining({ code: 'E_FILE_CHANGED' }));
    await writeFile(path.join(folder, '.damaged.npy.snug-resume.json'), '{"version": 1, "done": -4}');
    await expect(streamBatches(options)).rejects.toEqual(expect.objectContaining({ code: 'E_FILE_CHANGED' }));
    await expect(streamBatches({ ...options, restart: true })).resolves.toMatchObject({ resumedAt: 0 });
  });
});
