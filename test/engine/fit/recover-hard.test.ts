import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { recoverModel, type RecoverRequest } from '../../../src/fit/recover.js';
import { recoverySettings, trainStudent, type RecoveryRun } from '../../../src/fit/recover-train.js';
import { prepareWhole } from '../../../src/fit/recover-whole.js';
import { intAttribute } from '../../../src/onnx/attribute.js';
import { DataType, type Model } from '../../../src/onnx/model.js';
import { readFloat32 } from '../../../src/onnx/tensor.js';
import { pruneModel } from '../../../src/prune/index.js';
import { createRuntime } from '../../../src/runtime/client.js';
import { forwardGraph } from '../../../src/train/forward.js';
import { prepareTraining } from '../../../src/train/prepare.js';
import { residualModel, sampler, width } from './recover-models.js';

const folder = mkdtempSync(path.join(tmpdir(), 'snug-recover-hard-'));
const runtime = createRuntime({ threads: 1 });
afterAll(async () => {
  await runtime.close();
  rmSync(folder, { recursive: true, force: true });
});

const inputDims = { x: ['batch', width] } as const;

const halfModel = (): Model =>
  residualModel({
    first: { op: 'Cast', in: ['x'], out: ['h'], attributes: { to: intAttribute(DataType.FLOAT16) } },
    ...{ dataType: DataType.FLOAT16, bias: 0.1 },
  });
const plainModel = (bias: number): Model => residualModel({ bias });
const samples = sampler(9);

const runOf = (count: number): RecoveryRun => ({
  ...{ runtime, folder, data: samples(count), held: 10, updates: 20 },
  until: Infinity,
  unlike: new Set(),
  onProgress: () => undefined,
});

describe('recovery', () => {
  it('trains half-precision models, all weights together or in blocks', async () => {
    const original = halfModel();
    const { model: changed } = await pruneModel(original, { ratio: 0.5, method: 'magnitude' });
    const request: RecoverRequest = {
      ...{ original, changed, output: 'y', dataset: samples(100), heldOut: samples(40) },
      ...{ runtime, folder, memoryBytes: 1e9, updates: 120, seconds: 60 },
    };
    const whole = await recoverModel(request);
    expect(whole.whole).toBe(true);
    expect(whole.after.klNats!).toBeLessThan(whole.before.klNats! * 0.6);
    expect(whole.model.graph.initializers.get('up0')).toMatchObject({
      dataType: DataType.FLOAT16,
      dims: [width, 16],
    });
    const blocks = await recoverModel({ ...request, memoryBytes: 0 });
    expect(blocks.blocks).toBeGreaterThan(0);
    expect(blocks.after.klNats!).toBeLessThan(blocks.before.klNats!);
  });

  it('bounds how much what is always zero counts', async () => {
    const aims = async (bias: number): Promise<number[]> => {
      const model = forwardGraph(plainModel(bias), { inputDims });
      const limits = { classes: true, sqnrDb: 10, memoryBytes: null };
      const whole = await prepareWhole(runOf(20), model, { forward: model, result: model }, limits);
      const scales = [...whole!.prepared.model.graph.initializers].filter(([name]) => name.endsWith('/scale'));
      return scales.map(([, tensor]) => readFloat32(tensor)[0]!);
    };
    expect((await aims(0.1)).every((scale) => scale > 0 && scale < 100)).toBe(true);
    // Behind so low a bias, a network gives nothing at all.
    const zero = await aims(-1000);
    expect(zero.length).toBeGreaterThan(2);
    expect(zero.every((scale) => scale > 0 && scale < 1e6)).toBe(true);
  });

  it('takes a training that diverges for one that made nothing better', async () => {
    const model = plainModel(0.1);
    const forward = forwardGraph(model, { inputDims });
    const settings = recoverySettings({
      ...{ loss: { kind: 'distill' }, trainable: ['up0', 'down0', 'out'], rate: 1e30, batch: 8, updates: 20 },
    });
    const prepared = prepareTraining(forward, inputDims, settings);
    const run = runOf(60);
    const rows = { dtype: 'float32' as const, dims: [60, 3], data: new Float32Array(180) };
    expect(
      await trainStudent(run, { forward, result: model }, prepared, run.data, { kind: 'rows', rows }, { seconds: 60 }),
    ).toBeNull();
  });
});
