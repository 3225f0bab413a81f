import { getFloat, getInt, intAttribute, intsAttribute, makeNode } from '../onnx/graph.js';
import { DataType, type Graph, type Node } from '../onnx/model.js';
import { elementCount } from '../onnx/tensor.js';
import { quantizeChannels } from './channels.js';
import { scaleBytes, type Editor } from './editor.js';
import { channelAxis } from './axes.js';
import type { WeightSite, WeightUse } from './sites.js';

interface IntegerWeight {
  codes: string;
  /** Zero point of the codes; empty: 0. */
  zeroPoint: string;
  /** One scale for each output channel, shaped to broadcast over the result. */
  scales: string;
}

/** The three results of DynamicQuantizeLinear. */
interface QuantizedInput {
  codes: string;
  scale: string;
  zeroPoint: string;
}

/**
 * Replaces MatMul and Gemm by DynamicQuantizeLinear → MatMulInteger → Cast → Mul, which onnxruntime's CPU
 * provider fuses into one DynamicQuantizeMatMul. The weight is int8 `[K, N]` with one scale for each column.
 */
export function encodeMatMulInteger(editor: Editor, site: WeightSite, uses: readonly WeightUse[]): void {
  const made = new Map<string, IntegerWeight>();
  const share = editor.meanShare(uses);
  for (const use of uses) {
    const { graph, node } = use;
    const gemm = use.role === 'gemm';
    const alpha = gemm ? getFloat(node, 'alpha', 1) : 1;
    const key = `${channelAxis(use)} ${alpha}`;
    let weight = made.get(key);
    if (weight === undefined) made.set(key, (weight = addMatrix(editor, site, channelAxis(use), alpha, share)));
    const nodes: Node[] = [];
    let a = node.inputs[0]!;
    if (gemm && getInt(node, 'transA', 0) === 1) {
      const transposed = editor.name(`${labelOf(node)}_a_transposed`);
      nodes.push(makeNode('Transpose', [a], [transposed], { perm: intsAttribute([1, 0]) }, { name: transposed }));
      a = transposed;
    }
    const c = gemm && getFloat(node, 'beta', 1) !== 0 ? (node.inputs[2] ?? '') : '';
    const addend = c === '' ? '' : scaledBias(editor, graph, node, c, nodes);
    editor.replace(graph, node, [...nodes, ...integerNodes(editor, use, 'MatMulInteger', a, weight, addend)]);
  }
}

/** As {@link encodeMatMulInteger} for Conv: DynamicQuantizeLinear → ConvInteger → Cast → Mul → Add. */
export function encodeConvInteger(editor: Editor, site: WeightSite, uses: readonly WeightUse[]): void {
  const { tensor, owner } = site;
  const [channels, rank] = [tensor.dims[0]!, tensor.dims.length];
  const broadcast = [1, channels, ...new Array<number>(rank - 2).fill(1)];
  const share = editor.meanShare(uses);
  const parts = editor.lazyParts<'codes' | 'scales'>(() => {
    const { codes, scales } = quantizeChannels(tensor, 0, { share });
    return { codes: editor.integerCodes(codes), scales: scaleBytes(scales, DataType.FLOAT) };
  });
  const elements = elementCount(tensor.dims);
  const weight: IntegerWeight = {
    codes: editor.add(
      owner,
      `${tensor.name}_i8`,
      editor.integerType.dataType,
      tensor.dims,
      parts.data('codes', elements),
    ),
    scales: editor.add(
      owner,
      `${tensor.name}_i8_scales`,
      DataType.FLOAT,
      broadcast,
      parts.data('scales', channels * 4),
    ),
    zeroPoint: weightZeroPoint(editor, site),
  };
  for (const use of uses) {
    const { graph, node } = use;
    const nodes: Node[] = [];
    const bias = node.inputs[2] ?? '';
    const addend = bias === '' ? '' : reshapedBias(editor, graph, bias, broadcast, nodes);
    editor.replace(graph, node, [
      ...nodes,
      ...integerNodes(editor, use, 'ConvInteger', node.inputs[0]!, weight, addend),
    ]);
  }
}

function weightZeroPoint(editor: Editor, { owner, tensor }: WeightSite): string {
  const { dataType, zeroPoint } = editor.integerType;
  if (zeroPoint === 0) return '';
  return editor.addBytes(owner, `${tensor.name}_i8_zero_point`, dataType, [], Uint8Array.of(zeroPoint));
}

const labelOf = (node: Node): string => node.name || node.outputs[0]!;

function addMatrix(editor: Editor, site: WeightSite, axis: number, alpha: number, share: number): IntegerWeight {
  const { tensor, owner } = site;
  const [rows, columns] = [tensor.dims[1 - axis]!, tensor.dims[axis]!];
  const parts = editor.lazyParts<'codes' | 'scales'>(() => {
    const { codes, scales } = quantizeChannels(tensor, axis, { share });
    const stored = axis === 1 ? codes : transpose(codes, columns, rows);
    const scaled = alpha === 1 ? scales : scales.map((scale) => scale * alpha);
    return { codes: editor.integerCodes(stored), scales: scaleBytes(scaled, DataType.FLOAT) };
  });
  const base = `${tensor.name}_i8`;
  return {
    codes: editor.add(owner, base, editor.integerType.dataType, [rows, columns], parts.data('codes', rows * columns)),
    scales: editor.add(owner, `${base}_scales`, DataType.FLOAT, [columns], parts.data('scales', columns * 4)),
    zeroPoint: weightZeroPoint(editor, site),
  };
}

/** `[rows, columns]` → `[columns, rows]`. */
function transpose(values: Int8Array, rows: number, columns: number): Int8Array {
  const result = new Int8Array(values.length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) result[column * rows + row] = values[row * columns + column]!;
  }
  return result;
}

/** Quantizes a value once however many operators read it (query, key and value share theirs). */
function quantizeInput(editor: Editor, graph: Graph, value: string): QuantizedInput {
  let byValue = editor.dynamicInputs.get(graph);
  if (byValue === undefined) editor.dynamicInputs.set(graph, (byValue = new Map()));
  const known = byValue.get(value);
  if (known !== undefined) return known;
  const made = {
    codes: editor.name(`${value}_u8`),
    scale: editor.name(`${value}_u8_scale`),
    zeroPoint: editor.name(`${value}_u8_zero_point`),
  };
  // Behind its producer (or in front): readers are replaced in no particular order.
  const producer = graph.nodes.findIndex((node) => node.outputs.includes(value));
  const outputs = [made.codes, made.scale, made.zeroPoint];
  const name = editor.name(`${value}_quantize`);
  graph.nodes.splice(producer + 1, 0, makeNode('DynamicQuantizeLinear', [value], outputs, {}, { name }));
  byValue.set(value, made);
  return made;
}

function integerNodes(
  editor: Editor,
  use: WeightUse,
  opType: 'MatMulInteger' | 'ConvInteger',
  input: string,
  weight: IntegerWeight,
  addend: string,
): Node[] {
  const { graph, node } = use;
  const label = labelOf(node);
  const nodes: Node[] = [];
  const x = quantizeInput(editor, graph, input);
  const [sums, floats, scale] = [`${label}_sums`, `${label}_floats`, `${label}_scale`].map((base) =>
    editor.name(base),
  ) as [string, string, string];
  const output = node.outputs[0]!;
  const product = addend === '' ? output : editor.name(`${label}_product`);
  const integer = makeNode(
    opType,
    [x.codes, weight.codes, x.zeroPoint, ...(weight.zeroPoint === '' ? [] : [weight.zeroPoint])],
    [sums],
    {},
    { name: editor.name(`${label}_i8`) },
  );
  // ConvInteger has the attributes of Conv.
  if (opType === 'ConvInteger') integer.attributes = new Map(node.attributes);
  nodes.push(
    integer,
    makeNode('Cast', [sums], [floats], { to: intAttribute(DataType.FLOAT) }, { name: floats }),
    makeNode('Mul', [x.scale, weight.scales], [scale], {}, { name: scale }),
    makeNode('Mul', [floats, scale], [product], {}, { name: editor.name(`${label}_rescale`) }),
  );
  if (addend !== '')
    nodes.push(makeNode('Add', [product, addend], [output], {}, { name: editor.name(`${label}_bias`) }));
  return nodes;
}

/** Gemm's beta · C as a value. */
function scaledBias(editor: Editor, graph: Graph, node: Node, c: string, nodes: Node[]): string {
  const beta = getFloat(node, 'beta', 1);
  if (beta === 1) return c;
  const factor = editor.addFloats(graph, `${labelOf(node)}_beta`, [], Float32Array.of(beta));
  const scaled = editor.name(`${labelOf(node)}_c_scaled`);
  nodes.push(makeNode('Mul', [c, factor], [scaled], {}, { name: scaled }));
  return scaled;
}

/** A Conv bias `[M]` shaped to broadcast over `[N, M, …]`. */
function reshapedBias(editor: Editor, graph: Graph, bias: string, dims: readonly number[], nodes: Node[]): string {
  const tensor = graph.initializers.get(bias);
  if (tensor !== undefined) {
    return editor.add(graph, `${bias}_broadcast`, tensor.dataType, dims, tensor.data);
  }
  const shape = editor.addBytes(
    graph,
    `${bias}_shape`,
    DataType.INT64,
    [dims.length],
    new Uint8Array(BigInt64Array.from(dims, BigInt).buffer),
  );
  const reshaped = editor.name(`${bias}_broadcast`);
  nodes.push(makeNode('Reshape', [bias, shape], [reshaped], {}, { name: reshaped }));
  return reshaped;
}
