import { leavesOf, type Atom } from './axis-atoms.js';
import type { AxisGraph, AxisMark, WeightUse } from './axis-graph.js';

/** What one removable unit of a class is. */
export type ClassKind =
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

/** Kinds that a ratio for the whole model leaves alone: they multiply with another class or reach every layer. */
const onlyWhenAsked: ReadonlySet<ClassKind> = new Set<ClassKind>([
  'heads',
  'kv-groups',
  'query-heads',
  'query-key-width',
  'value-width',
  'head-width',
  'stream',
]);

/** The marks operators left on every leaf. */
export function marksByLeaf(graph: AxisGraph): Map<Atom, Set<AxisMark>> {
  const marks = new Map<Atom, Set<AxisMark>>();
  for (const { axis, mark } of graph.marks) {
    for (const leaf of leavesOf(axis)) {
      const own = marks.get(leaf) ?? new Set();
      marks.set(leaf, own.add(mark));
    }
  }
  return marks;
}

/** What the units of a class are, from what the operators along the way said of the axis. */
export function kindOf(
  marks: ReadonlySet<AxisMark>,
  {
    stream,
    grouped,
    unitSize,
    producing,
  }: {
    stream: boolean;
    grouped: boolean;
    unitSize: number;
    producing: readonly WeightUse[];
  },
): ClassKind {
  if (marks.has('recurrent')) return 'recurrent';
  if (stream) return 'stream';
  if (marks.has('heads') && marks.has('head repeats')) return 'query-heads';
  if (marks.has('heads')) return grouped ? 'kv-groups' : 'heads';
  const [width, value] = [marks.has('query-key width'), marks.has('value width')];
  if (width && value) return 'head-width';
  if (width) return 'query-key-width';
  if (value) return 'value-width';
  if (marks.has('groups') || (marks.has('norm groups') && unitSize > 1)) return 'groups';
  return producing.some(isConvolution) ? 'channels' : 'features';
}

/** Whole groups are cut by default only where nothing inside them can be. */
export function cutByDefault(kind: ClassKind, marks: ReadonlySet<AxisMark>, approximate: string | null): boolean {
  if (approximate !== null) return false;
  if (kind === 'groups') return marks.has('norm groups');
  return !onlyWhenAsked.has(kind);
}

const words: Record<ClassKind, string> = {
  channels: 'channels of convolution',
  features: 'hidden width of MLP',
  heads: 'attention heads of layer',
  'kv-groups': 'key/value head groups of layer',
  'query-heads': 'query heads per group of layer',
  'query-key-width': 'query/key width of layer',
  'value-width': 'value width of layer',
  'head-width': 'head width of layer',
  groups: 'channel groups of convolution',
  recurrent: 'hidden units of recurrent layer',
  stream: 'channels of stage',
};

/** Words for a person: "attention heads of layer 3 (blocks.2.attn)". */
export function describeClass(
  kind: ClassKind,
  ordinal: number,
  producing: readonly WeightUse[],
  paths: string,
): string {
  const matrices = producing.every((use) => !isConvolution(use));
  const what = kind === 'stream' && matrices ? 'hidden size of stream' : words[kind];
  return `${what} ${ordinal}${paths === '' ? '' : ` (${paths})`}`;
}

const isConvolution = (use: WeightUse): boolean => use.node.opType.includes('Conv');
