import { getInt, getString, intsAttribute } from '../onnx/graph.js';
import { int64Tensor } from '../onnx/tensor.js';
import type { Atom } from './axis-atoms.js';
import type { AxisRule } from './axis-graph.js';
import { sizeInput } from './sizes.js';

const regroup: AxisRule = (graph, node) => {
  const [input, output] = [graph.axes(node.inputs[0]), graph.axes(node.outputs[0])];
  if (input === null || output === null) return false;
  graph.atoms.uniteRowMajor(input, output);
  return true;
};

const reshape: AxisRule = (graph, node) => {
  const output = graph.axes(node.outputs[0]);
  if (output === null || (node.inputs[1] ?? '') === '' || !regroup(graph, node)) return false;
  graph.mends.set(node, sizeInput(graph, node, 1, output, true));
  return true;
};

/** Without a list of axes every axis of size 1 goes: an axis that shrinks to 1 must not be one of them. */
const squeeze: AxisRule = (graph, node) => {
  if (!regroup(graph, node)) return false;
  if (node.attributes.has('axes') || (node.inputs[1] ?? '') !== '') return true;
  const input = graph.axes(node.inputs[0])!;
  const dropped = input.flatMap((axis, at) => (axis.size === 1 ? [at] : []));
  graph.mends.set(node, (current, context) => {
    if (!input.some(context.changed)) return current;
    if (graph.opset(node) < 13) {
      return { ...current, attributes: new Map(current.attributes).set('axes', intsAttribute(dropped)) };
    }
    const axes = context.constant(`${node.outputs[0]!}_axes`, (name) => int64Tensor(name, [dropped.length], dropped));
    return { ...current, inputs: [current.inputs[0]!, axes] };
  });
  return true;
};

/** Axes of size 1 (or missing ones) are repeated: the repetition is an axis of its own. */
const expand: AxisRule = (graph, node) => {
  const [input, output] = [graph.axes(node.inputs[0]), graph.axes(node.outputs[0])];
  const elements = graph.elements(node.inputs[1]);
  if (input === null || output === null) return false;
  output.forEach((axis, at) => {
    const from = input[at + input.length - output.length];
    if (from !== undefined && from.size === axis.size) graph.atoms.unite(from, axis);
    else graph.mark(axis, 'head repeats');
  });
  if (elements === null || elements.length > output.length) {
    for (const axis of output) graph.atoms.block(axis, 'size computed while running');
    return true;
  }
  graph.mends.set(node, sizeInput(graph, node, 1, output.slice(output.length - elements.length)));
  return true;
};

/** The whole axis again and again: (repetition, axis). */
const tile: AxisRule = (graph, node) => {
  const [input, output] = [graph.axes(node.inputs[0]), graph.axes(node.outputs[0])];
  const elements = graph.elements(node.inputs[1]);
  if (input === null || output === null || elements?.length !== input.length) return false;
  const repeats = input.map((axis, at): Atom => {
    const out = output[at]!;
    const times = elements[at];
    const repeat = graph.atoms.fresh(typeof times === 'number' ? times : 1);
    if (typeof times === 'number' && times > 0) {
      graph.atoms.unite(out, graph.atoms.product([repeat, axis]));
      graph.mark(repeat, 'head repeats');
    } else {
      for (const one of [axis, out]) graph.atoms.block(one, 'size computed while running');
    }
    return repeat;
  });
  graph.mends.set(node, sizeInput(graph, node, 1, repeats));
  return true;
};

const constantOfShape: AxisRule = (graph, node) => {
  const output = graph.axes(node.outputs[0]);
  if (output === null) return false;
  graph.mends.set(node, sizeInput(graph, node, 0, output));
  return true;
};

/** Channels and a block of pixels: (block, block, channels) or (channels, block, block). */
function shuffle(toSpace: boolean): AxisRule {
  return (graph, node) => {
    const [input, output] = [graph.axes(node.inputs[0]), graph.axes(node.outputs[0])];
    if (input?.length !== 4 || output?.length !== 4) return false;
    const { atoms } = graph;
    const block = [0, 1].map(() => atoms.fresh(getInt(node, 'blocksize', 1)));
    for (const axis of [...block, ...input.slice(2), ...output.slice(2)]) atoms.block(axis, 'spatial axis');
    const [wide, narrow] = toSpace ? [input[1]!, output[1]!] : [output[1]!, input[1]!];
    const columnsFirst = toSpace && getString(node, 'mode', 'DCR') === 'CRD';
    atoms.unite(wide, atoms.product(columnsFirst ? [narrow, ...block] : [...block, narrow]));
    atoms.unite(input[0]!, output[0]!);
    return true;
  };
}

/** Operators that only regroup or repeat elements along axes. */
export const regroupRules: Readonly<Record<string, AxisRule>> = {
  Reshape: reshape,
  Flatten: regroup,
  Unsqueeze: regroup,
  Squeeze: squeeze,
  Expand: expand,
  Tile: tile,
  ConstantOfShape: constantOfShape,
  DepthToSpace: shuffle(true),
  SpaceToDepth: shuffle(false),
};
