import type { Estimate, TensorLifetime } from '../contract/types.js';
import type { Node } from '../onnx/model.js';
import type { SizedPlan } from './simulate.js';

const longestTimeline = 400;
/** Enough to name nearly every byte under any point; the rest is told as one sum. */
const mostLifetimes = 64;

/**
 * Live bytes over the nodes, and the largest values under the curve.
 *
 * @param live bytes in memory after each node, before what died with it is freed
 */
export function timelineOf(
  nodes: readonly Node[],
  live: readonly number[],
  sized: SizedPlan,
  cacheValues: ReadonlySet<string>,
): Required<Pick<Estimate, 'timeline' | 'lifetimes'>> {
  const steps = shownSteps(nodes.length, live);
  return {
    timeline: steps.map((step) => ({
      node: nodes[step]?.name ?? '',
      operator: nodes[step]?.opType ?? '',
      liveBytes: live[step] ?? 0,
    })),
    lifetimes: lifetimesOf(steps, sized, cacheValues),
  };
}

/** The steps that are drawn: of each group of neighbours the highest, so that thinning never hides the peak. */
function shownSteps(count: number, live: readonly number[]): number[] {
  const every = Math.max(1, Math.ceil(count / longestTimeline));
  const steps: number[] = [];
  for (let start = 0; start < count; start += every) {
    let best = start;
    for (let step = start; step < Math.min(start + every, count); step += 1) {
      if ((live[step] ?? 0) > (live[best] ?? 0)) best = step;
    }
    steps.push(best);
  }
  return steps;
}

function lifetimesOf(
  shown: readonly number[],
  { plan, bytesOf }: SizedPlan,
  cacheValues: ReadonlySet<string>,
): TensorLifetime[] {
  const ends = new Map<string, number>();
  plan.steps.forEach((step, index) => step.frees.forEach((buffer) => ends.set(buffer, index)));
  const spans: { name: string; bytes: number; start: number; end: number }[] = [];
  plan.steps.forEach((step, start) => {
    for (const { buffer } of step.allocates) {
      const bytes = bytesOf(buffer);
      if (bytes > 0) spans.push({ name: buffer, bytes, start, end: ends.get(buffer) ?? plan.steps.length - 1 });
    }
  });
  const lifetimes: TensorLifetime[] = [];
  for (const { name, bytes, start, end } of spans.sort((a, b) => b.bytes - a.bytes)) {
    const from = shown.findIndex((step) => step >= start);
    const to = shown.findLastIndex((step) => step <= end);
    if (from < 0 || to < from) continue;
    lifetimes.push({ name, bytes, kind: cacheValues.has(name) ? 'cache' : 'activation', from, to });
    if (lifetimes.length === mostLifetimes) break;
  }
  return lifetimes;
}
