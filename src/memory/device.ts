import type { SizedPlan } from './simulate.js';

/** DirectML pools resources in powers of two from 64 KiB. */
export function dmlBucket(bytes: number): number {
  if (bytes <= 0) return 0;
  return Math.max(65536, 2 ** Math.ceil(Math.log2(bytes)));
}

export interface PoolTrace {
  /** Bytes taken from the device over the run: pools keep what they have taken. */
  held: number;
  /** Bytes of buffers in use after each step. */
  live: number[];
}

/** One run on a provider that keeps freed buffers in pools by size. */
export function runPooled({ plan, bytesOf }: SizedPlan, bucket: (bytes: number) => number): PoolTrace {
  const free = new Map<number, number>();
  const trace: PoolTrace = { held: 0, live: [] };
  let live = 0;
  for (const step of plan.steps) {
    for (const { buffer } of step.allocates) {
      const size = bucket(bytesOf(buffer));
      const spare = free.get(size) ?? 0;
      if (spare > 0) free.set(size, spare - 1);
      else trace.held += size;
      live += size;
    }
    trace.live.push(live);
    for (const buffer of step.frees) {
      const size = bucket(bytesOf(buffer));
      free.set(size, (free.get(size) ?? 0) + 1);
      live -= size;
    }
  }
  return trace;
}
