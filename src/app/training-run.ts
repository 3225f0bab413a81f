import type { TrainingChoices, TrainingProgress, TrainingReport } from '../contract/training.js';
import type { Provider } from '../contract/types.js';
import type { TrainingRuntime } from '../runtime/training-types.js';
import { heldOutCount } from '../train/sample-order.js';
import type { TrainProgress } from '../train/train.js';
import { openData, openModel } from './open.js';
import { trainFile } from './train.js';
import { curveOf } from './training-curve.js';
import type { TrainingPaths } from './training-files.js';
import { settingsOf } from './training-settings.js';

/** The page draws no faster than this. */
const tellEveryMs = 250;

export interface TrainingRun {
  path: string;
  files: TrainingPaths & { data: string };
  choices: TrainingChoices;
  provider: Provider;
  dims: Record<string, number>;
  outputPath: string;
  budgetBytes: number | null;
  /** Fixed where a training goes on; else what fits the budget. */
  microBatch: number | null;
  resume: boolean;
}

/** What the owner of a training is told while it goes on. */
export interface TrainingNews {
  progress: TrainingProgress;
  microBatch: number;
}

/**
 * Trains a model from files, as a door with a screen does: fewer choices than `snug train`, news a few times a second.
 * @throws SnugError of {@link trainFile}
 */
export async function runTraining(
  run: TrainingRun,
  runtime: TrainingRuntime,
  signal: AbortSignal,
  onNews: (news: TrainingNews) => void,
): Promise<TrainingReport> {
  const opened = openModel(run.path);
  const dataset = await openData(run.files.data, opened, run.dims);
  const { choices, files } = run;
  const heldOutSamples = heldOutCount(dataset.samples, choices.validation);
  let microBatch = 1;
  const told = { at: 0, evaluations: 0, steps: 0 };
  let began: { at: number; step: number } | null = null;

  const tell = (progress: TrainProgress): void => {
    const now = performance.now();
    began ??= { at: now, step: progress.step };
    const news = progress.evaluations.length > told.evaluations || now - told.at > tellEveryMs;
    if (!news) return;
    Object.assign(told, { at: now, evaluations: progress.evaluations.length, steps: progress.step });
    onNews({ microBatch, progress: { ...progressOf(progress, choices, began, now), heldOutSamples } });
  };

  try {
    const result = await trainFile({
      opened,
      outputPath: run.outputPath,
      dataset,
      dataPath: files.data,
      labels: choices.loss === 'distill' ? null : files.labels,
      teacher: choices.loss === 'cross-entropy' ? null : files.teacher,
      settings: settingsOf(choices),
      microBatch: run.microBatch,
      budgetBytes: run.budgetBytes,
      dims: run.dims,
      provider: run.provider,
      runtime,
      overwrite: run.resume,
      resume: run.resume,
      onStart: (plan) => (microBatch = plan.microBatch),
      onProgress: tell,
      signal,
    });
    const { steps, evaluations, memory, weights, before, after, bestStep, ended, parameters, seconds, output } = result;
    return {
      output,
      loss: choices.loss,
      before,
      after,
      bestStep,
      steps: steps.length,
      totalSteps: Math.ceil((dataset.samples - heldOutSamples) / choices.batch) * choices.epochs,
      ended,
      heldOutSamples,
      microBatch,
      batch: choices.batch,
      weights: weights.length,
      parameters,
      memory: { predictedBytes: memory.peakBytes, highestBytes: null },
      curve: curveOf(steps, evaluations),
      seconds,
    };
  } finally {
    await dataset.close();
  }
}

function progressOf(
  progress: TrainProgress,
  choices: TrainingChoices,
  began: { at: number; step: number },
  now: number,
): Omit<TrainingProgress, 'heldOutSamples'> {
  const { step, totalSteps, epoch, steps, evaluations, best } = progress;
  return {
    step,
    totalSteps,
    epoch: epoch + 1,
    epochs: choices.epochs,
    fromStep: began.step,
    elapsedMs: now - began.at,
    curve: curveOf(steps, evaluations),
    best,
  };
}
