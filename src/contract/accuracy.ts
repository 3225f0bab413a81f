import type { Dtype, Provider } from './vocabulary.js';

/** How right Snug has been on this machine. */

/** One prediction beside what was measured. Holds the name of the model, never a path. */
export interface AccuracyRun {
  model: string;
  provider: Provider;
  batch: number;
  /** Number format of most of the weight bytes. */
  dtype: Dtype;
  predictedBytes: number;
  measuredBytes: number;
  /** Milliseconds since the epoch. */
  at: number;
}

/** What one calibration run learned about a device. */
export interface Calibration {
  /** Name of the GPU, or of the processor for the cpu provider. */
  device: string;
  /** Driver version where one is known; null for the cpu provider. */
  driver: string | null;
  provider: Provider;
  onnxruntime: string;
  at: number;
  /** A session of one node: what it held after loading and at its peak, and what the rule expected at its peak. */
  fixed: { loadBytes: number; peakBytes: number; predictedBytes: number };
  /** Small graphs: measured peaks beside the estimate and the bounds the provider's rule gave. */
  probes: { name: string; predictedBytes: number; measuredBytes: number; lowBytes: number; highBytes: number }[];
  /** The farther bound of the interval that follows for a model whose rule is as sure as the probes', percent. */
  percent: number;
}

export interface AccuracySummary {
  runs: number;
  /** |predicted ÷ measured − 1|, percent. */
  medianPercent: number;
  worstPercent: number;
}

/** The record of predictions on this machine and the calibrations that hold now. Stays on this computer. */
export interface AccuracyView {
  /** Newest first. */
  runs: AccuracyRun[];
  /** Null before the first run. */
  summary: AccuracySummary | null;
  calibrations: Calibration[];
  /** The provider being calibrated right now. */
  calibrating: Provider | null;
}

/**
 * What is known on this machine about how far estimates of one provider are off. Ratios are measured over estimated.
 */
export interface KnownError {
  calibration: {
    low: number;
    high: number;
    runs: number;
    /** Added to an estimate before the ratios: what a session costs here beyond what the rule expects. */
    offsetBytes: number;
    /** Bounds over estimate that the rule gave the probes: less sure models get a wider interval in proportion. */
    rule: { low: number; high: number };
  } | null;
  record: { low: number; high: number; runs: number } | null;
}
