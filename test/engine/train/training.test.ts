import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import * as ort from 'onnxruntime-node';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { makeNode } from '../../../src/onnx/graph.js';
import type { Model } from '../../../src/onnx/model.js';
import { readModel } from '../../../src/onnx/read.js';
import { float32Tensor } from '../../../src/onnx/tensor.js';
import { serializeModel, writeModel } from '../../../src/onnx/write.js';
import { createRuntime } from '../../../src/runtime/client.js';
import type { TrainingRuntime } from '../../../src/runtime/training-types.js';
import { cutValues } from '../../../src/train/blocks.js';
import { withFeatures } from '../../../src/train/features.js';
import { forwardGraph } from '../../../src/train/forward.js';
import { SampleSource } from '../../../src/train/samples.js';
import { bestFile } from '../../../src/train/checkpoint.js';
import type { Targets } from '../../../src/train/train.js';
import { arrayDataset, clouds, modelsFolder, readNpy, settings, smallModel, trainerIn, weightValues } from './model.js';

const folder = mkdtempSync(path.join(tmpdir(), 'snug-train-'));
const runtime = createRuntime({ threads: 1 });

afterAll(async () => {
  await runtime.close();
  rmSync(folder, { recursive: true, force: true });
});
afterEach(() => rmSync(path.join(folder, 'state'), { force: true }));

const run = trainerIn(folder, runtime);

const { dataset, labels } = clouds(400);
const rows: Targets = { kind: 'rows', rows: labels };

const largestDifference = (a: Float32Array, b: Float32Array): number =>
  a.reduce((most, x, i) => Math.max(most, Math.abs(x - b[i]!)), 0);

describe('training', () => {
  it('takes the held-out loss down and leaves the model it was given alone', async () => {
    const model = smallModel();
    const first = weightValues(model, 'w1');
    const { before, after, steps, ended } = await run(model, dataset, rows, { epochs: 12 });
    expect(ended).toBe('finished');
    expect(steps).toHaveLength(12 * 5);
    expect(after.loss).toBeLessThan(before.loss * 0.6);
    expect(after.accuracy).toBeGreaterThan(0.7);
    expect(weightValues(model, 'w1')).toEqual(first);
  });

  it('is judged as often as asked for, and its last weights too when time is over', async () => {
    const often = await run(smallModel(), dataset, rows, { epochs: 2 }, { judgeEvery: 3 });
    expect(often.evaluations.map(({ step }) => step)).toEqual([0, 3, 6, 9, 10]);
    const over = await run(smallModel(), dataset, rows, { epochs: 50 }, { seconds: 0 });
    expect(over.steps).toHaveLength(1);
    expect(over.evaluations.map(({ step }) => step)).toEqual([0, 1]);
    const enough = await run(smallModel(), dataset, rows, { epochs: 2 }, { seconds: 1e6 });
    const free = await run(smallModel(), dataset, rows, { epochs: 2 });
    expect(enough.after).toEqual(free.after);
  });

  it('draws several values inside a network to those of another one', async () => {
    const { inputDims } = await SampleSource.open(dataset);
    const forward = forwardGraph(smallModel(), { inputDims });
    const values = cutValues(forward);
    expect(values.length).toBeGreaterThan(1);
    const featured = withFeatures(
      forward,
      values.map((value) => ({ value, scale: 1 })),
    );
    const modelPath = path.join(folder, 'featured.onnx');
    writeModel(featured, modelPath, { overwrite: true });
    const teacher: Targets = { kind: 'teacher', modelPath, output: featured.graph.outputs[0]!.name };
    const moved = await run(featured, dataset, teacher, { loss: { kind: 'mse' }, fromScratch: true, epochs: 6 });
    expect(moved.after.loss).toBeLessThan(moved.before.loss * 0.7);
    const still = await run(featured, dataset, teacher, { loss: { kind: 'mse' }, epochs: 1 });
    expect(still.before.loss).toBe(0);
  });

  it('gives the same weights with micro-batches of 8 as with a batch of 64', async () => {
    for (const kind of ['adamw', 'sgd'] as const) {
      const optimizer = { ...settings.optimizer, kind };
      const whole = await run(smallModel(), dataset, rows, { optimizer });
      const parts = await run(smallModel(), dataset, rows, { optimizer, microBatch: 8 });
      expect(parts.steps.at(-1)!.loss).toBeCloseTo(whole.steps.at(-1)!.loss, 5);
      for (const name of ['w1', 'b1', 'w2', 'b2']) {
        const [a, b] = [weightValues(whole.model, name), weightValues(parts.model, name)];
        expect(largestDifference(a, b)).toBeLessThan(1e-4);
      }
    }
  });

  it('goes on after a kill and ends with the same bits', async () => {
    const whole = await run(smallModel(), dataset, rows, { epochs: 6 });
    for (const at of [3, 13, 24]) {
      const checkpoint = path.join(folder, `killed-${at}`);
      const abort = new AbortController();
      const killed = createRuntime({ threads: 1, signal: abort.signal });
      const stopped = await run(
        smallModel(),
        dataset,
        rows,
        { epochs: 6 },
        {
          checkpoint,
          checkpointEveryMs: 0,
          runtime: killed,
          signal: abort.signal,
          onProgress: ({ step }) => step === at && abort.abort(),
        },
      );
      expect(stopped.ended).toBe('stopped');
      const resumed = await run(smallModel(), dataset, rows, { epochs: 6 }, { checkpoint, resume: true });
      expect(resumed.steps.map(({ loss }) => loss)).toEqual(whole.steps.map(({ loss }) => loss));
      expect(resumed.after).toEqual(whole.after);
      for (const name of ['w1', 'b1', 'w2', 'b2']) {
        expect(weightValues(resumed.model, name)).toEqual(weightValues(whole.model, name));
      }
    }
  });

  it('tells of the weights in the file when it is stopped while it saves better ones', async () => {
    const checkpoint = path.join(folder, 'saving');
    const abort = new AbortController();
    let saved = 0;
    const openTraining: TrainingRuntime['openTraining'] = async (spec) => {
      const session = await runtime.openTraining(spec);
      return {
        step: (...args) => session.step(...args),
        evaluate: (feeds) => session.evaluate(feeds),
        close: () => session.close(),
        async save(file, meta, withMoments) {
          // The first is of the weights it begins with.
          if (file === bestFile(checkpoint) && ++saved === 2) abort.abort();
          abort.signal.throwIfAborted();
          await session.save(file, meta, withMoments);
        },
      };
    };
    const stopped = await run(
      smallModel(),
      dataset,
      rows,
      { epochs: 6 },
      { checkpoint, runtime: { openTraining }, signal: abort.signal },
    );
    expect(stopped).toMatchObject({ ended: 'stopped', bestStep: 0, after: stopped.before });
    expect(weightValues(stopped.model, 'w1')).toEqual(weightValues(smallModel(), 'w1'));
  });

  it('refuses a checkpoint of other settings', async () => {
    const checkpoint = path.join(folder, 'other');
    await run(smallModel(), dataset, rows, { epochs: 1 }, { checkpoint });
    await expect(
      run(smallModel(), dataset, rows, { epochs: 1, rate: 0.5 }, { checkpoint, resume: true }),
    ).rejects.toMatchObject({ code: 'E_USAGE' });
  });

  it('changes nothing but what was chosen', async () => {
    const start = smallModel();
    const { model, after, before } = await run(start, dataset, rows, { trainable: 'biases-and-norms', rate: 0.05 });
    expect(after.loss).toBeLessThan(before.loss);
    for (const name of ['w1', 'w2']) expect(weightValues(model, name)).toEqual(weightValues(start, name));
    expect(weightValues(model, 'b1')).not.toEqual(weightValues(start, 'b1'));
    const some = await run(start, dataset, rows, { trainable: ['w?'] });
    expect(weightValues(some.model, 'b1')).toEqual(weightValues(start, 'b1'));
    expect(weightValues(some.model, 'w2')).not.toEqual(weightValues(start, 'w2'));
  });

  it('keeps exact zeros of a sparse weight', async () => {
    const start = smallModel();
    const sparse = weightValues(start, 'w1').map((value, i) => (i % 2 === 0 ? 0 : value));
    start.graph.initializers.set('w1', float32Tensor('w1', [6, 16], sparse));
    const { model, before, after } = await run(start, dataset, rows);
    expect(after.loss).toBeLessThan(before.loss);
    const trained = weightValues(model, 'w1');
    expect(trained.every((value, i) => (value === 0) === (i % 2 === 0))).toBe(true);
  });

  it('merges low-rank adapters into the weights it trained them for', async () => {
    const start = smallModel();
    const { model, before, after } = await run(start, dataset, rows, { adapterRank: 2, rate: 0.03 });
    expect(after.loss).toBeLessThan(before.loss * 0.9);
    expect(weightValues(model, 'b1')).toEqual(weightValues(start, 'b1'));
    // The file computes what training measured: no adapter is left in it.
    expect(model.graph.nodes).toHaveLength(start.graph.nodes.length);
    const source = await SampleSource.open(dataset);
    const again = await run(model, dataset, rows, { adapterRank: 2, steps: 1, rate: 1e-12 });
    expect(again.before.loss).toBeCloseTo(after.loss, 4);
    expect(source.inputDims.x).toEqual(['batch', 6]);
  });

  it('learns from another model, and from targets', async () => {
    const teacherPath = path.join(folder, 'teacher.onnx');
    const { model: teacher } = await run(smallModel(), dataset, rows, { epochs: 10 });
    writeModel(teacher, teacherPath);
    const targets: Targets = { kind: 'teacher', modelPath: teacherPath, output: 'y' };
    const distilled = await run(smallModel(), dataset, targets, {
      loss: { kind: 'distill', temperature: 2 },
      epochs: 10,
    });
    expect(distilled.after.loss).toBeLessThan(distilled.before.loss * 0.2);
    expect(distilled.after.accuracy).toBeGreaterThan(0.9);
    const same = await run(teacher, dataset, targets, { loss: { kind: 'distill' }, steps: 1 });
    expect(same.before.loss).toBeLessThan(1e-6);

    const wanted = Float32Array.from({ length: 1200 }, (_, i) => (i % 3) - 1);
    const square = await run(
      smallModel(),
      dataset,
      { kind: 'rows', rows: { dtype: 'float32', dims: [400, 3], data: wanted } },
      { loss: { kind: 'mse' }, epochs: 10 },
    );
    expect(square.after.loss).toBeLessThan(square.before.loss * 0.3);
  });

  it('stops when the held-out loss no longer falls, with the best weights', async () => {
    const { ended, bestStep, steps, before, after } = await run(smallModel(), dataset, rows, {
      epochs: 60,
      rate: 0.3,
      schedule: 'constant',
      patience: 2,
    });
    expect(ended).toBe('no longer better');
    expect(steps.length).toBeLessThan(300);
    expect(bestStep).toBeLessThan(steps.length);
    expect(after.loss).toBeLessThanOrEqual(before.loss);
  });

  it('says so when the numbers explode', async () => {
    const optimizer = { ...settings.optimizer, kind: 'sgd' as const, clipNorm: null };
    await expect(
      run(smallModel(), dataset, rows, { optimizer, rate: 1e30, schedule: 'constant', warmUp: 0 }),
    ).rejects.toMatchObject({ code: 'E_RUN_FAILED' });
  });

  it('names the operator and the node that stop a gradient, and trains what is behind them', async () => {
    const model = smallModel();
    model.graph.nodes.find((node) => node.opType === 'Relu')!.outputs = ['relu'];
    model.graph.nodes.push(makeNode('Hardmax', ['relu'], ['r'], {}, { name: 'squash' }));
    await expect(run(model, dataset, rows)).rejects.toMatchObject({
      code: 'E_NOT_SUPPORTED',
      params: { operator: 'Hardmax', node: 'squash' },
    });
    const { before, after } = await run(model, dataset, rows, { trainable: ['w2', 'b2'] });
    expect(after.loss).toBeLessThan(before.loss);
  });
});

async function accuracy(model: Model): Promise<number> {
  const session = await ort.InferenceSession.create(serializeModel(model), { intraOpNumThreads: 1 });
  const [test, right] = [readNpy('digits-test.npy'), readNpy('digits-test-labels.npy').data as BigInt64Array];
  const outputs = await session.run({ input: new ort.Tensor('float32', test.data as Float32Array, test.dims) });
  await session.release();
  const logits = outputs[session.outputNames[0]!]!.data as Float32Array;
  const hits = right.filter((label, row) => {
    const scores = logits.subarray(row * 10, row * 10 + 10);
    return scores.indexOf(Math.max(...scores)) === Number(label);
  });
  return hits.length / right.length;
}

describe.skipIf(!existsSync(modelsFolder))('training real models (needs the shared models)', () => {
  it('takes the digits perceptron from random weights to 96 % of the test set', async () => {
    const images = readNpy('digits-train.npy');
    const data = arrayDataset('input', images.data as Float32Array, images.dims.slice(1));
    const { model } = await run(
      readModel(path.join(modelsFolder, 'digits-mlp.onnx')),
      data,
      { kind: 'rows', rows: readNpy('digits-train-labels.npy') },
      { fromScratch: true, epochs: 20, batch: 32, microBatch: 32, rate: 1e-3, validation: 0.1 },
    );
    expect(await accuracy(model)).toBeGreaterThanOrEqual(0.96);
  });
});
