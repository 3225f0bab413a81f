import { getInt, getInts, bodiesOf, capturedNames } from '../onnx/graph.js';
import type { Node } from '../onnx/model.js';
import { readNumbers } from '../onnx/tensor.js';
import type { Atom } from './axis-atoms.js';
import { passBatchAndChannels, wrap, type AxisGraph } from './axis-graph.js';
import { applyContraction } from './contraction-rules.js';
import { applyLayout } from './layout-rules.js';

const unary = new Set(
  `Relu LeakyRelu Elu Selu Celu Sigmoid HardSigmoid HardSwish Tanh Gelu Mish Softplus Softsign Swish ThresholdedRelu
  Shrink Erf Exp Log Sqrt Reciprocal Neg Abs Sin Cos Tan Floor Ceil Round Sign Not IsNaN IsInf Identity Cast Clip
  Dropout QuickGelu`.split(/\s+/),
);
const broadcasting = new Set(
  `Add Sub Mul Div Pow Min Max Mod PRelu Where Sum Mean Equal Greater GreaterOrEqual Less LessOrEqual And Or Xor
  BiasGelu FastGelu`.split(/\s+/),
);
const pooling = new Set(['MaxPool', 'AveragePool', 'LpPool', 'GlobalAveragePool', 'GlobalMaxPool', 'GlobalLpPool']);

/** Applies one node's equalities and prohibitions. Operators without a rule block every axis they touch. */
export function applyNode(graph: AxisGraph, node: Node): void {
  for (const body of bodiesOf(node)) {
    for (const name of capturedNames(body)) graph.blockValue(name, 'used inside a subgraph');
  }
  const { opType } = node;
  const standard = node.domain === '' || node.domain === 'ai.onnx' || node.domain === 'com.microsoft';
  if (opType === 'Constant' && node.domain === '') return;
  const handled =
    standard &&
    (applyPointwise(graph, node) ||
      applyNormalizing(graph, node) ||
      applyContraction(graph, node) ||
      applyLayout(graph, node));
  if (!handled) graph.blockNode(node, `operator ${opType}`);
}

function applyPointwise(graph: AxisGraph, node: Node): boolean {
  const { opType } = node;
  if (unary.has(opType)) {
    const input = graph.axes(node.inputs[0]);
    if (input === null) return false;
    return node.outputs.every((name) => name === '' || samePerAxis(graph, input, graph.axes(name)));
  }
  if (broadcasting.has(opType)) {
    const output = graph.axes(node.outputs[0]);
    const inputs = node.inputs.filter((name) => name !== '').map((name) => graph.axes(name));
    if (output === null || inputs.includes(null) || node.attributes.has('axis')) return false;
    for (const input of inputs as Atom[][]) {
      input.forEach((atom, axis) => {
        const other = output[axis + output.length - input.length];
        if (other !== undefined && atom.size === other.size) graph.atoms.unite(atom, other);
        else if (atom.size !== 1) graph.atoms.block(atom, 'sizes that do not match');
      });
    }
    return true;
  }
  return false;
}

function applyNormalizing(graph: AxisGraph, node: Node): boolean {
  const { opType } = node;
  const input = graph.axes(node.inputs[0]);
  const output = graph.axes(node.outputs[0]);
  if (input === null || output === null) return false;
  const rank = input.length;
  if (opType === 'BatchNormalization' || opType === 'InstanceNormalization') {
    if (node.outputs.length > 1 || rank < 2) return false;
    for (const name of node.inputs.slice(1)) {
      const vector = graph.axes(name);
      if (vector?.length !== 1) return false;
      graph.atoms.unite(vector[0]!, input[1]!);
    }
    return samePerAxis(graph, input, output);
  }
  if (opType === 'Softmax' || opType === 'LogSoftmax' || opType === 'LpNormalization') {
    const old = opType !== 'LpNormalization' && graph.opset(node) < 13;
    const axis = wrap(getInt(node, 'axis', old ? 1 : -1), rank);
    const last = old ? rank : axis + 1;
    for (let at = axis; at < last; at++) graph.atoms.block(input[at]!, 'softmax');
    return samePerAxis(graph, input, output);
  }
  if (['LayerNormalization', 'SimplifiedLayerNormalization', 'RMSNormalization'].includes(opType)) {
    const axis = wrap(getInt(node, 'axis', -1), rank);
    for (let at = axis; at < rank; at++) graph.atoms.block(input[at]!, 'normalized axis');
    for (const name of node.inputs.slice(1)) if (name !== '') graph.blockValue(name, 'normalized axis');
    for (const name of node.outputs.slice(1)) if (name !== '') graph.blockValue(name, 'normalized axis');
    return samePerAxis(graph, input, output);
  }
  if (pooling.has(opType)) {
    if (node.outputs.length > 1 || rank < 3) return false;
    return passBatchAndChannels(graph, input, output, 'pooled axis');
  }
  if (opType === 'LRN') {
    graph.atoms.block(input[1]!, 'normalized axis');
    return samePerAxis(graph, input, output);
  }
  if (opType.startsWith('Reduce')) return applyReduce(graph, node, input, output);
  return false;
}

function applyReduce(graph: AxisGraph, node: Node, input: Atom[], output: Atom[]): boolean {
  const listed = node.inputs[1] === undefined || node.inputs[1] === '' ? undefined : graph.constant(node.inputs[1]);
  if (listed === undefined && node.inputs[1] !== undefined && node.inputs[1] !== '') return false;
  const given = getInts(node, 'axes', undefined) ?? (listed === undefined ? undefined : readNumbers(listed));
  const none = given === undefined || given.length === 0;
  if (none && getInt(node, 'noop_with_empty_axes', 0) === 1) return samePerAxis(graph, input, output);
  const reduced = new Set(none ? input.map((_, axis) => axis) : given.map((axis) => wrap(axis, input.length)));
  const keep = getInt(node, 'keepdims', 1) === 1;
  let at = 0;
  input.forEach((atom, axis) => {
    if (reduced.has(axis)) {
      graph.atoms.block(atom, 'reduced axis');
      if (keep) at++;
    } else {
      const other = output[at++];
      if (other !== undefined) graph.atoms.unite(atom, other);
    }
  });
  return true;
}

/** Unites axis by axis; false when the ranks differ. */
function samePerAxis(graph: AxisGraph, input: readonly Atom[], output: readonly Atom[] | null): boolean {
  if (output?.length !== input.length) return false;
  input.forEach((atom, axis) => graph.atoms.unite(atom, output[axis]!));
  return true;
}
