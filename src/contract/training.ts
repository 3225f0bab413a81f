import type { Estimate, Provider } from './types.js';

/** What a door may ask of a training, and what it tells. */

/**
 * What training makes small.
 * `cross-entropy`: −log of the probability of the right class (integer labels, one for each row of logits);
 * `mse`: mean of the squared differences to a target of the output's shape;
 * `distill`: divergence of the output's class probabilities from those of another model, D(teacher ‖ student).
 */
export const losses = ['cross-entropy', 'mse', 'distill'] as const;
export type LossKind = (typeof losses)[number];

/** How the learning rate goes on after the warm-up. */
export const schedules = ['constant', 'linear', 'cosine'] as const;
export type Schedule = (typeof schedules)[number];

export const optimizers = ['adamw', 'sgd'] as const;
export type OptimizerKind = (typeof optimizers)[number];

/** What changes: every weight, biases and norms only, or low-rank adapters that are merged into the weights at the end. */
export const trainableParts = ['all', 'biases-and-norms', 'adapters'] as const;
export type TrainablePart = (typeof trainableParts)[number];

export const trainingFileRoles = ['data', 'labels', 'teacher'] as const;
/** What a file is to a training: samples, the right answer for each of them, or a model to learn from. */
export type TrainingFileRole = (typeof trainingFileRoles)[number];

export interface TrainingChoices {
  loss: LossKind;
  trainable: TrainablePart;
  /** Rank of the adapters; counts with `adapters` only. */
  adapterRank: number;
  optimizer: OptimizerKind;
  /** Learning rate at its highest. */
  rate: number;
  schedule: Schedule;
  epochs: number;
  /** Samples in one update; how many of them run at once follows from the budget. */
  batch: number;
  /** Share of the samples that is held out to judge by, 0 … 0.9. */
  validation: number;
  /** Stops after so many epochs without a smaller held-out loss; null = never. */
  patience: number | null;
}

/** Learning rate that suits most models. */
export const usualRate: Readonly<Record<OptimizerKind, number>> = { adamw: 0.001, sgd: 0.01 };

/** Where a training starts from until somebody chooses otherwise. */
export const usualChoices: Readonly<TrainingChoices> = {
  loss: 'cross-entropy',
  trainable: 'all',
  adapterRank: 4,
  optimizer: 'adamw',
  rate: usualRate.adamw,
  schedule: 'cosine',
  epochs: 10,
  batch: 32,
  validation: 0.1,
  patience: null,
};

export interface TrainingRequest {
  modelId: string;
  budgetBytes: number;
  /** Snug's choice when left out. */
  provider?: Provider;
  dims: Record<string, number>;
  choices: TrainingChoices;
}

/** Mean loss (and share of right answers) over the held-out samples, or over all when none are held out. */
export interface TrainQuality {
  loss: number;
  accuracy: number | null;
}

/** Files attached to a model for training, by name. */
export interface TrainingSetup {
  /** The model's own samples where no others were given. */
  data: { name: string; samples: number } | null;
  /** `rowDims`: the shape of one answer, empty for one number. */
  labels: { name: string; rows: number; rowDims: number[] } | null;
  teacher: { name: string } | null;
  /** The data is text and the model predicts tokens: the next token is the answer, no labels are needed. */
  nextToken: boolean;
  interrupted: InterruptedTraining | null;
}

/** A training that was stopped, or ended with its process, and can go on where it was. */
export interface InterruptedTraining {
  /** Name of the file it writes. */
  name: string;
  step: number;
  totalSteps: number;
  /** Milliseconds since the epoch. */
  savedAt: number;
  before: TrainQuality;
  best: TrainQuality;
  choices: TrainingChoices;
  files: { data: string; labels: string | null; teacher: string | null };
}

/** What a training will take, known before it starts. */
export interface TrainingPlan {
  provider: Provider;
  trainingSamples: number;
  heldOutSamples: number;
  /** Samples in one run; their gradients are added up to those of the batch. */
  microBatch: number;
  steps: number;
  stepsPerEpoch: number;
  /** Weights that change, and how many numbers they hold. */
  weights: number;
  parameters: number;
  /** Of one micro-batch's forward and backward run. */
  estimate: Estimate;
  /** Parameters, what the optimizer remembers, gradients, the evaluation's run, and a teacher's weights. */
  stateBytes: number;
  peakBytes: number;
  fits: boolean;
}

/** Loss over the updates, thinned to what a chart can show; training losses are means over neighbours. */
export interface TrainingCurve {
  training: { step: number; loss: number }[];
  /** Of the samples held out (of all when none are) after each epoch, and before the first update. */
  heldOut: { step: number; loss: number; accuracy: number | null }[];
}

export interface TrainingProgress {
  step: number;
  totalSteps: number;
  /** From 1 on. */
  epoch: number;
  epochs: number;
  /** Update this run began at; above 0 when it went on with an interrupted training. */
  fromStep: number;
  /** Since the first update of this run. */
  elapsedMs: number;
  heldOutSamples: number;
  curve: TrainingCurve;
  /** Null until the first evaluation has ended. */
  best: TrainQuality | null;
}

export interface TrainingReport {
  output: { path: string; fileBytes: number };
  loss: LossKind;
  before: TrainQuality;
  /** Of the best weights, which are those in the file. */
  after: TrainQuality;
  /** Update after which they were the best; 0 = nothing got better. */
  bestStep: number;
  steps: number;
  totalSteps: number;
  ended: 'finished' | 'no longer better' | 'stopped' | 'diverged';
  heldOutSamples: number;
  microBatch: number;
  batch: number;
  weights: number;
  parameters: number;
  memory: { predictedBytes: number; highestBytes: number | null };
  curve: TrainingCurve;
  seconds: number;
}
