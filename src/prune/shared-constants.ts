import { capturedNames, bodiesOf } from '../onnx/graph.js';
import type { Model, Node, Tensor } from '../onnx/model.js';
import { elementCount } from '../onnx/tensor.js';

/** A model in which every use of a vector has a constant of its own. */
export interface Unshared {
  model: Model;
  /** Node of the unshared model → the node it stands for. */
  originals: ReadonlyMap<Node, Node>;
  /** Name of a copy → name of the constant. */
  aliases: ReadonlyMap<string, string>;
}

/** Vectors longer than this are not copied. */
const longest = 65536;

/**
 * Exporters merge constants that happen to be equal: one vector of zeros may be the bias of many layers. Copies keep
 * the widths of those layers independent; what ends up equal is merged again by {@link mergeCopies}. Matrices stay
 * shared, as tied weights are meant to be. The given model is not changed.
 */
export function unshare(model: Model): Unshared {
  const { graph } = model;
  const uses = new Map<string, number>();
  for (const node of graph.nodes) {
    for (const name of node.inputs) uses.set(name, (uses.get(name) ?? 0) + 1);
  }
  const fixed = new Set([
    ...graph.outputs.map((output) => output.name),
    ...graph.inputs.map((input) => input.name),
    ...graph.nodes.flatMap((node) => bodiesOf(node).flatMap((body) => [...capturedNames(body)])),
  ]);
  const isShared = (name: string): boolean => {
    const tensor = graph.initializers.get(name);
    if (tensor === undefined || fixed.has(name) || (uses.get(name) ?? 0) < 2) return false;
    const elements = elementCount(tensor.dims);
    return elements > 1 && elements <= longest && tensor.dims.filter((dim) => dim > 1).length === 1;
  };
  const initializers = new Map(graph.initializers);
  const aliases = new Map<string, string>();
  const originals = new Map<Node, Node>();
  const counts = new Map<string, number>();
  const nodes = graph.nodes.map((node) => {
    if (!node.inputs.some(isShared)) return node;
    const inputs = node.inputs.map((name) => {
      if (!isShared(name)) return name;
      const count = (counts.get(name) ?? 0) + 1;
      counts.set(name, count);
      if (count === 1) return name;
      const copy = `${name}#${count}`;
      if (initializers.has(copy)) return name;
      aliases.set(copy, name);
      initializers.set(copy, { ...graph.initializers.get(name)!, name: copy });
      return copy;
    });
    if (inputs.every((name, at) => name === node.inputs[at])) return node;
    const copy = { ...node, inputs };
    originals.set(copy, node);
    return copy;
  });
  return { model: { ...model, graph: { ...graph, nodes, initializers } }, originals, aliases };
}

/**
 * Gives copies that were cut alike one constant again, and nodes that came out as they were their old objects.
 * @param keyOf text that is equal exactly for copies with equal contents; null for one that must stay apart.
 */
export function mergeCopies(
  { originals, aliases }: Unshared,
  nodes: readonly Node[],
  initializers: Map<string, Tensor>,
  keyOf: (name: string) => string | null,
): Node[] {
  if (aliases.size === 0) return [...nodes];
  const canonical = new Map<string, string>();
  const renamed = new Map<string, string>();
  const names = new Set(aliases.values());
  for (const name of names) {
    const own = keyOf(name);
    if (own !== null) canonical.set(`${name}\n${own}`, name);
  }
  for (const [copy, name] of aliases) {
    const own = keyOf(copy);
    if (own === null) continue;
    const key = `${name}\n${own}`;
    const target = canonical.get(key);
    if (target === undefined) {
      canonical.set(key, copy);
    } else {
      renamed.set(copy, target);
      initializers.delete(copy);
    }
  }
  return nodes.map((node) => {
    const original = originals.get(node);
    if (!node.inputs.some((name) => renamed.has(name))) return node;
    const inputs = node.inputs.map((name) => renamed.get(name) ?? name);
    return original?.inputs.every((name, at) => name === inputs[at]) ? original : { ...node, inputs };
  });
}
