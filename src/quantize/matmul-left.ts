import { getFloat, getInt, intsAttribute, makeNode } from '../onnx/graph.js';
import type { Node } from '../onnx/model.js';
import { addScaled, type WeightProduct } from './block-nodes.js';
import type { Editor } from './editor.js';
import { rankOf } from './ranks.js';
import type { WeightUse } from './sites.js';

/**
 * Replaces a MatMul or Gemm whose left matrix is a weight: `W · x = (xᵀ · Wᵀ)ᵀ`, whose right matrix is the transposed
 * weight block operators want. A Gemm's C is added afterwards: it lies along the other axis than the bias
 * the operator takes.
 */
export function replaceLeft(editor: Editor, { graph, node }: WeightUse, weight: WeightProduct): void {
  const gemm = node.opType === 'Gemm';
  const label = node.name || node.outputs[0]!;
  const [, x, output] = [...node.inputs.slice(0, 2), node.outputs[0]!] as [string, string, string];
  const rank = gemm ? 2 : rankOf(editor.model, graph, x)!;
  const nodes: Node[] = [];
  const transpose = (value: string, to: string): string => {
    const order = Array.from({ length: rank }, (_, axis) => (axis < rank - 2 ? axis : 2 * rank - 3 - axis));
    nodes.push(makeNode('Transpose', [value], [to], { perm: intsAttribute(order) }, { name: editor.name(to) }));
    return to;
  };
  const turned = gemm && getInt(node, 'transB', 0) === 1;
  const a = turned ? x : transpose(x, editor.name(`${label}_a_transposed`));
  const product = editor.name(`${label}_product`);
  nodes.push(weight.node(label, a, '', product));
  const c = gemm && getFloat(node, 'beta', 1) !== 0 ? (node.inputs[2] ?? '') : '';
  if (c === '') transpose(product, output);
  else addScaled(editor, graph, node, transpose(product, editor.name(`${label}_turned`)), c, nodes, weight.dataType);
  editor.replace(graph, node, nodes);
}
