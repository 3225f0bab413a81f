import type { PruneUnit } from '../contract/types.js';
import { leavesOf, type Atom } from './axis-atoms.js';
import type { AxisGraph, AxisMark, WeightUse } from './axis-graph.js';

/** Parts of attention: they multiply with each other, so no one ratio suits all of them. */
const attentionKinds: ReadonlySet<PruneUnit> = new Set<PruneUnit>([
  'heads',
  'kv-groups',
  'query-heads',
  'query-key-width',
  'value-width',
  'head-width',
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
): PruneUnit {
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
export function cutByDefault(kind: PruneUnit, marks: ReadonlySet<AxisMark>, approximate: string | null): boolean {
  if (approximate !== null) return false;
  if (kind === 'groups') return marks.has('norm groups');
  // A stream reaches every layer, and no layer can make up for it alone.
  return kind !== 'stream' && !attentionKinds.has(kind);
}

/** Whether a ratio may cut the class where its measured loss is less than that of others. */
export function cutWhenMeasured(kind: PruneUnit, approximate: string | null): boolean {
  return approximate === null && attentionKinds.has(kind);
}

const words: Record<PruneUnit, string> = {
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
  kind: PruneUnit,
  ordinal: number,
  producing: readonly WeightUse[],
  paths: string,
): string {
  const matrices = producing.every((use) => !isConvolution(use));
  const what = kind === 'stream' && matrices ? 'hidden size of stream' : words[kind];
  return `${what} ${ordinal}${paths === '' ? '' : ` (${paths})`}`;
}

const isConvolution = (use: WeightUse): boolean => use.node.opType.includes('Conv');
