import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { recoverModel, type RecoverRequest } from '../../../src/fit/recover.js';
import { recoverySettings, trainStudent, type RecoveryRun } from '../../../src/fit/recover-train.js';
import { prepareWhole } from '../../../src/fit/recover-whole.js';
import { intAttribute } from '../../../src/onnx/attribute.js';
import { DataType, type Model } from '../../../src/onnx/model.js';
import { encodeFloats, rawTensor, readFloat32 } from '../../../src/onnx/tensor.js';
import { pruneModel } from '../../../src/prune/index.js';
import { createRuntime } from '../../../src/runtime/client.js';
import { forwardGraph } from '../../../src/train/forward.js';
import { prepareTraining } from '../../../src/train/prepare.js';
import { normalNumbers } from '../../../src/train/random.js';
import { arrayDataset } from '../train/model.js';
import { testModel, type TestNode } from '../train/support.js';

const folder = mkdtempSync(path.join(tmpdir(), 'snug-recover-hard-'));
const runtime = createRuntime({ threads: 1 });
afterAll(async () => {
  await runtime.close();
  rmSync(folder, { recursive: true, force: true });
});

const width = 8;
const inputDims = { x: ['batch', width] } as const;

function matrix(rows: number, columns: number, seed: number): { dims: number[]; values: number[] } {
  const normal = normalNumbers(seed);
  return { dims: [rows, columns], values: Array.from({ length: rows * columns }, () => normal() / Math.sqrt(rows)) };
}

/** `h` → two residual blocks with 32 inner units each → `y` [batch, 3]. */
function residualModel(first: TestNode, dataType: number, bias: number): Model {
  const model = testModel({
    wanted: { x: [...inputDims.x] },
    floats: {
      in: matrix(width, width, 1),
      bias: { dims: [width], values: new Array<number>(width).fill(bias) },
      ...{ up0: matrix(width, 32, 2), down0: matrix(32, width, 3) },
      ...{ up1: matrix(width, 32, 4), down1: matrix(32, width, 5) },
      out: matrix(width, 3, 6),
    },
    nodes: [
      first,
      { op: 'MatMul', in: ['h', 'in'], out: ['m'] },
      { op: 'Add', in: ['m', 'bias'], out: ['b'] },
      { op: 'Relu', in: ['b'], out: ['h0'] },
      ...[0, 1].flatMap((block) => [
        { op: 'MatMul', in: [`h${block}`, `up${block}`], out: [`u${block}`] },
        { op: 'Relu', in: [`u${block}`], out: [`r${block}`] },
        { op: 'MatMul', in: [`r${block}`, `down${block}`], out: [`d${block}`] },
        { op: 'Add', in: [`h${block}`, `d${block}`], out: [`h${block + 1}`] },
      ]),
      { op: 'MatMul', in: ['h2', 'out'], out: ['y'] },
    ],
  });
  for (const [name, tensor] of model.graph.initializers) {
    const data = encodeFloats(readFloat32(tensor), dataType);
    model.graph.initializers.set(name, rawTensor(name, dataType, tensor.dims, data));
  }
  model.graph.outputs = [{ name: 'y', dataType, dims: ['batch', 3] }];
  return model;
}

const halfModel = (): Model =>
  residualModel(
    { op: 'Cast', in: ['x'], out: ['h'], attributes: { to: intAttribute(DataType.FLOAT16) } },
    DataType.FLOAT16,
    0.1,
  );
const plainModel = (bias: number): Model =>
  residualModel({ op: 'Identity', in: ['x'], out: ['h'] }, DataType.FLOAT, bias);

const normal = normalNumbers(9);
const samples = (count: number): ReturnType<typeof arrayDataset> =>
  arrayDataset(
    'x',
    Float32Array.from({ length: count * width }, () => normal()),
    [width],
  );

const runOf = (count: number): RecoveryRun => ({
  ...{ runtime, folder, data: samples(count), held: 10, updates: 20 },
  until: Infinity,
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
      const limits = { classes: true, memoryBytes: null };
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
