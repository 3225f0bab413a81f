import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openData, openModel } from '../../../src/app/open.js';
import { bundledSamples } from '../../../src/app/samples.js';
import { Mixer } from '../../../src/fit/mixed-precision.js';
import { measureSensitivity, expectedSensitivity, type Sensitivity } from '../../../src/fit/sensitivity.js';
import { WeightProbe } from '../../../src/fit/weight-probe.js';
import { decodeWeight, quantizeModel } from '../../../src/quantize/index.js';
import { createRuntime } from '../../../src/runtime/client.js';
import type { Dataset } from '../../../src/runtime/dataset-types.js';

const [sample] = bundledSamples();
const opened = openModel(path.resolve(sample.modelPath));
const { model } = opened;
const runtime = createRuntime();
let dataset: Dataset;
let sensitivity: Sensitivity;
const { options } = expectedSensitivity(model, 'cpu');
const weights = [...options.keys()];

beforeAll(async () => {
  dataset = await openData(sample.dataPath ?? '', opened, {});
  sensitivity = await measureSensitivity({ model, provider: 'cpu', options, dataset, runtime, seconds: 20 });
});
afterAll(async () => {
  await dataset.close();
  await runtime.close();
});

/** Noise of the answers with all weights in given formats at once. */
async function noiseOf(mix: Parameters<typeof quantizeModel>[1]): Promise<number> {
  const probe = await WeightProbe.open({ model, weights, dataset, runtime });
  try {
    await probe.takeSamples(0, 64, 32);
    const { model: quantized } = quantizeModel(model, mix, { provider: 'cpu' });
    for (const weight of weights) {
      const values = decodeWeight(model, quantized, weight);
      if (values) await probe.change(weight, values);
    }
    return 10 ** (-(await probe.compare()).sqnrDb / 10);
  } finally {
    await probe.close();
  }
}

describe('measureSensitivity on the bundled sample', () => {
  it('measures every format of every weight, and leaves unchanged weights alone', () => {
    expect(sensitivity.basis).toBe('measured');
    expect(sensitivity.samples).toBe(64);
    for (const [weight, list] of options) {
      for (const option of list) {
        const noise = sensitivity.noise(weight, option);
        if (option.format.dtype === 'fp32') expect(noise).toBe(0);
        else expect(noise).toBeGreaterThan(0);
      }
    }
  });

  it('adds up: the answers of a whole mix are as far off as its parts say together', async () => {
    const mixer = new Mixer(sensitivity);
    const smallest = mixer.front('stored').points[0]!.bytes;
    for (const size of [1.2, 1.6]) {
      const mix = mixer.within(smallest * size, 'stored')!;
      const real = await noiseOf(mix.formats);
      expect(Math.abs(10 * Math.log10(real / mix.noise))).toBeLessThan(3);
    }
  });

  it('lets a mix halve the error of uniform 4-bit for a tenth more bytes', async () => {
    const all = new Map(weights.map((weight) => [weight, 'int4' as const]));
    const bytes = quantizeModel(model, all, { provider: 'cpu' }).weights.reduce((sum, w) => sum + w.bytesAfter, 0);
    const mix = new Mixer(sensitivity).within(bytes * 1.1, 'stored')!;
    expect(mix.storedBytes).toBeLessThanOrEqual(bytes * 1.1);
    expect(await noiseOf(mix.formats)).toBeLessThan((await noiseOf(all)) / 2);
  });

  it('ends in time and still tells weights apart', async () => {
    const quick = await measureSensitivity({ model, provider: 'cpu', options, dataset, runtime, seconds: 0.05 });
    for (const [weight, list] of options) for (const option of list) expect(quick.noise(weight, option)).not.toBeNaN();
  });

  it('stops when asked', async () => {
    const abort = new AbortController();
    const job = measureSensitivity({
      ...{ model, provider: 'cpu', options, dataset, runtime, seconds: 20 },
      signal: abort.signal,
      onProgress: () => abort.abort(),
    });
    await expect(job).rejects.toThrow(/abort/i);
  });
});
