import { getInt } from '../onnx/graph.js';
import { elementCount } from '../onnx/tensor.js';
import { segmentsOf, unitIndices } from './axis-atoms.js';
import type { AxisGraph } from './axis-graph.js';
import type { AnalysedClass } from './classes.js';
import { linearConsumer, type LinearConsumer } from './consumer.js';
import { canFollow, follow, labelsAlong, type Labelled, type ScorePair } from './label-flow.js';

/** Output columns of one producer, by unit: values of one head, say. */
export interface ProducerBlock {
  producer: LinearConsumer;
  columns: readonly number[];
}

/** Indices of a consumer's input axis, by unit. */
export interface ReadBlock {
  consumer: LinearConsumer;
  indices: readonly number[];
}

/** A basis that may be chosen freely: what is made in it is read in it, with nothing but linear maps between. */
export type Basis =
  | { kind: 'read'; made: ProducerBlock; reads: ReadBlock[] }
  /** Keys of one head and the queries that meet them in a product. */
  | { kind: 'score'; keys: ProducerBlock; queries: ProducerBlock[] };

/** Classes with more units are cut by choosing among them: finding a basis takes time with the cube of the units. */
const mostUnits = 256;

/** Outputs with more elements are not marked: each takes a label. */
const mostElements = 2 ** 22;

/**
 * The bases of a class whose units nothing nonlinear tells apart between the layers that make them and those that sum
 * them up: widths of values within heads, of queries and keys where neither a rotary embedding nor a norm lies
 * between, two matrices in a row. Null when there is anything else along the way.
 */
export function basesOf(graph: AxisGraph, one: AnalysedClass): Basis[] | null {
  if (one.width > mostUnits) return null;
  const producers = one.producing.map((use) => linearConsumer(graph, use));
  const consumers = one.consuming.map((use) => linearConsumer(graph, use));
  if (producers.includes(null) || consumers.includes(null)) return null;
  const reading = new Set(consumers.map((consumer) => consumer!.use.node));
  const readers = (producers as LinearConsumer[]).flatMap(({ target }) => graph.consumers(target));
  // Most classes end here, at an activation function, before anything of the size of an output is made.
  if (!readers.every((node) => reading.has(node) || canFollow(node))) return null;
  const blocks: ProducerBlock[] = [];
  const owner = new Map<number, { block: number; unit: number }>();
  const values = new Map<string, Labelled>();
  let offset = 0;
  for (const producer of producers as LinearConsumer[]) {
    const segments = segmentsOf(producer.use.output, one.leaf);
    const indices = Array.from({ length: one.width }, (_, unit) => unitIndices(segments, unit));
    indices[0]!.forEach((_, at) => {
      const columns = indices.map((own) => own[at]!);
      columns.forEach((column, unit) => owner.set(offset + column, { block: blocks.length, unit }));
      blocks.push({ producer, columns });
    });
    const value = labelled(graph, producer, owner, offset);
    if (value === null || values.has(producer.target)) return null;
    values.set(producer.target, value);
    offset += producer.outputs;
  }
  const met = meetings(graph, values, consumers as LinearConsumer[]);
  return met === null ? null : assemble(one.width, blocks, owner, met);
}

/** The output of a producer with every column of the class marked by its number. */
function labelled(
  graph: AxisGraph,
  { use, target, outputs }: LinearConsumer,
  owner: ReadonlyMap<number, unknown>,
  offset: number,
): Labelled | null {
  const dims = graph.axes(target)?.map(({ size }) => size);
  if (dims === undefined) return null;
  const axis = use.node.opType === 'Conv' ? 1 : dims.length - 1;
  if (dims[axis] !== outputs || elementCount(dims) > mostElements) return null;
  const inner = elementCount(dims.slice(axis + 1));
  const labels = new Int32Array(elementCount(dims));
  for (let at = 0; at < labels.length; at++) {
    const label = offset + (Math.floor(at / inner) % outputs);
    labels[at] = owner.has(label) ? label : -1;
  }
  return { dims, labels };
}

interface Meetings {
  reads: { consumer: LinearConsumer; labels: Int32Array }[];
  pairs: ScorePair[];
}

/** Follows the labels to every place where they are summed over. */
function meetings(
  graph: AxisGraph,
  values: Map<string, Labelled>,
  consumers: readonly LinearConsumer[],
): Meetings | null {
  const met: Meetings = { reads: [], pairs: [] };
  const outputs = new Set(graph.graph.outputs.map(({ name }) => name));
  for (const node of graph.graph.nodes) {
    const inputs = node.inputs.map((name) => values.get(name));
    if (inputs.every((value) => value === undefined)) continue;
    const consumer = consumers.find(({ use }) => use.node === node);
    if (consumer !== undefined) {
      const value = inputs[0];
      const axis = node.opType === 'Conv' ? 1 : getInt(node, 'transA', 0) === 1 ? 0 : (value?.dims.length ?? 0) - 1;
      const labels = value === undefined ? null : labelsAlong(value, axis);
      if (labels === null) return null;
      met.reads.push({ consumer, labels });
      continue;
    }
    const step = follow(graph, node, inputs);
    if (step === null) return null;
    met.pairs.push(...(step.pairs ?? []));
    for (const [at, value] of step.outputs.entries()) {
      const name = node.outputs[at] ?? '';
      if (value === undefined || value.labels.every((label) => label < 0)) continue;
      if (outputs.has(name)) return null;
      values.set(name, value);
    }
  }
  return met;
}

function assemble(
  width: number,
  blocks: readonly ProducerBlock[],
  owner: ReadonlyMap<number, { block: number; unit: number }>,
  { reads, pairs }: Meetings,
): Basis[] | null {
  const bases = new Map<number, Basis>();
  for (const { consumer, labels } of reads) {
    const found = new Map<string, number[]>();
    for (const [index, label] of labels.entries()) {
      const own = owner.get(label);
      if (own === undefined) continue;
      // A block may be read more than once: by all query heads that share it.
      let copy = 0;
      while (found.get(`${own.block} ${copy}`)?.[own.unit] !== undefined) copy++;
      const indices = found.get(`${own.block} ${copy}`) ?? [];
      indices[own.unit] = index;
      found.set(`${own.block} ${copy}`, indices);
    }
    for (const [key, indices] of found) {
      if (Array.from(indices).includes(undefined as never) || indices.length !== width) return null;
      const block = Number(key.split(' ')[0]);
      const basis = bases.get(block) ?? { kind: 'read', made: blocks[block]!, reads: [] };
      if (basis.kind !== 'read') return null;
      basis.reads.push({ consumer, indices });
      bases.set(block, basis);
    }
  }
  const queriesOf = new Map<number, number>();
  for (const [left, right] of pairs) {
    const [queries, keys] = [owner.get(left[0]!)?.block, owner.get(right[0]!)?.block];
    const together = left.length === width && left.every((label, at) => meets(owner, label, right[at]!, queries, keys));
    if (!together || queries === undefined || keys === undefined || queries === keys) return null;
    if (bases.get(keys)?.kind === 'read' || bases.has(queries) || queriesOf.has(keys)) return null;
    if (queriesOf.get(queries) === keys) continue;
    if (queriesOf.has(queries)) return null;
    queriesOf.set(queries, keys);
    const basis = bases.get(keys) ?? { kind: 'score', keys: blocks[keys]!, queries: [] };
    if (basis.kind === 'score') basis.queries.push(blocks[queries]!);
    bases.set(keys, basis);
  }
  return bases.size + queriesOf.size === blocks.length ? [...bases.values()] : null;
}

/** Whether two labels are the same unit of the blocks that meet. */
function meets(
  owner: ReadonlyMap<number, { block: number; unit: number }>,
  left: number,
  right: number,
  queries: number | undefined,
  keys: number | undefined,
): boolean {
  const [a, b] = [owner.get(left), owner.get(right)];
  return a !== undefined && b !== undefined && a.block === queries && b.block === keys && a.unit === b.unit;
}
