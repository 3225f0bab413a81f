import type { Provider, SessionLevers } from '../contract/types.js';
import type { TrainQuality } from '../contract/training.js';
import type { StateTensor } from '../runtime/training-state.js';
import type { TrainingRuntime } from '../runtime/training-types.js';
import type { RuntimeTensor } from '../runtime/types.js';
import type { PreparedTraining } from './prepare.js';
import type { SampleSource } from './samples.js';
import type { TrainingGraphs } from './training-graph.js';

/**
 * Session settings of a training run. One block planned ahead for all values would be held beside the buffers of the
 * first run; without it the runs take up to half the memory (docs of src/memory: memory pattern).
 */
export const trainingLevers: Partial<SessionLevers> = { memoryPattern: false };

/** Bytes of weights from which on a training holds as little memory as it can; below, speed goes before. */
const leastLarge = 16 * 2 ** 20;

/** Whether the weights of a training, frozen and trained, are so large that it spares memory (see `TrainingSpec`). */
export function isLarge({ gradient, parameters }: TrainingGraphs): boolean {
  const frozen = [...gradient.graph.initializers.values()].reduce((sum, { data }) => sum + data.byteLength, 0);
  const trained = parameters.reduce((sum, { dims }) => sum + 4 * dims.reduce((a, b) => a * b, 1), 0);
  return frozen + trained >= leastLarge;
}

/** Where the right answers come from. */
export type Targets =
  /** One row for each sample: int64 labels, or float32 targets for `mse`. */
  | { kind: 'rows'; rows: RuntimeTensor }
  /** An array of the data set besides the model's inputs. */
  | { kind: 'array'; name: string }
  /** The token after each one of an input of token ids. */
  | { kind: 'next-token'; input: string }
  /** What another model answers to the same data. */
  | { kind: 'teacher'; modelPath: string; output: string };

export type { TrainQuality };

export interface TrainStep {
  /** Updates made, from 1 on. */
  step: number;
  epoch: number;
  /** Mean over the batch, before the update. */
  loss: number;
  rate: number;
  gradientNorm: number;
}

/** The held-out loss after an update; step 0 = before the first. */
export interface TrainEvaluation extends TrainQuality {
  step: number;
}

export interface TrainProgress extends TrainStep {
  totalSteps: number;
  /** After the latest evaluation. */
  quality: TrainQuality;
  best: TrainQuality;
  /** All so far, those before a resume too. */
  steps: readonly TrainStep[];
  evaluations: readonly TrainEvaluation[];
}

export interface TrainRequest {
  prepared: PreparedTraining;
  source: SampleSource;
  /** Samples there are. */
  samples: number;
  /** Samples never trained on, by which the weights are judged; chosen at random (`validation`) when left out. */
  held?: readonly number[];
  targets: Targets;
  runtime: TrainingRuntime;
  provider: Provider;
  threads?: number;
  /** Folder for the graphs. */
  workDirectory: string;
  /** File the state is saved in, every `checkpointEveryMs` and after each epoch; the best weights lie beside it. */
  checkpoint: string;
  checkpointEveryMs?: number;
  resume: boolean;
  /** Updates between two evaluations; an epoch when left out. */
  judgeEvery?: number;
  /**
   * Seconds that training may take: there are fewer updates, and the rate falls sooner, where each takes longer than that
   * allows. With time enough the result does not depend on it.
   */
  seconds?: number;
  onProgress?: (progress: TrainProgress) => void;
  signal?: AbortSignal;
}

export interface TrainOutcome {
  steps: TrainStep[];
  evaluations: TrainEvaluation[];
  before: TrainQuality;
  /** Of the best weights. */
  after: TrainQuality;
  /** Update after which they were the best; 0 = the weights it started with. */
  bestStep: number;
  /** Why it ended. */
  ended: 'finished' | 'no longer better' | 'stopped' | 'diverged';
  /** Values of the best weights. */
  values: StateTensor[];
}
