import type { TrainingPlan } from '../../src/contract/training.js';
import type { BarRow } from '../components/memory-bar.js';
import { estimateRow } from './plan-rows.js';

/** The bar of a training: a run of one micro-batch, and what is kept beside it. */
export function trainingRow({ estimate, stateBytes, peakBytes }: TrainingPlan, name: string): BarRow {
  const run = estimateRow('training', name, estimate, 'main');
  return {
    ...run,
    parts: [...(run.parts ?? []), { name: 'training', bytes: stateBytes }],
    totalBytes: peakBytes,
  };
}
