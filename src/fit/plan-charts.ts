import type { Candidate, Damage, Dtype, PlanView } from '../contract/types.js';
import { dtypes } from '../contract/types.js';
import type { Analysis } from './analysis.js';
import type { Structure } from './candidate.js';
import { leftLarge, suitsNothing } from './explain.js';
import { levelOf, type Level } from './levels.js';
import type { Mix } from './mixed-precision.js';
import { productSpeed, type Speed } from '../quantize/index.js';
import { chartRatios } from './prune-view.js';

/** Batches tried when none is pinned. */
export const batchSteps = [1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256];

/** What the charts ask of a planner, at the pins and the budget of one view. */
export interface ChartSource {
  analysis: Analysis;
  budgetBytes: number;
  /** The structure, or the closest where time is short; with the dtype pinned where one is given. */
  closest: (level: Level, ratio: number, dtype?: Dtype) => Structure;
  structureOf: (candidate: Candidate) => Structure;
  at: (structure: Structure, batch: number) => Candidate;
  /** What a mix should come to at another ratio: every budget has a mix of its own, too many to build each at all ratios. */
  mixAt: (level: Level, mix: Mix, ratio: number) => { peakBytes: number; fileBytes: number; damage: Damage };
}

/** Peak, file and damage over prune ratios, at the shown level and batch. */
export function pruneChart(source: ChartSource, shown: Candidate): PlanView['charts']['prune'] {
  if (source.analysis.classes.length === 0) return [];
  const { level } = source.structureOf(shown);
  return chartRatios.map((ratio) => {
    if (level.mix !== undefined && ratio !== shown.plan.pruneRatio)
      return { ratio, ...source.mixAt(level, level.mix, ratio) };
    const c = source.at(source.closest(level, ratio), shown.plan.batch);
    return { ratio, peakBytes: c.estimate.peakBytes, fileBytes: c.fileBytes, damage: c.damage };
  });
}

/** One format for all weights each, at the shown ratio and batch, those that are no choice here with the reason. */
export function dtypeChart(source: ChartSource, shown: Candidate): PlanView['charts']['dtypes'] {
  return dtypes.map((dtype) => {
    const c = source.at(source.closest(levelOf(dtype), shown.plan.pruneRatio, dtype), shown.plan.batch);
    const why = source.analysis.whyNot(dtype) ?? suitsNothing(c, dtype);
    return {
      dtype,
      peakBytes: c.estimate.peakBytes,
      fileBytes: c.fileBytes,
      damage: c.damage,
      allowed: why === null,
      note: why ?? leftLarge(c, dtype),
      speed: why === null ? speedOf(source.analysis, dtype, c) : null,
    };
  });
}

/** Known only where matrix products hold most of the weights: what was measured of them tells little of the rest. */
function speedOf({ provider }: Analysis, dtype: Dtype, { plan, estimate }: Candidate): Speed | null {
  const bytes = (weights: Candidate['plan']['weights']): number => weights.reduce((sum, w) => sum + w.bytesBefore, 0);
  const products = plan.weights.filter(({ operator }) => operator === 'MatMul' || operator === 'Gemm');
  if (dtype === 'fp32') return 'same';
  if (bytes(products) < bytes(plan.weights) / 2) return null;
  const rows = Object.values(estimate.dims).reduce((all, size) => all * Math.max(1, size), 1);
  return productSpeed(provider, dtype, rows);
}

/** Peak over batches, of the shown structure. */
export function batchChart(source: ChartSource, shown: Candidate): PlanView['charts']['batches'] {
  const structure = source.structureOf(shown);
  return batchSteps.map((batch) => {
    const { peakBytes } = source.at(structure, batch).estimate;
    return { batch, peakBytes, fits: peakBytes <= source.budgetBytes };
  });
}
