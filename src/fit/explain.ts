import type { Candidate, Damage, Dtype, Pins, PlanView, Reason } from '../contract/types.js';
import { dtypes } from '../contract/types.js';
import { type Analysis, needsSamples, withoutOperator } from './analysis.js';
import { structureLabel } from './candidate.js';
import { levelOf } from './levels.js';
import { mixLabel } from './mix-ladder.js';
import { mixShares } from './mixed-precision.js';

/** Higher is worse; unchanged models are best. Equal damage: the smaller file. */
export function damageKey(damage: Damage): number {
  return damage.sqnrDb === null ? -1000 : -damage.sqnrDb;
}

/** Says what a dtype leaves large, when that is worth knowing: at least 5 % of the weight bytes. */
export function leftLarge(candidate: Candidate, dtype: Dtype): string | null {
  const { share, largest } = othersThan(candidate, dtype);
  if (share < 0.05 || largest === undefined) return null;
  return `${Math.round(share * 100)} % of the weights keep another format (${largest.reason ?? largest.dtype})`;
}

/**
 * Why a dtype is no choice for a model of which it suits next to nothing, or of which most wants samples that are not
 * there; null where it suits some.
 */
export function suitsNothing(candidate: Candidate, dtype: Dtype): string | null {
  const { share, largest } = othersThan(candidate, dtype);
  if (largest?.reason === undefined) return null;
  const reason = withoutOperator(largest.reason);
  return share >= 0.995 || (share > 0.5 && reason === needsSamples) ? reason : null;
}

/** Bytes of the weights that keep another dtype, as a share, and the largest of them. */
function othersThan({ plan: { weights } }: Candidate, dtype: Dtype) {
  if (dtype === 'fp32') return { share: 0, largest: undefined };
  const bytes = (list: typeof weights): number => list.reduce((sum, w) => sum + w.bytesBefore, 0);
  const others = weights.filter((w) => w.dtype !== dtype);
  return {
    share: bytes(others) / (bytes(weights) || 1),
    largest: others.toSorted((a, b) => b.bytesBefore - a.bytesBefore)[0],
  };
}

/** What holds the smallest reachable plan up. */
function blocker(smallest: Candidate): Reason {
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
  const mix = /^mix-[\da-f]+-(\d+)$/.exec(levelId);
  if (mix) return structureLabel({ ...levelOf('int4'), id: levelId, label: mixLabel(Number(mix[1])) }, ratio);
  const dtype = dtypes.find((d) => d === levelId);
  return structureLabel(levelOf(dtype ?? 'fp32'), ratio);
}

/** Why this plan, in the order a person wants to know. */
export function planReasons(analysis: Analysis, proposal: Candidate | null, smallest: Candidate, pins: Pins): Reason[] {
  const reasons: Reason[] = [];
  if (proposal?.id === 'fp32@0') reasons.push({ kind: 'already-fits' });
  else if (proposal) reasons.push({ kind: 'chosen', why: 'least-damage' });
  const mixed = proposal === null ? null : mixReason(analysis, proposal);
  if (mixed) reasons.push(mixed);
  const { batch } = (proposal ?? smallest).plan;
  const otherBatch = pins.batch !== undefined && pins.batch !== batch;
  if (otherBatch)
    reasons.push({ kind: 'note', text: `The file fixes the batch at ${batch}; ${pins.batch} is not possible.` });
  for (const what of ['provider', 'batch', 'pruneRatio', 'dtype'] as const) {
    if (what === 'batch' && otherBatch) continue;
    if (pins[what] !== undefined) reasons.push({ kind: 'pinned', what: `${what} ${String(pins[what])}` });
  }
  if (!analysis.hasSamples) reasons.push({ kind: 'no-samples' });
  for (const name of (proposal ?? smallest).estimate.assumed) {
    reasons.push({ kind: 'assumed-dimension', name, value: (proposal ?? smallest).estimate.dims[name] });
  }
  for (const weight of (proposal ?? smallest).plan.weights) {
    if (weight.reason && weight.bytesAfter >= weight.bytesBefore * 0.9 && weight.bytesBefore >= 4096) {
      reasons.push({ kind: 'stayed-large', weight: weight.name, why: weight.reason });
    }
  }
  if (!proposal) reasons.push(blocker(smallest));
  return reasons;
}

/** How many weights are named as those the answers hang on. */
const namedWeights = 3;

/** Which formats a mix gave, and the weights that kept more bits because 4 of them would have done most. */
function mixReason(analysis: Analysis, { plan }: Candidate): Reason | null {
  if (plan.mix === undefined) return null;
  const kept = plan.weights
    .filter(({ name, dtype }) => dtype !== 'int4' && analysis.couldBe(name, 'int4'))
    .map(({ name }) => ({ name, noise: analysis.outputNoise(name, 'int4') }))
    .sort((a, b) => b.noise - a.noise);
  return {
    kind: 'mixed',
    basis: plan.mix.basis,
    shares: mixShares(plan.weights),
    kept: kept.slice(0, namedWeights).map(({ name }) => name),
  };
}
