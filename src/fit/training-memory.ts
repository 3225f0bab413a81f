import type { Estimate, Provider } from '../contract/types.js';
import { prepareEstimate } from '../memory/estimate.js';
import type { Model } from '../onnx/model.js';
import type { PreparedTraining } from '../train/prepare.js';
import { isLarge, trainingLevers } from '../train/train.js';

/** What a training will need, before it starts. */
export interface TrainingMemory {
  /** Of one micro-batch's forward and backward run. */
  run: Estimate;
  /** Parameters, what the optimizer remembers of them, the latest gradients, and gradients added up. */
  stateBytes: number;
  peakBytes: number;
}

const elements = (dims: readonly number[]): number => dims.reduce((a, b) => a * b, 1);

/** The peak, with the largest weight held twice for a moment while the runtime loads and packs them. */
function withLoading({ graph }: Model, { peakBytes, load }: Estimate): number {
  const largest = [...graph.initializers.values()].reduce((most, { data }) => Math.max(most, data.byteLength), 0);
  return Math.max(peakBytes, load.peakBytes + largest);
}

/**
 * What a prepared training will need: the runs of a micro-batch and of the evaluation, which keep the memory they had
 * unless they take turns, and the state. A teacher's weights stay beside both; its own runs come before the model's,
 * never at the same time.
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
  const judged = prepareEstimate(graphs.evaluation).estimate(options);
  const taught = teacher ? prepareEstimate(teacher).estimate(options) : null;
  const parameters = graphs.parameters.reduce((sum, { dims }) => sum + elements(dims), 0);
  // The gradients of a run are copied out of the runtime's memory, which keeps the room they had there.
  const copies = 2 + (settings.optimizer.kind === 'adamw' ? 2 : 1) + (settings.microBatch < settings.batch ? 1 : 0);
  const stateBytes = parameters * 4 * copies;
  const gradientBytes = withLoading(graphs.gradient, run);
  const judgedBytes = withLoading(graphs.evaluation, judged);
  const both = isLarge(graphs) ? Math.max(gradientBytes, judgedBytes) : gradientBytes + judgedBytes;
  const runs = Math.max(both + (taught?.warm.parts.weightsBytes ?? 0), taught?.peakBytes ?? 0);
  return { run, stateBytes, peakBytes: runs + stateBytes };
}
