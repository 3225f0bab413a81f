/**
 * `npm run bench:recover`: models at half their inner width, pruned by magnitude and with repair, before and after
 * training on unlabelled samples (100 images, 20 kB of text), judged on test data that nothing has seen.
 * SNUG_RECOVER_MODELS and SNUG_RECOVER_METHODS (comma-separated) pick fewer, SNUG_RECOVER_UPDATES and
 * SNUG_RECOVER_SECONDS train for less long, SNUG_RECOVER_THREADS with fewer threads.
 */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openData, openModel } from '../../src/app/open.js';
import { recoverModel } from '../../src/fit/recover.js';
import { shareForRecovery } from '../../src/fit/recover-candidate.js';
import { Reference } from '../../src/fit/reference.js';
import { writeModel } from '../../src/onnx/write.js';
import { pruneModel } from '../../src/prune/index.js';
import { createRuntime } from '../../src/runtime/client.js';
import { accuracy, natsPerToken } from './evaluate.js';

const models = path.resolve('../shared/models');
const folder = mkdtempSync(path.join(tmpdir(), 'snug-bench-recover-'));
const threads = process.env.SNUG_RECOVER_THREADS;
const runtime = createRuntime(threads === undefined ? {} : { threads: Number(threads) });
const chosen = (name: string, all: string): string[] => (process.env[name] ?? all).split(',');
const rows: string[] = [];

describe.skipIf(!existsSync(models))('recovery (needs the sample models)', () => {
  afterAll(async () => {
    await runtime.close();
    rmSync(folder, { recursive: true, force: true });
    console.log(
      '\nmodel | method | task: dense, pruned, recovered | KL pruned, recovered | regained | blocks, whole | updates of the last | seconds',
    );
    for (const row of rows) console.log(row);
  });

  for (const name of chosen('SNUG_RECOVER_MODELS', 'digits-vit,kjv-gpt')) {
    for (const method of chosen('SNUG_RECOVER_METHODS', 'magnitude,repair') as ('magnitude' | 'repair')[]) {
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
        const judge = async (modelPath: string) => ({
          task: text
            ? await natsPerToken(modelPath, path.join(models, testFile), 128, path.join(models, name))
            : await accuracy(modelPath, path.join(models, testFile), path.join(models, 'digits-test-labels.npy')),
          kl: (await reference.compare(runtime, { modelPath, provider: 'cpu' })).klNats ?? NaN,
        });
        const samples = { runtime, dataset: parts.calibration, workDirectory: folder, dims };
        const { model: changed } = await pruneModel(opened.model, { ratio: 0.5, method, samples });
        const file = path.join(folder, 'model.onnx');
        writeModel(changed, file, { overwrite: true });
        const [dense, pruned] = [await judge(opened.path), await judge(file)];
        let updates = 0;
        const { model, blocks, whole, seconds } = await recoverModel({
          original: opened.model,
          changed,
          output: opened.summary.outputs[0]!.name,
          dataset: parts.calibration,
          heldOut: parts.heldOut,
          runtime,
          folder,
          memoryBytes: 4e9,
          updates: Number(process.env.SNUG_RECOVER_UPDATES ?? 600),
          seconds: Number(process.env.SNUG_RECOVER_SECONDS ?? 600),
          onProgress: ({ done }) => (updates = done),
        });
        await calibration.close();
        writeModel(model, file, { overwrite: true });
        const recovered = await judge(file);
        const regained = 1 - recovered.kl / pruned.kl;
        rows.push(
          [
            name,
            method,
            [dense, pruned, recovered].map(({ task }) => task.toFixed(4)).join(', '),
            `${pruned.kl.toPrecision(3)}, ${recovered.kl.toPrecision(3)}`,
            `${Math.round(100 * regained)} %`,
            `${blocks}, ${whole ? 'yes' : 'no'}`,
            updates,
            seconds.toFixed(0),
          ].join(' | '),
        );
        console.log(rows.at(-1));
        expect(regained).toBeGreaterThan(0.5);
      });
    }
  }
});
