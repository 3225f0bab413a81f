import type { LossCurve } from './losses.js';

export interface AllocationClass {
  id: string;
  width: number;
  /** Widths to choose from, widest first; the first is the class as it is. One entry pins the class. */
  widths: readonly number[];
}

/** Steps in which saved bytes are counted. */
const steps = 2000;
const rounds = 3;

/**
 * Widths that save as many bytes as `start` does at the least summed loss: a knapsack over the classes' levels, with
 * what a class saves per unit taken from `bytesOf` at the current widths of all others and taken again after each
 * round, because classes share weights and only those alive at the peak save activations (alternating dynamic
 * programming, as for mixed sparsity in OBC/SPDY).
 * @param start widths to save as much as, by class id.
 * @param bytesOf what the model needs at given widths.
 * @returns widths by class id; `start` itself when nothing better is found.
 */
export function allocateWidths(
  classes: readonly AllocationClass[],
  curves: ReadonlyMap<string, LossCurve>,
  start: Readonly<Record<string, number>>,
  bytesOf: (widths: Readonly<Record<string, number>>) => number,
): Record<string, number> {
  const full = Object.fromEntries(classes.map(({ id, width }) => [id, width]));
  const fullBytes = bytesOf(full);
  const allowed = bytesOf(start);
  let best = { widths: { ...start }, loss: totalLoss(classes, curves, start) };
  let current: Record<string, number> = { ...start };
  let target = fullBytes - allowed;
  if (target <= 0) return best.widths;
  for (let round = 0; round < rounds; round++) {
    const perUnit = classes.map((one) => savedPerUnit(one, current, bytesOf));
    // Slopes are taken around the current widths: what all of them predict together is set right by what is really saved.
    const predicted = classes.reduce((sum, one, at) => sum + perUnit[at]! * (one.width - current[one.id]!), 0);
    const scale = predicted > 0 ? (fullBytes - bytesOf(current)) / predicted : 1;
    const chosen = knapsack(
      classes,
      curves,
      perUnit.map((bytes) => bytes * scale),
      target,
    );
    if (chosen === null) break;
    const bytes = bytesOf(chosen);
    const loss = totalLoss(classes, curves, chosen);
    if (bytes <= allowed && loss < best.loss) best = { widths: chosen, loss };
    // What the slopes promised too much is asked for on top.
    if (bytes > allowed) target += bytes - allowed;
    current = chosen;
  }
  return best.widths;
}

function lossOf(curve: LossCurve | undefined, removed: number): number {
  if (removed === 0) return 0;
  return curve?.losses[removed] ?? Infinity;
}

function totalLoss(
  classes: readonly AllocationClass[],
  curves: ReadonlyMap<string, LossCurve>,
  widths: Readonly<Record<string, number>>,
): number {
  return classes.reduce((sum, { id, width }) => sum + lossOf(curves.get(id), width - widths[id]!), 0);
}

/** Bytes one unit of the class saves when only this class goes from its full width to a middle one. */
function savedPerUnit(
  one: AllocationClass,
  widths: Readonly<Record<string, number>>,
  bytesOf: (widths: Readonly<Record<string, number>>) => number,
): number {
  const least = one.widths[one.widths.length - 1]!;
  if (least === one.width) return 0;
  const middle = one.widths[Math.floor(one.widths.length / 2)]!;
  const saved = bytesOf({ ...widths, [one.id]: one.width }) - bytesOf({ ...widths, [one.id]: middle });
  return Math.max(0, saved) / (one.width - middle);
}

/** Least summed loss that saves at least `target` bytes; null when no choice does. */
function knapsack(
  classes: readonly AllocationClass[],
  curves: ReadonlyMap<string, LossCurve>,
  perUnit: readonly number[],
  target: number,
): Record<string, number> | null {
  const unit = target / steps;
  let losses = new Float64Array(steps + 1).fill(Infinity);
  losses[0] = 0;
  const choices: Int32Array[] = [];
  classes.forEach((one, at) => {
    const next = new Float64Array(steps + 1).fill(Infinity);
    const choice = new Int32Array(steps + 1);
    one.widths.forEach((width, level) => {
      const loss = lossOf(curves.get(one.id), one.width - width);
      const saved = Math.floor((perUnit[at]! * (one.width - width)) / unit);
      for (let from = 0; from <= steps; from++) {
        const to = Math.min(steps, from + saved);
        if (losses[from]! + loss < next[to]!) {
          next[to] = losses[from]! + loss;
          choice[to] = level * (steps + 1) + from;
        }
      }
    });
    losses = next;
    choices.push(choice);
  });
  if (!Number.isFinite(losses[steps]!)) return null;
  const widths: Record<string, number> = {};
  let at = steps;
  for (let index = classes.length - 1; index >= 0; index--) {
    const choice = choices[index]![at]!;
    widths[classes[index]!.id] = classes[index]!.widths[Math.floor(choice / (steps + 1))]!;
    at = choice % (steps + 1);
  }
  return widths;
}
