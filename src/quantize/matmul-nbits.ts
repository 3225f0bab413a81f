import { getFloat, getInt, indexGraph, intsAttribute, makeNode } from '../onnx/graph.js';
import { DataType, type Graph, type Node } from '../onnx/model.js';
import { computedData, elementCount } from '../onnx/tensor.js';
import { addBlocks, addNormalFloat, addScaled, refinedFor, takesBias, type WeightProduct } from './block-nodes.js';
import type { Editor } from './editor.js';
import { readFloatRange } from './floats.js';
import type { Provider } from '../contract/types.js';
import type { CodeBits } from './block-search.js';
import { replaceLeft } from './matmul-left.js';
import { matrixOf } from './plan.js';
import type { WeightSite, WeightUse } from './sites.js';

/**
 * Replaces MatMul and Gemm nodes that read a weight by com.microsoft.MatMulNBits (onnxruntime
 * ContribOperators.md): codes `[N, blocks, blob]`, scales `[N, blocks]`, packed zero points only where they pay.
 * A Gemm's alpha goes into the scales, its bias (or a bias added right after a MatMul) into the operator.
 */
export function encodeMatMulNBits(editor: Editor, site: WeightSite, uses: readonly WeightUse[], bits: CodeBits): void {
  const share = editor.meanShare(uses);
  replaceProducts(editor, site, uses, (use, alpha) => addBlocks(editor, site, use, bits, alpha, share));
}

/** As {@link encodeMatMulNBits} by com.microsoft.MatMulBnb4, which takes no bias. */
export function encodeMatMulBnb4(editor: Editor, site: WeightSite, uses: readonly WeightUse[]): void {
  replaceProducts(editor, site, uses, (use, alpha) => addNormalFloat(editor, site, use, alpha));
}

function replaceProducts(
  editor: Editor,
  site: WeightSite,
  uses: readonly WeightUse[],
  add: (use: WeightUse, alpha: number) => WeightProduct,
): void {
  const made = new Map<string, WeightProduct>();
  for (const use of uses) {
    const alpha = use.node.opType === 'Gemm' ? getFloat(use.node, 'alpha', 1) : 1;
    const matrix = matrixOf(site, use);
    const key = `${matrix.order} ${alpha}`;
    let product = made.get(key);
    if (product === undefined) made.set(key, (product = add(use, alpha)));
    const shift = refinedFor(editor, site, matrix.order)?.biasShift ?? null;
    if (use.role === 'matmul-left') replaceLeft(editor, use, product);
    else if (use.role === 'gemm') replaceGemm(editor, use, product, shift?.map((value) => value * alpha) ?? null);
    else replaceMatMul(editor, use, product, shift);
  }
  editor.require('com.microsoft', 1);
}

/**
 * The constant `[N]` that an operator's product is followed by and that the block operator takes in: an Add after a
 * MatMul, or a Gemm's C. Null when there is none or the provider's kernel takes none.
 */
export function biasOf(graph: Graph, use: WeightUse, width: number, provider: Provider): string | null {
  if (!takesBias(provider)) return null;
  if (use.role !== 'gemm') return followingBias(graph, use.node, width)?.bias ?? null;
  const c = use.node.inputs[2] ?? '';
  return c !== '' && getFloat(use.node, 'beta', 1) !== 0 && isBiasVector(graph, c, width) ? c : null;
}

function replaceMatMul(editor: Editor, use: WeightUse, weight: WeightProduct, shift: Float32Array | null): void {
  const { graph, node } = use;
  const label = node.name || node.outputs[0]!;
  const added = weight.takesBias ? followingBias(graph, node, weight.rows) : null;
  const y = added === null ? node.outputs[0]! : added.node.outputs[0]!;
  const bias = added === null ? '' : biasVector(editor, graph, added.bias, 1, shift, weight.rows);
  editor.replace(graph, node, [weight.node(label, node.inputs[0]!, bias, y)]);
  if (added === null) return;
  graph.nodes.splice(graph.nodes.indexOf(added.node), 1);
  graph.valueInfo.delete(node.outputs[0]!);
}

/**
 * An Add of a constant `[N]` that is the only reader of a node's output. Taking it into the operator saves the
 * buffer of the sum, which onnxruntime does not compute in place.
 */
export function followingBias(graph: Graph, node: Node, width: number): { node: Node; bias: string } | null {
  const index = indexGraph(graph);
  const output = node.outputs[0]!;
  const consumers = index.consumers.get(output) ?? [];
  const [only] = consumers;
  if (only === undefined || consumers.length > 1 || only.captured || index.outputs.has(output)) return null;
  if (only.node.opType !== 'Add' || only.node.domain !== '') return null;
  const bias = only.node.inputs[1 - only.input]!;
  const tensor = graph.initializers.get(bias);
  const fits = tensor !== undefined && tensor.dataType === DataType.FLOAT && tensor.dims.length === 1;
  return fits && tensor.dims[0] === width ? { node: only.node, bias } : null;
}

function replaceGemm(editor: Editor, use: WeightUse, weight: WeightProduct, shift: Float32Array | null): void {
  const { graph, node } = use;
  const label = node.name || node.outputs[0]!;
  const nodes: Node[] = [];
  let a = node.inputs[0]!;
  if (getInt(node, 'transA', 0) === 1) {
    const transposed = editor.name(`${label}_a_transposed`);
    nodes.push(makeNode('Transpose', [a], [transposed], { perm: intsAttribute([1, 0]) }, { name: transposed }));
    a = transposed;
  }
  const output = node.outputs[0]!;
  const c = node.inputs[2] ?? '';
  const beta = getFloat(node, 'beta', 1);
  const none = c === '' || beta === 0;
  const vector = !none && isBiasVector(graph, c, weight.rows);
  if (none || (vector && weight.takesBias)) {
    const bias = none ? '' : biasVector(editor, graph, c, beta, shift, weight.rows);
    nodes.push(weight.node(label, a, bias, output));
  } else {
    const product = editor.name(`${label}_product`);
    nodes.push(weight.node(label, a, '', product));
    if (vector) {
      const addend = biasVector(editor, graph, c, beta, shift, weight.rows);
      nodes.push(makeNode('Add', [product, addend], [output], {}, { name: editor.name(`${label}_bias`) }));
    } else addScaled(editor, graph, node, product, c, nodes, weight.dataType);
  }
  editor.replace(graph, node, nodes);
}

/** Whether a value is a FLOAT initializer of `width` elements, `[N]` or `[1, N]`. */
function isBiasVector(graph: Graph, name: string, width: number): boolean {
  const tensor = graph.initializers.get(name);
  if (tensor === undefined || tensor.dataType !== DataType.FLOAT || elementCount(tensor.dims) !== width) return false;
  return tensor.dims.length === 1 || (tensor.dims.length === 2 && tensor.dims[0] === 1);
}

/** A bias as `[N]`, times beta and moved by a shift; the same initializer where nothing changes. */
function biasVector(
  editor: Editor,
  graph: Graph,
  name: string,
  beta: number,
  shift: Float32Array | null,
  width: number,
): string {
  const tensor = graph.initializers.get(name)!;
  if (beta === 1 && shift === null && tensor.dims.length === 1) return name;
  const data = computedData(width * 4, () => {
    const values = readFloatRange(tensor, 0, width).map((value, i) => value * beta + (shift?.[i] ?? 0));
    return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  });
  return editor.add(graph, `${name}_bias`, DataType.FLOAT, [width], data);
}
