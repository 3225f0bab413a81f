import { cloneModel, removeDeadNodesAndInitializers } from '../onnx/graph.js';
import type { Attribute, Model, Node, Tensor, ValueInfo } from '../onnx/model.js';
import { keptIndices, keptSize, leavesOf, type Atom, type KeptUnits } from './axis-atoms.js';
import type { AxisGraph, MendContext } from './axis-graph.js';
import { mergeCopies } from './shared-constants.js';
import { sliceTensor } from './slice-tensor.js';

/** Changes made to a model before its widths shrink, all in the original widths. */
export interface Edits {
  /** Constants replaced or added, by name. */
  constants: Map<string, Tensor>;
  /** Nodes replaced, by position. */
  nodes: Map<number, Node>;
}

export function noEdits(): Edits {
  return { constants: new Map(), nodes: new Map() };
}

/**
 * A new model in which only `kept` units of each class are left: weights sliced (lazily), counts in attributes and
 * sizes in constants brought in line by the mends the operator rules left, sizes read while running frozen where
 * they were the same for every input, stale value infos dropped. Nodes nothing changes for are the same objects,
 * and value names stay, so a value can be looked up in both models. The given model is not changed.
 */
export function rewriteModel(model: Model, graph: AxisGraph, kept: KeptUnits, edits: Edits): Model {
  const { unshared } = graph;
  const source = unshared.model.graph;
  const initializers = new Map(source.initializers);
  for (const [name, tensor] of edits.constants) initializers.set(name, tensor);
  const changed = (axis: Atom): boolean => leavesOf(axis).some((leaf) => kept.has(leaf.id));
  const slice = (name: string, tensor: Tensor): Tensor => {
    const axes = graph.axes(name);
    if (axes === null || !axes.some(changed)) return tensor;
    return sliceTensor(
      tensor,
      axes.map((axis) => (changed(axis) ? keptIndices(axis, kept) : null)),
    );
  };
  for (const [name, tensor] of initializers) initializers.set(name, slice(name, tensor));

  const names = new Set([...initializers.keys(), ...source.nodes.flatMap((node) => node.outputs)]);
  for (const value of source.inputs) names.add(value.name);
  const fresh = (base: string): string => {
    let name = base;
    for (let count = 2; names.has(name); count++) name = `${base}_${count}`;
    names.add(name);
    return name;
  };
  const context: MendContext = {
    changed,
    fresh,
    size: (axis) => keptSize(axis, kept),
    tensor: (name) => initializers.get(name) ?? slice(name, graph.constant(name)!),
    constant: (base, make) => {
      const name = fresh(base);
      initializers.set(name, make(name));
      return name;
    },
  };
  const frozen = freezeSizes(graph, context);
  const rewritten = source.nodes.flatMap((original, at) => {
    let node = edits.nodes.get(at) ?? original;
    if (node.opType === 'Constant') return sliceConstantNode(node, slice);
    for (const [input, name] of frozen.get(original) ?? []) {
      node = { ...node, inputs: node.inputs.map((old, index) => (index === input ? name : old)) };
    }
    return graph.mends.get(original)?.(node, context) ?? node;
  });
  const resize = (info: ValueInfo): ValueInfo => {
    const tensor = initializers.get(info.name);
    if (tensor === undefined || tensor === source.initializers.get(info.name)) return info;
    const resized: ValueInfo = { ...info, dims: [...tensor.dims] };
    delete resized.rawType;
    return resized;
  };
  const valueInfo = new Map(
    [...source.valueInfo].filter(([name]) => initializers.has(name) || !(graph.axes(name)?.some(changed) ?? false)),
  );
  for (const [name, info] of valueInfo) valueInfo.set(name, resize(info));
  const nodes = mergeCopies(unshared, rewritten, initializers, (name) => {
    if (edits.constants.has(name)) return null;
    const axes = graph.axes(name) ?? [];
    return axes.map((axis) => (changed(axis) ? keptIndices(axis, kept).join() : '')).join('|');
  });
  // Constants that only the replaced nodes used would stay in memory for nothing.
  dropUnused(unshared.model, nodes, initializers);
  return {
    ...model,
    graph: { ...source, nodes, initializers, inputs: source.inputs.map(resize), valueInfo },
  };
}

/** A rewritten model to hand out: a copy without the nodes and constants that sizes written down left unused. */
export function finishModel(model: Model): Model {
  const copy = cloneModel(model);
  removeDeadNodesAndInitializers(copy.graph);
  return copy;
}

/** For every node that reads a size of a changed axis as a number: which inputs become which constants. */
function freezeSizes(graph: AxisGraph, context: MendContext): Map<Node, [number, string][]> {
  const frozen = new Map<Node, [number, string][]>();
  const made = new Map<string, string>();
  for (const { node, input, tensor, sources } of graph.sizeInputs.frozen) {
    if (!sources.some(context.changed)) continue;
    const value = node.inputs[input]!;
    const name = made.get(value) ?? context.constant(`${value}_frozen`, tensor);
    made.set(value, name);
    frozen.set(node, [...(frozen.get(node) ?? []), [input, name]]);
  }
  return frozen;
}

function dropUnused(model: Model, nodes: readonly Node[], initializers: Map<string, Tensor>): void {
  const before = new Set(model.graph.nodes.flatMap((node) => node.inputs));
  const after = new Set(nodes.flatMap((node) => node.inputs));
  for (const name of before) {
    if (!after.has(name) && !model.graph.outputs.some((output) => output.name === name)) initializers.delete(name);
  }
}

function sliceConstantNode(node: Node, slice: (name: string, tensor: Tensor) => Tensor): Node {
  const value = node.attributes.get('value');
  if (value?.type !== 'tensor') return node;
  const sliced = slice(node.outputs[0]!, value.value);
  if (sliced === value.value) return node;
  const attribute: Attribute = { type: 'tensor', value: sliced };
  return { ...node, attributes: new Map(node.attributes).set('value', attribute) };
}
