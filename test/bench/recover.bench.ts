/**
 * `npm run bench:recover`: models at half their inner width (pruned by magnitude and with repair) or quantized with
 * samples, before and after training on unlabelled samples (100 images, 20 kB of text), judged on test data that nothing
 * has seen. SNUG_RECOVER_MODELS and SNUG_RECOVER_METHODS (comma-separated) pick fewer, SNUG_RECOVER_UPDATES and
 * SNUG_RECOVER_SECONDS train for less long, SNUG_RECOVER_THREADS with fewer threads.
 */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openData, openModel, type OpenedModel } from '../../src/app/open.js';
import { quantizeFile } from '../../src/app/shrink.js';
import type { Dtype } from '../../src/contract/types.js';
import { recoverModel } from '../../src/fit/recover.js';
import { shareForRecovery } from '../../src/fit/recover-candidate.js';
import { Reference } from '../../src/fit/reference.js';
import type { Model } from '../../src/onnx/model.js';
import { writeModel } from '../../src/onnx/write.js';
import { pruneModel } from '../../src/prune/index.js';
import { createRuntime } from '../../src/runtime/client.js';
import type { Dataset } from '../../src/runtime/dataset-types.js';
import { accuracy, natsPerToken } from './evaluate.js';

const models = path.resolve('../shared/models');
const folder = mkdtempSync(path.join(tmpdir(), 'snug-bench-recover-'));
const threads = process.env.SNUG_RECOVER_THREADS;
const runtime = createRuntime(threads === undefined ? {} : { threads: Number(threads) });
const chosen = (name: string, all: string): string[] => (process.env[name] ?? all).split(',');
const rows: string[] = [];

/** Each model with what is done to it, and the share of the damage that training must take back at least. */
const usual: Record<string, string> = {
  'digits-vit': 'magnitude,repair,int4,int2,int8-static',
  'digits-resnet': 'int4,int2,int8-static',
  'digits-mlp': 'int4,int2,int8-static',
  'kjv-gpt': 'magnitude,repair,int4,int2,int8-static',
};
const leastRegained: Record<string, number> = { magnitude: 0.5, repair: 0.5 };

interface Made {
  opened: OpenedModel;
  dims: Record<string, number>;
  calibration: Dataset;
}

const changes: Record<string, (made: Made) => Promise<Model>> = {
  ...Object.fromEntries(
    (['magnitude', 'repair'] as const).map((method) => [
      method,
      async ({ opened, dims, calibration }: Made): Promise<Model> => {
        const samples = { runtime, dataset: calibration, workDirectory: folder, dims };
        return (await pruneModel(opened.model, { ratio: 0.5, method, samples })).model;
      },
    ]),
  ),
  ...Object.fromEntries(
    (['int8', 'int8-static', 'int8-dynamic', 'int4', 'nf4', 'int2'] as const satisfies Dtype[]).map((dtype) => [
      dtype,
      async ({ opened, dims, calibration }: Made): Promise<Model> => {
        const outputPath = path.join(folder, 'quantized.onnx');
        await quantizeFile({
          ...{ opened, outputPath, dataset: calibration, dims, runtime, dtype, provider: 'cpu' },
          ...{ overwrite: true, onProgress: () => undefined, signal: new AbortController().signal },
        });
        return openModel(outputPath).model;
      },
    ]),
  ),
};

describe.skipIf(!existsSync(models))('recovery (needs the sample models)', () => {
  afterAll(async () => {
    await runtime.close();
    rmSync(folder, { recursive: true, force: true });
    console.log(
      '\nmodel | change | task: as it was, changed, recovered | KL changed, recovered | SQNR changed, recovered (dB) | KL regained | blocks, whole | updates of the last | seconds',
    );
    for (const row of rows) console.log(row);
  });

  for (const name of chosen('SNUG_RECOVER_MODELS', Object.keys(usual).join())) {
    for (const method of chosen('SNUG_RECOVER_METHODS', usual[name] ?? 'int4')) {
      it(`${name}, ${method}`, async () => {
        const text = name === 'kjv-gpt';
        const opened = openModel(path.join(models, text ? name : `${name}.onnx`));
        const dims: Record<string, number> = text ? { sequence: 128 } : {};
        const open = (file: string) => openData(path.join(models, file), opened, dims);
        const calibration = await open(text ? 'kjv-calibration.txt' : 'digits-calibration.npy');
        const parts = (await shareForRecovery(calibration))!;
        const testFile = text ? 'kjv-test.txt' : 'digits-test.npy';
        const spec = { modelPath: opened.path, provider: 'cpu' } as const;
        const test = await open(testFile);
        const reference = await Reference.collect(runtime, spec, test, dims, 32, opened.inputs);
        await test.close();
        const judge = async (modelPath: string) => {
          const { klNats, sqnrDb } = await reference.compare(runtime, { modelPath, provider: 'cpu' });
          return {
            task: text
              ? await natsPerToken(modelPath, path.join(models, testFile), 128, path.join(models, name))
              : await accuracy(modelPath, path.join(models, testFile), path.join(models, 'digits-test-labels.npy')),
            kl: klNats ?? NaN,
            sqnrDb,
          };
        };
        const changed = await changes[method]!({ opened, dims, calibration: parts.calibration });
        const file = path.join(folder, 'model.onnx');
        writeModel(changed, file, { overwrite: true });
        const [was, without] = [await judge(opened.path), await judge(file)];
        let updates = 0;
        const { model, blocks, whole, seconds, before, after } = await recoverModel({
          original: opened.model,
          changed,
          output: opened.summary.outputs[0]!.name,
          dataset: parts.calibration,
          heldOut: parts.heldOut,
          runtime,
          folder,
          memoryBytes: Number(process.env.SNUG_RECOVER_MEMORY ?? 4e9),
          updates: Number(process.env.SNUG_RECOVER_UPDATES ?? 600),
          seconds: Number(process.env.SNUG_RECOVER_SECONDS ?? 600),
          onProgress: ({ done }) => (updates = done),
        });
        await calibration.close();
        writeModel(model, file, { overwrite: true });
        const recovered = await judge(file);
        const regained = 1 - recovered.kl / without.kl;
        rows.push(
          [
            name,
            method,
            [was, without, recovered].map(({ task }) => task.toFixed(4)).join(', '),
            `${without.kl.toPrecision(3)}, ${recovered.kl.toPrecision(3)}`,
            `${without.sqnrDb.toFixed(1)}, ${recovered.sqnrDb.toFixed(1)}`,
            `${Math.round(100 * regained)} %`,
            `${blocks}, ${whole ? 'yes' : 'no'}`,
            updates,
            seconds.toFixed(0),
          ].join(' | '),
        );
        console.log(rows.at(-1), before.klNats, after.klNats);
        expect(regained).toBeGreaterThan(leastRegained[method] ?? -0.05);
      });
    }
  }
});
