import { malformed } from './failures.js';
import type { Attribute, Graph, Node } from './model.js';

/** Bodies (If, Loop, Scan …) held by a node's attributes. */
export function bodiesOf(node: Node): Graph[] {
  const bodies: Graph[] = [];
  for (const attribute of node.attributes.values()) bodies.push(...graphsIn(attribute));
  return bodies;
}

const none: readonly Graph[] = [];

/** Bodies in one attribute. */
export function graphsIn(attribute: Attribute): readonly Graph[] {
  if (attribute.type === 'graph') return [attribute.value];
  return attribute.type === 'graphs' ? attribute.value : none;
}

/** Names a body uses but does not define: values captured from the graphs around it. */
export function capturedNames(body: Graph): Set<string> {
  const defined = new Set<string>([...body.initializers.keys()]);
  for (const sparse of body.sparseInitializers) defined.add(sparse.name);
  for (const input of body.inputs) defined.add(input.name);
  for (const node of body.nodes) for (const output of node.outputs) defined.add(output);
  const captured = new Set<string>();
  const use = (name: string): void => {
    if (name !== '' && !defined.has(name)) captured.add(name);
  };
  for (const node of body.nodes) {
    node.inputs.forEach(use);
    for (const inner of bodiesOf(node)) capturedNames(inner).forEach(use);
  }
  for (const output of body.outputs) use(output.name);
  return captured;
}

/** Values a node needs: its inputs and what its bodies capture. */
export function valuesUsed(node: Node): Set<string> {
  const used = new Set(node.inputs.filter((name) => name !== ''));
  for (const body of bodiesOf(node)) for (const name of capturedNames(body)) used.add(name);
  return used;
}

/** Smallest index first. */
class IndexHeap {
  readonly #items: number[] = [];

  push(value: number): void {
    const items = this.#items;
    let at = items.push(value) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if ((items[parent] as number) <= value) break;
      items[at] = items[parent] as number;
      at = parent;
    }
    items[at] = value;
  }

  pop(): number | undefined {
    const items = this.#items;
    const top = items[0];
    const last = items.pop();
    if (top === undefined || last === undefined || items.length === 0) return top;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= items.length) break;
      if (child + 1 < items.length && (items[child + 1] as number) < (items[child] as number)) child++;
      if ((items[child] as number) >= last) break;
      items[at] = items[child] as number;
      at = child;
    }
    items[at] = last;
    return top;
  }
}

function sortNodes(nodes: readonly Node[], rank: (index: number) => number): Node[] {
  const producer = new Map<string, number>();
  nodes.forEach((node, index) => node.outputs.forEach((name) => name !== '' && producer.set(name, index)));
  const waiting = new Int32Array(nodes.length);
  const followers: number[][] = nodes.map(() => []);
  nodes.forEach((node, index) => {
    const sources = new Set<number>();
    for (const name of valuesUsed(node)) {
      const source = producer.get(name);
      if (source !== undefined) sources.add(source);
    }
    waiting[index] = sources.size;
    for (const source of sources) (followers[source] as number[]).push(index);
  });
  const heap = new IndexHeap();
  const ready = (index: number): void => heap.push(rank(index) * nodes.length + index);
  waiting.forEach((count, index) => count === 0 && ready(index));
  const order: Node[] = [];
  for (let key = heap.pop(); key !== undefined; key = heap.pop()) {
    const index = key % nodes.length;
    order.push(nodes[index] as Node);
    for (const follower of followers[index] as number[]) {
      waiting[follower] = (waiting[follower] as number) - 1;
      if (waiting[follower] === 0) ready(follower);
    }
  }
  if (order.length < nodes.length) {
    const stuck = nodes.find((_, index) => (waiting[index] as number) > 0) as Node;
    throw malformed(`the nodes around ${stuck.opType} "${stuck.name}" depend on each other in a circle.`, {
      node: stuck.name,
    });
  }
  return order;
}

/**
 * Nodes in an order where producers come before consumers; nodes keep their place where they can (Kahn's
 * algorithm, smallest index first, so an ordered graph comes back as it is).
 * @throws SnugError E_MALFORMED for a cycle.
 */
export function topologicalOrder(graph: Graph): Node[] {
  return sortNodes(graph.nodes, () => 0);
}

/** Nodes that depend on constants only (initializers, Constant nodes), transitively. */
export function constantNodes(graph: Graph): Set<Node> {
  const constants = new Set<string>(graph.initializers.keys());
  for (const sparse of graph.sparseInitializers) constants.add(sparse.name);
  const found = new Set<Node>();
  for (const node of topologicalOrder(graph)) {
    let constant = true;
    for (const name of valuesUsed(node)) {
      if (!constants.has(name)) {
        constant = false;
        break;
      }
    }
    if (!constant) continue;
    found.add(node);
    for (const name of node.outputs) constants.add(name);
  }
  return found;
}

/**
 * Topological order with the nodes that depend on constants only in front, each group in its old order.
 * ONNX asks for topological order only; onnxruntime runs the producer with the highest index first, so a
 * DequantizeLinear listed among its consumers would be run (and its fp32 result held) before all of them,
 * while one listed in front is run right before its consumer (core/graph/graph.cc, ReverseDFSFrom).
 * @throws SnugError E_MALFORMED for a cycle.
 */
export function listConstantNodesFirst(graph: Graph): Node[] {
  const constant = constantNodes(graph);
  return sortNodes(graph.nodes, (index) => (constant.has(graph.nodes[index] as Node) ? 0 : 1));
}
