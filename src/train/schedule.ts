import type { Schedule } from '../contract/training.js';

/**
 * Learning rate of an update: rising linearly from 0 over `warmUp` updates, then constant, or falling to 0 at
 * `total` on a line or half a cosine (Loshchilov and Hutter 2017, SGDR, equation 5 without restarts).
 * @param update 0 … total − 1
 */
export function learningRate(
  update: number,
  { rate, schedule, warmUp, total }: { rate: number; schedule: Schedule; warmUp: number; total: number },
): number {
  if (update < warmUp) return (rate * (update + 1)) / (warmUp + 1);
  const gone = total > warmUp ? Math.min(1, (update - warmUp) / (total - warmUp)) : 0;
  switch (schedule) {
    case 'constant':
      return rate;
    case 'linear':
      return rate * (1 - gone);
    case 'cosine':
      return (rate * (1 + Math.cos(Math.PI * gone))) / 2;
  }
}
