import type { Provider } from './vocabulary.js';

/** What a model will need, and what it was measured to need. */

export interface MemoryParts {
  weightsBytes: number;
  activationsBytes: number;
  cacheBytes: number;
  workspaceBytes: number;
  runtimeBytes: number;
}

export interface PhaseEstimate {
  peakBytes: number;
  parts: MemoryParts;
}

/** How sure an estimate is, and why. */
export interface EstimateInterval {
  /** A rule of the provider, a calibration run on this device, or the runs measured here before. */
  source: 'rule' | 'calibration' | 'record';
  /** Distance of the farther bound from the estimate, in percent of the estimate. */
  percent: number;
  /** Runs on this machine that the bounds rest on; 0 for a rule. */
  runs: number;
}

export interface Estimate {
  provider: Provider;
  batch: number;
  /** Every named dimension with the value used; `assumed` names those nobody gave. */
  dims: Record<string, number>;
  assumed: string[];
  load: PhaseEstimate;
  cold: PhaseEstimate;
  warm: PhaseEstimate;
  /** The largest of load, cold and warm: what "needs" means on screen. */
  peakBytes: number;
  /** Interval the estimate is sure of. */
  lowBytes: number;
  highBytes: number;
  /** Where that interval comes from; absent means the provider's rule. */
  interval?: EstimateInterval;
  topTensors: { name: string; bytes: number; kind: 'weight' | 'activation' | 'cache' }[];
  /** Live bytes over the nodes of a warm run, in execution order (thinned to at most 400 points). */
  timeline: { node: string; operator: string; liveBytes: number }[];
  /**
   * The largest values that live between nodes, each with the first and last point of `timeline` (inclusive) at
   * which it is in memory: what is under the curve at any point.
   */
  lifetimes?: TensorLifetime[];
  /** Values whose size could not be worked out, with the reason. */
  unknown: { name: string; reason: string }[];
  /** Limits of the device that would be hit. */
  limits: string[];
}

export interface TensorLifetime {
  name: string;
  bytes: number;
  kind: 'activation' | 'cache';
  from: number;
  to: number;
}

export interface Measurement {
  provider: Provider;
  batch: number;
  /** What the model adds; see ARCHITECTURE.md "What peakBytes counts". */
  peakBytes: number;
  load: number | null;
  cold: number | null;
  warm: number | null;
  weightsOutsideArenaBytes: number;
  /** Median of the timed runs. */
  latencyMs: number;
  samplesPerSecond: number;
  /** How the peak was read: `arena` (profile counters), `process` (resident set), `nvidia-smi`. */
  method: 'arena' | 'process' | 'nvidia-smi';
  /** Nodes by provider as the runtime placed them. */
  placement: Record<string, number>;
  /** Weight-carrying or costly nodes that fell back to the CPU although another provider was asked for. */
  fallbacks: { node: string; operator: string; provider: string; weightBytes: number }[];
}
