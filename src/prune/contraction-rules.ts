import { getInt } from '../onnx/graph.js';
import type { Node } from '../onnx/model.js';
import { rootOf, type Atom } from './axis-atoms.js';
import { type AxisGraph } from './axis-graph.js';

/** Conv, ConvTranspose, Gemm, MatMul: one axis is summed away, another is made. False when not handled. */
export function applyContraction(graph: AxisGraph, node: Node): boolean {
  if (node.opType === 'Conv') return applyConv(graph, node);
  if (node.opType === 'Gemm') return applyGemm(graph, node);
  if (node.opType === 'MatMul') return applyMatMul(graph, node);
  return false;
}

function applyConv(graph: AxisGraph, node: Node): boolean {
  const x = graph.axes(node.inputs[0]);
  const w = graph.axes(node.inputs[1]);
  const y = graph.axes(node.outputs[0]);
  if (x === null || w === null || y === null || w.length < 3 || node.domain !== '') return false;
  const { atoms } = graph;
  const group = getInt(node, 'group', 1);
  atoms.unite(x[0]!, y[0]!);
  for (const axes of [x, w, y]) for (const axis of axes.slice(2)) atoms.block(axis, 'spatial axis');
  const bias = node.inputs[2] === undefined || node.inputs[2] === '' ? null : graph.axes(node.inputs[2]);
  if (bias !== null) atoms.unite(bias[0]!, y[1]!);
  atoms.unite(w[0]!, y[1]!);
  if (group === 1) {
    atoms.unite(x[1]!, w[1]!);
    recordUse(graph, node, 1, 0, { input: w[1]!, output: w[0]!, inputAxis: 1, outputAxis: 0, grouped: false });
    return true;
  }
  if (group === x[1]!.size && w[1]!.size === 1) {
    // Depthwise: channel c makes channels c·m … c·m+m-1, so input and output are one class.
    const multiplier = atoms.fresh(y[1]!.size / group);
    atoms.block(multiplier, 'depthwise multiplier');
    atoms.unite(y[1]!, atoms.product([rootOf(x[1]!), multiplier]));
    return true;
  }
  // Grouped: dropping the same position in every group is legal, dropping groups is left to whole-group rules.
  const groups = atoms.fresh(group);
  atoms.block(groups, 'convolution groups');
  const made = atoms.fresh(y[1]!.size / group);
  atoms.unite(x[1]!, atoms.product([groups, rootOf(w[1]!)]));
  atoms.unite(y[1]!, atoms.product([groups, made]));
  recordUse(graph, node, 1, 0, { input: w[1]!, output: w[0]!, inputAxis: 1, outputAxis: 0, grouped: true });
  return true;
}

function applyGemm(graph: AxisGraph, node: Node): boolean {
  const a = graph.axes(node.inputs[0]);
  const b = graph.axes(node.inputs[1]);
  const y = graph.axes(node.outputs[0]);
  if (a?.length !== 2 || b?.length !== 2 || y?.length !== 2) return false;
  const { atoms } = graph;
  const transA = getInt(node, 'transA', 0);
  const transB = getInt(node, 'transB', 0);
  const inputAxis = transB ? 1 : 0;
  atoms.unite(a[transA ? 0 : 1]!, b[inputAxis]!);
  atoms.unite(a[transA ? 1 : 0]!, y[0]!);
  atoms.unite(b[1 - inputAxis]!, y[1]!);
  if (node.inputs[2] !== undefined && node.inputs[2] !== '') {
    const c = graph.axes(node.inputs[2]);
    if (c === null) return false;
    c.forEach((atom, axis) => {
      if (atom.size > 1) atoms.unite(atom, y[axis + 2 - c.length]!);
    });
  }
  recordUse(graph, node, 1, 0, {
    input: b[inputAxis]!,
    output: b[1 - inputAxis]!,
    inputAxis,
    outputAxis: 1 - inputAxis,
    grouped: false,
  });
  return true;
}

function applyMatMul(graph: AxisGraph, node: Node): boolean {
  const a = graph.axes(node.inputs[0]);
  const b = graph.axes(node.inputs[1]);
  const y = graph.axes(node.outputs[0]);
  if (a === null || b === null || y === null || a.length < 2 || b.length < 2) return false;
  const { atoms } = graph;
  const [row, column] = [a.length - 2, b.length - 1];
  const contractedA = a[a.length - 1]!;
  const contractedB = b[b.length - 2]!;
  atoms.unite(contractedA, contractedB);
  atoms.unite(a[row]!, y[y.length - 2]!);
  atoms.unite(b[column]!, y[y.length - 1]!);
  const batchRank = y.length - 2;
  for (const axes of [a, b]) {
    const own = axes.length - 2;
    for (let axis = 0; axis < own; axis++) {
      const out = y[axis + batchRank - own]!;
      if (axes[axis]!.size === out.size) atoms.unite(axes[axis]!, out);
      else if (axes[axis]!.size !== 1) return false;
    }
  }
  const weightRight = graph.constantBehind(node.inputs[1]) !== undefined;
  const weightLeft = graph.constantBehind(node.inputs[0]) !== undefined;
  if (weightRight && !weightLeft && b.length === 2) {
    recordUse(graph, node, 1, 0, { input: contractedB, output: b[1]!, inputAxis: 0, outputAxis: 1, grouped: false });
  } else if (weightLeft && !weightRight && a.length === 2) {
    recordUse(graph, node, 0, 1, { input: contractedA, output: a[0]!, inputAxis: 1, outputAxis: 0, grouped: false });
  } else {
    // Two activations (attention) or a batch of weights: heads and head widths need rules of their own.
    for (const axes of [a, b]) for (const axis of axes.slice(0, -2)) atoms.block(axis, 'batched matrix product');
    atoms.block(contractedA, 'product of two activations');
    atoms.block(b[column]!, 'product of two activations');
  }
  return true;
}

/** Notes a weight use; operands that are no constants (computed weights) keep their axes. */
function recordUse(
  graph: AxisGraph,
  node: Node,
  weightIndex: number,
  activationIndex: number,
  use: { input: Atom; output: Atom; inputAxis: number; outputAxis: number; grouped: boolean },
): void {
  const operand = node.inputs[weightIndex]!;
  const weight = graph.constantBehind(operand);
  if (weight === undefined) {
    graph.atoms.block(use.input, 'weights computed while running');
    graph.atoms.block(use.output, 'weights computed while running');
    return;
  }
  graph.uses.push({
    node,
    at: graph.graph.nodes.indexOf(node),
    operand,
    weight,
    activation: node.inputs[activationIndex]!,
    ...use,
  });
}
