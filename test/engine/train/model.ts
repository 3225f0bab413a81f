import { readFileSync } from 'node:fs';
import path from 'node:path';
import { intAttribute } from '../../../src/onnx/attribute.js';
import { DataType, type Model } from '../../../src/onnx/model.js';
import type { Dataset } from '../../../src/runtime/dataset-types.js';
import type { RuntimeTensor } from '../../../src/runtime/types.js';
import type { TrainingRuntime } from '../../../src/runtime/training-types.js';
import { prepareTraining, trainedModel, type TrainSettings } from '../../../src/train/prepare.js';
import { normalNumbers, randomNumbers } from '../../../src/train/random.js';
import { SampleSource } from '../../../src/train/samples.js';
import { train, type Targets, type TrainOutcome, type TrainRequest } from '../../../src/train/train.js';
import { testModel } from './support.js';

export const modelsFolder = path.resolve('../shared/models');

const weight = (dims: number[], seed: number): { dims: number[]; values: number[] } => {
  const normal = normalNumbers(seed);
  const size = dims.reduce((a, b) => a * b, 1);
  return { dims, values: Array.from({ length: size }, () => normal() / Math.sqrt(dims[0]!)) };
};

/** Two layers with a ReLU between them: [batch, 6] → [batch, 3]. */
export function smallModel(): Model {
  const model = testModel({
    wanted: { x: ['batch', 6] },
    floats: {
      w1: weight([6, 16], 1),
      b1: { dims: [16], values: new Array<number>(16).fill(0.1) },
      w2: weight([3, 16], 2),
      b2: { dims: [3], values: [0, 0, 0] },
    },
    nodes: [
      { op: 'MatMul', in: ['x', 'w1'], out: ['h'] },
      { op: 'Add', in: ['h', 'b1'], out: ['m'] },
      { op: 'Relu', in: ['m'], out: ['r'] },
      { op: 'Gemm', in: ['r', 'w2', 'b2'], out: ['y'], attributes: { transB: intAttribute(1) } },
    ],
  });
  model.graph.outputs = [{ name: 'y', dataType: DataType.FLOAT, dims: ['batch', 3] }];
  return model;
}

/** Points in three clouds, and which cloud each is of. */
export function clouds(samples: number): { dataset: Dataset; labels: RuntimeTensor } {
  const random = randomNumbers(7);
  const normal = normalNumbers(8);
  const labels = Array.from({ length: samples }, () => Math.floor(random() * 3));
  const data = Float32Array.from(
    { length: samples * 6 },
    (_, i) => normal() + (i % 3 === labels[Math.floor(i / 6)] ? 1.5 : 0),
  );
  return {
    dataset: arrayDataset('x', data, [6]),
    labels: { dtype: 'int64', dims: [samples], data: BigInt64Array.from(labels, BigInt) },
  };
}

export function arrayDataset(input: string, data: Float32Array, rowDims: number[]): Dataset {
  const size = rowDims.reduce((a, b) => a * b, 1);
  return {
    name: 'test',
    samples: data.length / size,
    dims: {},
    feeds: (start, count) =>
      Promise.resolve({
        [input]: {
          dtype: 'float32',
          dims: [count, ...rowDims],
          data: data.slice(start * size, (start + count) * size),
        },
      }),
    close: () => Promise.resolve(),
  };
}

export const settings: TrainSettings = {
  loss: { kind: 'cross-entropy' },
  trainable: 'all',
  adapterRank: null,
  optimizer: { kind: 'adamw', momentum: 0.9, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01, clipNorm: 1 },
  rate: 0.01,
  schedule: 'cosine',
  warmUp: 2,
  epochs: 4,
  batch: 64,
  microBatch: 64,
  validation: 0.2,
  patience: null,
  seed: 3,
  fromScratch: false,
};

/** Float32 or int64 array of a version 1 .npy file. */
export function readNpy(name: string): RuntimeTensor {
  const bytes = readFileSync(path.join(modelsFolder, name));
  const length = bytes.readUInt16LE(8);
  const header = bytes.toString('latin1', 10, 10 + length);
  const dims = /'shape': \(([^)]*)\)/
    .exec(header)![1]!
    .split(',')
    .filter((part) => part.trim() !== '')
    .map(Number);
  const body = new Uint8Array(bytes.subarray(10 + length)).buffer;
  return header.includes('<i8')
    ? { dtype: 'int64', dims, data: new BigInt64Array(body) }
    : { dtype: 'float32', dims, data: new Float32Array(body) };
}

export const weightValues = (model: Model, name: string): Float32Array => {
  const bytes = model.graph.initializers.get(name)!.data.read();
  return new Float32Array(bytes.slice().buffer);
};

export type TrainRun = (
  model: Model,
  dataset: Dataset,
  targets: Targets,
  change?: Partial<TrainSettings>,
  more?: Partial<TrainRequest>,
) => Promise<TrainOutcome & { model: Model }>;

/** Trains models of a test in one folder, each with a checkpoint of its own. */
export function trainerIn(folder: string, runtime: TrainingRuntime): TrainRun {
  let runs = 0;
  return async (model, dataset, targets, change = {}, more = {}) => {
    const source = await SampleSource.open(dataset);
    const prepared = prepareTraining(model, source.inputDims, { ...settings, ...change });
    const outcome = await train({
      prepared,
      source,
      samples: dataset.samples,
      targets,
      runtime,
      provider: 'cpu',
      workDirectory: folder,
      checkpoint: path.join(folder, `state-${runs++}`),
      resume: false,
      ...more,
    });
    return { ...outcome, model: trainedModel(prepared, outcome.values) };
  };
}
