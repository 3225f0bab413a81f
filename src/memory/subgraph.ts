import { getInt } from '../onnx/attribute.js';
import type { Graph, Model, Node, Tensor, ValueInfo } from '../onnx/model.js';
import { inferShapes, type ShapeResult } from '../onnx/shape.js';
import { capturedNames, graphsIn } from '../onnx/topology.js';
import { bufferRules } from './inplace.js';
import { planBuffers, type MemoryPlan } from './plan.js';
import { lowerModel, type RuntimeGraph } from './rewrite/lower.js';
import type { ControlRun } from './simulate.js';
import { simulateIf, simulateLoop, simulateScan, type SizedBody } from './subgraph-run.js';
import { cpuScratch, valueBytes } from './workspace.js';

/** A body as the runtime executes it. */
export interface PreparedBody {
  /** The body as the model has it. */
  readonly source: Graph;
  readonly graph: RuntimeGraph;
  readonly plan: MemoryPlan;
  /** Whether every size of the outputs is a number of the graph. */
  readonly fixedOutputs: boolean;
  readonly inner: PreparedControls;
}

/** Bodies of the control-flow nodes of a graph, by position of the node in execution order. */
export type PreparedControls = ReadonlyMap<number, readonly PreparedBody[]>;

/** What preparing and sizing bodies needs to know of the graph around them. */
interface Around {
  readonly nodes: readonly Node[];
  readonly initializers: ReadonlyMap<string, Tensor>;
  readonly opsets: Model['opsets'];
  readonly shapes: ShapeResult;
}

interface Preparing extends Around {
  readonly bindings: Readonly<Record<string, number>>;
  /** Values whose shape the optimizer does not know, because a Loop carries them undeclared. */
  readonly hidden?: ReadonlySet<string>;
}

/** Branches of an If (then, else), or the body of a Loop or Scan. */
function bodiesIn(node: Node): Graph[] {
  const names = node.opType === 'If' ? ['then_branch', 'else_branch'] : ['body'];
  return names.flatMap((name) => {
    const attribute = node.attributes.get(name);
    return attribute ? [...graphsIn(attribute)] : [];
  });
}

/** What a body is fed: its own inputs and what it captures, constants aside. */
function namesFed(body: Graph, { initializers }: Around): string[] {
  return [
    ...body.inputs.map((input) => input.name),
    ...[...capturedNames(body)].filter((name) => !initializers.has(name)),
  ];
}

/** Sizes of what a body is fed, for the bindings at hand. */
function fedSizes(source: Graph, around: Around): ValueInfo[] {
  const own = around.shapes.bodies.get(source);
  return namesFed(source, around).map((name) => {
    const shape = own?.shapes.get(name) ?? around.shapes.shapes.get(name);
    return { name, dataType: shape?.dataType ?? 0, dims: shape ? [...shape.dims] : null };
  });
}

/** The body as a graph of its own: what it captures becomes an input, captured constants become its constants. */
function standAlone(body: Graph, inputs: ValueInfo[], { initializers }: Around): Graph {
  const captured = [...capturedNames(body)].flatMap((name): [string, Tensor][] => {
    const tensor = initializers.get(name);
    return tensor ? [[name, tensor]] : [];
  });
  return { ...body, inputs, initializers: new Map([...captured, ...body.initializers]) };
}

/** Values of a body whose shape the optimizer does not know: what a Loop carries, unless the body declares its shape. */
function hiddenInputs(node: Node, source: Graph, { hidden }: Preparing): Set<string> {
  const carried = node.opType === 'Loop' ? source.inputs.slice(2).filter(({ dims }) => dims === null) : [];
  return new Set([...(hidden ?? []), ...carried.map(({ name }) => name)]);
}

function prepareBody(node: Node, source: Graph, around: Preparing): PreparedBody {
  const { opsets } = around;
  const inputs = fedSizes(source, around);
  const hidden = hiddenInputs(node, source, around);
  const seen = inputs.map((input) => (hidden.has(input.name) ? { ...input, dims: null } : input));
  const graph = lowerModel({ graph: standAlone(source, seen, around), opsets }, 'cpu');
  if (hidden.size > 0) {
    const { unknown } = inferShapes({ graph: { ...graph.model.graph, inputs: seen }, opsets }, {});
    for (const { value } of unknown) hidden.add(value);
  }
  // The planner sees names where the sizes have some; sizes without a name are bound by value and axis.
  const own = around.shapes.bodies.get(source);
  const bindings = { ...around.bindings };
  const symbolic = inputs.map((input) => {
    const symbols = own?.symbols.get(input.name) ?? around.shapes.symbols.get(input.name);
    input.dims?.forEach((size, axis) => {
      const symbol = symbols?.[axis] ?? null;
      if (symbol === null && typeof size === 'number') bindings[`${input.name}.${axis}`] = size;
      else if (typeof symbol === 'string' && typeof size === 'number') bindings[symbol] = size;
    });
    return { ...input, dims: input.dims && (symbols ?? input.dims) };
  });
  const shapes = inferShapes({ graph: { ...graph.model.graph, inputs: symbolic }, opsets }, bindings);
  const outputs = source.outputs.map((output) => output.name);
  const plan = planBuffers({
    nodes: graph.nodes,
    graphInputs: new Set(inputs.map((input) => input.name)),
    graphOutputs: new Set(outputs),
    initializers: new Set(graph.initializers.keys()),
    shapes,
    rules: bufferRules.cpu,
  });
  const fixedOutputs = outputs.every((name) => shapes.symbols.get(name)?.every((dim) => typeof dim === 'number'));
  const inside = { ...around, nodes: graph.nodes, initializers: graph.initializers, shapes, bindings, hidden };
  return { source, graph, plan, fixedOutputs, inner: prepareControls(inside) };
}

/** Plans the bodies of If, Loop and Scan, each as a graph of its own (a session state of its own in the runtime). */
export function prepareControls(around: Preparing): PreparedControls {
  const controls = new Map<number, PreparedBody[]>();
  around.nodes.forEach((node, step) => {
    if (!['If', 'Loop', 'Scan'].includes(node.opType) || node.domain !== '') return;
    controls.set(
      step,
      bodiesIn(node).map((body) => prepareBody(node, body, around)),
    );
  });
  return controls;
}

/** A reader that packs nothing in place of a node that reads constants from further out than the graph around its body. */
function plainReader(node: Node, far: ReadonlySet<string>): Node[] {
  const inputs = node.inputs.map((name) => (far.has(name) ? '' : name));
  const farther = node.inputs.filter((name) => far.has(name));
  return farther.length === 0
    ? [node]
    : [
        { ...node, inputs },
        { ...node, opType: 'Identity', domain: '', inputs: farther },
      ];
}

/**
 * Nodes and constants of all bodies at any depth, for what their weights hold. The runtime packs constants of a body
 * and of the graph around it, not those from further out.
 */
export function bodyWeights(
  controls: PreparedControls,
  far: ReadonlySet<string> = new Set(),
): { nodes: Node[]; initializers: Map<string, Tensor> } {
  const nodes: Node[] = [];
  const initializers = new Map<string, Tensor>();
  for (const bodies of controls.values()) {
    for (const { source, graph, inner } of bodies) {
      const deeper = bodyWeights(inner, capturedNames(source));
      nodes.push(...graph.nodes.flatMap((node) => plainReader(node, far)), ...deeper.nodes);
      for (const [name, tensor] of [...graph.initializers, ...deeper.initializers]) initializers.set(name, tensor);
    }
  }
  return { nodes, initializers };
}

/** Times a loop goes round; null when only the data decides. */
function roundsOf(node: Node, { outputs }: Graph, { shapes, initializers }: Around): number | null {
  // Body outputs: condition, carried values, then one element of each stacked output.
  const carried =
    node.opType === 'Loop' ? node.inputs.length - 2 : node.inputs.length - getInt(node, 'num_scan_inputs', 1);
  const stacked = node.outputs.slice(carried).find((name) => name !== '');
  if (stacked !== undefined) return shapes.shapes.get(stacked)?.dims[0] ?? null;
  if (node.opType === 'Scan') return shapes.shapes.get(node.inputs.at(-1) ?? '')?.dims[0] ?? null;
  const limit = node.inputs[0] ?? '';
  const known = shapes.constants.get(limit)?.values[0];
  // Nothing piles up without stacked outputs, so that the number hardly matters.
  return known ?? (initializers.has(limit) && outputs.length > 0 ? mostFollowed : null);
}

/** Rounds after which a loop repeats itself. */
const mostFollowed = 4;

function sizeBody(body: PreparedBody, around: Around, threads: number): SizedBody {
  const inputs = fedSizes(body.source, around);
  const graph = { ...body.graph.model.graph, inputs };
  const shapes = inferShapes({ graph, opsets: around.opsets }, {});
  const inside = { nodes: body.graph.nodes, initializers: body.graph.initializers, opsets: around.opsets, shapes };
  return {
    plan: body.plan,
    outputs: body.source.outputs.map((output) => output.name),
    fixedOutputs: body.fixedOutputs,
    bytesOf: (buffer) => valueBytes(shapes.shapes, buffer),
    scratch: body.graph.nodes.map((node) => cpuScratch(node, shapes.shapes, threads)),
    control: sizeControls(body.inner, inside, threads),
  };
}

/** Most bytes of a body's own values at any step. */
function liveBytes({ plan, bytesOf }: SizedBody): number {
  let live = 0;
  let most = 0;
  for (const step of plan.steps) {
    for (const { buffer } of step.allocates) live += bytesOf(buffer);
    most = Math.max(most, live);
    for (const buffer of step.frees) live -= bytesOf(buffer);
  }
  return most;
}

/** How the control-flow nodes of a graph use memory for the sizes in `around.shapes`, by step. */
export function sizeControls(controls: PreparedControls, around: Around, threads: number): Map<number, ControlRun> {
  const runs = new Map<number, ControlRun>();
  for (const [step, bodies] of controls) {
    const node = around.nodes[step];
    const [body] = bodies;
    if (!node || !body) continue;
    const sized = bodies.map((own) => sizeBody(own, around, threads));
    const [first] = sized as [SizedBody];
    if (node.opType === 'If') {
      const condition = around.shapes.constants.get(node.inputs[0] ?? '')?.values[0];
      const [, second = first] = sized;
      const larger = liveBytes(second) > liveBytes(first) ? second : first;
      // Where only the data decides, the larger branch counts.
      runs.set(step, simulateIf(condition === undefined ? larger : condition !== 0 ? first : second));
      continue;
    }
    const rounds = roundsOf(node, body.source, around) ?? mostFollowed;
    if (node.opType === 'Loop') runs.set(step, simulateLoop(first, rounds, node.inputs.length - 1, mostFollowed));
    else {
      const states = node.inputs.length - getInt(node, 'num_scan_inputs', 1);
      const sizes = node.inputs.slice(0, states).map((name) => valueBytes(around.shapes.shapes, name));
      runs.set(step, simulateScan(first, rounds, sizes, mostFollowed));
    }
  }
  return runs;
}
