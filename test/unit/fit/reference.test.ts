import { describe, expect, it } from 'vitest';
import { Reference } from '../../../src/fit/reference.js';
import type { Dataset } from '../../../src/runtime/dataset-types.js';
import type { Runtime, RuntimeSession } from '../../../src/runtime/types.js';

/** Samples [n, 1] that count up, sorted by class: the first half is class 0. */
function counted(samples: number, fixedBatch: number | null = null): Dataset {
  return {
    name: 'counted',
    samples,
    dims: {},
    fixedBatch,
    feeds: (start, count) =>
      Promise.resolve({
        x: { dtype: 'float32', dims: [count, 1], data: Float32Array.from({ length: count }, (_, i) => start + i) },
      }),
    close: () => Promise.resolve(),
  };
}

/** Answers class 1 for samples from `border` on, in rows of `width` numbers, and notes which samples it was asked. */
function model(border: number, width = 2): { runtime: Runtime; asked: number[][] } {
  const asked: number[][] = [];
  const session: Partial<RuntimeSession> = {
    outputs: [{ name: 'y', dtype: 'float32', dims: ['batch', width] }],
    run: ({ x }) => {
      const samples = Array.from(x!.data, Number);
      asked.push(samples);
      const data = new Float32Array(samples.length * width);
      samples.forEach((sample, row) => (data[row * width + (sample >= border ? 1 : 0)] = 1));
      return Promise.resolve({ y: { dtype: 'float32', dims: [samples.length, width], data } });
    },
    close: () => Promise.resolve(),
  };
  return { runtime: { open: () => Promise.resolve(session) } as Partial<Runtime> as Runtime, asked };
}

const spec = { modelPath: 'model.onnx', provider: 'cpu' } as const;

describe('samples answers are compared on', () => {
  it('lie at equal distances in a large data set, and so do their labels', async () => {
    const { runtime, asked } = model(300);
    const labels = Array.from({ length: 600 }, (_, sample) => (sample >= 300 ? 1 : 0));
    const reference = await Reference.collect(runtime, spec, counted(600), {}, 8, [], undefined, labels);
    const picked = asked.flat();
    expect(picked).toHaveLength(256);
    expect(picked.filter((sample) => sample >= 300)).toHaveLength(128);
    // Half of class 0 is taken for class 1.
    const { accuracy, samples } = await reference.compare(model(150).runtime, spec);
    expect(samples).toBe(256);
    expect(accuracy).toEqual({ before: 1, after: 0.75, samples: 256 });
  });

  it('are whole batches of the size a model takes', async () => {
    const { runtime, asked } = model(0);
    await Reference.collect(runtime, spec, counted(1000, 100), {}, 8, []);
    expect(asked.map((samples) => [samples[0], samples.length])).toEqual([
      [200, 100],
      [700, 100],
    ]);
    const few = model(0);
    await Reference.collect(few.runtime, spec, counted(250, 100), {}, 8, []);
    expect(few.asked.map(([first]) => first)).toEqual([0, 100]);
  });

  it('are fewer where their answers are large, and still come from everywhere', async () => {
    const { runtime, asked } = model(0, 4e6);
    await Reference.collect(runtime, spec, counted(40), {}, 2, []);
    // 16 MB for each answer, 128 MB for all.
    expect(asked.slice(1).flat()).toEqual([2, 7, 12, 17, 22, 27, 32, 37]);
  });
});
