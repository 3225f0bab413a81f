import { getInt, indexGraph, type GraphIndex } from '../onnx/graph.js';
import { DataType, type Graph, type Node, type Tensor } from '../onnx/model.js';
import { elementCount } from '../onnx/tensor.js';
import { outputChannels } from './batch-norm.js';
import { channelAxis } from './axes.js';
import { clipBounds } from './clip.js';
import { scaledTensor } from './scaled.js';
import type { WeightSite, WeightUse } from './sites.js';
import { inputChannels } from './weight-rows.js';

/** A tensor in front of an activation that can take the division by the scales. */
interface Absorber {
  node: Node;
  input: number;
  /** Output channels of a weight, or a vector with one element for each channel. */
  kind: 'weight' | 'vector';
}

/** An activation whose channels can be scaled exactly: what makes it and all that reads it are constants times it. */
export interface Scalable {
  value: string;
  channels: number;
  absorbers: Absorber[];
  readers: { site: WeightSite; use: WeightUse }[];
  /** The activation and the values between it and its absorbers, which are scaled along. */
  values: string[];
  /** Upper bound of a Clip on the way, or null. */
  clip: number | null;
}

/** What the values of an activation were divided by. */
export interface AppliedScales {
  /** One for each channel. */
  factors: Float64Array;
  /** Dimensions behind that of the channels. */
  behind: number;
}

/** Operators that carry a positive factor of a channel through unchanged. */
const homogeneous = new Set([
  'Relu',
  'LeakyRelu',
  'MaxPool',
  'AveragePool',
  'GlobalAveragePool',
  'Identity',
  'Dropout',
]);

/**
 * Every activation whose channels can be scaled without changing what the model computes: read only by weights that
 * nothing else reads, and made by a normalization, a weight or a constant factor, perhaps through Relu, Clip from 0
 * or pooling.
 */
export function findScalable(graph: Graph, sites: readonly WeightSite[]): Scalable[] {
  const index = indexGraph(graph);
  const byNode = new Map<Node, { site: WeightSite; use: WeightUse }>();
  for (const site of sites) {
    const { uses, fixed, tensor } = site;
    const [use] = uses;
    const scaled = use?.role === 'conv' || use?.role === 'gemm' || use?.role === 'matmul';
    const known = use?.graph === graph && use.transpose === null && graph.initializers.has(tensor.name);
    if (uses.length === 1 && scaled && known && fixed === null && tensor.dataType === DataType.FLOAT) {
      if (use.role === 'gemm' && getInt(use.node, 'transA', 0) !== 0) continue;
      if (use.role === 'conv' ? tensor.dims.length >= 3 : tensor.dims.length === 2) byNode.set(use.node, { site, use });
    }
  }
  const found: Scalable[] = [];
  const seen = new Set<string>();
  for (const { use } of byNode.values()) {
    const value = use.node.inputs[0]!;
    if (seen.has(value)) continue;
    seen.add(value);
    const readers = readersOf(graph, index, byNode, value);
    if (readers === null) continue;
    const channels = inputChannels(use, readers[0]!.site.tensor);
    const behind = dimsBehind(use, readers[0]!.site.tensor);
    const kindred = readers.every(
      ({ use: other, site: { tensor } }) =>
        inputChannels(other, tensor) === channels && dimsBehind(other, tensor) === behind,
    );
    const scalable: Scalable = { value, channels, absorbers: [], readers, values: [value], clip: null };
    if (kindred && absorb(graph, index, byNode, scalable, index.producer.get(value), behind)) found.push(scalable);
  }
  return found;
}

/** Dimensions behind the channels of the activation a weight reads: those of a convolution's kernel. */
function dimsBehind({ role }: WeightUse, { dims }: Tensor): number {
  return role === 'conv' ? dims.length - 2 : 0;
}

function readersOf(
  graph: Graph,
  index: GraphIndex,
  byNode: ReadonlyMap<Node, { site: WeightSite; use: WeightUse }>,
  value: string,
): Scalable['readers'] | null {
  if (index.outputs.has(value) || graph.initializers.has(value)) return null;
  const readers: Scalable['readers'] = [];
  for (const { node, input, captured } of index.consumers.get(value) ?? []) {
    const reader = byNode.get(node);
    if (captured || input !== 0 || reader === undefined) return null;
    readers.push(reader);
  }
  return readers;
}

/** Follows a value to the constants that make it; false where there are none. */
function absorb(
  graph: Graph,
  index: GraphIndex,
  byNode: ReadonlyMap<Node, { site: WeightSite; use: WeightUse }>,
  scalable: Scalable,
  node: Node | undefined,
  behind: number,
): boolean {
  if (node === undefined || node.domain !== '' || node.outputs.slice(1).some((name) => index.consumers.has(name))) {
    return false;
  }
  const { channels, absorbers, values } = scalable;
  /** Goes on to an input, when nothing else reads it. */
  const onward = (input: number): boolean => {
    const value = node.inputs[input]!;
    if ((index.consumers.get(value) ?? []).length !== 1 || index.outputs.has(value)) return false;
    values.push(value);
    return absorb(graph, index, byNode, scalable, index.producer.get(value), behind);
  };
  const inputs = new Set(graph.inputs.map(({ name }) => name));
  const tensorAt = (input: number): Tensor | undefined => graph.initializers.get(node.inputs[input] ?? '');
  /** A vector of a normalization or a bias: one element for each channel, not one that callers may set. */
  const isVector = (input: number): boolean =>
    isFloatVector(tensorAt(input), channels) && !inputs.has(node.inputs[input]!);
  /** A constant that broadcasts along the channels alone: `[C]` where they are last, `[C, 1, 1]` in front of images. */
  const isFactor = (input: number): boolean => {
    const dims = tensorAt(input)?.dims ?? [];
    return channels > 1 && isVector(input) && dims.length - 1 - dims.indexOf(channels) === behind;
  };
  const take = (input: number, kind: Absorber['kind']): true => {
    absorbers.push({ node, input, kind });
    return true;
  };
  const { opType } = node;
  if (homogeneous.has(opType)) return onward(0);
  switch (opType) {
    case 'Clip': {
      const [low, high] = clipBounds(graph, index, node);
      if (low !== 0 || scalable.clip !== null || high === null || high <= 0) return false;
      scalable.clip = high;
      return onward(0);
    }
    case 'LayerNormalization':
    case 'RMSNormalization':
    case 'SimplifiedLayerNormalization': {
      const axis = getInt(node, 'axis', -1);
      const shifted = (node.inputs[2] ?? '') !== '';
      if (behind !== 0 || axis !== -1 || !isVector(1) || (shifted && !isVector(2))) return false;
      if (shifted) take(2, 'vector');
      return take(1, 'vector');
    }
    case 'BatchNormalization':
      return isVector(1) && isVector(2) && take(1, 'vector') && take(2, 'vector');
    case 'Add': {
      const constant = [0, 1].find(isFactor);
      return constant !== undefined && onward(1 - constant) && take(constant, 'vector');
    }
    case 'Mul': {
      const constant = [0, 1].find(isFactor);
      if (constant !== undefined) return take(constant, 'vector');
      // One side of a gate takes the scale, the other stays; nothing is kept of a side that cannot.
      const [held, taken] = [values.length, absorbers.length];
      for (const side of [1, 0]) {
        if (onward(side)) return true;
        values.length = held;
        absorbers.length = taken;
        scalable.clip = null;
      }
      return false;
    }
    case 'Conv':
    case 'Gemm':
    case 'MatMul': {
      const own = byNode.get(node);
      if (own === undefined || dimsBehind(own.use, own.site.tensor) !== behind) return false;
      if (outputChannels(node, own.site.tensor).channels !== channels) return false;
      const biased = (node.inputs[2] ?? '') !== '';
      if (biased && !isVector(2)) return false;
      if (biased) take(2, 'vector');
      return take(1, 'weight');
    }
    default:
      return false;
  }
}

function isFloatVector(tensor: Tensor | undefined, channels: number): boolean {
  return tensor?.dataType === DataType.FLOAT && elementCount(tensor.dims) === channels;
}

/**
 * Divides the channels of scalable activations by their scales, in the constants that make them, and multiplies the
 * weights that read them, in place. The model computes the same.
 * @param rename name for a new initializer that is not taken yet.
 */
export function applyScales(
  graph: Graph,
  sites: readonly WeightSite[],
  scales: ReadonlyMap<string, Float64Array>,
  rename: (base: string) => string,
): Map<string, AppliedScales> {
  const applied = new Map<string, AppliedScales>();
  for (const { value, values, absorbers, readers } of findScalable(graph, sites)) {
    const factors = scales.get(value);
    if (factors === undefined) continue;
    const inverse = factors.map((scale) => 1 / scale);
    for (const { node, input, kind } of absorbers) {
      const tensor = graph.initializers.get(node.inputs[input]!)!;
      if (kind === 'weight') {
        const { inner, expand } = outputChannels(node, tensor);
        replaceTensor(graph, sites, scaledTensor(tensor, expand(inverse), inner));
      } else {
        // Exporters share equal vectors; only this use is scaled.
        const name = isShared(graph, tensor.name) ? rename(`${tensor.name}_scaled`) : tensor.name;
        const scaled = { ...scaledTensor(tensor, inverse, 1), name };
        if (name === tensor.name) replaceTensor(graph, sites, scaled);
        else graph.initializers.set(name, scaled);
        node.inputs[input] = name;
      }
    }
    for (const { site, use } of readers) replaceTensor(graph, sites, scaledInputs(site.tensor, use, factors));
    const { use, site } = readers[0]!;
    for (const name of values) applied.set(name, { factors, behind: dimsBehind(use, site.tensor) });
  }
  return applied;
}

/** Whether more than one input, a body or a result takes a constant. */
function isShared(graph: Graph, name: string): boolean {
  const { consumers, outputs } = indexGraph(graph);
  const readers = consumers.get(name) ?? [];
  return outputs.has(name) || readers.length !== 1 || readers[0]!.captured;
}

/** Puts a scaled weight where it was; sites must see it, too. */
function replaceTensor(graph: Graph, sites: readonly WeightSite[], tensor: Tensor): void {
  graph.initializers.set(tensor.name, tensor);
  for (const site of sites) if (site.owner === graph && site.tensor.name === tensor.name) site.tensor = tensor;
}

function scaledInputs(tensor: Tensor, use: WeightUse, factors: Float64Array): Tensor {
  if (use.role !== 'conv') return scaledTensor(tensor, factors, channelAxis(use) === 1 ? tensor.dims[1]! : 1);
  const [outputs, each] = [tensor.dims[0]!, tensor.dims[1]!];
  const groups = getInt(use.node, 'group', 1);
  const expanded = Float64Array.from({ length: outputs * each }, (_, i) => {
    const group = Math.floor(Math.floor(i / each) / (outputs / groups));
    return factors[group * each + (i % each)]!;
  });
  return scaledTensor(tensor, expanded, elementCount(tensor.dims.slice(2)));
}
