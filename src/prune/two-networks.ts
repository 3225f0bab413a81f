import type { Model, Node, Tensor, ValueInfo } from '../onnx/model.js';
import { valuesUsed } from '../onnx/topology.js';

export interface MergedNetworks {
  nodes: Node[];
  initializers: Map<string, Tensor>;
  /** Name of a value of the pruned network in the merged one. */
  current: (name: string) => string;
}

/** Both networks in one graph: what differs in the pruned one is renamed, the rest is there once. */
export function mergeNetworks(dense: Model, current: Model): MergedNetworks {
  const prefix = 'pruned::';
  const renamed = new Set<string>();
  const initializers = new Map(dense.graph.initializers);
  for (const [name, tensor] of current.graph.initializers) {
    if (dense.graph.initializers.get(name) === tensor) continue;
    renamed.add(name);
    initializers.set(prefix + name, { ...tensor, name: prefix + name });
  }
  const rename = (name: string): string => (renamed.has(name) ? prefix + name : name);
  const copies: Node[] = [];
  const known = new Set(dense.graph.nodes);
  current.graph.nodes.forEach((node) => {
    const same = known.has(node) && ![...valuesUsed(node)].some((name) => renamed.has(name));
    if (same) return;
    for (const output of node.outputs) if (output !== '') renamed.add(output);
    copies.push({
      ...node,
      name: node.name === '' ? '' : prefix + node.name,
      inputs: node.inputs.map(rename),
      outputs: node.outputs.map(rename),
    });
  });
  return { nodes: [...dense.graph.nodes, ...copies], initializers, current: rename };
}

/** Nodes that `outputs` need when the values in `ready` are handed in. */
function reachable(nodes: readonly Node[], outputs: readonly string[], ready: ReadonlySet<string>): Node[] {
  const producer = new Map(nodes.flatMap((node) => node.outputs.map((output) => [output, node] as const)));
  const wanted = new Set<Node>();
  const open = outputs.filter((name) => !ready.has(name));
  for (let name = open.pop(); name !== undefined; name = open.pop()) {
    const node = producer.get(name);
    if (node === undefined || wanted.has(node)) continue;
    wanted.add(node);
    open.push(...[...valuesUsed(node)].filter((used) => !ready.has(used)));
  }
  return nodes.filter((node) => wanted.has(node));
}

/** The part of both networks that `outputs` need, starting from what is known. */
export function assemble(
  dense: Model,
  merged: MergedNetworks,
  added: { nodes: readonly Node[]; constants: readonly Tensor[] },
  outputs: readonly ValueInfo[],
  known: readonly ValueInfo[],
): Model {
  const ready = new Set(known.map((info) => info.name));
  const needed = reachable(
    [...merged.nodes, ...added.nodes],
    outputs.map((output) => output.name),
    ready,
  );
  const made = new Set(needed.flatMap((node) => node.outputs));
  const used = new Set(needed.flatMap((node) => [...valuesUsed(node)]));
  const initializers = new Map([...merged.initializers].filter(([name]) => used.has(name)));
  for (const tensor of added.constants) initializers.set(tensor.name, tensor);
  const own = dense.graph.inputs.filter((input) => !dense.graph.initializers.has(input.name) && used.has(input.name));
  const handedIn = known.filter(({ name }) => used.has(name) && !made.has(name) && !own.some((i) => i.name === name));
  return {
    ...dense,
    // Weights are no inputs here, which IR version 3 would demand.
    irVersion: Math.max(dense.irVersion, 4),
    graph: {
      ...dense.graph,
      nodes: needed,
      initializers,
      inputs: [...own, ...handedIn],
      outputs: outputs.filter(({ name }) => made.has(name)),
      valueInfo: new Map(),
    },
  };
}
