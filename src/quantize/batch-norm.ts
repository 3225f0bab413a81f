import { getFloat, getInt, indexGraph, type GraphIndex } from '../onnx/graph.js';
import { DataType, type Graph, type Node, type Tensor } from '../onnx/model.js';
import { elementCount, float32Tensor, readFloat32 } from '../onnx/tensor.js';
import { scaledTensor } from './scaled.js';

interface Affine {
  /** BatchNormalization at inference: `y = factor · x + offset` for each channel. */
  factor: Float64Array;
  offset: Float64Array;
}

/**
 * Folds every BatchNormalization (ONNX operator, inference form) that alone reads a Conv, ConvTranspose or Gemm into
 * that operator's weight and bias, in place: 8-bit scales then fit the weight that is really used, and the runtime,
 * which would have folded float weights itself, finds nothing left to do. Sums are taken in float64.
 * @param rename name for a new initializer that is not taken yet.
 * @returns how many were folded.
 */
export function foldBatchNormalization(graph: Graph, rename: (base: string) => string): number {
  const index = indexGraph(graph);
  const removed = new Set<Node>();
  for (const node of graph.nodes) {
    if (node.opType !== 'BatchNormalization' || node.domain !== '') continue;
    const producer = index.producer.get(node.inputs[0]!);
    const affine = producer && foldable(graph, index, producer, node) ? affineOf(graph, node) : null;
    if (producer === undefined || affine === null) continue;
    if (!fold(graph, producer, affine, rename)) continue;
    const [before, after] = [producer.outputs[0]!, node.outputs[0]!];
    producer.outputs[0] = after;
    graph.valueInfo.delete(before);
    removed.add(node);
  }
  graph.nodes = graph.nodes.filter((node) => !removed.has(node));
  return removed.size;
}

function foldable(graph: Graph, index: GraphIndex, producer: Node, norm: Node): boolean {
  const value = norm.inputs[0]!;
  const readers = index.consumers.get(value) ?? [];
  const trains = getInt(norm, 'training_mode', 0) !== 0 || norm.outputs.slice(1).some((name) => name !== '');
  if (readers.length !== 1 || index.outputs.has(value) || trains || producer.domain !== '') return false;
  const weight = graph.initializers.get(producer.inputs[1] ?? '');
  const shared = (index.consumers.get(producer.inputs[1] ?? '') ?? []).length !== 1;
  if (weight?.dataType !== DataType.FLOAT || shared || graph.inputs.some(({ name }) => name === weight.name)) {
    return false;
  }
  const bias = producer.inputs[2] ?? '';
  if (bias !== '' && graph.initializers.get(bias)?.dataType !== DataType.FLOAT) return false;
  if (producer.opType === 'Gemm') return getFloat(producer, 'alpha', 1) === 1 && getFloat(producer, 'beta', 1) === 1;
  return producer.opType === 'Conv' || producer.opType === 'ConvTranspose';
}

function affineOf(graph: Graph, node: Node): Affine | null {
  const tensors = node.inputs.slice(1, 5).map((name) => graph.initializers.get(name));
  if (tensors.length !== 4 || tensors.some((tensor) => tensor?.dataType !== DataType.FLOAT)) return null;
  const [scale, shift, mean, variance] = tensors.map((tensor) => readFloat32(tensor!));
  const epsilon = getFloat(node, 'epsilon', 1e-5);
  const factor = Float64Array.from(scale!, (value, i) => value / Math.sqrt(variance![i]! + epsilon));
  const offset = Float64Array.from(shift!, (value, i) => value - mean![i]! * factor[i]!);
  return [...factor, ...offset].every(Number.isFinite) ? { factor, offset } : null;
}

function fold(graph: Graph, producer: Node, { factor, offset }: Affine, rename: (base: string) => string): boolean {
  const weight = graph.initializers.get(producer.inputs[1]!)!;
  const layout = outputChannels(producer, weight);
  if (layout.channels !== factor.length) return false;
  const biasName = producer.inputs[2] ?? '';
  const bias = biasName === '' ? null : readFloat32(graph.initializers.get(biasName)!);
  if (bias !== null && bias.length !== 1 && bias.length !== factor.length) return false;
  graph.initializers.set(weight.name, scaledTensor(weight, layout.expand(factor), layout.inner));
  const folded = Float32Array.from(offset, (shift, i) =>
    bias === null ? shift : bias[bias.length === 1 ? 0 : i]! * factor[i]! + shift,
  );
  const name = rename(biasName === '' ? `${weight.name}_bias` : `${biasName}_folded`);
  graph.initializers.set(name, float32Tensor(name, [folded.length], folded));
  producer.inputs[2] = name;
  return true;
}

interface OutputChannels {
  channels: number;
  /** Consecutive elements of the weight that share a factor. */
  inner: number;
  /** One factor for each output channel, in the order in which runs of `inner` elements need them. */
  expand: (factors: Float64Array) => Float64Array;
}

/** Where the output channels are in a weight: Conv [M, …], ConvTranspose [C, M / groups, …], Gemm either way. */
export function outputChannels(node: Node, weight: Tensor): OutputChannels {
  const { dims } = weight;
  const same = (factors: Float64Array): Float64Array => factors;
  if (node.opType === 'ConvTranspose') {
    const groups = getInt(node, 'group', 1);
    const [inputs, each] = [dims[0]!, dims[1]!];
    const perGroup = inputs / groups;
    return {
      channels: each * groups,
      inner: elementCount(dims.slice(2)),
      expand: (factors) =>
        Float64Array.from({ length: inputs * each }, (_, i) => {
          const group = Math.floor(Math.floor(i / each) / perGroup);
          return factors[group * each + (i % each)]!;
        }),
    };
  }
  const last = node.opType === 'MatMul' || (node.opType === 'Gemm' && getInt(node, 'transB', 0) === 0);
  return last
    ? { channels: dims[1]!, inner: 1, expand: same }
    : { channels: dims[0]!, inner: elementCount(dims.slice(1)), expand: same };
}
