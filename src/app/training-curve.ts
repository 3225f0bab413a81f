import type { TrainingCurve } from '../contract/training.js';
import type { TrainEvaluation, TrainStep } from '../train/train.js';

/** As many points as a chart has pixels worth looking at. */
const mostPoints = 240;

/**
 * Losses of all updates and evaluations so far, thinned for a chart: neighbouring updates become their mean, at the
 * last of them; of evaluations the newest and every n-th before it stay.
 */
export function curveOf(
  steps: readonly TrainStep[],
  evaluations: readonly TrainEvaluation[],
  most = mostPoints,
): TrainingCurve {
  const size = Math.max(1, Math.ceil(steps.length / most));
  const training = Array.from({ length: Math.ceil(steps.length / size) }, (_, i) => {
    const group = steps.slice(i * size, (i + 1) * size);
    return {
      step: group[group.length - 1]?.step ?? 0,
      loss: group.reduce((sum, { loss }) => sum + loss, 0) / group.length,
    };
  });
  const every = Math.max(1, Math.ceil(evaluations.length / most));
  const last = evaluations.length - 1;
  const heldOut = evaluations.filter((_, i) => (last - i) % every === 0);
  return { training, heldOut: heldOut.map(({ step, loss, accuracy }) => ({ step, loss, accuracy })) };
}
