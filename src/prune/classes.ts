import type { PruneUnit } from '../contract/types.js';
import type { Model, Node } from '../onnx/model.js';
import { dataTypeBits } from '../onnx/tensor.js';
import { leavesOf, segmentsOf, type Atom, type AxisSegment } from './axis-atoms.js';
import { AxisGraph, type AxisMark, type ShapeTable, type Sink, type WeightUse } from './axis-graph.js';
import { applyNode } from './axis-rules.js';
import { cutByDefault, cutWhenMeasured, describeClass, kindOf, marksByLeaf } from './class-kinds.js';
import { layerName } from './names.js';
import { isStream } from './streams.js';

export interface PruneMember {
  /** Name of the initializer (or of a Constant's output). */
  initializer: string;
  axis: number;
  /** Where the units lie along the axis, in closed form. */
  segments: AxisSegment[];
  role: 'producer' | 'consumer' | 'elementwise';
}

export interface PruneClass {
  /** Stable for one model: made of the name of the first weight that produces the units. */
  id: string;
  /** For people: what the units are and the layers that make them. */
  name: string;
  /** What one unit is. */
  kind: PruneUnit;
  /** Rows of the widest member that one unit stands for: the head width for heads, 1 for channels. */
  unitSize: number;
  /** Whether a ratio for the whole model applies to it; others shrink only when asked for by id, or {@link byMeasure}. */
  byDefault: boolean;
  /** Whether a ratio whose widths are set by measured loss may cut it too, instead of others. */
  byMeasure: boolean;
  /** Why removing units is more than leaving their contribution out; null when it is exactly that. */
  approximate: string | null;
  /** Number of removable units. */
  width: number;
  /** Every weight axis that shrinks together. */
  members: PruneMember[];
  /** Names of the weights whose output axis holds the units. */
  producers: string[];
  /** Names of the weights whose input axis holds the units. */
  consumers: string[];
  /** The same as layers, named for people. */
  layers: { producing: string[]; consuming: string[] };
  /** Weight bytes that one unit occupies over all members, other widths unchanged. */
  bytesPerUnit: number;
}

/** A class with the parts only this room uses. */
export interface AnalysedClass extends PruneClass {
  leaf: Atom;
  /** Every place where the units are summed away, weights or not. */
  sinks: Sink[];
  producing: WeightUse[];
  consuming: WeightUse[];
}

export interface Analysis {
  graph: AxisGraph;
  classes: AnalysedClass[];
}

/**
 * Finds the widths that can shrink (see {@link PruneUnit}), each with every weight axis that has to shrink with
 * them. Inputs and outputs of the model, softmax axes and whatever touches an operator without a rule are left out.
 * @param shapes sizes of all values with every named dimension bound (any small positive values do).
 */
export function findClasses(model: Model, shapes: ShapeTable): PruneClass[] {
  return analyse(model, shapes).classes.map((one) => {
    const shown: Partial<AnalysedClass> = { ...one };
    for (const key of ['leaf', 'sinks', 'producing', 'consuming'] as const) delete shown[key];
    return shown as PruneClass;
  });
}

/** {@link findClasses} with the axis trees that rewriting needs. */
export function analyse(model: Model, shapes: ShapeTable): Analysis {
  const graph = new AxisGraph(model, shapes);
  const { nodes, inputs, outputs, sparseInitializers } = graph.graph;
  for (const value of inputs) {
    if (graph.constant(value.name) === undefined) graph.blockValue(value.name, 'model input');
  }
  for (const value of outputs) graph.blockValue(value.name, 'model output');
  for (const value of sparseInitializers) graph.blockValue(value.name, 'sparse weight');
  for (const node of nodes) applyNode(graph, node);

  graph.sizeInputs.follow(graph);
  const classes = buildClasses(graph);
  const firstUse = (uses: readonly { node: Node }[]): number =>
    Math.min(...uses.map(({ node }) => graph.position(node)));
  classes.sort((a, b) => firstUse(a.sinks) - firstUse(b.sinks) || firstUse(a.producing) - firstUse(b.producing));
  describe(classes);
  return { graph, classes };
}

function buildClasses(graph: AxisGraph): AnalysedClass[] {
  const members = collectMembers(graph);
  const marks = marksByLeaf(graph);
  const parts = new Map<Atom, { producing: WeightUse[]; consuming: WeightUse[]; sinks: Sink[] }>();
  const of = (leaf: Atom) => {
    const own = parts.get(leaf) ?? { producing: [], consuming: [], sinks: [] };
    parts.set(leaf, own);
    return own;
  };
  for (const use of graph.uses) {
    for (const leaf of new Set(leavesOf(use.output))) of(leaf).producing.push(use);
    for (const leaf of new Set(leavesOf(use.input))) of(leaf).consuming.push(use);
  }
  for (const sink of graph.sinks) {
    const axis = sink.only ?? graph.axes(sink.node.inputs[sink.input])![sink.axis]!;
    for (const leaf of new Set(leavesOf(axis))) of(leaf).sinks.push(sink);
  }
  const reasons = new Map(
    graph.approximations.flatMap(({ axis, reason }) => leavesOf(axis).map((leaf) => [leaf, reason] as const)),
  );
  const repeated = repeatedHeads(graph, marks);
  const classes: AnalysedClass[] = [];
  for (const [leaf, { producing, consuming, sinks }] of parts) {
    if (leaf.blocked !== null || !(leaf.size > 1) || producing.length === 0 || sinks.length === 0) continue;
    const own = (members.get(leaf) ?? []).map((member) => ({ ...member, role: roleOf(member, producing, consuming) }));
    const bytes = own.map((member) => memberBytes(graph, member, leaf.size));
    if (bytes.includes(null)) continue;
    const ownMarks = marks.get(leaf) ?? new Set();
    const unitSize = Math.max(1, ...own.filter((member) => member.role === 'producer').map(rowsPerUnit));
    const kind = kindOf(ownMarks, {
      unitSize,
      stream: isStream(graph, leaf, producing, consuming),
      grouped: repeated.has(leaf),
      producing,
    });
    const approximate = reasons.get(leaf) ?? null;
    const producers = unique(producing.map((use) => use.weight));
    classes.push({
      id: kind === 'channels' || kind === 'features' ? producers[0]! : `${producers[0]!}:${kind}`,
      name: '',
      kind,
      unitSize,
      byDefault: cutByDefault(kind, ownMarks, approximate),
      byMeasure: cutWhenMeasured(kind, approximate),
      approximate,
      width: leaf.size,
      members: own,
      producers,
      consumers: unique(consuming.map((use) => use.weight)),
      layers: { producing: layersOf(graph, producing), consuming: layersOf(graph, consuming) },
      bytesPerUnit: (bytes as number[]).reduce((sum, value) => sum + value, 0) / leaf.size,
      leaf,
      sinks,
      producing,
      consuming,
    });
  }
  return classes;
}

/** Leaves that are heads next to a repetition: key/value heads that several query heads share. */
function repeatedHeads(graph: AxisGraph, marks: ReadonlyMap<Atom, ReadonlySet<AxisMark>>): Set<Atom> {
  const repeats = (leaf: Atom): boolean => leaf.size > 1 && (marks.get(leaf)?.has('head repeats') ?? false);
  return new Set(
    graph.marks
      .filter(({ axis, mark }) => mark === 'heads' && leavesOf(axis).some(repeats))
      .flatMap(({ axis }) => leavesOf(axis)),
  );
}

/** Names for people: numbered per kind, and told apart where ids or names would be the same. */
function describe(classes: AnalysedClass[]): void {
  const ordinals = new Map<PruneUnit, number>();
  for (const one of classes) {
    const ordinal = (ordinals.get(one.kind) ?? 0) + 1;
    ordinals.set(one.kind, ordinal);
    const paths = one.layers.producing;
    const more = paths.length > 3 ? ` + ${paths.length - 2} more` : '';
    one.name = describeClass(one.kind, ordinal, one.producing, paths.slice(0, more === '' ? 3 : 2).join(' + ') + more);
  }
  nameApart(classes);
}

function layersOf(graph: AxisGraph, uses: readonly WeightUse[]): string[] {
  return unique(uses.map((use) => layerName(graph, use)));
}

const rowsPerUnit = (member: BareMember): number =>
  member.segments.reduce((sum, segment) => sum + segment.outer * segment.inner, 0);

function unique(names: readonly string[]): string[] {
  return [...new Set(names)];
}

type BareMember = Omit<PruneMember, 'role'>;

function collectMembers(graph: AxisGraph): Map<Atom, BareMember[]> {
  const members = new Map<Atom, BareMember[]>();
  for (const name of graph.constants().keys()) {
    graph.axes(name)?.forEach((atom, axis) => {
      for (const leaf of new Set(leavesOf(atom))) {
        if (leaf.blocked !== null || leaf.size < 2) continue;
        const own = members.get(leaf) ?? [];
        own.push({ initializer: name, axis, segments: segmentsOf(atom, leaf) });
        members.set(leaf, own);
      }
    });
  }
  return members;
}

function memberBytes(graph: AxisGraph, member: BareMember, width: number): number | null {
  const tensor = graph.constant(member.initializer);
  const bits = tensor === undefined ? null : dataTypeBits(tensor.dataType);
  // Packed elements cannot be cut apart.
  if (tensor === undefined || bits === null || bits < 8) return null;
  const own = member.segments.reduce((sum, segment) => sum + segment.outer * segment.inner * width, 0);
  return tensor.dims.reduce((product, dim, axis) => product * (axis === member.axis ? own : dim), bits / 8);
}

function roleOf(
  member: BareMember,
  producing: readonly WeightUse[],
  consuming: readonly WeightUse[],
): PruneMember['role'] {
  const uses = (list: readonly WeightUse[], side: 'input' | 'output'): boolean =>
    list.some((use) => use.weight === member.initializer && operandAxis(use, side) === member.axis);
  if (uses(producing, 'output')) return 'producer';
  return uses(consuming, 'input') ? 'consumer' : 'elementwise';
}

/** Axis of the stored weight; a Transpose in between moves it. */
export function operandAxis(use: WeightUse, side: 'input' | 'output'): number {
  return side === 'input' ? use.stored.inputAxis : use.stored.outputAxis;
}

/** One weight axis may hold several classes: give them ids and names of their own. */
function nameApart(classes: AnalysedClass[]): void {
  for (const field of ['id', 'name'] as const) {
    const seen = new Map<string, number>();
    for (const one of classes) {
      const count = (seen.get(one[field]) ?? 0) + 1;
      seen.set(one[field], count);
      if (count > 1) one[field] = `${one[field]} #${count}`;
    }
  }
}
