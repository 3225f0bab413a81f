import type { Candidate, Estimate, PlanView } from '../../src/contract/types.js';
import type { BarRow } from '../components/memory-bar.js';
import type { Messages } from '../i18n/locale.svelte.js';
import { peakParts } from './bar.js';

export function estimateRow(key: string, name: string, estimate: Estimate, weight: BarRow['weight']): BarRow {
  return {
    key,
    name,
    parts: peakParts(estimate),
    totalBytes: estimate.peakBytes,
    weight,
    largest: estimate.topTensors,
  };
}

/** What the plan screen is about: the proposal, or the smallest reachable when nothing fits. */
export function shownCandidate(view: PlanView): Candidate {
  return view.proposal ?? view.smallest;
}

export type Situation = 'fits-already' | 'fits-with-plan' | 'nothing-fits' | 'cannot-tell';

export function situationOf(view: PlanView): Situation {
  if (view.baseline.verdict === 'cannot-tell') return view.proposal === null ? 'cannot-tell' : 'fits-with-plan';
  if (view.proposal === null) return 'nothing-fits';
  return view.baseline.verdict === 'does-not-fit' ? 'fits-with-plan' : 'fits-already';
}

/** Rows of the bar on the plan screen: the model as it is above what Snug would make of it. */
export function planRows(view: PlanView, changed: boolean, t: Messages): BarRow[] {
  const now = estimateRow('now', t.bar.now, view.baseline.estimate, changed ? 'side' : 'main');
  if (!changed) return [now];
  const name = view.proposal === null ? t.bar.smallest : t.bar.snug;
  return [now, estimateRow('snug', name, shownCandidate(view).estimate, 'main')];
}
