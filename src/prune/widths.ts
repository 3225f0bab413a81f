import { SnugError } from '../contract/errors.js';
import type { ClassPlan, Provider } from '../contract/types.js';
import type { PruneClass } from './classes.js';

export interface WidthRequest {
  /** Share of each class to remove, 0 … 1. */
  ratio: number;
  /** Class id → kept width; wins over `ratio`. */
  perClass?: Record<string, number>;
  /** Kept widths are multiples of this (default: what the kernels of the provider hold, see {@link multipleOf}). */
  roundTo?: number;
  /** Execution provider the result is meant for (default cpu). */
  provider?: Provider;
}

/**
 * Rows that kernels take at once. On the cpu onnxruntime holds convolutions' channels in blocks of 16 (AVX-512; 8 with
 * AVX2), so that 17 channels take the memory of 32; WebGPU shaders work on vectors of 4.
 */
const channelMultiples: Partial<Record<Provider, number>> = { cpu: 16, webgpu: 4 };
const usualMultiple = 8;

type Rounded = Pick<PruneClass, 'kind' | 'width' | 'unitSize'>;

/** Rows that the kept width of a class is a multiple of; convolutions no wider than one block only shrink on disk. */
function multipleOf({ kind, width }: Rounded, { roundTo, provider = 'cpu' }: Omit<WidthRequest, 'ratio'>): number {
  if (roundTo !== undefined) return roundTo;
  const multiple = kind === 'channels' ? (channelMultiples[provider] ?? usualMultiple) : usualMultiple;
  return width <= multiple ? Math.min(multiple, usualMultiple) : multiple;
}

/** Share of a class that always stays. */
export const minimumKept = 0.25;

/**
 * Kept width of every class. Widths are rounded to the nearest multiple, at least a quarter of a class stays, and
 * classes no wider than one multiple are left alone; widths given per class are taken as they are.
 * @throws SnugError E_BAD_REQUEST for a ratio outside 0 … 1, an unknown class, or an impossible width.
 */
export function planWidths(classes: readonly PruneClass[], request: WidthRequest): ClassPlan[] {
  const { ratio, perClass = {}, roundTo } = request;
  if (!(ratio >= 0 && ratio < 1)) {
    throw new SnugError('E_BAD_REQUEST', `The prune ratio ${ratio} is not between 0 and 1.`, {
      action: 'Give a share to remove, for example 0.3.',
      params: { ratio },
    });
  }
  if (roundTo !== undefined && (!Number.isInteger(roundTo) || roundTo < 1)) {
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
  return classes.map((one) => {
    const { id, name, width, unitSize, byDefault } = one;
    const units = unitsPerMultiple(multipleOf(one, request), unitSize);
    return { id, name, before: width, after: perClass[id] ?? (byDefault ? keptWidth(width, ratio, units) : width) };
  });
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
export function widthLevels(one: Rounded, request: Omit<WidthRequest, 'ratio'> = {}): number[] {
  const { width, unitSize } = one;
  const rows = width * unitSize;
  const multiple = multipleOf(one, request);
  const coarse = rows >= 1024 ? 4 : rows >= 256 ? 2 : 1;
  // A step of 32 rows is coarse enough whatever the multiple.
  const step = unitsPerMultiple(Math.max(multiple, Math.min(coarse * multiple, 32)), unitSize);
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
