import { dtypes, providers } from '../../src/contract/types.js';
import type { Dtype, ModelSummary, Pins, Plan, Reason } from '../../src/contract/types.js';
import type { Messages } from '../i18n/locale.svelte.js';
import { planName } from './plan-name.js';

export interface DtypeShare {
  dtype: Dtype;
  beforeBytes: number;
  afterBytes: number;
  /** Of the bytes before, 0…1. */
  share: number;
}

/** How the plan's weight bytes divide into number formats, largest first. */
export function dtypeShares(plan: Pick<Plan, 'weights'>): DtypeShare[] {
  const sums = new Map<Dtype, { before: number; after: number }>();
  let total = 0;
  for (const weight of plan.weights) {
    const sum = sums.get(weight.dtype) ?? { before: 0, after: 0 };
    sum.before += weight.bytesBefore;
    sum.after += weight.bytesAfter;
    total += weight.bytesBefore;
    sums.set(weight.dtype, sum);
  }
  return [...sums]
    .map(([dtype, sum]) => ({
      dtype,
      beforeBytes: sum.before,
      afterBytes: sum.after,
      share: total === 0 ? 0 : sum.before / total,
    }))
    .toSorted((a, b) => b.beforeBytes - a.beforeBytes);
}

export function changesWeights(plan: Plan): boolean {
  return plan.pruneRatio > 0 || plan.weights.some((weight) => weight.dtype !== 'fp32');
}

/** What the plan does, in one sentence: formats, pruning, batch. */
export function planSentence(plan: Plan, model: ModelSummary, t: Messages): string {
  const parts: string[] = [];
  // Formats below half a percent of the bytes (biases, norms) would only blur the sentence.
  const shares = dtypeShares(plan).filter((share) => share.share >= 0.005);
  if (!changesWeights(plan)) {
    parts.push(t.plan.sentenceUnchanged);
    if (!plan.session.memoryPattern || plan.relaxDims) parts.push(t.plan.sentenceLevers);
  } else {
    shares.slice(0, 3).forEach((share, index) => {
      const last = index > 0 && index === Math.min(shares.length, 3) - 1;
      parts.push(
        last ? t.plan.sentenceRest(t.dtype[share.dtype]) : t.plan.sentenceDtype(t.dtype[share.dtype], share.share),
      );
    });
    parts.push(plan.pruneRatio > 0 ? t.plan.sentencePruned(plan.pruneRatio) : t.plan.sentenceNotPruned);
  }
  if (model.batchDimension !== null) parts.push(t.plan.sentenceBatch(plan.batch));
  return t.plan.sentence(parts);
}

/** `batch × 3 × 224 × 224` of the first input. */
export function inputShape(model: ModelSummary): string {
  return (model.inputs[0]?.dims ?? []).map((dim) => dim ?? '?').join(' × ');
}

/** Reasons worth telling: a provider that only follows from the chosen device is nobody's own setting. */
export function shownReasons(reasons: Reason[], pins: Pins): Reason[] {
  return reasons.filter(
    (reason) => reason.kind !== 'pinned' || !reason.what.startsWith('provider ') || pins.provider !== undefined,
  );
}

export function reasonText(reason: Reason, t: Messages): string {
  switch (reason.kind) {
    case 'already-fits':
      return t.reason.alreadyFits;
    case 'chosen':
      return t.reason.chosen;
    case 'pinned':
      return t.reason.pinned(pinnedWords(reason.what, t));
    case 'no-samples':
      return t.reason.noSamples;
    case 'stayed-large':
      return t.reason.stayedLarge(reason.weight, t.engine.clause(reason.why));
    case 'assumed-dimension':
      return t.reason.assumed(reason.name, reason.value);
    case 'fell-back':
      return t.reason.fellBack(reason.node, reason.operator, reason.provider);
    case 'candidate-failed':
      return t.reason.candidateFailed(planName(reason.id, t), t.engine.sentence(reason.why));
    case 'blocked-by':
      return t.reason.blocked(t.reason.blockedWhat[reason.what], reason.name, reason.bytes);
    case 'less-free':
      return t.reason.lessFree(reason.freeBytes, reason.neededBytes);
    case 'mixed': {
      const shares = dtypes.flatMap((dtype) => {
        const share = reason.shares[dtype];
        return share === undefined ? [] : [t.plan.sentenceDtype(t.dtype[dtype], share)];
      });
      return t.reason.mixed(t.app.clauses(shares), reason.basis === 'measured', reason.kept);
    }
    case 'note':
      return t.engine.sentence(reason.text);
  }
}

/** `dtype int8`, `batch 4`, `pruneRatio 0.3` as the controls call them. */
function pinnedWords(what: string, t: Messages): string {
  const [name, value = ''] = what.split(' ');
  const dtype = dtypes.find((each) => each === value);
  const provider = providers.find((each) => each === value);
  if (name === 'dtype' && dtype !== undefined) return t.dtype[dtype];
  if (name === 'provider' && provider !== undefined) return t.plan.sentenceProvider(t.provider[provider]);
  if (name === 'batch') return t.plan.sentenceBatch(Number(value));
  if (name === 'pruneRatio') {
    return Number(value) > 0 ? t.plan.sentencePruned(Number(value)) : t.plan.sentenceNotPruned;
  }
  return what;
}
