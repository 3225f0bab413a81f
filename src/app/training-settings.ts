import type { TrainingChoices } from '../contract/training.js';
import type { OptimizerSettings } from '../runtime/training-types.js';
import type { TrainSettings } from '../train/prepare.js';

/** Settings of the optimizer that are seldom changed (the usual ones of AdamW and of SGD with momentum). */
export const usualOptimizer: Omit<OptimizerSettings, 'kind'> = {
  momentum: 0.9,
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  weightDecay: 0.01,
  clipNorm: null,
};

/** What the page offers to choose, as a training takes it; the same choices always give the same training. */
export function settingsOf(choices: TrainingChoices): Omit<TrainSettings, 'microBatch'> {
  const { loss, trainable, adapterRank, optimizer, ...rest } = choices;
  return {
    ...rest,
    loss: { kind: loss, temperature: 1 },
    trainable: trainable === 'biases-and-norms' ? trainable : 'all',
    adapterRank: trainable === 'adapters' ? adapterRank : null,
    optimizer: { ...usualOptimizer, kind: optimizer },
    warmUp: 0,
    seed: 0,
    fromScratch: false,
  };
}
