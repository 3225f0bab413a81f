/**
 * `npm run bench:mixed`: formats chosen weight by weight under a number of bytes, beside one format for all weights.
 * Sensitivities are measured on calibration samples; every model printed is written and run by a session of its own,
 * on samples kept out of it. The networks the size of ViT-B/16 and BERT-base have random weights and made-up inputs:
 * their figures say how formats compare, not what a trained network would lose.
 */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openData, openModel } from '../../src/app/open.js';
import type { Quality, WeightFormat } from '../../src/contract/types.js';
import { madeUpDataset } from '../../src/fit/made-up.js';
import { Mixer } from '../../src/fit/mixed-precision.js';
import { Reference } from '../../src/fit/reference.js';
import { measureSensitivity } from '../../src/fit/measure-sensitivity.js';
import { expectedSensitivity } from '../../src/fit/sensitivity.js';
import { writeModel } from '../../src/onnx/write.js';
import { quantizeModel } from '../../src/quantize/index.js';
import { createRuntime } from '../../src/runtime/client.js';
import type { Dataset } from '../../src/runtime/dataset-types.js';
import type { Runtime } from '../../src/runtime/types.js';
import { accuracy, natsPerToken } from './evaluate.js';
import { bertBase, vitB16 } from './graphs/index.js';

const models = path.resolve('../shared/models');
const folder = mkdtempSync(path.join(tmpdir(), 'snug-bench-mixed-'));
const seconds = Number(process.env.SNUG_MIXED_SECONDS ?? 30);
const rows: string[] = [];
let runtime: Runtime;

interface Case {
  name: string;
  /** Path of the model, written first where it is generated. */
  model: () => string;
  calibration: string | null;
  heldOut: string | null;
  dims: Record<string, number>;
  samples: number;
  judge?: (file: string) => Promise<string>;
}

const shared = (file: string): string => path.join(models, file);
const digits = (name: string): Case => ({
  name,
  model: () => shared(`${name}.onnx`),
  calibration: shared('digits-calibration.npy'),
  heldOut: shared('digits-test.npy'),
  dims: {},
  samples: 100,
  judge: async (file) =>
    `${((await accuracy(file, shared('digits-test.npy'), shared('digits-test-labels.npy'))) * 100).toFixed(2)} %`,
});
const generated = (name: string, make: typeof vitB16, dims: Record<string, number>): Case => ({
  name,
  model: () => {
    const file = path.join(folder, `${name}.onnx`);
    if (!existsSync(file)) writeModel(make(), file);
    return file;
  },
  calibration: null,
  heldOut: null,
  dims,
  samples: 4,
});

const cases: Case[] = [
  digits('digits-mlp'),
  digits('digits-resnet'),
  digits('digits-vit'),
  {
    name: 'kjv-gpt',
    model: () => shared('kjv-gpt'),
    calibration: shared('kjv-calibration.txt'),
    heldOut: shared('kjv-test.txt'),
    dims: { sequence: 128 },
    samples: 16,
    judge: async (file) =>
      `${(await natsPerToken(file, shared('kjv-test.txt'), 128, shared('kjv-gpt'))).toFixed(4)} nats`,
  },
  generated('vit-b', vitB16, {}),
  generated('bert-base', bertBase, { sequence: 64 }),
];

/** Other made-up samples than those a session was calibrated on. */
function later(dataset: Dataset, start: number): Dataset {
  return { ...dataset, samples: 4, feeds: (at, count) => dataset.feeds(start + at, count) };
}

describe.skipIf(!existsSync(models))('mixed formats', () => {
  beforeAll(() => {
    runtime = createRuntime({ threads: 2 });
  });
  afterAll(async () => {
    await runtime.close();
    rmSync(folder, { recursive: true, force: true });
    console.log('\nmodel | formats | weight bytes | of uniform 4-bit | SQNR | KL nats | same top-1 | judged | seconds');
    for (const row of rows) console.log(row);
  });

  for (const { name, model, calibration, heldOut, dims, samples, judge } of cases) {
    it(name, async () => {
      const opened = openModel(model());
      const made = madeUpDataset(opened.model, opened.inputs, dims);
      const dataset = calibration === null ? made : await openData(calibration, opened, dims);
      const kept = heldOut === null ? later(made, 200) : await openData(heldOut, opened, dims);
      const spec = { modelPath: opened.path, provider: 'cpu' } as const;
      const atOnce = name.startsWith('digits') ? 64 : 4;
      const reference = await Reference.collect(runtime, spec, kept, dims, atOnce, opened.inputs);
      const weights = [...expectedSensitivity(opened.model, 'cpu').options.keys()];
      const uniform = (format: WeightFormat): Map<string, WeightFormat> => new Map(weights.map((w) => [w, format]));

      const run = async (
        label: string,
        formats: ReadonlyMap<string, WeightFormat>,
        took: number,
      ): Promise<{ bytes: number; quality: Quality }> => {
        const file = path.join(folder, `${name}-out.onnx`);
        const quantized = quantizeModel(opened.model, formats, { provider: 'cpu' });
        // Counted in what is written: codes, scales and zero points, weights that stayed as they are.
        const bytes = [...quantized.model.graph.initializers.values()].reduce((sum, t) => sum + t.data.byteLength, 0);
        writeModel(quantized.model, file, { overwrite: true });
        const quality = await reference.compare(runtime, { modelPath: file, provider: 'cpu' });
        base ??= bytes;
        rows.push(
          [
            name,
            label,
            bytes,
            `${((bytes / base) * 100).toFixed(1)} %`,
            `${quality.sqnrDb.toFixed(2)} dB`,
            quality.klNats?.toExponential(2) ?? '–',
            quality.top1Agreement === null ? '–' : `${(quality.top1Agreement * 100).toFixed(2)} %`,
            judge ? await judge(file) : '–',
            took.toFixed(1),
          ].join(' | '),
        );
        return { bytes, quality };
      };
      let base: number | undefined;
      const four = await run('uniform int4', uniform({ dtype: 'int4' }), 0);

      let started = performance.now();
      const expected = expectedSensitivity(opened.model, 'cpu');
      const values = new Mixer(expected);
      values.front('stored');
      const tookValues = (performance.now() - started) / 1000;
      const request = {
        model: opened.model,
        provider: 'cpu',
        options: expected.options,
        dataset,
        runtime,
        folder,
      } as const;
      started = performance.now();
      const sensitivity = await measureSensitivity({ ...request, seconds, samples });
      const measured = new Mixer(sensitivity);
      const tookMeasured = (performance.now() - started) / 1000;
      started = performance.now();
      const front = measured.front('stored');
      const solve = performance.now() - started;
      started = performance.now();
      for (let i = 0; i < 20; i++) measured.within(four.bytes * (0.9 + i / 20), 'stored');
      const again = (performance.now() - started) / 20;
      rows.push(
        `${name} | ${weights.length} weights, ${sensitivity.samples} samples; ${front.points.length} points in ${solve.toFixed(0)} ms, another budget in ${again.toFixed(2)} ms`,
      );

      // Weights that are no choice (biases, norms) are in the bytes of both.
      const fixed =
        four.bytes -
        quantizeModel(opened.model, uniform({ dtype: 'int4' }), { provider: 'cpu' }).weights.reduce(
          (sum, w) => sum + w.bytesAfter,
          0,
        );
      const at = (mixer: Mixer, share: number): ReadonlyMap<string, WeightFormat> =>
        mixer.within(four.bytes * share - Math.max(0, fixed), 'stored')?.formats ?? uniform({ dtype: 'int4' });
      await run('mixed by values +10 %', at(values, 1.1), tookValues);
      const ten = await run('mixed by runs +10 %', at(measured, 1.1), tookMeasured);
      await run('mixed by runs +0 %', at(measured, 1), tookMeasured);
      await run('mixed by runs +25 %', at(measured, 1.25), tookMeasured);
      await run('uniform int8', uniform({ dtype: 'int8' }), 0);

      expect(ten.bytes).toBeLessThanOrEqual(four.bytes * 1.1);
      const squared = (quality: Quality): number => 10 ** (-quality.sqnrDb / 10);
      const better = Math.min(
        squared(ten.quality) / squared(four.quality),
        (ten.quality.klNats ?? Infinity) / (four.quality.klNats ?? 1),
      );
      expect(better).toBeLessThanOrEqual(0.5);
    });
  }
});
