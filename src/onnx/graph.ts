import type { Attribute, Graph, Model, Node, Tensor, ValueInfo } from './model.js';
import { getFloat, getInt, getInts, getString, getTensor } from './attribute.js';
import { DataType } from './model.js';
import { float32Tensor, int64Tensor, memoryData } from './tensor.js';
import { bodiesOf, capturedNames, graphsIn, valuesUsed } from './topology.js';

export * from './attribute.js';
export { bodiesOf, capturedNames, constantNodes, listConstantNodesFirst, topologicalOrder } from './topology.js';

export interface Consumer {
  node: Node;
  /** Index into `node.inputs`; -1 when a body of the node captures the value. */
  input: number;
  captured: boolean;
}

/** Who makes and who uses each value of one graph (bodies count as users, flagged). */
export interface GraphIndex {
  producer: Map<string, Node>;
  consumers: Map<string, Consumer[]>;
  /** Names of the graph's outputs. */
  outputs: Set<string>;
}

/** Indexes one graph. The index does not follow later edits. */
export function indexGraph(graph: Graph): GraphIndex {
  const index: GraphIndex = {
    producer: new Map(),
    consumers: new Map(),
    outputs: new Set(graph.outputs.map((output) => output.name)),
  };
  const use = (name: string, consumer: Consumer): void => {
    const list = index.consumers.get(name);
    if (list) list.push(consumer);
    else index.consumers.set(name, [consumer]);
  };
  for (const node of graph.nodes) {
    for (const output of node.outputs) if (output !== '') index.producer.set(output, node);
    node.inputs.forEach((name, input) => name !== '' && use(name, { node, input, captured: false }));
    const captured = new Set<string>();
    for (const body of bodiesOf(node)) for (const name of capturedNames(body)) captured.add(name);
    for (const name of captured) use(name, { node, input: -1, captured: true });
  }
  return index;
}

/** Something to show for a node: its name, else operator and first output. */
export function nodeLabel(node: Node): string {
  return node.name !== '' ? node.name : `${node.opType}(${node.outputs.find((name) => name !== '') ?? ''})`;
}

/** Calls `visit` for a graph and every body inside it, outer graphs first. */
export function walkGraphs(graph: Graph, visit: (graph: Graph, owner: Node | null) => void): void {
  const pending: [Graph, Node | null][] = [[graph, null]];
  for (let next = pending.pop(); next; next = pending.pop()) {
    visit(next[0], next[1]);
    for (const node of next[0].nodes) for (const body of bodiesOf(node)) pending.push([body, node]);
  }
}

/** Written for speed: quantizing and pruning ask for thousands of names on graphs with thousands of nodes. */
function isUsed(graph: Graph, name: string): boolean {
  if (graph.initializers.has(name)) return true;
  for (const node of graph.nodes) {
    if (node.name === name || node.outputs.includes(name) || node.inputs.includes(name)) return true;
    if (node.attributes.size === 0) continue;
    for (const attribute of node.attributes.values()) {
      for (const body of graphsIn(attribute)) if (isUsed(body, name)) return true;
    }
  }
  return (
    graph.inputs.some((value) => value.name === name) ||
    graph.outputs.some((value) => value.name === name) ||
    graph.sparseInitializers.some((sparse) => sparse.name === name)
  );
}

const handedOut = new WeakMap<Graph, Map<string, number>>();

/**
 * A value or node name that is used nowhere in the graph or its bodies, and was not handed out before:
 * `base`, else `base_1`, `base_2`, ….
 */
export function freshName(graph: Graph, base: string): string {
  let counters = handedOut.get(graph);
  if (!counters) handedOut.set(graph, (counters = new Map()));
  for (let count = counters.get(base) ?? 0; ; count++) {
    const name = count === 0 ? base : `${base}_${count}`;
    // `base_1` may have been handed out as a base of its own.
    if ((count > 0 && counters.has(name)) || isUsed(graph, name)) continue;
    counters.set(base, count + 1);
    if (count > 0) counters.set(name, 1);
    return name;
  }
}

/** Builds a node; absent optional inputs are ''. */
export function makeNode(
  opType: string,
  inputs: readonly string[],
  outputs: readonly string[],
  attributes: Record<string, Attribute> = {},
  options: { name?: string; domain?: string } = {},
): Node {
  return {
    name: options.name ?? '',
    opType,
    domain: options.domain ?? '',
    inputs: [...inputs],
    outputs: [...outputs],
    attributes: new Map(Object.entries(attributes)),
  };
}

/**
 * Makes every use of value `from` (inputs of nodes, captures in bodies) a use of `to`. The graph's own outputs
 * keep their names. Returns how many uses were changed.
 */
export function replaceUses(graph: Graph, from: string, to: string): number {
  let count = 0;
  for (const node of graph.nodes) {
    node.inputs.forEach((name, index) => {
      if (name !== from) return;
      node.inputs[index] = to;
      count++;
    });
    for (const body of bodiesOf(node)) {
      if (!capturedNames(body).has(from)) continue;
      count += replaceUses(body, from, to);
      for (const output of body.outputs) {
        if (output.name !== from) continue;
        output.name = to;
        count++;
      }
    }
  }
  return count;
}

/**
 * Removes nodes, initializers and value infos nothing leads from to a graph output. Captures of bodies count as
 * uses; bodies themselves are left alone.
 */
export function removeDeadNodesAndInitializers(graph: Graph): { nodes: number; initializers: number } {
  const producer = new Map<string, Node>();
  for (const node of graph.nodes) for (const output of node.outputs) if (output !== '') producer.set(output, node);
  const needed = new Set<string>();
  const kept = new Set<Node>();
  const pending = graph.outputs.map((output) => output.name);
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    if (needed.has(name)) continue;
    needed.add(name);
    const node = producer.get(name);
    if (!node || kept.has(node)) continue;
    kept.add(node);
    pending.push(...valuesUsed(node));
  }
  const before = { nodes: graph.nodes.length, initializers: graph.initializers.size };
  graph.nodes = graph.nodes.filter((node) => kept.has(node));
  const dead = new Set([...graph.initializers.keys()].filter((name) => !needed.has(name)));
  for (const name of dead) graph.initializers.delete(name);
  // Up to IR version 3 every initializer is listed as an input; without it, the input would ask for a feed.
  graph.inputs = graph.inputs.filter((input) => !dead.has(input.name));
  const alive = new Set(needed);
  for (const node of graph.nodes) for (const output of node.outputs) alive.add(output);
  for (const name of [...graph.valueInfo.keys()]) if (!alive.has(name)) graph.valueInfo.delete(name);
  return {
    nodes: before.nodes - graph.nodes.length,
    initializers: before.initializers - graph.initializers.size,
  };
}

/** Inputs a caller must feed: those without an initializer (up to IR version 3 weights are inputs too). */
export function feedInputs(graph: Graph): ValueInfo[] {
  return graph.inputs.filter((input) => !graph.initializers.has(input.name));
}

/**
 * Takes initializers off the list of inputs, so that they are constants with no second, declared shape. Do this
 * before changing the dims of weights. Needs IR version 4.
 */
export function dropInitializerInputs(model: Model): void {
  model.graph.inputs = feedInputs(model.graph);
  model.irVersion = Math.max(model.irVersion, 4);
}

/** Tensor a Constant node stands for, whichever attribute form it uses; null for sparse values. */
function constantNodeValue(node: Node): Tensor | null {
  const name = node.outputs[0] ?? '';
  const tensor = getTensor(node, 'value');
  if (tensor) return tensor;
  if (node.attributes.has('value_float')) {
    return float32Tensor(name, [], Float32Array.of(getFloat(node, 'value_float', 0)));
  }
  if (node.attributes.has('value_int')) return int64Tensor(name, [], [getInt(node, 'value_int', 0)]);
  const ints = getInts(node, 'value_ints', null);
  if (ints) return int64Tensor(name, [ints.length], ints);
  const floats = node.attributes.get('value_floats');
  if (floats?.type === 'floats') return float32Tensor(name, [floats.value.length], Float32Array.from(floats.value));
  const strings = node.attributes.get('value_strings');
  const text = node.attributes.has('value_string')
    ? [new TextEncoder().encode(getString(node, 'value_string', ''))]
    : null;
  const values = strings?.type === 'strings' ? [...strings.value] : text;
  if (values === null) return null;
  const dims = strings ? [values.length] : [];
  return { name, dataType: DataType.STRING, dims, data: memoryData(new Uint8Array(0)), strings: values };
}

/** The tensor behind a value that is an initializer or the output of a Constant node; else null. */
export function constantValue(graph: Graph, index: GraphIndex, name: string): Tensor | null {
  const initializer = graph.initializers.get(name);
  if (initializer) return initializer;
  const node = index.producer.get(name);
  return node && node.opType === 'Constant' && node.domain === '' ? constantNodeValue(node) : null;
}

function cloneAttribute(attribute: Attribute): Attribute {
  if (attribute.type === 'graph') return { ...attribute, value: cloneGraph(attribute.value) };
  if (attribute.type === 'graphs') return { ...attribute, value: graphsIn(attribute).map(cloneGraph) };
  return attribute;
}

const cloneValueInfo = (info: ValueInfo): ValueInfo => ({ ...info, dims: info.dims && [...info.dims] });

function cloneGraph(graph: Graph): Graph {
  return {
    ...graph,
    nodes: graph.nodes.map((node) => ({
      ...node,
      inputs: [...node.inputs],
      outputs: [...node.outputs],
      attributes: new Map([...node.attributes].map(([name, value]) => [name, cloneAttribute(value)])),
    })),
    initializers: new Map(
      [...graph.initializers].map(([name, tensor]) => [name, { ...tensor, dims: [...tensor.dims] }]),
    ),
    sparseInitializers: [...graph.sparseInitializers],
    inputs: graph.inputs.map(cloneValueInfo),
    outputs: graph.outputs.map(cloneValueInfo),
    valueInfo: new Map([...graph.valueInfo].map(([name, info]) => [name, cloneValueInfo(info)])),
  };
}

/** A copy whose structure can be edited freely; weights (TensorData) and raw fields are shared. */
export function cloneModel(model: Model): Model {
  return {
    ...model,
    opsets: new Map(model.opsets),
    graph: cloneGraph(model.graph),
    metadata: new Map(model.metadata),
    functions: [...model.functions],
    unknown: [...model.unknown],
  };
}
