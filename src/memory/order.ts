import type { Node } from '../onnx/model.js';
import { capturedNames, graphsIn } from '../onnx/topology.js';

type NodeEdges = Pick<Node, 'inputs' | 'outputs'> & Partial<Pick<Node, 'attributes'>>;

/** Values a node reads: its inputs, then what its bodies capture from around it. */
export function valuesRead(node: NodeEdges): readonly string[] {
  const captured = new Set<string>();
  for (const attribute of node.attributes?.values() ?? [])
    for (const body of graphsIn(attribute)) for (const name of capturedNames(body)) captured.add(name);
  return captured.size === 0 ? node.inputs : [...node.inputs, ...captured];
}

/**
 * Order in which ONNX Runtime runs the nodes of a graph (default execution order: reverse depth-first search
 * from the nodes nobody consumes, the producer with the highest index first).
 * @param nodes in index order: file order, nodes that fusions made at the end.
 * @returns positions in `nodes`, in execution order.
 */
export function executionOrder(nodes: readonly NodeEdges[]): number[] {
  const producer = new Map<string, number>();
  nodes.forEach((node, index) => {
    for (const output of node.outputs) if (output !== '') producer.set(output, index);
  });
  const producersOf = nodes.map((node) => {
    const found = new Set<number>();
    for (const input of valuesRead(node)) {
      const index = producer.get(input);
      if (index !== undefined) found.add(index);
    }
    return [...found].sort((a, b) => a - b);
  });
  const consumed = new Set(producersOf.flat());
  const stack: { index: number; leave: boolean }[] = [];
  nodes.forEach((_, index) => {
    if (!consumed.has(index)) stack.push({ index, leave: false });
  });
  const visited = new Set<number>();
  const order: number[] = [];
  for (let entry = stack.pop(); entry !== undefined; entry = stack.pop()) {
    if (entry.leave) {
      order.push(entry.index);
      continue;
    }
    if (visited.has(entry.index)) continue;
    visited.add(entry.index);
    stack.push({ index: entry.index, leave: true });
    for (const index of producersOf[entry.index] ?? []) if (!visited.has(index)) stack.push({ index, leave: false });
  }
  return order;
}
