import type { OptimizerKind } from '../contract/training.js';
import type { Feeds, SessionSpec } from './types.js';

/** How weights follow their gradients. */
export interface OptimizerSettings {
  /**
   * `adamw`: Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2);
   * `sgd`: gradient descent with momentum, the decay added to the gradient.
   */
  kind: OptimizerKind;
  /** Share of the old direction kept (sgd). */
  momentum: number;
  beta1: number;
  beta2: number;
  epsilon: number;
  /** For parameters of rank 2 and more; biases and norms do not decay. */
  weightDecay: number;
  /** Longest gradient over all parameters together; longer ones are shortened. Null = any length. */
  clipNorm: number | null;
}

/** What a training process needs to start. All paths are absolute. */
export interface TrainingSpec {
  session: Omit<SessionSpec, 'modelPath'>;
  /** Summed loss and gradients. */
  gradientPath: string;
  /** Summed loss and right answers, without gradients. */
  evaluationPath: string;
  /**
   * Holds little memory at the price of some tenths of a millisecond in each step: only one of the graphs at a time, which
   * is loaded anew when its turn comes, and no values that were used once.
   */
  spareMemory: boolean;
  /** A model whose output is the target; it takes the same data. */
  teacher?: { modelPath: string; output: string };
  /** Parameters (and moments, when training goes on) to start from. */
  statePath: string;
  /** Output of the gradient graph by parameter. */
  gradientOutputs: Record<string, string>;
  loss: string;
  correct: string | null;
  target: string;
  weight: string;
  optimizer: OptimizerSettings;
  /** Parameters whose exact zeros stay zero. */
  keepZeros: string[];
}

export interface StepResult {
  /** Loss summed over the items of this micro-batch, before the update. */
  lossSum: number;
  /** Length of the whole batch's gradient before clipping; null when more micro-batches follow. */
  gradientNorm: number | null;
}

export interface EvaluationResult {
  lossSum: number;
  correct: number | null;
}

/** A model in training, in a process of its own. */
export interface TrainingSession {
  /**
   * Runs one micro-batch and adds its gradient; with `rate`, the weights are updated with what was added up.
   * @param weight 1 / items of the whole batch
   */
  step(feeds: Feeds, weight: number, rate: number | null): Promise<StepResult>;
  evaluate(feeds: Feeds): Promise<EvaluationResult>;
  /** Writes the parameters (with moments, to go on from there) and `meta`; the file appears whole or not at all. */
  save(path: string, meta: string, withMoments: boolean): Promise<void>;
  close(): Promise<void>;
}

/** A runtime that can train. */
export interface TrainingRuntime {
  openTraining(spec: TrainingSpec): Promise<TrainingSession>;
}
