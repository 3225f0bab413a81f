import type { Candidate, WeightPlan } from '../contract/types.js';

/** Share of the bytes of all weights that may have another format. */
const negligibleShare = 0.01;
/** Share by which predicted peaks may differ. */
const nearlyEqual = 0.005;

const formatOf = ({ dtype, blockSize, zeroPoints }: WeightPlan): string =>
  `${dtype} ${blockSize ?? ''} ${zeroPoints ?? ''}`;

/**
 * Whether building one of two candidates tells what building the other would: the same widths and batch, the same
 * format for all but a negligible share of the weights, and peaks that are predicted nearly the same.
 */
export function nearlySame(a: Candidate, b: Candidate): boolean {
  if (a.plan.pruneRatio !== b.plan.pruneRatio || a.plan.batch !== b.plan.batch) return false;
  if (Math.abs(a.estimate.peakBytes / b.estimate.peakBytes - 1) > nearlyEqual) return false;
  const formats = new Map(b.plan.weights.map((weight) => [weight.name, formatOf(weight)]));
  if (formats.size !== a.plan.weights.length) return false;
  let [whole, other] = [0, 0];
  for (const weight of a.plan.weights) {
    whole += weight.bytesBefore;
    if (formats.get(weight.name) !== formatOf(weight)) other += weight.bytesBefore;
  }
  return other <= whole * negligibleShare;
}
