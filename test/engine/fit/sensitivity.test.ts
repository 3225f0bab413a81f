import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { openData, openModel } from '../../../src/app/open.js';
import { bundledSamples } from '../../../src/app/samples.js';
import { Analysis } from '../../../src/fit/analysis.js';
import { formatsNearFourBits } from '../../../src/fit/four-bits.js';
import { assignDtypes, levelOf } from '../../../src/fit/levels.js';
import { Mixer } from '../../../src/fit/mixed-precision.js';
import { measureSensitivity, roundTo4Bits } from '../../../src/fit/measure-sensitivity.js';
import { expectedSensitivity, Sensitivity } from '../../../src/fit/sensitivity.js';
import { WeightProbe } from '../../../src/fit/weight-probe.js';
import { decodeWeight, formatOptions, quantizeModel } from '../../../src/quantize/index.js';
import { floatAttribute } from '../../../src/onnx/attribute.js';
import type { Model } from '../../../src/onnx/model.js';
import { buildModel, listDataset, node, weight } from '../quantize/build.js';
import { gaussian } from '../quantize/numbers.js';
import { createRuntime } from '../../../src/runtime/client.js';
import type { Dataset } from '../../../src/runtime/dataset-types.js';
import type { Runtime, RuntimeSession } from '../../../src/runtime/types.js';

const [sample] = bundledSamples();
const opened = openModel(path.resolve(sample.modelPath));
const { model } = opened;
const runtime = createRuntime();
const folder = mkdtempSync(path.join(tmpdir(), 'snug-sensitivity-'));
let dataset: Dataset;
let sensitivity: Sensitivity;
const { options } = expectedSensitivity(model, 'cpu');
const weights = [...options.keys()];

beforeAll(async () => {
  dataset = await openData(sample.dataPath ?? '', opened, {});
  sensitivity = await measureSensitivity({ model, provider: 'cpu', options, dataset, runtime, folder, seconds: 20 });
});
afterAll(async () => {
  await dataset.close();
  await runtime.close();
  rmSync(folder, { recursive: true, force: true });
});

/** Noise of the answers with all weights in given formats at once. */
async function noiseOf(mix: Parameters<typeof quantizeModel>[1]): Promise<number> {
  const probe = (await WeightProbe.open({ model, weights, dataset, runtime, folder }))!;
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
  it('tells the noise of every format of every weight, and none of unchanged ones', () => {
    expect(sensitivity.basis).toBe('measured');
    expect(sensitivity.samples).toBeGreaterThan(0);
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

  it('ends in time: what was not measured follows from the other weights', async () => {
    const quick = await measureSensitivity({
      model,
      provider: 'cpu',
      options,
      dataset,
      runtime,
      folder,
      seconds: 0.05,
    });
    for (const [weight, list] of options) for (const option of list) expect(quick.noise(weight, option)).not.toBeNaN();
    const first = options.get(weights[0]!)!.find(({ format }) => format.dtype === 'int4')!;
    const known = new Sensitivity(options, new Map(), new Map([[weights[0]!, 0.5]]));
    expect(known.noise(weights[0]!, first)).toBe(0.5 * first.weightNoise);
    expect(known.factor(weights[1]!, 0.01, 'int8')).toBe(0.5);
  });

  it('rounds to 15 steps of a block, and knows what that did', () => {
    const original = Float32Array.from({ length: 40 }, (_, i) => (i < 32 ? i - 16 : 1));
    const values = Float32Array.from(original);
    const noise = roundTo4Bits(values);
    expect(values[0]).toBe(-16);
    expect(values[39]).toBe(1);
    const power = original.reduce((sum, value) => sum + value * value, 0);
    const error = original.reduce((sum, value, i) => sum + (value - values[i]!) ** 2, 0);
    expect(noise).toBeCloseTo(error / power, 6);
    expect(noise).toBeGreaterThan(0);
  });

  it('stops when asked', async () => {
    const abort = new AbortController();
    const job = measureSensitivity({
      ...{ model, provider: 'cpu', options, dataset, runtime, folder, seconds: 20 },
      signal: abort.signal,
      onProgress: () => abort.abort(),
    });
    await expect(job).rejects.toThrow(/abort/i);
  });

  it('runs nothing where no weight can be an input', async () => {
    const idle = { open: () => Promise.reject(new Error('opened')) } as Partial<Runtime> as Runtime;
    const [float] = formatOptions(model, 'cpu').values();
    const unknown = new Map([['no weight of the graph', float!]]);
    const plain = await measureSensitivity({
      ...{ model, provider: 'cpu', options: unknown, dataset, runtime: idle, folder, seconds: 20 },
    });
    expect(plain).toMatchObject({ basis: 'weights', samples: 0 });
  });

  it('leaves no session and no file behind when a weight cannot be given, or closing fails', async () => {
    let closed = 0;
    const session = {
      holdFile: () => Promise.reject(new Error('no room')),
      close: () => Promise.reject(new Error(`closed ${++closed}`)),
    } as Partial<RuntimeSession> as RuntimeSession;
    const full = { open: () => Promise.resolve(session) } as Partial<Runtime> as Runtime;
    await expect(WeightProbe.open({ model, weights, dataset, runtime: full, folder })).rejects.toThrow('no room');
    expect(closed).toBe(1);
    expect(readdirSync(folder)).toEqual([]);
    session.holdFile = () => Promise.resolve();
    const probe = (await WeightProbe.open({ model, weights, dataset, runtime: full, folder }))!;
    expect(readdirSync(folder)).toHaveLength(1);
    await expect(probe.close()).rejects.toThrow('closed 2');
    expect(readdirSync(folder)).toEqual([]);
  });
});

describe('a model that cannot be differentiated', () => {
  const [width, wide] = [96, 160];
  /** Shrink with no threshold leaves its input as it is, and has no gradient rule. */
  const network = (between: 'Shrink' | 'Identity'): Model =>
    buildModel({
      inputs: { x: ['n', width] },
      outputs: ['y'],
      nodes: [
        node('MatMul', ['x', 'first'], 'h'),
        node(between, ['h'], 'z', between === 'Shrink' ? { lambd: floatAttribute(0) } : {}),
        node('MatMul', ['z', 'second'], 'r'),
        node('MatMul', ['r', 'third'], 'y'),
      ],
      weights: [
        weight('first', [width, wide], gaussian(width * wide, 1)),
        weight('second', [wide, width], gaussian(width * wide, 2)),
        // A few large values: their blocks are rounded coarsely.
        weight(
          'third',
          [width, 10],
          gaussian(width * 10, 3).map((value, i) => (i % 97 === 0 ? 6 * value : value)),
        ),
      ],
    });

  it.each([40, 9])('takes no longer than it may, all runs together: %d s', async (seconds) => {
    let now = 0;
    const clock = vi.spyOn(performance, 'now').mockImplementation(() => now);
    // A second for each sample that runs, and for each weight that is given.
    const slow: Pick<Runtime, 'open'> = {
      open: async (spec) => {
        const session = await runtime.open(spec);
        return {
          ...{ outputs: session.outputs, inputs: session.inputs, close: () => session.close() },
          run: (feeds, fetches) => {
            now += 1000 * (feeds['x']?.dims[0] ?? 1);
            return session.run(feeds, fetches);
          },
          holdFile: (file, tensors) => {
            now += 1000;
            return session.holdFile(file, tensors);
          },
        } as RuntimeSession;
      },
    };
    try {
      const graph = network('Shrink');
      const found = await measureSensitivity({
        ...{ model: graph, provider: 'cpu', options: formatOptions(graph, 'cpu'), folder, seconds },
        runtime: slow as Runtime,
        dataset: listDataset(
          Array.from({ length: 30 }, (_, at) => ({ x: { dims: [1, width], data: gaussian(width, at) } })),
        ),
      });
      expect(found.basis).toBe('measured');
      // Opening gives three weights, and what is under way when time ends is finished.
      expect(now / 1000).toBeLessThan(seconds + 8);
    } finally {
      clock.mockRestore();
    }
  });

  it('runs with one weight changed at a time, which comes to the same', async () => {
    const inputs = Array.from({ length: 4 }, (_, at) => ({
      x: { dims: [16, width], data: gaussian(16 * width, 10 + at) },
    }));
    const measure = async (graph: Model): Promise<Sensitivity> =>
      measureSensitivity({
        ...{ model: graph, provider: 'cpu', options: formatOptions(graph, 'cpu'), seconds: 20 },
        ...{ dataset: listDataset(inputs), runtime, folder },
      });
    const [direct, gradients] = [await measure(network('Shrink')), await measure(network('Identity'))];
    expect([direct.basis, gradients.basis]).toEqual(['measured', 'measured']);
    for (const name of ['first', 'second', 'third']) {
      const four = direct.options.get(name)!.find(({ format }) => format.dtype === 'int4')!;
      const [one, other] = [direct.noise(name, four), gradients.noise(name, four)];
      expect(one).not.toBe(other);
      expect(Math.abs(10 * Math.log10(one / other))).toBeLessThan(2);
    }
  });
});

describe('4 bits with samples', () => {
  it('takes a tenth more bytes at most, for less than half of the error, and says which weights are wider', async () => {
    const analysis = new Analysis(model, 'cpu', true);
    const plain = assignDtypes(analysis, analysis.weights, levelOf('int4'), {});
    const bytesOf = (formats: Parameters<typeof quantizeModel>[1]): number =>
      quantizeModel(model, formats, { provider: 'cpu' }).weights.reduce((sum, w) => sum + w.bytesAfter, 0);
    const request = { model, provider: 'cpu', dataset, runtime, folder, seconds: 3 } as const;
    const { formats, reasons } = await formatsNearFourBits(plain, request);
    expect([...formats.keys()].sort()).toEqual([...plain.dtypes.keys()].sort());
    expect(bytesOf(formats)).toBeLessThanOrEqual(bytesOf(plain.dtypes) * 1.1);
    expect(await noiseOf(formats)).toBeLessThan((await noiseOf(plain.dtypes)) / 2);
    const wider = [...formats].filter(([name, { dtype }]) => dtype !== plain.dtypes.get(name)).map(([name]) => name);
    expect([...reasons.keys()].sort()).toEqual(wider.sort());
    expect(wider.length).toBeGreaterThan(0);
  });
});
