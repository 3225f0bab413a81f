import path from 'node:path';
import { streamDataset } from '../../src/app/batch.js';
import { openData, openModel, type OpenedModel } from '../../src/app/open.js';
import { pruneFile, quantizeFile } from '../../src/app/shrink.js';
import { trainFile } from '../../src/app/train.js';
import { trainingMemory } from '../../src/fit/training-memory.js';
import { estimateMemory } from '../../src/memory/estimate.js';
import { writeModel } from '../../src/onnx/write.js';
import { NpyArray, openSource } from '../../src/runtime/npy.js';
import { NpyWriter } from '../../src/runtime/npy-writer.js';
import type { TrainingRuntime } from '../../src/runtime/training-types.js';
import type { Feeds, Runtime } from '../../src/runtime/types.js';
import { initialValues, prepareTraining, type TrainSettings } from '../../src/train/prepare.js';
import { trainingLevers } from '../../src/train/train.js';
import { articleData, articleModel, classes, inputs } from './model.js';

/** One step of the example: memory in bytes, as estimated and as measured on the cpu. */
export interface ArticleRow {
  step: string;
  predictedBytes: number;
  measuredBytes: number;
  /** Share of right answers on data not trained on; null where nothing answers. */
  accuracy: number | null;
}

/** Samples of one update, and of one run when they come in micro-batches. */
const [batch, microBatch] = [1024, 16];
/** Batch at which the models are run. */
const runBatch = 32;

const settings: TrainSettings = {
  loss: { kind: 'cross-entropy' },
  trainable: 'all',
  adapterRank: null,
  optimizer: { kind: 'adamw', momentum: 0, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01, clipNorm: 1 },
  rate: 3e-3,
  schedule: 'cosine',
  warmUp: 4,
  epochs: 10,
  batch,
  microBatch,
  validation: 0.1,
  patience: null,
  seed: 1,
  fromScratch: false,
};

/**
 * The three ways to save memory, on a perceptron of 1000 inputs, 100 hidden units and 10 classes: trained in
 * micro-batches, pruned by half, stored in 8 bits. Everything is made here, the same each time.
 * @param folder that gets the files
 */
export async function runArticle(folder: string, runtime: Runtime & TrainingRuntime): Promise<ArticleRow[]> {
  const file = (name: string): string => path.join(folder, name);
  const { signal } = new AbortController();
  const quiet = (): void => undefined;
  await writeData(file('train'), 4096, 11);
  await writeData(file('test'), 1000, 12);
  writeModel(articleModel(), file('model.onnx'));
  const rows: ArticleRow[] = [];
  const add = async (step: string, opened: OpenedModel): Promise<void> => {
    rows.push({ step, ...(await memoryOf(runtime, opened)), accuracy: await accuracyOf(runtime, opened, folder) });
  };

  const model = openModel(file('model.onnx'));
  const shared = { runtime, dims: {}, overwrite: false, signal };
  const dataset = await openData(file('train.npy'), model, {});
  try {
    await add('random weights', model);
    for (const size of [batch, microBatch]) {
      rows.push({
        step: `training, ${size} of ${batch} samples at once`,
        ...(await trainingOf(runtime, model, size, folder)),
      });
    }
    await trainFile({
      ...shared,
      opened: model,
      outputPath: file('trained.onnx'),
      dataset,
      dataPath: file('train.npy'),
      labels: file('train-labels.npy'),
      teacher: null,
      settings,
      microBatch,
      budgetBytes: null,
      provider: 'cpu',
      resume: false,
      onProgress: quiet,
    });
    const trained = openModel(file('trained.onnx'));
    await add('trained', trained);
    const shrink = { ...shared, dataset, onProgress: quiet };
    await pruneFile({ ...shrink, opened: trained, outputPath: file('pruned.onnx'), ratio: 0.5, method: 'repair' });
    const pruned = openModel(file('pruned.onnx'));
    await add('pruned by half', pruned);
    await quantizeFile({
      ...shrink,
      opened: pruned,
      outputPath: file('small.onnx'),
      dtype: 'int8',
      provider: 'cpu',
    });
    await add('8-bit weights', openModel(file('small.onnx')));
  } finally {
    await dataset.close();
  }
  return rows;
}

async function writeData(name: string, samples: number, seed: number): Promise<void> {
  const { data, labels } = articleData(samples, seed);
  for (const [end, dtype, rowDims, values] of [
    ['', 'float32', [inputs], data],
    ['-labels', 'int64', [], labels],
  ] as const) {
    const writer = await NpyWriter.create(`${name}${end}.npy`, dtype, rowDims);
    await writer.append(values, samples);
    await writer.finish();
  }
}

type Memory = Pick<ArticleRow, 'predictedBytes' | 'measuredBytes'>;

async function memoryOf(runtime: Runtime, { path: modelPath, model }: OpenedModel): Promise<Memory> {
  const levers = { memoryPattern: false };
  const { peakBytes } = estimateMemory(model, { provider: 'cpu', batch: runBatch, dims: {}, levers });
  const feeds: Feeds = { x: { dtype: 'float32', dims: [runBatch, inputs], data: new Float32Array(runBatch * inputs) } };
  const measured = await runtime.measure({ modelPath, provider: 'cpu', levers }, feeds, {
    warmRuns: 1,
    batch: runBatch,
  });
  return { predictedBytes: peakBytes, measuredBytes: measured.peakBytes };
}

/** What forward and backward through so many samples take, and the state beside them. */
async function trainingOf(
  runtime: Runtime,
  opened: OpenedModel,
  size: number,
  folder: string,
): Promise<Omit<ArticleRow, 'step'>> {
  const prepared = prepareTraining(opened.model, { x: ['batch', inputs] }, { ...settings, microBatch: size });
  const { graphs } = prepared;
  const memory = trainingMemory(prepared, 'cpu');
  const modelPath = path.join(folder, `gradient-${size}.onnx`);
  writeModel(graphs.gradient, modelPath);
  const feeds: Feeds = {
    x: { dtype: 'float32', dims: [size, inputs], data: new Float32Array(size * inputs) },
    [graphs.target.name]: { dtype: 'int64', dims: [size], data: new BigInt64Array(size) },
    [graphs.weight]: { dtype: 'float32', dims: [], data: Float32Array.of(1 / size) },
  };
  for (const { name, dims, data } of initialValues(prepared)) feeds[name] = { dtype: 'float32', dims, data };
  const spec = { modelPath, provider: 'cpu', levers: trainingLevers } as const;
  const { peakBytes } = await runtime.measure(spec, feeds, { warmRuns: 1, batch: size });
  return {
    predictedBytes: memory.peakBytes,
    measuredBytes: peakBytes + memory.stateBytes,
    accuracy: null,
  };
}

async function accuracyOf(runtime: Runtime, opened: OpenedModel, folder: string): Promise<number> {
  const dataset = await openData(path.join(folder, 'test.npy'), opened, {});
  const output = path.join(folder, 'answers.npy');
  try {
    await streamDataset(runtime, opened, dataset, {
      provider: 'cpu',
      data: path.join(folder, 'test.npy'),
      dims: {},
      batch: 250,
      output,
      overwrite: true,
      outputs: 'first',
      restart: true,
    });
  } finally {
    await dataset.close();
  }
  const [answers, labels] = await Promise.all([output, path.join(folder, 'test-labels.npy')].map(readWhole));
  const logits = answers as Float32Array;
  const right = (labels as BigInt64Array).filter((label, sample) => {
    const row = logits.subarray(sample * classes, (sample + 1) * classes);
    return row.indexOf(Math.max(...row)) === Number(label);
  });
  return right.length / labels!.length;
}

async function readWhole(file: string): Promise<Float32Array | BigInt64Array> {
  const array = await NpyArray.open(await openSource(file), path.basename(file));
  const values = (await array.read(0, array.rows)) as Float32Array | BigInt64Array;
  await array.close();
  return values;
}
