import type { Damage, PruneMethod, PruneView } from '../contract/types.js';
import { bandRank } from '../quality/metrics.js';
import type { Analysis } from './analysis.js';
import { expectedPruning, measuredFor } from './expected-damage.js';

/** Ratios at which memory, file and damage are told. */
export const chartRatios = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8];

/** What may be pruned, and how far: measured where samples were run, else what the weights let expect. */
export function pruneView(analysis: Analysis, method: PruneMethod): PruneView {
  const expected = chartRatios.map((ratio) => ({ ratio, damage: expectedPruning(analysis, ratio, method) }));
  const measured = measuredFor(analysis, method);
  return {
    classes: analysis.classes.map((one) => ({
      id: one.id,
      name: one.name,
      unit: one.kind,
      width: one.width,
      producers: one.layers.producing,
      consumers: one.layers.consuming,
      others: one.members.filter(({ role }) => role === 'elementwise').length,
      byDefault: one.byDefault,
      bytesPerUnit: one.bytesPerUnit,
    })),
    curve: analysis.curve,
    expected,
    basis: measured === null ? 'expected' : 'measured',
    furthestRatio: furthestRatio(measured?.points ?? expected),
  };
}

/**
 * The largest ratio before damage becomes more than small (5 % of answers or 0.05 nats, else an error of 1 %): beyond
 * it every further unit costs much more than the one before.
 *
 * @param points by rising ratio
 * @returns null when no ratio is that harmful
 */
export function furthestRatio(points: readonly { ratio: number; damage: Damage }[]): number | null {
  const tooFar = points.findIndex(({ damage }) => bandRank(damage.band) > bandRank('small'));
  return tooFar === -1 ? null : (points[tooFar - 1]?.ratio ?? 0);
}
