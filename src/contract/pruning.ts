import type { Damage } from './plan.js';

/** What can be pruned, and what that does to the answers. */

/** What one removable unit of a width is. */
export type PruneUnit =
  /** Output channels of convolutions. */
  | 'channels'
  /** Hidden units of an MLP (or of any pair of matrices). */
  | 'features'
  /** Whole attention heads: rows of query, key, value and output projections. */
  | 'heads'
  /** Key/value heads with all the query heads that share them (grouped-query attention). */
  | 'kv-groups'
  /** The same query head of every group (grouped-query attention). */
  | 'query-heads'
  /** Width of queries and keys within every head. */
  | 'query-key-width'
  /** Width of values within every head. */
  | 'value-width'
  /** Width of queries, keys and values where the model ties them. */
  | 'head-width'
  /** Whole groups of a grouped convolution or of a group norm. */
  | 'groups'
  /** Hidden units of an LSTM, GRU or RNN. */
  | 'recurrent'
  /** A stream that layers read and add to: channels of a stage, the hidden size of a transformer. */
  | 'stream';

/** A width that can shrink, for people to see and to set. */
export interface PruneClassView {
  id: string;
  name: string;
  unit: PruneUnit;
  /** Units now. */
  width: number;
  /** Layers whose outputs are the units, by name. */
  producers: string[];
  /** Layers that read them. */
  consumers: string[];
  /** Weights of norms and biases that shrink along: how many. */
  others: number;
  /** Whether the ratio applies to it; otherwise it shrinks only when its width is set. */
  byDefault: boolean;
  /** Weight bytes of one unit over all members, other widths unchanged. */
  bytesPerUnit: number;
}

/** What a prune ratio really did to the answers. */
export interface PrunePoint {
  ratio: number;
  damage: Damage;
  /** Share of answers that stayed the same; null when the output is no distribution. */
  top1Agreement: number | null;
}

/** Damage against ratio, method `repair`, measured by pruning and running the model: see `measurePruning`. */
export interface PruneCurve {
  /** By ratio; those measured so far. */
  points: PrunePoint[];
  /** Samples on which the answers were compared: kept out of the repair, unless it was `fitted` to them, being so few. */
  samples: number;
  fitted: boolean;
  state: 'measuring' | 'done' | 'stopped' | 'failed';
  /** Ratios measured in all, when it is done. */
  total: number;
}

export interface PruneView {
  classes: PruneClassView[];
  /** Null while nothing was measured for this model and these samples. */
  curve: PruneCurve | null;
  /** What the weights alone let expect of the method, number formats left out, at the ratios of `charts.prune`. */
  expected: { ratio: number; damage: Damage }[];
  /** Whether `charts.prune` and `furthestRatio` follow the measured curve, or what weights alone let expect. */
  basis: 'measured' | 'expected';
  /**
   * This far and no further: the largest ratio before the damage of pruning alone becomes more than small; null when
   * it never does.
   */
  furthestRatio: number | null;
}
