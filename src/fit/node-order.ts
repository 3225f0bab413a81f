import { executionOrder } from '../memory/order.js';
import { valueBytes } from '../memory/workspace.js';
import type { Model, Node } from '../onnx/model.js';
import { defaultBindings, inferShapes, type Shape } from '../onnx/shape.js';
import { listConstantNodesFirst, valuesUsed } from '../onnx/topology.js';

/** A new order has to save this share of the live bytes before it is worth the full estimate. */
const leastSaving = 0.02;

/**
 * An order of the file's nodes under which the runtime holds fewer bytes at once, or null when none is found.
 *
 * onnxruntime runs the graph by a reverse depth-first search that follows the producer with the highest position in the
 * file first (`executionOrder`), so the file decides which of a node's inputs is computed first. The rule of Sethi and
 * Ullman (The Generation of Optimal Code for Arithmetic Expressions, JACM 17, 1970) orders them: the input that needs
 * most beyond what it leaves behind comes first. It is optimal on trees only; on other graphs it is a guess, which is
 * tried on the live bytes of the whole graph here and on the runtime's own allocator by whoever takes the order.
 *
 * @param batch sizes of the batch to weigh values at; other dimensions take their defaults
 * @returns all nodes of the main graph in a topological order
 */
export function fewestLiveBytes(model: Model, batch: number): Node[] | null {
  const { nodes } = model.graph;
  const { shapes } = inferShapes(model, defaultBindings(model, batch).dims);
  const order = sethiUllman(nodes, shapes);
  const outputs = new Set(model.graph.outputs.map((output) => output.name));
  const before = livePeak(nodes, shapes, outputs);
  const after = livePeak(order, shapes, outputs);
  return after < before * (1 - leastSaving) ? order : null;
}

/** A copy of the model with its nodes in the order of {@link fewestLiveBytes}, or null when there is none. */
export function withFewestLiveBytes(model: Model, batch: number): Model | null {
  const nodes = fewestLiveBytes(model, batch);
  if (!nodes) return null;
  const graph = { ...model.graph, nodes };
  return { ...model, graph: { ...graph, nodes: listConstantNodesFirst(graph) } };
}

/** `nodes` in the order that makes the runtime compute the input with most bytes beyond its result first. */
function sethiUllman(nodes: readonly Node[], shapes: ReadonlyMap<string, Shape>): Node[] {
  const producer = new Map<string, number>();
  nodes.forEach((node, index) => node.outputs.forEach((name) => name !== '' && producer.set(name, index)));
  const producers = nodes.map((node) => [
    ...new Set([...valuesUsed(node)].flatMap((name) => producer.get(name) ?? [])),
  ]);
  const consumed = new Set(producers.flat());
  // One node that needs all results stands for the end of the run.
  producers.push(nodes.flatMap((_, index) => (consumed.has(index) ? [] : [index])));
  const sizes = nodes.map((node) => node.outputs.reduce((sum, name) => sum + valueBytes(shapes, name), 0));
  const needs: number[] = [];
  const lastToFirst = producers.map((): number[] => []);
  const beyond = (index: number): number => (needs[index] ?? 0) - (sizes[index] ?? 0);
  walk(producers, (index) => {
    const sorted = [...(producers[index] ?? [])].sort((a, b) => beyond(b) - beyond(a) || b - a);
    let held = 0;
    let need = 0;
    for (const input of sorted) {
      need = Math.max(need, held + (needs[input] ?? 0));
      held += sizes[input] ?? 0;
    }
    needs[index] = Math.max(need, held + (sizes[index] ?? 0));
    lastToFirst[index] = sorted.reverse();
  });
  const order: Node[] = [];
  // The input to be computed last gets the lowest position.
  walk(lastToFirst, (index) => {
    const node = nodes[index];
    if (node) order.push(node);
  });
  return order;
}

/** Visits the last node after all it needs, depth first, in the order of the lists. */
function walk(producers: readonly (readonly number[])[], visit: (index: number) => void): void {
  const entered = new Set<number>();
  const stack = [{ index: producers.length - 1, leave: false }];
  for (let entry = stack.pop(); entry !== undefined; entry = stack.pop()) {
    const { index, leave } = entry;
    if (leave) visit(index);
    else if (!entered.has(index)) {
      entered.add(index);
      stack.push({ index, leave: true });
      for (const input of (producers[index] ?? []).toReversed()) stack.push({ index: input, leave: false });
    }
  }
}

/** Most bytes of values alive at once when the runtime runs `nodes` in its own order, each freed after its last use. */
function livePeak(nodes: readonly Node[], shapes: ReadonlyMap<string, Shape>, outputs: ReadonlySet<string>): number {
  const order = executionOrder(nodes).map((index) => nodes[index] as Node);
  const lastUse = new Map<string, Node>();
  for (const node of order) for (const name of [...node.outputs, ...valuesUsed(node)]) lastUse.set(name, node);
  const alive = new Set<string>();
  let live = 0;
  let peak = 0;
  for (const node of order) {
    for (const name of node.outputs) {
      if (name === '') continue;
      alive.add(name);
      live += valueBytes(shapes, name);
    }
    peak = Math.max(peak, live);
    for (const name of new Set([...node.outputs, ...valuesUsed(node)])) {
      if (outputs.has(name) || lastUse.get(name) !== node || !alive.delete(name)) continue;
      live -= valueBytes(shapes, name);
    }
  }
  return peak;
}
