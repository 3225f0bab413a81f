import { DataType, type Model, type Node } from '../onnx/model.js';
import { leavesOf, segmentsOf, type Atom, type AxisSegment } from './axis-atoms.js';
import { AxisGraph, type ShapeTable, type Sink, type WeightUse } from './axis-graph.js';
import { applyNode } from './axis-rules.js';
import { type ClassKind } from './class-kinds.js';
import { layerName } from './names.js';

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
  kind: ClassKind;
  /** Rows of the widest member that one unit stands for: the head width for heads, 1 for channels. */
  unitSize: number;
  /** Whether a ratio for the whole model applies to it; others shrink only when asked for by id. */
  byDefault: boolean;
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

const floatBytes = new Map<number, number>([
  [DataType.FLOAT, 4],
  [DataType.DOUBLE, 8],
  [DataType.FLOAT16, 2],
  [DataType.BFLOAT16, 2],
]);

/**
 * Finds the widths that can shrink: hidden units of MLPs (gated ones too) and inner channels of Conv chains, each
 * with every weight axis that has to shrink with them. Residual streams, outputs, softmax and normalized axes and
 * whatever touches an operator without a rule are left out.
 * @param shapes sizes of all values with every named dimension bound (any small positive values do).
 */
export function findClasses(model: Model, shapes: ShapeTable): PruneClass[] {
  return analyse(model, shapes).classes.map((one) => {
    const { leaf: _leaf, sinks: _sinks, producing: _producing, consuming: _consuming, ...shown } = one;
    return shown;
  });
}

/** {@link findClasses} with the axis trees that rewriting needs. */
export function analyse(model: Model, shapes: ShapeTable): Analysis {
  const graph = new AxisGraph(model, shapes);
  for (const value of model.graph.inputs) {
    if (graph.constant(value.name) === undefined) graph.blockValue(value.name, 'model input');
  }
  for (const value of model.graph.outputs) graph.blockValue(value.name, 'model output');
  for (const value of model.graph.sparseInitializers) graph.blockValue(value.name, 'sparse weight');
  for (const node of model.graph.nodes) applyNode(graph, node);

  const members = collectMembers(graph);
  const byLeaf = new Map<Atom, { producing: WeightUse[]; consuming: WeightUse[] }>();
  const usesOf = (leaf: Atom) => {
    const uses = byLeaf.get(leaf) ?? { producing: [], consuming: [] };
    byLeaf.set(leaf, uses);
    return uses;
  };
  for (const use of graph.uses) {
    for (const leaf of new Set(leavesOf(use.output))) usesOf(leaf).producing.push(use);
    for (const leaf of new Set(leavesOf(use.input))) usesOf(leaf).consuming.push(use);
  }
  const classes: AnalysedClass[] = [];
  for (const [leaf, { producing, consuming }] of byLeaf) {
    if (leaf.blocked !== null || leaf.size < 2 || producing.length === 0 || consuming.length === 0) continue;
    if (isResidual(graph, producing, consuming)) continue;
    const own = members.get(leaf) ?? [];
    const bytes = own.map((member) => memberBytes(graph, member, leaf.size));
    if (bytes.includes(null)) continue;
    const producers = unique(producing.map((use) => use.weight));
    const consumers = unique(consuming.map((use) => use.weight));
    classes.push({
      id: producers[0]!,
      name: unique(producing.map((use) => layerName(graph, use))).join(' + '),
      kind: producing.some((use) => use.node.opType === 'Conv') ? 'channels' : 'features',
      unitSize: 1,
      byDefault: true,
      approximate: null,
      width: leaf.size,
      members: own.map((member) => ({ ...member, role: roleOf(member, producing, consuming) })),
      producers,
      consumers,
      bytesPerUnit: (bytes as number[]).reduce((sum, value) => sum + value, 0) / leaf.size,
      leaf,
      sinks: [],
      producing,
      consuming,
    });
  }
  classes.sort(
    (a, b) => firstUse(a.consuming) - firstUse(b.consuming) || firstUse(a.producing) - firstUse(b.producing),
  );
  nameApart(classes);
  return { graph, classes };
}

function firstUse(uses: readonly WeightUse[]): number {
  return Math.min(...uses.map((use) => use.at));
}

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
  const element = tensor === undefined ? undefined : floatBytes.get(tensor.dataType);
  if (tensor === undefined || element === undefined) return null;
  const own = member.segments.reduce((sum, segment) => sum + segment.outer * segment.inner * width, 0);
  return tensor.dims.reduce((product, dim, axis) => product * (axis === member.axis ? own : dim), element);
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

/** Axis of the stored weight; a Transpose in between swaps the two axes of a matrix. */
export function operandAxis(use: WeightUse, side: 'input' | 'output'): number {
  const axis = side === 'input' ? use.inputAxis : use.outputAxis;
  return use.operand === use.weight || use.node.opType === 'Conv' ? axis : 1 - axis;
}

/** A producer that depends on a consumer of the same axis: the axis is a stream that layers read and add to. */
function isResidual(graph: AxisGraph, producing: readonly WeightUse[], consuming: readonly WeightUse[]): boolean {
  const producers = new Set(producing.map((use) => use.node));
  const seen = new Set<Node>();
  const open = consuming.map((use) => use.node);
  for (let node = open.pop(); node !== undefined; node = open.pop()) {
    if (seen.has(node)) continue;
    seen.add(node);
    if (producers.has(node)) return true;
    for (const output of node.outputs) open.push(...graph.consumers(output));
  }
  return false;
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
