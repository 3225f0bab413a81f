import type { Damage } from '../../src/contract/types.js';

/** Error of the answers as a share of their size (root of mean squares), from the signal-to-noise ratio in dB. */
export function errorShare({ sqnrDb }: Damage): number {
  return sqnrDb === null ? 0 : Math.min(1, 10 ** (-sqnrDb / 20));
}

/** Steps in which a bar sets a width: what kernels like where the width is large enough, else single units. */
export function widthStep(width: number): number {
  return width >= 64 ? 8 : 1;
}

/** Names in a line, at most `most` of them. */
export function firstNames(names: readonly string[], most: number): { shown: string[]; more: number } {
  return names.length <= most + 1
    ? { shown: [...names], more: 0 }
    : { shown: names.slice(0, most), more: names.length - most };
}
