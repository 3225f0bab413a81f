import { constantValue, getFloat, getInt, indexGraph, type GraphIndex } from '../onnx/graph.js';
import { DataType, type Graph, type Model, type Node, type Tensor } from '../onnx/model.js';
import { elementCount, readFloat32 } from '../onnx/tensor.js';
import { dequantizeAxisBlocks } from './block-axis.js';
import { blocksPerRow, dequantizeMatrix } from './block-matrix.js';
import { dequantizeChannels } from './channels.js';
import { dequantizeNormalFloat } from './normal-float.js';
import { matrixOf } from './plan.js';
import type { WeightSite, WeightUse } from './sites.js';
import { prepared } from './weights.js';

/**
 * The values a runtime sees of a weight in a quantized model, in the layout of the original tensor, read back from the
 * nodes that replaced its first reader. Bytes that are computed when asked for are computed here.
 *
 * @param original the model that was quantized, unedited since
 * @param quantized result of quantizing it
 * @returns null for weights that were not changed, are held in a body of If or Loop, or have a form not known here
 */
export function decodeWeight(original: Model, quantized: Model, weight: string): Float32Array | null {
  const { model, sites } = prepared(original);
  const site = sites.find(({ name }) => name === weight);
  const use = site?.uses.find(({ graph }) => graph === model.graph);
  if (site === undefined || use === undefined || site.owner !== model.graph) return null;
  if (quantized.graph.initializers.has(site.tensor.name)) return null;
  const { graph } = quantized;
  const index = indexGraph(graph);
  switch (use.role) {
    case 'matmul':
    case 'matmul-left':
    case 'gemm':
      return decodeMatrix(site, use, blockNodeOf(model.graph, use.node, index), graph, index);
    case 'gather':
      return decodeRows(index.producer.get(use.node.outputs[0]!), graph, index);
    default: {
      const reader = index.producer.get(use.node.outputs.find((output) => output !== '') ?? '');
      const unpacking = reader && index.producer.get(reader.inputs[use.input] ?? '');
      if (reader?.opType === 'DynamicQuantizeLSTM') return decodeGates(reader, use.input, graph);
      return unpacking?.opType === 'DequantizeLinear' ? decodeChannels(unpacking, graph, index) : null;
    }
  }
}

/** The block operator that stands for a node: its bias may have been taken in, or be added after it. */
function blockNodeOf(original: Graph, node: Node, index: GraphIndex): Node | null {
  const output = node.outputs[0]!;
  // Any other reader (a BatchNormalization, say) may have been folded in: then the weight is not the original's.
  const added = (indexGraph(original).consumers.get(output) ?? []).filter(
    ({ node: reader, input }) => reader.opType === 'Add' && original.initializers.has(reader.inputs[1 - input]!),
  );
  for (const name of [output, ...added.map((reader) => reader.node.outputs[0]!)]) {
    let producer = index.producer.get(name);
    // A bias that was not taken in, then the result of a weight on the left turned back.
    for (const opType of ['Add', 'Transpose']) {
      if (producer?.opType === opType) producer = index.producer.get(producer.inputs[0]!);
    }
    if (producer?.opType === 'MatMulNBits' || producer?.opType === 'MatMulBnb4') return producer;
  }
  return null;
}

function decodeMatrix(
  site: WeightSite,
  use: WeightUse,
  node: Node | null,
  graph: Graph,
  index: GraphIndex,
): Float32Array | null {
  const codes = graph.initializers.get(node?.inputs[1] ?? '');
  const scales = node && floatsOf(graph, index, node.inputs[2] ?? '');
  if (!node || codes === undefined || !scales) return null;
  const [rows, columns] = [getInt(node, 'N', 0), getInt(node, 'K', 0)];
  const values =
    node.opType === 'MatMulBnb4'
      ? dequantizeNormalFloat({ rows, columns, codes: codes.data.read(), scales })
      : decodeBlocks(node, codes, scales, graph);
  if (values === null) return null;
  const alpha = use.node.opType === 'Gemm' ? getFloat(use.node, 'alpha', 1) : 1;
  const rowMajor = matrixOf(site, use).order === 'row-major';
  if (rowMajor && alpha === 1) return values;
  const result = new Float32Array(values.length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      result[rowMajor ? row * columns + column : column * rows + row] = values[row * columns + column]! / alpha;
    }
  }
  return result;
}

function decodeBlocks(node: Node, codes: Tensor, scales: Float32Array, graph: Graph): Float32Array | null {
  const bits = getInt(node, 'bits', 4);
  if (bits !== 2 && bits !== 4 && bits !== 8) return null;
  const zeroPoints = graph.initializers.get(node.inputs[3] ?? '');
  return dequantizeMatrix({
    format: { bits, blockSize: getInt(node, 'block_size', 32), zeroPoints: zeroPoints !== undefined },
    rows: getInt(node, 'N', 0),
    columns: getInt(node, 'K', 0),
    codes: codes.data.read(),
    scales,
    zeroPoints: zeroPoints?.data.read() ?? null,
  });
}

function decodeRows(node: Node | undefined, graph: Graph, index: GraphIndex): Float32Array | null {
  if (node?.opType !== 'GatherBlockQuantized') return null;
  const codes = graph.initializers.get(node.inputs[0]!);
  const scales = floatsOf(graph, index, node.inputs[2]!);
  const bits = getInt(node, 'bits', 4);
  if (
    codes === undefined ||
    scales === null ||
    (bits !== 2 && bits !== 4 && bits !== 8) ||
    (node.inputs[3] ?? '') !== ''
  )
    return null;
  const blockSize = getInt(node, 'block_size', 32);
  const signed = codes.dataType === DataType.INT4;
  if (bits === 4 && !signed) return null;
  const bytes = codes.data.read();
  const [rows, columns] = [codes.dims[0]!, codes.dims[1]! * (bits === 2 ? 4 : 1)];
  const blocks = blocksPerRow(columns, blockSize);
  return Float32Array.from({ length: rows * columns }, (_, i) => {
    const perByte = 8 / bits;
    const stored = (bytes[Math.floor(i / perByte)]! >> (bits * (i % perByte))) & (2 ** bits - 1);
    const code = signed ? (stored ^ 8) - 8 : stored - 2 ** (bits - 1);
    return code * scales[Math.floor(i / columns) * blocks + Math.floor((i % columns) / blockSize)]!;
  });
}

/** The weight of an LSTM as it was: `[directions, 4 · hidden, inputs]`. */
function decodeGates(node: Node, input: number, graph: Graph): Float32Array | null {
  const codes = graph.initializers.get(node.inputs[input]!);
  const scales = graph.initializers.get(node.inputs[input === 1 ? 8 : 10]!);
  if (codes === undefined || scales === undefined) return null;
  const [, inputs, gates] = codes.dims as [number, number, number];
  const bytes = codes.data.read();
  // uint8 codes are around 128: flipping the top bit makes them int8.
  const signed = Int8Array.from(codes.dataType === DataType.UINT8 ? bytes.map((byte) => byte ^ 0x80) : bytes);
  const factors = readFloat32(scales);
  return Float32Array.from({ length: signed.length }, (_, at) => {
    const row = Math.floor(at / inputs);
    const from = (Math.floor(row / gates) * inputs + (at % inputs)) * gates + (row % gates);
    return signed[from]! * factors[row]!;
  });
}

function decodeChannels(node: Node, graph: Graph, index: GraphIndex): Float32Array | null {
  const codes = graph.initializers.get(node.inputs[0]!);
  const scales = floatsOf(graph, index, node.inputs[1]!);
  if (codes === undefined || scales === null || (node.inputs[2] ?? '') !== '') return null;
  const bytes = codes.data.read();
  if (codes.dataType === DataType.INT4) {
    return dequantizeAxisBlocks(
      { codes: bytes, scales },
      codes.dims,
      getInt(node, 'axis', 1),
      getInt(node, 'block_size', 32),
    );
  }
  if (codes.dataType !== DataType.INT8) return null;
  const signed = new Int8Array(bytes.buffer, bytes.byteOffset, elementCount(codes.dims));
  const perTensor = graph.initializers.get(node.inputs[1]!)?.dims.length === 0;
  const axis = perTensor ? null : getInt(node, 'axis', 1);
  return dequantizeChannels({ codes: signed, scales }, codes, axis);
}

/** Values of a float initializer, or of one stored in another float type and cast. */
function floatsOf(graph: Graph, index: GraphIndex, name: string): Float32Array | null {
  const producer = index.producer.get(name);
  const source = producer?.opType === 'Cast' ? producer.inputs[0]! : name;
  const tensor: Tensor | null = constantValue(graph, index, source);
  return tensor === null ? null : readFloat32(tensor);
}
