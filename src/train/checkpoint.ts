import { SnugError } from '../contract/errors.js';
import { readStateMeta } from '../runtime/training-state.js';
import type { TrainEvaluation, TrainQuality, TrainStep } from './train-types.js';

/** What a checkpoint tells besides the values. */
export interface Progress {
  /** Settings and data of the training it belongs to, as text. */
  settings: string;
  step: number;
  before: TrainQuality;
  quality: TrainQuality;
  best: TrainQuality;
  bestStep: number;
  epochsWithoutBetter: number;
  steps: TrainStep[];
  evaluations: TrainEvaluation[];
}

/** The best weights so far lie beside the checkpoint. */
export const bestFile = (checkpoint: string): string => `${checkpoint}.best`;

/**
 * How far the training of a checkpoint had come.
 * @throws SnugError of reading it
 */
export function readCheckpoint(checkpoint: string): Pick<Progress, 'step' | 'before' | 'best'> {
  const { step, before, best } = read(checkpoint);
  return { step, before, best };
}

/**
 * How far the training of a checkpoint had come, when it is the one with these settings.
 * @throws SnugError of reading it; E_USAGE when it belongs to other settings or data
 */
export function readCheckpointOf(checkpoint: string, settings: string): Progress {
  const progress = read(checkpoint);
  if (progress.settings === settings) return progress;
  throw new SnugError('E_USAGE', 'The checkpoint belongs to a training with other settings or data.', {
    action: 'Give the same settings and data, or start anew with --force in place of --resume.',
    params: { path: checkpoint },
  });
}

const read = (checkpoint: string): Progress => JSON.parse(readStateMeta(checkpoint).meta) as Progress;
