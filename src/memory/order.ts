import type { Node } from '../onnx/model.js';

/**
 * Order in which ONNX Runtime runs the nodes of a graph (default execution order: reverse depth-first search
 * from the nodes nobody consumes, the producer with the highest index first).
 * @param nodes in index order: file order, nodes that fusions made at the end.
 * @returns positions in `nodes`, in execution order.
 */
export function executionOrder(nodes: readonly Pick<Node, 'inputs' | 'outputs'>[]): number[] {
  const producer = new Map<string, number>();
  nodes.forEach((node, index) => {
    for (const output of node.outputs) if (output !== '') producer.set(output, index);
  });
  const producersOf = nodes.map((node) => {
    const found = new Set<number>();
    for (const input of node.inputs) {
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
