import { SnugError } from '../contract/errors.js';
import type { GpuReading, Provider } from '../contract/types.js';
import { gpuProviders } from './providers.js';

const gigabyte = 1e9;

/** Sizes of common GPUs for "plan for another GPU", in bytes (GB = 10⁹). */
export const presetBytes: readonly number[] = [4, 6, 8, 12, 16, 24].map((size) => size * gigabyte);

/**
 * Bytes Snug leaves free by default, so that programs that grow while the model runs (a browser tab, the
 * desktop itself) and rounding inside the driver do not end in an out-of-memory error.
 *
 * - Own memory: 5 % of the total, at least 0.25 GB (a small card's desktop still needs a window or two), at
 *   most 2 GB (other programs do not grow with the card).
 * - Shared memory: 10 %, at least 0.5 GB, at most 4 GB. Running out there slows or ends everything on the
 *   computer, not just this program.
 */
export function keptFreeBytes(gpu: Pick<GpuReading, 'totalBytes' | 'freeBytes' | 'shared'>): number {
  const size = gpu.totalBytes ?? gpu.freeBytes ?? 0;
  const [share, least, most] = gpu.shared ? [0.1, 0.5 * gigabyte, 4 * gigabyte] : [0.05, 0.25 * gigabyte, 2 * gigabyte];
  return Math.round(Math.min(most, Math.max(least, size * share)));
}

/**
 * Bytes a model may use: free - kept free, never negative. Null when the reading knows no size. When only the
 * total is known, other programs are taken to use 1 GB or a quarter of it, whichever is less.
 */
export function budgetFor(gpu: Pick<GpuReading, 'totalBytes' | 'freeBytes' | 'shared'>): number | null {
  const { totalBytes, freeBytes } = gpu;
  if (freeBytes === null && totalBytes === null) return null;
  const free = freeBytes ?? (totalBytes ?? 0) - Math.min(gigabyte, (totalBytes ?? 0) / 4);
  return Math.max(0, Math.floor(free - keptFreeBytes(gpu)));
}

/**
 * A GPU whose memory a person entered: "my GPU has … GB" or "plan for another GPU".
 *
 * @param totalBytes positive whole number of bytes
 * @param freeBytes 0 … totalBytes; left out, all of it counts as free
 * @throws SnugError E_USAGE when a figure makes no sense
 */
export function manualReading(
  totalBytes: number,
  freeBytes?: number,
  options: { platform?: NodeJS.Platform; providers?: readonly Provider[]; now?: () => number } = {},
): GpuReading {
  if (!Number.isSafeInteger(totalBytes) || totalBytes <= 0) {
    throw new SnugError('E_USAGE', 'GPU memory must be a positive whole number of bytes.', {
      action: 'Enter the size of the GPU’s memory, for example 8 GB.',
    });
  }
  if (freeBytes !== undefined && (!Number.isSafeInteger(freeBytes) || freeBytes < 0 || freeBytes > totalBytes)) {
    throw new SnugError('E_USAGE', 'Free GPU memory must be between 0 and the total.', {
      action: 'Enter how much of the GPU’s memory is free, or leave it out.',
      params: { totalBytes },
    });
  }
  return {
    id: 'manual',
    name: 'GPU entered by you',
    vendor: 'other',
    totalBytes,
    freeBytes: freeBytes ?? totalBytes,
    heldByOthersBytes: freeBytes === undefined ? null : totalBytes - freeBytes,
    heldByUsBytes: null,
    address: null,
    shared: false,
    source: 'entered by you',
    confidence: 'reported',
    providers: gpuProviders('other', options.platform ?? process.platform, options.providers),
    readAt: (options.now ?? Date.now)(),
    notes: freeBytes === undefined ? ['All of it is taken to be free.'] : [],
  };
}
