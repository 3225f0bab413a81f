import path from 'node:path';
import { SnugError } from '../contract/errors.js';
import type { Model } from '../onnx/model.js';
import type { Dataset } from '../runtime/dataset-types.js';
import type { TrainingRuntime } from '../runtime/training-types.js';
import type { Runtime } from '../runtime/types.js';
import { trainedModel, type PreparedTraining, type TrainSettings } from '../train/prepare.js';
import { SampleSource } from '../train/samples.js';
import { train, type Targets, type TrainProgress } from '../train/train.js';

/** What every training of a recovery shares. */
export interface RecoveryRun {
  runtime: Runtime & TrainingRuntime;
  /** For temporary files. */
  folder: string;
  /** Samples and variants to train on, then those that judge. */
  data: Dataset;
  /** How many of the last samples judge. */
  held: number;
  /** Updates of one training, at most. */
  updates: number;
  /** Time (of `performance.now`) at which all training ends. */
  until: number;
  /** Values that have another meaning in the student than in the original. */
  unlike: ReadonlySet<string>;
  onProgress: (done: number, total: number, item?: string) => void;
  signal?: AbortSignal | undefined;
}

/** A model in recovery: as it is trained (one output, sizes known), and the same as a person will have it. */
export interface Student {
  forward: Model;
  result: Model;
}

export const secondsLeft = ({ until }: Pick<RecoveryRun, 'until'>): number =>
  Math.max(0, (until - performance.now()) / 1000);

/** Evaluations in one training. */
const evaluations = 10;

/**
 * Shares of a training after which the held-out loss must be below so many times what it was before: a rate that is too
 * high for weights that were fitted already shows early. A falling rate lets the loss rise a little at first.
 */
const patience = [
  { share: 0.25, factor: 1.5 },
  { share: 0.5, factor: 1.2 },
  { share: 0.75, factor: 1 },
];

/**
 * Trains a student, or a part of it, for as long as there is time and hope.
 * @param seconds the share of the time left
 * @returns the student with the best weights, null when nothing got better
 * @throws whatever stops a run
 */
export async function trainStudent(
  run: RecoveryRun,
  student: Student,
  prepared: PreparedTraining,
  data: Dataset,
  targets: Targets,
  { seconds, item }: { seconds: number; item?: string },
): Promise<Student | null> {
  const hopeless = new AbortController();
  const { signal } = run;
  const source = await SampleSource.open(data);
  const total = prepared.settings.steps ?? run.updates;
  let diverged = false;
  const outcome = await train({
    prepared,
    source,
    samples: data.samples,
    held: Array.from({ length: run.held }, (_, i) => data.samples - run.held + i),
    targets,
    runtime: run.runtime,
    provider: 'cpu',
    workDirectory: run.folder,
    checkpoint: path.join(run.folder, 'recover.checkpoint'),
    checkpointEveryMs: Infinity,
    resume: false,
    judgeEvery: Math.max(1, Math.ceil(total / evaluations)),
    seconds,
    onProgress: (progress) => {
      run.onProgress(progress.step, progress.totalSteps, item);
      if (![progress.loss, progress.gradientNorm, progress.quality.loss].every(Number.isFinite)) diverged = true;
      if (isHopeless(progress)) hopeless.abort();
    },
    signal: signal ? AbortSignal.any([signal, hopeless.signal]) : hopeless.signal,
  }).catch((error: unknown) => {
    // Numbers that are no longer finite before anything got better: a lower rate may do.
    if (diverged && error instanceof SnugError && error.code === 'E_RUN_FAILED') return null;
    throw error;
  });
  signal?.throwIfAborted();
  if (outcome === null || outcome.bestStep === 0) return null;
  return {
    forward: trainedModel({ ...prepared, model: student.forward }, outcome.values),
    result: trainedModel({ ...prepared, model: student.result }, outcome.values),
  };
}

/** Whether a training that has evaluated its weights just now is unlikely to end below where it began. */
export function isHopeless({
  step,
  totalSteps,
  evaluations: seen,
}: Pick<TrainProgress, 'step' | 'totalSteps' | 'evaluations'>): boolean {
  const [first, latest] = [seen[0], seen.at(-1)];
  if (!first || latest?.step !== step) return false;
  const best = Math.min(...seen.slice(1).map(({ loss }) => loss));
  return patience.some(({ share, factor }) => step >= share * totalSteps && best >= first.loss * factor);
}

/** Few samples are seen often: a falling rate, no decay towards zero, and gradients of a bounded length. */
export function recoverySettings(
  own: Pick<TrainSettings, 'loss' | 'trainable' | 'rate' | 'batch'> & { updates: number },
): TrainSettings {
  const { updates, ...rest } = own;
  return {
    ...rest,
    adapterRank: null,
    optimizer: { kind: 'adamw', momentum: 0, beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0, clipNorm: 1 },
    schedule: 'cosine',
    warmUp: Math.min(20, Math.ceil(updates / 10)),
    steps: updates,
    epochs: 1,
    microBatch: own.batch,
    validation: 0,
    patience: null,
    seed: 1,
    fromScratch: false,
  };
}
