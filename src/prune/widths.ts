import { SnugError } from '../contract/errors.js';
import type { ClassPlan } from '../contract/types.js';
import type { PruneClass } from './classes.js';

export interface WidthRequest {
  /** Share of each class to remove, 0 … 1. */
  ratio: number;
  /** Class id → kept width; wins over `ratio`. */
  perClass?: Record<string, number>;
  /** Kept widths are multiples of this (default 8: kernels waste less). */
  roundTo?: number;
}

/** Share of a class that always stays. */
export const minimumKept = 0.25;

/**
 * Kept width of every class. Widths are rounded to the nearest multiple, at least a quarter of a class stays, and
 * classes no wider than one multiple are left alone; widths given per class are taken as they are.
 * @throws SnugError E_BAD_REQUEST for a ratio outside 0 … 1, an unknown class, or an impossible width.
 */
export function planWidths(classes: readonly PruneClass[], request: WidthRequest): ClassPlan[] {
  const { ratio, perClass = {}, roundTo = 8 } = request;
  if (!(ratio >= 0 && ratio < 1)) {
    throw new SnugError('E_BAD_REQUEST', `The prune ratio ${ratio} is not between 0 and 1.`, {
      action: 'Give a share to remove, for example 0.3.',
      params: { ratio },
    });
  }
  if (!Number.isInteger(roundTo) || roundTo < 1) {
    throw new SnugError('E_BAD_REQUEST', `Widths cannot be rounded to ${roundTo}.`, { action: 'Give a whole number.' });
  }
  const known = new Map(classes.map((one) => [one.id, one]));
  for (const [id, width] of Object.entries(perClass)) {
    const one = known.get(id);
    if (one === undefined || !Number.isInteger(width) || width < 1 || width > one.width) {
      throw new SnugError('E_BAD_REQUEST', `"${id}" cannot be pruned to a width of ${width}.`, {
        action: one === undefined ? 'Use an id from the list of classes.' : `Give a width from 1 to ${one.width}.`,
        params: { class: id, width },
      });
    }
  }
  return classes.map(({ id, name, width, unitSize, byDefault }) => ({
    id,
    name,
    before: width,
    after: perClass[id] ?? (byDefault ? keptWidth(width, ratio, unitsPerMultiple(roundTo, unitSize)) : width),
  }));
}

/** How many units make a multiple of `roundTo` rows. */
export function unitsPerMultiple(roundTo: number, unitSize: number): number {
  let [a, b] = [roundTo, unitSize];
  while (b > 0) [a, b] = [b, a % b];
  return roundTo / a;
}

/**
 * Widths of a class to choose from, widest first: multiples that suit kernels, coarser for wide classes, down to the
 * share that always stays.
 */
export function widthLevels({ width, unitSize }: Pick<PruneClass, 'width' | 'unitSize'>, roundTo = 8): number[] {
  const rows = width * unitSize;
  const step = unitsPerMultiple(rows >= 1024 ? 4 * roundTo : rows >= 256 ? 2 * roundTo : roundTo, unitSize);
  const levels = [width];
  for (let level = Math.floor((width - 1) / step) * step; level >= width * minimumKept && level > 0; level -= step) {
    levels.push(level);
  }
  return levels;
}

function keptWidth(width: number, ratio: number, roundTo: number): number {
  if (ratio === 0 || width <= roundTo) return width;
  const rounded = Math.round((width * (1 - ratio)) / roundTo) * roundTo;
  const least = Math.ceil((width * minimumKept) / roundTo) * roundTo;
  return Math.min(width, Math.max(rounded, least));
}
