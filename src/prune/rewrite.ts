import { getInt } from '../onnx/graph.js';
import type { Attribute, Model, Node, Tensor, ValueInfo } from '../onnx/model.js';
import { int64Tensor, readNumbers } from '../onnx/tensor.js';
import { keptIndices, keptSize, leavesOf, type Atom, type KeptUnits } from './axis-atoms.js';
import { type AxisGraph } from './axis-graph.js';
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
 * A new model in which only `kept` units of each class are left: weights sliced (lazily), `group` of depthwise
 * convolutions, Reshape targets and Split sizes brought in line, stale value infos dropped. Node order and value
 * names stay, so a value can be looked up in both models. The given model is not changed.
 */
export function rewriteModel(model: Model, graph: AxisGraph, kept: KeptUnits, edits: Edits): Model {
  const source = model.graph;
  const initializers = new Map(source.initializers);
  for (const [name, tensor] of edits.constants) initializers.set(name, tensor);
  const changes = (axis: Atom): boolean => leavesOf(axis).some((leaf) => kept.has(leaf.id));
  const slice = (name: string, tensor: Tensor): Tensor => {
    const axes = graph.axes(name);
    if (axes === null || !axes.some(changes)) return tensor;
    return sliceTensor(
      tensor,
      axes.map((axis) => (changes(axis) ? keptIndices(axis, kept) : null)),
    );
  };
  for (const [name, tensor] of initializers) initializers.set(name, slice(name, tensor));

  const names = new Set([...initializers.keys(), ...source.nodes.flatMap((node) => node.outputs)]);
  const addConstant = (base: string, values: readonly number[]): string => {
    let name = `${base}_pruned`;
    for (let count = 2; names.has(name); count++) name = `${base}_pruned${count}`;
    names.add(name);
    initializers.set(name, int64Tensor(name, [values.length], values));
    return name;
  };
  const nodes = source.nodes.map((original, at) => {
    const node = edits.nodes.get(at) ?? original;
    if (node.opType === 'Constant') return sliceConstantNode(node, slice);
    if (node.opType === 'Conv') return fixGroup(graph, node, kept, changes);
    if (node.opType === 'Reshape') return fixReshape(graph, node, kept, changes, addConstant);
    if (node.opType === 'Split') return fixSplit(graph, node, kept, changes, addConstant);
    return node;
  });
  const resize = (info: ValueInfo): ValueInfo => {
    const tensor = initializers.get(info.name);
    if (tensor === undefined || tensor === source.initializers.get(info.name)) return info;
    const resized: ValueInfo = { ...info, dims: [...tensor.dims] };
    delete resized.rawType;
    return resized;
  };
  const valueInfo = new Map(
    [...source.valueInfo].filter(([name]) => initializers.has(name) || !(graph.axes(name)?.some(changes) ?? false)),
  );
  for (const [name, info] of valueInfo) valueInfo.set(name, resize(info));
  // Constants that only the replaced nodes used would stay in memory for nothing.
  dropUnused(model, nodes, initializers);
  return {
    ...model,
    graph: { ...source, nodes, initializers, inputs: source.inputs.map(resize), valueInfo },
  };
}

function dropUnused(model: Model, nodes: readonly Node[], initializers: Map<string, Tensor>): void {
  const before = new Set(model.graph.nodes.flatMap((node) => node.inputs));
  const after = new Set(nodes.flatMap((node) => node.inputs));
  for (const name of before) {
    if (!after.has(name) && !model.graph.outputs.some((output) => output.name === name)) initializers.delete(name);
  }
}

function withAttribute(node: Node, name: string, value: Attribute): Node {
  return { ...node, attributes: new Map(node.attributes).set(name, value) };
}

function sliceConstantNode(node: Node, slice: (name: string, tensor: Tensor) => Tensor): Node {
  const value = node.attributes.get('value');
  if (value?.type !== 'tensor') return node;
  const sliced = slice(node.outputs[0]!, value.value);
  return sliced === value.value ? node : withAttribute(node, 'value', { type: 'tensor', value: sliced });
}

type Changes = (axis: Atom) => boolean;
type AddConstant = (base: string, values: readonly number[]) => string;

/** Depthwise: as many groups as channels. Other grouped convolutions keep their groups. */
function fixGroup(graph: AxisGraph, node: Node, kept: KeptUnits, changes: Changes): Node {
  const channels = graph.axes(node.inputs[0])?.[1];
  const group = getInt(node, 'group', 1);
  if (channels === undefined || group === 1 || group !== channels.size || !changes(channels)) return node;
  return withAttribute(node, 'group', { type: 'int', value: keptSize(channels, kept) });
}

function fixReshape(graph: AxisGraph, node: Node, kept: KeptUnits, changes: Changes, add: AddConstant): Node {
  const axes = graph.axes(node.outputs[0]);
  const shape = graph.constant(node.inputs[1]);
  if (axes === null || shape === undefined || !axes.some(changes)) return node;
  const target = readNumbers(shape);
  const sized = target.map((size, at) => (size > 0 && changes(axes[at]!) ? keptSize(axes[at]!, kept) : size));
  if (sized.every((size, at) => size === target[at])) return node;
  return { ...node, inputs: [node.inputs[0]!, add(node.inputs[1]!, sized)] };
}

function fixSplit(graph: AxisGraph, node: Node, kept: KeptUnits, changes: Changes, add: AddConstant): Node {
  const input = graph.axes(node.inputs[0]);
  if (input === null) return node;
  const axis = getInt(node, 'axis', 0);
  const along = axis < 0 ? axis + input.length : axis;
  if (!changes(input[along]!)) return node;
  const sizes = node.outputs.map((name) => keptSize(graph.axes(name)![along]!, kept));
  if (graph.opset(node) < 13) return withAttribute(node, 'split', { type: 'ints', value: sizes });
  const attributes = new Map(node.attributes);
  attributes.delete('num_outputs');
  return { ...node, attributes, inputs: [node.inputs[0]!, add(`${node.outputs[0]!}_sizes`, sizes)] };
}
