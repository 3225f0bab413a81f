import type { Provider } from './types.js';

/** One batch size, run for real on the model as it is. */
export interface ThroughputPoint {
  batch: number;
  samplesPerSecond: number;
  /** Median time of one run. */
  latencyMs: number;
  measuredBytes: number;
  estimatedBytes: number;
}

/** Throughput against batch size, as far as it was measured. */
export interface BatchSweep {
  provider: Provider;
  /** By batch size. */
  points: ThroughputPoint[];
  state: 'measuring' | 'done' | 'stopped' | 'failed';
  /** Sizes to measure in all; fewer are when larger ones are no faster. */
  total: number;
}

/** The smallest batch that runs nearly as fast as the fastest one that fits. */
export interface BatchKnee {
  batch: number;
  samplesPerSecond: number;
  /** Of the fastest batch that fits, 0 … 1. */
  share: number;
  fastest: number;
}

export interface Throughput {
  sweep: BatchSweep;
  /** Null while no measured batch fits the budget. */
  knee: BatchKnee | null;
}
