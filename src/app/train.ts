import { existsSync, rmSync } from 'node:fs';
import path from 'node:path';
import { SnugError } from '../contract/errors.js';
import type { Provider } from '../contract/types.js';
import { trainingMemory, type TrainingMemory } from '../fit/training-memory.js';
import { checkOutput, checkpointFile, originalFiles, Workspace } from '../fit/workspace.js';
import { DataType, type Model } from '../onnx/model.js';
import { writeModelInSteps } from '../onnx/write.js';
import { castArray, isFloatType } from '../runtime/arrays.js';
import type { Dataset } from '../runtime/dataset-types.js';
import { NpyArray, openSource } from '../runtime/npy.js';
import type { TrainingRuntime } from '../runtime/training-types.js';
import type { RuntimeArray, RuntimeDtype, RuntimeTensor } from '../runtime/types.js';
import { prepareTraining, trainedModel, type PreparedTraining, type TrainSettings } from '../train/prepare.js';
import { SampleSource } from '../train/samples.js';
import type { InputDims } from '../train/forward.js';
import { bestFile } from '../train/checkpoint.js';
import { train, type TrainOutcome, type TrainProgress, type Targets } from '../train/train.js';
import { openModel, type OpenedModel } from './open.js';

export interface TrainFileRequest {
  opened: OpenedModel;
  outputPath: string;
  dataset: Dataset;
  /** Where the samples lie: never written over. */
  dataPath: string;
  /** `.npy` with one label (or target) for each sample; none for `distill` and for text. */
  labels: string | null;
  /** Model to learn from (`distill`); the model itself when left out. */
  teacher: string | null;
  settings: Omit<TrainSettings, 'microBatch'>;
  /** Samples in one run; null = the most that fits the budget. */
  microBatch: number | null;
  budgetBytes: number | null;
  dims: Record<string, number>;
  provider: Provider;
  threads?: number;
  runtime: TrainingRuntime;
  overwrite: boolean;
  resume: boolean;
  onStart?: (plan: { memory: TrainingMemory; microBatch: number; parameters: number; weights: string[] }) => void;
  onProgress: (progress: TrainProgress) => void;
  signal: AbortSignal;
}

export interface TrainFileResult extends Omit<TrainOutcome, 'values'> {
  microBatch: number;
  memory: TrainingMemory;
  /** Weights that were trained, and how many numbers they hold. */
  weights: string[];
  parameters: number;
  seconds: number;
  output: { path: string; fileBytes: number };
}

/**
 * `snug train`: trains a copy of a model and writes the best weights found. The state lies beside the output while
 * it runs, so that a killed training goes on with `resume`; it is removed at the end.
 * @throws SnugError of reading, training and writing; E_EXISTS when it would take the place of an interrupted training;
 *   E_NOTHING_FITS when one sample is above the budget
 */
export async function trainFile(request: TrainFileRequest): Promise<TrainFileResult> {
  const { outputPath, dataset, signal } = request;
  const started = performance.now();
  const checkpoint = path.resolve(checkpointFile(outputPath));
  const resume = request.resume && existsSync(checkpoint);
  if (existsSync(checkpoint) && !resume && !request.overwrite) throw interrupted(checkpoint);
  // What it goes on with wrote that file when it was stopped.
  const overwrite = request.overwrite || resume;
  checkOutput(outputPath, inputFiles(request), overwrite);
  const source = await SampleSource.open(dataset);
  const targets = await openTargets(request);
  const { prepared, memory, fits } = chooseMicroBatch(request, source.inputDims, teacherOf(targets));
  if (!fits) throw nothingFits(memory.peakBytes, request.budgetBytes ?? 0);
  const { microBatch } = prepared.settings;
  const weights = prepared.weights.map(({ name }) => name);
  const parameters = prepared.graphs.parameters.reduce((sum, { dims }) => sum + elements(dims), 0);
  request.onStart?.({ memory, microBatch, parameters, weights });
  const workspace = new Workspace(outputPath);
  try {
    const { values, ...outcome } = await train({
      prepared,
      source,
      samples: dataset.samples,
      targets: fitTargets(targets, prepared, dataset.samples),
      runtime: request.runtime,
      provider: request.provider,
      ...(request.threads === undefined ? {} : { threads: request.threads }),
      workDirectory: workspace.directory,
      checkpoint,
      resume,
      onProgress: request.onProgress,
      signal,
    });
    const name = path.basename(outputPath);
    const written = await writeModelInSteps(trainedModel(prepared, values), workspace.file(name));
    workspace.publish(written.files, workspace.directory, outputPath, overwrite);
    if (outcome.ended !== 'stopped') {
      rmSync(checkpoint, { force: true });
      rmSync(bestFile(checkpoint), { force: true });
    }
    return {
      ...outcome,
      microBatch,
      memory,
      weights,
      parameters,
      seconds: (performance.now() - started) / 1000,
      output: { path: outputPath, fileBytes: written.bytes },
    };
  } finally {
    workspace.remove();
  }
}

const inputFiles = ({ opened, dataPath, labels, teacher }: TrainFileRequest): string[] => [
  ...originalFiles(opened.model),
  dataPath,
  ...(labels === null ? [] : [labels]),
  ...(teacher === null ? [] : originalFiles(openModel(teacher).model)),
];

const elements = (dims: readonly number[]): number => dims.reduce((a, b) => a * b, 1);

type MicroBatchRequest = Pick<
  TrainFileRequest,
  'opened' | 'settings' | 'microBatch' | 'budgetBytes' | 'provider' | 'threads'
>;

/**
 * The micro-batch asked for, or the largest that the estimate puts within the budget; one sample when none does.
 * @throws SnugError E_NOT_SUPPORTED, E_USAGE, E_DATA_SHAPE
 */
export function chooseMicroBatch(
  { opened, settings, microBatch, budgetBytes, provider, threads }: MicroBatchRequest,
  inputDims: InputDims,
  teacher: Model | undefined,
): { prepared: PreparedTraining; memory: TrainingMemory; fits: boolean } {
  const fixed = !Object.values(inputDims).some((dims) => dims.includes('batch'));
  const more = { ...(threads === undefined ? {} : { threads }), ...(teacher ? { teacher } : {}) };
  let size = fixed ? 1 : Math.min(microBatch ?? settings.batch, settings.batch);
  const first = prepareTraining(opened.model, inputDims, { ...settings, microBatch: size });
  for (;;) {
    const prepared = { ...first, settings: { ...first.settings, microBatch: size } };
    const memory = trainingMemory(prepared, provider, more);
    const fits = budgetBytes === null || memory.peakBytes <= budgetBytes;
    if (fits || microBatch !== null || size === 1) return { prepared, memory, fits };
    size = 2 ** Math.floor(Math.log2(size - 1));
  }
}

function interrupted(checkpoint: string): SnugError {
  return new SnugError('E_EXISTS', `${checkpoint} holds a training that was interrupted.`, {
    action: 'Go on with it with --resume, start anew and lose it with --force, or choose another name for the result.',
    params: { path: checkpoint },
  });
}

function nothingFits(peakBytes: number, budgetBytes: number): SnugError {
  return new SnugError('E_NOTHING_FITS', `Training needs ${peakBytes} bytes, more than the budget.`, {
    action: 'Raise the budget, or train less of the model (--trainable biases-and-norms, --lora 4).',
    params: { peakBytes, budgetBytes },
  });
}

const teacherOf = (targets: Targets): Model | undefined =>
  targets.kind === 'teacher' ? openModel(targets.modelPath).model : undefined;

/** The input of token ids, where the data has them and the next token can be the answer. */
export async function nextTokenInput({ model }: OpenedModel, dataset: Dataset): Promise<string | null> {
  const text = model.graph.inputs.find(
    ({ name, dataType }) => name.endsWith('input_ids') && dataType === DataType.INT64,
  );
  return text && (await dataset.feeds(0, 1))[text.name] ? text.name : null;
}

async function openTargets({ labels, teacher, opened, settings, dataset }: TrainFileRequest): Promise<Targets> {
  const { loss } = settings;
  if (loss.kind === 'distill' || (loss.kind === 'mse' && labels === null && teacher !== null)) {
    const model = teacher === null ? opened : openModel(teacher);
    const output = settings.output ?? model.summary.outputs[0]?.name ?? '';
    return { kind: 'teacher', modelPath: model.path, output };
  }
  if (labels !== null) {
    const check = (dims: readonly number[]): void => checkRows(dims, [dataset.samples, ...dims.slice(1)]);
    return { kind: 'rows', rows: await readRows(labels, loss.kind === 'mse' ? 'float32' : 'int64', check) };
  }
  const input = loss.kind === 'cross-entropy' ? await nextTokenInput(opened, dataset) : null;
  if (input !== null) return { kind: 'next-token', input };
  throw new SnugError('E_USAGE', `The loss "${loss.kind}" needs an answer for every sample.`, {
    action: 'Give a .npy file with labels after the data, or use --loss distill.',
  });
}

/**
 * A .npy file of labels (int64) or targets (float32), one row for each sample.
 * @param check throws for a shape that is of no use, before any row is read
 * @throws SnugError E_DATA_FORMAT, also for labels that are no whole numbers, and what `check` throws
 */
export async function readRows(
  file: string,
  dtype: 'int64' | 'float32',
  check: (dims: readonly number[]) => void,
): Promise<RuntimeTensor> {
  const name = path.basename(file);
  const array = await NpyArray.open(await openSource(file), name);
  try {
    check(array.dims);
    const data = await array.read(0, array.rows);
    if (dtype === 'int64' && isFloatType(array.dtype)) wholeNumbers(data, array.dtype, name);
    return { dtype, dims: array.dims, data: castArray(data, array.dtype, dtype) };
  } finally {
    await array.close();
  }
}

/** @throws SnugError E_DATA_FORMAT when a number is not whole */
function wholeNumbers(data: RuntimeArray, dtype: RuntimeDtype, name: string): void {
  const wrong = (castArray(data, dtype, 'float64') as Float64Array).find((value) => !Number.isInteger(value));
  if (wrong === undefined) return;
  throw new SnugError('E_DATA_FORMAT', `${name} holds ${wrong}, which is no class.`, {
    action: 'Give each sample its class as a whole number, counted from 0.',
    params: { label: String(wrong) },
  });
}

/** @throws SnugError E_DATA_SHAPE when targets have another shape than the loss compares with */
function checkRows(dims: readonly number[], wanted: readonly number[]): void {
  if (dims[0] === wanted[0] && elements(dims) === elements(wanted)) return;
  throw new SnugError(
    'E_DATA_SHAPE',
    `The labels have the shape [${dims.join(', ')}], wanted is [${wanted.join(', ')}].`,
    { action: 'Give one row of labels for each sample.', params: { rows: dims[0] ?? 0, samples: wanted[0] ?? 0 } },
  );
}

/** @throws SnugError E_DATA_SHAPE when rows are missing or have another shape than the loss compares with */
function fitTargets(targets: Targets, { graphs }: PreparedTraining, samples: number): Targets {
  if (targets.kind !== 'rows') return targets;
  checkRows(targets.rows.dims, [samples, ...(graphs.target.dims ?? []).slice(1).map(Number)]);
  return targets;
}
