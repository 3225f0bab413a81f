import type { AxisGraph } from './axis-graph.js';
import { keptIndices, type KeptUnits } from './axis-atoms.js';
import type { AnalysedClass } from './classes.js';
import { linearConsumer, readBias, readWeights, unitColumns, type LinearConsumer } from './consumer.js';
import { addMoments, emptyMoments, type Moments } from './least-squares.js';
import { analysisBatch } from './request.js';
import { noEdits, type Edits } from './rewrite.js';
import { basesOf, type Basis } from './linear-space.js';
import type { StageRun, TapSize } from './stages.js';
import type { Tap, TapPiece } from './taps.js';

/** Wider consumers are fitted in pieces: time grows with the cube of the columns, memory with their square. */
export const maximumColumns = 4608;

/** One consumer of a class with the sums its repair needs. */
export interface ConsumerFit {
  consumer: LinearConsumer;
  withBias: boolean;
  pieces: PieceFit[];
  /** What the pieces' targets leave out: the dense bias when there is more than one, else zeros. */
  pieceBias: Float64Array;
}

/** The part of a consumer that is fitted at once: all of it, unless it is too wide. Columns are those of the current model. */
export interface PieceFit {
  /** Current column → column in the original widths. */
  columns: number[];
  /** Unit → current columns; empty for units of other pieces. */
  units: number[][];
  /** Dense weights of the columns, columns × outputs. */
  weights: Float64Array;
  training: Moments;
  heldOut: Moments;
  tap: Tap;
}

/** Consumers of a class that can be refitted. */
export function refittable(graph: AxisGraph, one: AnalysedClass): LinearConsumer[] {
  return one.consuming
    .map((use) => linearConsumer(graph, use))
    .filter((consumer) => consumer !== null)
    .filter((consumer) => unitColumns(consumer, one.leaf, 1)[0]!.length <= maximumColumns);
}

/** Bases of a class that can be turned before it is cut; null where its units have to be chosen as they are. */
export function turnableBases(graph: AxisGraph, one: AnalysedClass): Basis[] | null {
  const bases = basesOf(graph, one);
  const whole = ({ indices, columnsPerIndex }: LinearConsumer): boolean => indices * columnsPerIndex <= maximumColumns;
  return bases?.every((basis) =>
    basis.kind === 'read'
      ? basis.reads.every(({ consumer }) => whole(consumer))
      : [basis.keys, ...basis.queries].every(({ producer }) => whole(producer)),
  )
    ? bases
    : null;
}

/** The layers that make queries and keys, one for each activation they read. */
export function scoreProducers(bases: readonly Basis[] | null): LinearConsumer[] {
  const all = (bases ?? []).flatMap((basis) => (basis.kind === 'score' ? [basis.keys, ...basis.queries] : []));
  return [...new Map(all.map(({ producer }) => [producer.use.activation, producer])).values()];
}

/** How much a tap of the consumer reads. */
export function tapSize(graph: AxisGraph, consumer: LinearConsumer): TapSize {
  const elements = graph.axes(consumer.target)?.reduce((product, axis) => product * axis.size, 1) ?? 0;
  return {
    rows: Math.max(1, elements / consumer.outputs / analysisBatch),
    columns: Math.min(maximumColumns, consumer.indices * consumer.columnsPerIndex),
  };
}

/** Empty sums for one consumer at the widths of `kept`. */
export function prepareFit(
  graph: AxisGraph,
  edits: Edits,
  kept: KeptUnits,
  one: Pick<AnalysedClass, 'leaf' | 'width'>,
  consumer: LinearConsumer,
  every: number,
): ConsumerFit {
  const k = consumer.columnsPerIndex;
  const { outputs } = consumer;
  const current = keptIndices(consumer.use.input, kept);
  const at = new Map(current.map((index, position) => [index, position]));
  const all = readWeights(graph, edits, consumer);
  const units = unitColumns(consumer, one.leaf, one.width);
  const parts = partition(consumer, units);
  const dense = parts.length === 1 ? null : readWeights(graph, noEdits(), consumer);
  const pieces = parts.map((indices): PieceFit => {
    const here = indices.filter((index) => at.has(index));
    const columns = here.flatMap((index) => Array.from({ length: k }, (_, tap) => index * k + tap));
    const position = new Map(columns.map((column, order) => [column, order]));
    const piece: TapPiece | undefined = dense
      ? {
          current: here.map((index) => at.get(index)!),
          dense: indices,
          weights: Float32Array.from(rowsOf(dense, columnsOf(indices, k), outputs)),
        }
      : undefined;
    return {
      columns,
      // Columns that another class of the same axis (heads, widths within them) took already are gone.
      units: units.map((unit) => unit.flatMap((column) => position.get(column) ?? [])),
      weights: rowsOf(all, columns, outputs),
      training: emptyMoments(columns.length, outputs),
      heldOut: emptyMoments(columns.length, outputs),
      tap: { consumer, indices: here.length, every, ...(piece === undefined ? {} : { piece }) },
    };
  });
  const bias = parts.length === 1 ? null : readBias(graph, consumer);
  return {
    consumer,
    withBias: consumer.bias !== 'none',
    pieces,
    pieceBias: bias ?? new Float64Array(outputs),
  };
}

function columnsOf(indices: readonly number[], k: number): number[] {
  return indices.flatMap((index) => Array.from({ length: k }, (_, tap) => index * k + tap));
}

function rowsOf(matrix: Float64Array, rows: readonly number[], columns: number): Float64Array {
  const result = new Float64Array(rows.length * columns);
  rows.forEach((row, at) => result.set(matrix.subarray(row * columns, (row + 1) * columns), at * columns));
  return result;
}

/** Original indices of the input axis in lists of bounded size; those of one unit stay together. */
function partition(consumer: LinearConsumer, units: readonly (readonly number[])[]): number[][] {
  const k = consumer.columnsPerIndex;
  const everything = Array.from({ length: consumer.indices }, (_, index) => index);
  if (consumer.indices * k <= maximumColumns) return [everything];
  const count = Math.ceil((consumer.indices * k) / maximumColumns);
  const room = Math.ceil(consumer.indices / count);
  const owned = units.map((unit) => [...new Set(unit.map((column) => Math.floor(column / k)))]);
  const taken = new Set(owned.flat());
  const groups = [...owned, ...everything.filter((index) => !taken.has(index)).map((index) => [index])];
  const parts: number[][] = [[]];
  for (const group of groups) {
    if (parts[parts.length - 1]!.length > 0 && parts[parts.length - 1]!.length + group.length > room) parts.push([]);
    parts[parts.length - 1]!.push(...group);
  }
  return parts.map((part) => part.sort((a, b) => a - b));
}

/** Adds what one run of the taps gave; `names` are in the order of the pieces. */
export function addRun(fits: readonly ConsumerFit[], { results, names, heldOut }: StageRun): void {
  fits
    .flatMap((fit) => fit.pieces)
    .forEach((piece, at) => {
      const tap = names[at]!;
      const numbers = (name: string) => results[name]!.data as Float32Array;
      addMoments(heldOut ? piece.heldOut : piece.training, {
        rows: Number((results[tap.shape]!.data as BigInt64Array)[0]),
        gram: numbers(tap.gram),
        cross: numbers(tap.cross),
        inputSum: numbers(tap.inputSum),
        outputSum: numbers(tap.outputSum),
        outputSquares: numbers(tap.outputSquares),
      });
    });
}
