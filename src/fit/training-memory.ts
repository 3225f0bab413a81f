import type { Estimate, Provider } from '../contract/types.js';
import { prepareEstimate } from '../memory/estimate.js';
import type { Model } from '../onnx/model.js';
import type { PreparedTraining } from '../train/prepare.js';
import { trainingLevers } from '../train/train.js';

/** What a training will need, before it starts. */
export interface TrainingMemory {
  /** Of one micro-batch's forward and backward run. */
  run: Estimate;
  /** Parameters, what the optimizer remembers of them, and gradients added up. */
  stateBytes: number;
  peakBytes: number;
}

const elements = (dims: readonly number[]): number => dims.reduce((a, b) => a * b, 1);

/**
 * What a prepared training will need: the runs of a micro-batch, and the state it keeps. A teacher's weights stay
 * beside both; its own runs come before the model's, never at the same time.
 */
export function trainingMemory(
  prepared: PreparedTraining,
  provider: Provider,
  { threads, teacher }: { threads?: number; teacher?: Model } = {},
): TrainingMemory {
  const { graphs, settings } = prepared;
  const options = {
    provider,
    batch: settings.microBatch,
    dims: {},
    levers: trainingLevers,
    ...(threads === undefined ? {} : { threads }),
  };
  const run = prepareEstimate(graphs.gradient).estimate(options);
  const taught = teacher ? prepareEstimate(teacher).estimate(options) : null;
  const parameters = graphs.parameters.reduce((sum, { dims }) => sum + elements(dims), 0);
  const copies = 1 + (settings.optimizer.kind === 'adamw' ? 2 : 1) + (settings.microBatch < settings.batch ? 1 : 0);
  const stateBytes = parameters * 4 * copies;
  const runs = Math.max(run.peakBytes + (taught?.warm.parts.weightsBytes ?? 0), taught?.peakBytes ?? 0);
  return { run, stateBytes, peakBytes: runs + stateBytes };
}
