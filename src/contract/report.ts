import type { MemorySample } from './jobs.js';
import type { Estimate, Measurement } from './memory.js';
import type { Reason } from './plan-view.js';
import type { Damage, Plan } from './plan.js';
import type { ModelSummary } from './summary.js';
import type { Dtype } from './vocabulary.js';

/** What a fit has come to. */

/** How far one value of the result is from the original's. */
export interface ValueDamage {
  /** Name of the value in the graph. */
  value: string;
  sqnrDb: number;
  cosine: number;
  damage: Damage;
}

/** Damage at one answer of the model. */
export interface OutputDamage extends ValueDamage {
  /** Null when the output is no distribution. */
  top1Agreement: number | null;
  klNats: number | null;
}

/**
 * Damage at the output of one layer that holds weights, everything before it changed as well: it grows along the
 * network, and a step shows a layer that does harm.
 */
export interface LayerDamage extends ValueDamage {
  /** Name of the node in the original. */
  layer: string;
  operator: string;
  /** Its weights, as in `Plan.weights`. */
  weights: string[];
  /** Format of most of their bytes. */
  dtype: Dtype;
}

/** How likely the original and the result hold the true next tokens: e to the mean negative log-likelihood. */
export interface Perplexity {
  before: number;
  after: number;
  tokens: number;
}

/** Share of right answers on labelled samples. */
export interface Accuracy {
  before: number;
  after: number;
  samples: number;
}

export interface Quality {
  /** Where the compared inputs came from. */
  source: 'samples' | 'random';
  samples: number;
  /** How many were given, where fewer were compared: those lie at equal distances among them. */
  samplesGiven?: number;
  /**
   * Whether the result was fitted to these same samples, as it is where they are too few to keep some out: then other
   * inputs may lose more. Absent where that is not known, as in a comparison of two files.
   */
  fitted?: boolean;
  sqnrDb: number;
  cosine: number;
  /** Share of samples (or tokens) with the same arg-max, null when the output is no distribution. */
  top1Agreement: number | null;
  /** Mean KL(original ‖ result) in nats, null when the output is no distribution. */
  klNats: number | null;
  damage: Damage;
  /** Absent in reports of earlier versions. */
  outputs?: OutputDamage[];
  /** In the order of the graph; absent where nothing was changed or the original could not be run beside the result. */
  layers?: LayerDamage[];
  /** For decoders of text whose samples hold the next tokens. */
  perplexity?: Perplexity;
  /** Where labels were given. */
  accuracy?: Accuracy;
}

export interface FitReport {
  model: ModelSummary;
  output: { path: string; fileBytes: number } | null;
  budgetBytes: number;
  plan: Plan;
  fits: boolean;
  before: { measured: Measurement | null; estimate: Estimate; fileBytes: number; parameters: number };
  predicted: Estimate;
  measured: Measurement | null;
  after: { fileBytes: number; parameters: number };
  quality: Quality | null;
  /** Latency before divided by latency after, in this run. */
  speed: number | null;
  reasons: Reason[];
  /** Memory while the job ran, thinned; absent where it could not be sampled. */
  trace?: MemorySample[];
  /** All candidates tried, best first. */
  tried: { id: string; label: string; predictedBytes: number; measuredBytes: number | null; outcome: string }[];
  seconds: number;
}
