import {
  dropInitializerInputs,
  freshName,
  getInt,
  getInts,
  getString,
  intAttribute,
  stringAttribute,
  walkGraphs,
} from './graph.js';
import type { Graph, Model, Node } from './model.js';
import { opset13Obstacle, raiseToOpset13 } from './opset-legacy.js';
import { defaultBindings } from './shape.js';
import { int64Tensor } from './tensor.js';

/** Reductions whose axes became an input with opset 18 (ReduceSum had it before). */
const reductions = new Set(
  'L1 L2 LogSum LogSumExp Max Mean Min Prod SumSquare'.split(' ').map((kind) => `Reduce${kind}`),
);

/** From here on {@link raiseOpset} goes opset by opset; older models are said in this one first. */
const oldest = 13;
/** Newest opset it reaches. */
const newest = 21;

/** IR versions by the opset they came with. */
const irVersions: readonly (readonly [opset: number, irVersion: number])[] = [
  [21, 10],
  [19, 9],
  [15, 8],
  [0, 7],
];

/**
 * Why a model's operators cannot be said in opset `target`; null when {@link raiseOpset} can. Between 13 and 21 only
 * the operators named here and there changed in more than types and attributes that default to the old meaning
 * (ONNX changelog); from 7 to 13 see {@link raiseToOpset13}.
 * @param target at most 21.
 */
export function opsetObstacle(model: Model, target: number): string | null {
  const from = model.opsets.get('') ?? 0;
  if (from >= target) return null;
  if (from < oldest) {
    const legacy = opset13Obstacle(model);
    if (legacy !== null) return `opset ${from} cannot be raised to ${target}: ${legacy}`;
  }
  if (target > newest) return `opset ${from} cannot be raised to ${target}`;
  if (model.functions.length > 0)
    return `opset ${from} cannot be raised to ${target}: the model has functions of its own`;
  let obstacle: string | null = null;
  walkGraphs(model.graph, (graph) => {
    for (const node of graph.nodes) if (obstacle === null && changesMeaning(node, from, target)) obstacle = node.opType;
  });
  return obstacle === null
    ? null
    : `opset ${from} cannot be raised to ${target}: ${obstacle} means something else there`;
}

function changesMeaning(node: Node, from: number, target: number): boolean {
  if (node.domain !== '') return false;
  switch (node.opType) {
    case 'DFT':
      return from < 20 && target >= 20;
    case 'GroupNormalization':
      return from < 21 && target >= 21;
    case 'BatchNormalization':
      return from < 14 && node.outputs.filter((output) => output !== '').length > 1;
    case 'AveragePool':
      // What counts as padding in a last window beyond the edge was settled with opset 19.
      return from < 19 && target >= 19 && getInt(node, 'ceil_mode', 0) === 1;
    default:
      return false;
  }
}

/**
 * Says a model in a newer opset, in place: axes of reductions and the number of parts of a Split become what they are
 * there, modes get their new names, defaults that changed are written out. A model below 13 becomes 13 at least. Does
 * nothing when the model is there already.
 * @param target as for {@link opsetObstacle}, which must have answered null.
 */
export function raiseOpset(model: Model, target: number): void {
  if ((model.opsets.get('') ?? 0) >= target) return;
  // Up to IR version 3 initializers are on the list of inputs and yet constants; later that would let callers set them.
  if (model.irVersion < 4) dropInitializerInputs(model);
  raiseToOpset13(model, defaultBindings(model, 1).dims);
  const from = model.opsets.get('')!;
  model.irVersion = Math.max(model.irVersion, irVersions.find(([opset]) => target >= opset)![1]);
  if (from >= target) return;
  walkGraphs(model.graph, (graph) => {
    for (const node of graph.nodes) if (node.domain === '') carryOver(model, graph, node, from, target);
  });
  model.opsets.set('', target);
}

function carryOver(model: Model, graph: Graph, node: Node, from: number, target: number): void {
  const passes = (version: number): boolean => from < version && target >= version;
  if (reductions.has(node.opType) && passes(18)) {
    const axes = getInts(node, 'axes', []);
    if (!node.attributes.delete('axes') || axes.length === 0) return;
    const name = freshName(model.graph, `${node.name || node.outputs[0]!}_axes`);
    graph.initializers.set(name, int64Tensor(name, [axes.length], axes));
    node.inputs = [node.inputs[0]!, name];
  } else if (node.opType === 'Split' && passes(18) && (node.inputs[1] ?? '') === '') {
    node.attributes.set('num_outputs', intAttribute(node.outputs.length));
  } else if (node.opType === 'RoiAlign' && passes(16)) {
    node.attributes.set('coordinate_transformation_mode', stringAttribute('output_half_pixel'));
  } else if (node.opType === 'GridSample' && passes(20)) {
    const mode = getString(node, 'mode', 'bilinear');
    node.attributes.set('mode', stringAttribute(mode.replace(/^bi/, '')));
  }
}
