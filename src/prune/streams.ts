import type { Node } from '../onnx/model.js';
import { leavesOf, type Atom } from './axis-atoms.js';
import type { AxisGraph, WeightUse } from './axis-graph.js';

/**
 * Whether layers read the axis and add to it (a residual stream): some producer depends on a consumer of the same
 * axis and its output is added to what was there. A gate that is computed from what it multiplies (squeeze and
 * excite) is none, nor is a layer whose weights are used twice.
 */
export function isStream(
  graph: AxisGraph,
  leaf: Atom,
  producing: readonly WeightUse[],
  consuming: readonly WeightUse[],
): boolean {
  const producers = new Set(producing.map((use) => use.node));
  const seen = new Set<Node>();
  const open = consuming.flatMap((use) => use.node.outputs.flatMap((name) => graph.consumers(name)));
  for (let node = open.pop(); node !== undefined; node = open.pop()) {
    if (seen.has(node)) continue;
    seen.add(node);
    if (producers.has(node) && isAdded(graph, leaf, node)) return true;
    for (const output of node.outputs) open.push(...graph.consumers(output));
  }
  return false;
}

/** Whether what `producer` makes along the leaf meets other values of the same axis in anything but a product. */
function isAdded(graph: AxisGraph, leaf: Atom, producer: Node): boolean {
  const own = new Set(producer.outputs);
  const known = new Map<string, boolean>();
  const carries = (name: string): boolean => {
    const answer =
      known.get(name) ?? graph.axes(name)?.some((axis) => axis.size > 1 && leavesOf(axis).includes(leaf)) ?? false;
    known.set(name, answer);
    return answer;
  };
  // A convolution fused with the addition behind it.
  if (producer.opType === 'FusedConv' && carries(producer.inputs[3] ?? '')) return true;
  for (let grown = true; grown;) {
    grown = false;
    for (const node of [...own].flatMap((name) => graph.consumers(name))) {
      const made = node.outputs.filter((output) => output !== '' && !own.has(output) && carries(output));
      if (made.length === 0 || others(graph, node, own, carries).length > 0) continue;
      for (const output of made) own.add(output);
      grown = true;
    }
  }
  return [...own]
    .flatMap((name) => graph.consumers(name))
    .some(
      (node) =>
        node.opType !== 'Mul' &&
        node.outputs.some((output) => output !== '' && carries(output)) &&
        others(graph, node, own, carries).length > 0,
    );
}

/** Activations along the leaf that go into a node beside what the producer made. */
function others(graph: AxisGraph, node: Node, own: ReadonlySet<string>, carries: (name: string) => boolean): string[] {
  return node.inputs.filter(
    (input) => input !== '' && !own.has(input) && carries(input) && !graph.fromConstants(input),
  );
}
