import type { Estimate } from './memory.js';
import type { Candidate, Damage, MixShares, SensitivityBasis } from './plan.js';
import type { PruneView } from './pruning.js';
import type { Throughput } from './throughput.js';
import type { Dtype, Provider, PruneMethod, Verdict } from './vocabulary.js';

/** What a person fixed, and the plan as it is shown. */

/** What a person fixed by hand; everything absent is Snug's to choose. */
export interface Pins {
  provider?: Provider;
  batch?: number;
  dims?: Record<string, number>;
  pruneRatio?: number;
  pruneMethod?: PruneMethod;
  dtype?: Dtype;
  /** Weight name → dtype. */
  weights?: Record<string, Dtype>;
  /** Class id → kept width. */
  classes?: Record<string, number>;
  /** Bytes the provider may hold for all weights: the best mix of formats of that size. Ignored where `dtype` is set. */
  weightBytes?: number;
}

export interface PlanRequest {
  modelId: string;
  budgetBytes: number;
  pins: Pins;
}

export type Reason =
  | { kind: 'already-fits' }
  | { kind: 'chosen'; why: 'least-damage' }
  | { kind: 'pinned'; what: string }
  | { kind: 'no-samples' }
  | { kind: 'stayed-large'; weight: string; why: string }
  | { kind: 'assumed-dimension'; name: string; value: number }
  | { kind: 'fell-back'; node: string; operator: string; provider: string }
  | { kind: 'candidate-failed'; id: string; why: string }
  | { kind: 'blocked-by'; what: 'weights' | 'activations' | 'cache'; name: string; bytes: number }
  | { kind: 'less-free'; freeBytes: number; neededBytes: number }
  /** Which formats a mix gives to which share of the weights, and the weights it keeps widest because they matter most. */
  | { kind: 'mixed'; basis: SensitivityBasis; shares: MixShares; kept: string[] }
  | { kind: 'note'; text: string };

export interface PlanView {
  budgetBytes: number;
  /** The model as it is, at the plan's batch and provider. */
  baseline: { estimate: Estimate; verdict: Verdict; fileBytes: number };
  /** What Snug proposes; null when nothing fits. */
  proposal: Candidate | null;
  /** The smallest peak reachable with these pins, always present. */
  smallest: Candidate;
  reasons: Reason[];
  charts: {
    prune: { ratio: number; peakBytes: number; fileBytes: number; damage: Damage }[];
    dtypes: {
      dtype: Dtype;
      peakBytes: number;
      fileBytes: number;
      damage: Damage;
      allowed: boolean;
      /** Why this dtype is not offered on this provider (when not allowed) or what it leaves large. */
      note: string | null;
      /** Time per run against fp32 on this provider, as far as known for its operators; null where nothing is known. */
      speed?: 'faster' | 'same' | 'slower' | null;
    }[];
    batches: { batch: number; peakBytes: number; fits: boolean }[];
    /** Pareto front over all candidates plus the chosen point. */
    tradeoff: { id: string; label: string; peakBytes: number; damage: Damage; chosen: boolean }[];
  };
  /** Weight → the formats it can have here; pinning another is refused. Absent in views of earlier versions. */
  weightFormats?: Record<string, Dtype[]>;
  /** What can be pruned and what that costs; absent where nothing can be. */
  pruning?: PruneView;
  /** Mixes of formats between the smallest and the widest, unpruned; absent where no weight has a choice. */
  mixes?: MixView;
  /** How fast each batch size really is; absent while nothing was measured: see `measureBatches`. */
  throughput?: Throughput;
  /**
   * True when there was no time for all of it: some figures of charts are those of a close neighbour. Asking again goes
   * on from here.
   */
  unfinished?: boolean;
  /** How long the solve took. */
  solveMs: number;
}

/** One mix of number formats of the Pareto front: no other of as few bytes is expected to do less damage. */
export interface MixPoint {
  /** Bytes the provider holds for all weights between runs; `Pins.weightBytes` picks the point. */
  weightBytes: number;
  fileBytes: number;
  /** At the shown plan's batch. */
  peakBytes: number;
  damage: Damage;
  shares: MixShares;
  /** Whether the shown plan is this mix. */
  chosen: boolean;
}

export interface MixView {
  basis: SensitivityBasis;
  /** By rising bytes; at most 60 points, evenly spread. */
  front: MixPoint[];
}
