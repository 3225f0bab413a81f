import type { Candidate, Damage, Dtype, PlanView, Reason } from '../contract/types.js';
import { dtypes } from '../contract/types.js';
import { structureLabel } from './candidate.js';
import { levelOf } from './levels.js';

/** Higher is worse; unchanged models are best. Equal damage: the smaller file. */
export function damageKey(damage: Damage): number {
  return damage.sqnrDb === null ? -1000 : -damage.sqnrDb;
}

/** Says what a dtype leaves large, when that is worth knowing: at least 5 % of the weight bytes. */
export function leftLarge(candidate: Candidate, dtype: Dtype): string | null {
  if (dtype === 'fp32') return null;
  const { weights } = candidate.plan;
  const bytes = (list: typeof weights): number => list.reduce((sum, w) => sum + w.bytesBefore, 0);
  const others = weights.filter((w) => w.dtype !== dtype);
  const share = bytes(others) / (bytes(weights) || 1);
  if (share < 0.05) return null;
  const [largest] = [...others].sort((a, b) => b.bytesBefore - a.bytesBefore);
  return `${Math.round(share * 100)} % of the weights keep another format (${largest.reason ?? largest.dtype})`;
}

/** What holds the smallest reachable plan up. */
export function blocker(smallest: Candidate): Reason {
  const { parts } = smallest.estimate.warm;
  const kinds = [
    ['weights', parts.weightsBytes],
    ['activations', parts.activationsBytes],
    ['cache', parts.cacheBytes],
  ] as const;
  const [what] = kinds.reduce((a, b) => (b[1] > a[1] ? b : a));
  const kind = what === 'weights' ? 'weight' : what === 'activations' ? 'activation' : 'cache';
  const top = smallest.estimate.topTensors.find((t) => t.kind === kind) ?? smallest.estimate.topTensors[0];
  return { kind: 'blocked-by', what, name: top?.name ?? what, bytes: top?.bytes ?? 0 };
}

/** Pareto front of peak memory against expected damage; the chosen point is always on it. */
export function tradeoff(all: Candidate[], shown: Candidate): PlanView['charts']['tradeoff'] {
  const sorted = [...all].sort(
    (a, b) => a.estimate.peakBytes - b.estimate.peakBytes || damageKey(a.damage) - damageKey(b.damage),
  );
  const points: PlanView['charts']['tradeoff'] = [];
  let best = Infinity;
  for (const c of sorted) {
    const key = damageKey(c.damage);
    const chosen = c.id === shown.id;
    if (key >= best && !chosen) continue;
    best = Math.min(best, key);
    const [levelId] = c.id.split('@');
    points.push({
      id: c.id,
      label: labelOf(levelId, c.plan.pruneRatio),
      peakBytes: c.estimate.peakBytes,
      damage: c.damage,
      chosen,
    });
  }
  return points;
}

/** Name of a level and ratio on screen. */
export function labelOf(levelId: string, ratio: number): string {
  const share = /^mixed-(\d+)$/.exec(levelId);
  if (share) {
    const level = { ...levelOf('int4'), id: levelId, label: `4-bit in ${share[1]} % of the weights, 8-bit elsewhere` };
    return structureLabel(level, ratio);
  }
  const dtype = dtypes.find((d) => d === levelId);
  return structureLabel(levelOf(dtype ?? 'fp32'), ratio);
}
