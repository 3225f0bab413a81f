import type { Estimate } from './memory.js';
import type { Dtype, Provider, PruneMethod, Verdict } from './vocabulary.js';

/** A way to make a model fit. */

/** Session options chosen by the plan. */
export interface SessionLevers {
  memoryPattern: boolean;
  /** The runtime's optimizers that are left out, by its own names (`BiasGeluFusion`). Absent: none. */
  disabledOptimizers?: string[];
  /** Nodes that webgpu leaves to the CPU, so that their weights need no room on the GPU. Absent: none. */
  cpuNodes?: string[];
}

export interface WeightPlan {
  name: string;
  operator: string;
  dims: number[];
  dtype: Dtype;
  bytesBefore: number;
  bytesAfter: number;
  /** Why this weight stayed large or got a wider dtype than asked. */
  reason?: string;
  /** Weights that share a scale, where a mix chose it; see {@link WeightFormat}. */
  blockSize?: number;
  zeroPoints?: boolean;
  /**
   * Error this format of this weight alone is expected to add to the answers, as a share of their power. Comparable
   * between the weights of one plan; absent in plans of earlier versions.
   */
  noise?: number;
}

/** Where the sensitivity of the weights comes from: their own values, or runs of the model. */
export type SensitivityBasis = 'weights' | 'measured';

/** Share of the weights in each format, 0 to 1, counted in bytes before. */
export type MixShares = Partial<Record<Dtype, number>>;

/** A mix of number formats that was chosen weight by weight for a number of bytes. */
export interface MixPlan {
  /** Bytes the provider holds for all weights between runs, packed copies included. */
  weightBytes: number;
  basis: SensitivityBasis;
  /** What the single noises add up to. */
  expected: Damage;
}

export interface ClassPlan {
  id: string;
  /** For people: the name of the layers that share this width. */
  name: string;
  before: number;
  after: number;
}

export interface Plan {
  provider: Provider;
  batch: number;
  dims: Record<string, number>;
  pruneRatio: number;
  pruneMethod: PruneMethod;
  classes: ClassPlan[];
  weights: WeightPlan[];
  /** Set where the formats were weighed against each other weight by weight. */
  mix?: MixPlan;
  session: SessionLevers;
  /**
   * Whether a zero-copy Reshape hides the batch symbol from onnxruntime's static planner, which otherwise
   * holds same-shaped buffers over long gaps (docs/decisions/0003).
   */
  relaxDims: boolean;
  /** Whether the nodes are written in another order, under which the runtime holds fewer bytes at once. Absent: no. */
  reorderNodes?: boolean;
  /**
   * Whether the weights go into a file of their own, from which the runtime maps those it does not repack instead of
   * copying them. Absent: only where one file cannot hold them.
   */
  externalWeights?: boolean;
}

export type DamageBand = 'none' | 'negligible' | 'small' | 'moderate' | 'large' | 'severe' | 'unknown';

export interface Damage {
  band: DamageBand;
  /** Expected (before a run) or measured output signal-to-noise in dB; null when nothing changed. */
  sqnrDb: number | null;
}

export interface Candidate {
  id: string;
  plan: Plan;
  estimate: Estimate;
  fileBytes: number;
  damage: Damage;
  verdict: Verdict;
}
