/**
 * `npm run bench:train`: gradients of whole models and the time of a training step against PyTorch on the same
 * threads. Needs Python with torch, onnx and numpy (SNUG_PYTHON names the program); skipped without.
 * SNUG_TRAIN_MODELS (comma-separated) picks fewer models.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import * as ort from 'onnxruntime-node';
import { unzipSync, zipSync } from 'fflate';
import { afterAll, describe, expect, it } from 'vitest';
import { openData, openModel } from '../../src/app/open.js';
import { writeModel } from '../../src/onnx/write.js';
import { castArray } from '../../src/runtime/arrays.js';
import { createRuntime } from '../../src/runtime/client.js';
import { NpyArray, openSource } from '../../src/runtime/npy.js';
import { writeTrainingState } from '../../src/runtime/training-state.js';
import type { Feeds, RuntimeTensor } from '../../src/runtime/types.js';
import { initialValues, prepareTraining } from '../../src/train/prepare.js';
import { isLarge } from '../../src/train/train.js';
import { SampleSource, takeRows } from '../../src/train/samples.js';
import { npy } from './npy.js';

const models = path.resolve('../shared/models');
const reference = path.join(path.dirname(fileURLToPath(import.meta.url)), 'train-reference.py');
const python = process.env.SNUG_PYTHON ?? 'python3';
const threads = Number(process.env.SNUG_THREADS ?? 2);
const folder = mkdtempSync(path.join(tmpdir(), 'snug-bench-'));
const rows: string[] = [];

function hasTorch(): boolean {
  try {
    execFileSync(python, ['-c', 'import torch, onnx'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

function floats(bytes: Uint8Array): Float32Array | Float64Array {
  const at = 10 + Buffer.from(bytes).readUInt16LE(8);
  const body = bytes.slice(at);
  const text = Buffer.from(bytes.subarray(0, at)).toString('latin1');
  return text.includes('<f8') ? new Float64Array(body.buffer) : new Float32Array(body.buffer);
}

const cases = [
  { name: 'digits-mlp', file: 'digits-mlp.onnx', batch: 64, steps: 100, most: 2 },
  { name: 'digits-resnet', file: 'digits-resnet.onnx', batch: 64, steps: 4, most: 3 },
  { name: 'digits-vit', file: 'digits-vit.onnx', batch: 64, steps: 4, most: 2 },
  { name: 'kjv-gpt', file: 'kjv-gpt', batch: 8, steps: 3, most: 2 },
].filter(({ name }) => process.env.SNUG_TRAIN_MODELS?.split(',').includes(name) ?? true);

async function labelsOf(feeds: Feeds, batch: number): Promise<RuntimeTensor> {
  const ids = feeds.input_ids;
  if (ids) {
    const data = ids.data as BigInt64Array;
    return { dtype: 'int64', dims: ids.dims, data: data.map((_, i) => data[(i + 1) % data.length] ?? 0n) };
  }
  const file = path.join(models, 'digits-train-labels.npy');
  const array = await NpyArray.open(await openSource(file), 'labels');
  const all = castArray(await array.read(0, array.rows), array.dtype, 'int64');
  await array.close();
  return takeRows(
    { dtype: 'int64', dims: [array.rows], data: all },
    Array.from({ length: batch }, (_, i) => i),
  );
}

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1] ?? NaN;

describe.skipIf(!existsSync(models) || !hasTorch())('training against PyTorch (needs Python with torch)', () => {
  afterAll(() => {
    rmSync(folder, { recursive: true, force: true });
    console.log(`\n${threads} threads\nmodel | worst gradient error | ms per step: Snug, PyTorch | ratio`);
    for (const row of rows) console.log(row);
  });

  for (const { name, file, batch, steps, most } of cases) {
    it(name, async () => {
      const opened = openModel(path.join(models, file));
      const data = path.join(models, file === 'kjv-gpt' ? 'kjv-calibration.txt' : 'digits-train.npy');
      const dataset = await openData(data, opened, file === 'kjv-gpt' ? { sequence: 128 } : {});
      const source = await SampleSource.open(dataset);
      const prepared = prepareTraining(opened.model, source.inputDims, {
        loss: { kind: 'cross-entropy' },
        trainable: 'all',
        adapterRank: null,
        optimizer: {
          kind: 'adamw',
          momentum: 0,
          beta1: 0.9,
          beta2: 0.999,
          epsilon: 1e-8,
          weightDecay: 0.01,
          clipNorm: null,
        },
        rate: 1e-4,
        schedule: 'constant',
        warmUp: 0,
        epochs: 1,
        batch,
        microBatch: batch,
        validation: 0,
        patience: null,
        seed: 0,
        fromScratch: false,
      });
      const { graphs } = prepared;
      const feeds = await source.take(Array.from({ length: batch }, (_, i) => i));
      const labels = await labelsOf(feeds, batch);
      await dataset.close();
      const values = initialValues(prepared);

      const archive: Record<string, Uint8Array> = { 'labels.npy': npy('<i8', labels.dims, labels.data) };
      for (const [input, tensor] of Object.entries(feeds)) {
        archive[`${input}.npy`] = npy(tensor.dtype === 'int64' ? '<i8' : '<f4', tensor.dims, tensor.data);
      }
      const [given, answer] = [path.join(folder, `${name}-feeds.npz`), path.join(folder, `${name}.npz`)];
      writeFileSync(given, zipSync(archive));
      writeFileSync(`${answer}.names`, values.map((value) => value.name).join('\n'));

      const gradientPath = path.join(folder, 'gradient.onnx');
      writeModel(graphs.gradient, gradientPath, { overwrite: true });
      const own = Object.fromEntries(Object.entries(feeds).filter(([input]) => graphs.dataInputs.includes(input)));
      const tensor = ({ dtype, dims, data }: RuntimeTensor): ort.Tensor =>
        new ort.Tensor(dtype as 'float32', data as Float32Array, dims);
      const session = await ort.InferenceSession.create(gradientPath, { logSeverityLevel: 3 });
      const outputs = await session.run({
        ...Object.fromEntries(Object.entries(own).map(([input, value]) => [input, tensor(value)])),
        ...Object.fromEntries(values.map((value) => [value.name, new ort.Tensor('float32', value.data, value.dims)])),
        [graphs.target.name]: tensor(labels),
        [graphs.weight]: new ort.Tensor('float32', Float32Array.of(1 / labels.data.length), []),
      });
      await session.release();

      const statePath = path.join(folder, 'start.state');
      const evaluationPath = path.join(folder, 'evaluation.onnx');
      writeTrainingState(statePath, { updates: 0, meta: '', tensors: values });
      writeModel(graphs.evaluation, evaluationPath, { overwrite: true });
      const runtime = createRuntime();
      const training = await runtime.openTraining({
        session: { provider: 'cpu', threads },
        gradientPath,
        evaluationPath,
        spareMemory: isLarge(graphs),
        statePath,
        gradientOutputs: Object.fromEntries(graphs.gradientOutputs),
        loss: graphs.loss,
        correct: graphs.correct,
        target: graphs.target.name,
        weight: graphs.weight,
        optimizer: prepared.settings.optimizer,
        keepZeros: [],
      });
      const times: number[] = [];
      const theirs: number[] = [];
      let result: Record<string, Uint8Array> = {};
      // In turns, so that other work on the machine weighs on both.
      for (let round = 0; round < 2; round++) {
        for (let step = 0; step < steps; step++) {
          const start = performance.now();
          await training.step({ ...own, [graphs.target.name]: labels }, 1 / labels.data.length, 1e-4);
          times.push(performance.now() - start);
        }
        const model = opened.path;
        execFileSync(python, [reference, model, given, answer, String(steps), String(threads)], { stdio: 'inherit' });
        result = unzipSync(await import('node:fs').then((fs) => fs.readFileSync(answer)));
        theirs.push(...Array.from(floats(result['seconds.npy'] as Uint8Array), (s) => s * 1000));
      }
      await runtime.close();

      let worst = 0;
      for (const [parameter, output] of graphs.gradientOutputs) {
        const ours = outputs[output]?.data as Float32Array;
        const right = floats(result[`grad:${parameter}.npy`] as Uint8Array);
        let [error, size] = [0, 0];
        for (let i = 0; i < right.length; i++) {
          error += ((ours[i] ?? 0) - (right[i] ?? 0)) ** 2;
          size += (right[i] ?? 0) ** 2;
        }
        worst = Math.max(worst, Math.sqrt(error / size));
      }
      const [mine, torch] = [median(times), median(theirs)];
      rows.push(
        [name, worst.toExponential(1), `${mine.toFixed(1)}, ${torch.toFixed(1)}`, (mine / torch).toFixed(2)].join(
          ' | ',
        ),
      );
      expect(worst).toBeLessThan(1e-3);
      expect(mine / torch).toBeLessThan(most);
    });
  }
});
