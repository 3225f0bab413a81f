import { SnugError } from '../contract/errors.js';
import { indexGraph, type Consumer, type GraphIndex } from '../onnx/graph.js';
import { DataType, type Model, type Node, type Tensor } from '../onnx/model.js';
import { elementCount, readFloat32 } from '../onnx/tensor.js';
import { takesAdapter } from './adapters.js';
import { floatTypes } from './graph-builder.js';

/** What a weight does in its layer; a quantization scale multiplies the stored codes of a weight. */
export type WeightRole = 'matrix' | 'kernel' | 'table' | 'scale' | 'bias' | 'embedding' | 'quantization-scale';

export interface TrainableWeight {
  name: string;
  role: WeightRole;
  dims: number[];
  /** Inputs that one output of the layer adds up; 0 where that means nothing. */
  fanIn: number;
  /** Whether a low-rank adapter can stand beside it. */
  adaptable: boolean;
}

/** Operators that only rearrange a weight before it is used. */
const rearranging = new Set(['Transpose', 'Reshape', 'Identity', 'Squeeze', 'Unsqueeze', 'Cast']);

/** What inputs of operators with weights hold, by position; null for what is no weight. */
const inputRoles: Readonly<Record<string, readonly (WeightRole | null)[]>> = {
  BatchNormalization: [null, 'scale', 'bias'],
  LayerNormalization: [null, 'scale', 'bias'],
  RMSNormalization: [null, 'scale'],
  SimplifiedLayerNormalization: [null, 'scale'],
  InstanceNormalization: [null, 'scale', 'bias'],
  GroupNormalization: [null, 'scale', 'bias'],
  SkipLayerNormalization: [null, null, 'scale', 'bias', 'bias'],
  SkipSimplifiedLayerNormalization: [null, null, 'scale', 'bias'],
  EmbedLayerNormalization: [null, null, 'table', 'table', 'table', 'scale', 'bias'],
  Conv: [null, 'kernel', 'bias'],
  ConvTranspose: [null, 'kernel', 'bias'],
  FusedConv: [null, 'kernel', 'bias'],
  Gemm: ['matrix', 'matrix', 'bias'],
  FusedGemm: ['matrix', 'matrix', 'bias'],
  GemmFastGelu: [null, 'matrix', 'bias'],
  MatMul: ['matrix', 'matrix'],
  FusedMatMul: ['matrix', 'matrix'],
  TransposeMatMul: ['matrix', 'matrix'],
  BiasGelu: [null, 'bias'],
  FastGelu: [null, 'bias'],
  BiasSplitGelu: [null, 'bias'],
  BiasAdd: [null, 'bias'],
  Attention: [null, 'matrix', 'bias'],
  MultiHeadAttention: [null, null, null, 'bias'],
  LSTM: [null, 'matrix', 'matrix', 'bias'],
  GRU: [null, 'matrix', 'matrix', 'bias'],
  RNN: [null, 'matrix', 'matrix', 'bias'],
  PRelu: [null, 'scale'],
  MatMulNBits: [null, null, 'quantization-scale', null, null, 'bias'],
  MatMulBnb4: [null, null, null],
  GatherBlockQuantized: [null, null, 'quantization-scale'],
};

/** Layers whose matrices are stored as [directions, outputs, inputs]. */
const recurrent = new Set(['LSTM', 'GRU', 'RNN']);

/** Numbers a model adds to hide positions; nothing a model learns is so low. */
const maskBelow = -1e3;

/**
 * Weights that training may change: what layers multiply by, look up, scale with and add. Left out are constants
 * an exporter wrote as initializers: single numbers, tables that are multiplied element by element (rotary
 * positions), and what hides positions (very low numbers).
 */
export function trainableWeights(model: Model): TrainableWeight[] {
  const index = indexGraph(model.graph);
  const found: TrainableWeight[] = [];
  for (const [name, tensor] of model.graph.initializers) {
    if (!floatTypes.has(tensor.dataType) || elementCount(tensor.dims) === 0) continue;
    const uses = finalUses(name, index);
    const roles = uses.map((use) => roleOf(use, tensor, index));
    const role = roles[0];
    if (!role || roles.some((other) => other === null)) continue;
    if (role === 'quantization-scale' && !uses.every(({ node }) => isWeightOnly(node, model, index))) continue;
    if (role === 'embedding' && readFloat32(tensor).some((value) => value < maskBelow)) continue;
    found.push({
      name,
      role,
      dims: [...tensor.dims],
      fanIn: fanIn(role, tensor, uses[0]),
      adaptable:
        (role === 'matrix' || role === 'kernel') &&
        (index.consumers.get(name) ?? []).every(({ node }) => takesAdapter(node, tensor)),
    });
  }
  return found;
}

function finalUses(name: string, index: ReturnType<typeof indexGraph>): Consumer[] {
  return (index.consumers.get(name) ?? []).flatMap((use) =>
    use.input === 0 && rearranging.has(use.node.opType) ? finalUses(use.node.outputs[0] ?? '', index) : [use],
  );
}

/**
 * Whether a scale is of a stored weight that meets activations in floating point. Where those are quantized, too, the
 * runtime takes the scale of an integer bias for the product of both, so that neither may change alone.
 */
function isWeightOnly(node: Node, { graph }: Model, index: GraphIndex): boolean {
  if (node.opType !== 'DequantizeLinear') return true;
  const codes = graph.initializers.get(node.inputs[0] ?? '');
  const isActivation = (name: string): boolean => {
    const producer = index.producer.get(name);
    return producer?.opType === 'DequantizeLinear' && !graph.initializers.has(producer.inputs[0] ?? '');
  };
  const readers = index.consumers.get(node.outputs[0] ?? '') ?? [];
  return (
    codes !== undefined &&
    codes.dataType !== DataType.INT32 &&
    readers.every((reader) => !reader.node.inputs.some(isActivation))
  );
}

function roleOf({ node, input, captured }: Consumer, tensor: Tensor, index: GraphIndex): WeightRole | null {
  if (captured) return null;
  const { opType } = node;
  const roles = inputRoles[opType];
  if (roles) return roles[input] ?? null;
  if (opType === 'Gather' && input === 0) return tensor.dims.length === 2 ? 'table' : null;
  if (opType === 'DequantizeLinear' && input === 1) return 'quantization-scale';
  const elements = elementCount(tensor.dims);
  if (elements < 2) return null;
  const isVector = tensor.dims.filter((size) => size > 1).length <= 1;
  if (opType === 'Add' || (opType === 'Sub' && input === 1)) return isVector ? 'bias' : 'embedding';
  if (opType !== 'Mul' || !isVector) return null;
  const factor = index.producer.get(node.inputs[1 - input] ?? '');
  return factor?.opType === 'DynamicQuantizeLinear' ? 'quantization-scale' : 'scale';
}

function fanIn(role: WeightRole, { dims }: Tensor, use: Consumer | undefined): number {
  if (role === 'kernel') {
    const perFilter = elementCount(dims.slice(1));
    return use?.node.opType === 'ConvTranspose' ? (dims[0] ?? 1) * elementCount(dims.slice(2)) : perFilter;
  }
  if (role !== 'matrix') return 0;
  if (recurrent.has(use?.node.opType ?? '')) return dims[dims.length - 1] ?? 1;
  const transB = use?.node.attributes.get('transB');
  const transposed = (transB?.type === 'int' && transB.value !== 0) !== (use?.input === 0);
  return dims[transposed ? dims.length - 1 : dims.length - 2] ?? 1;
}

/**
 * Which weights to train: all, biases and norms only, or those whose names match one of some patterns. Scales of codes
 * are trained only by name: the whole matrix behind them is unpacked for it.
 */
export type TrainableChoice = 'all' | 'biases-and-norms' | readonly string[];

/** @throws SnugError E_USAGE when nothing is chosen */
export function chooseTrainable(weights: readonly TrainableWeight[], choice: TrainableChoice): TrainableWeight[] {
  const chosen =
    choice === 'all'
      ? weights.filter(({ role }) => role !== 'quantization-scale')
      : choice === 'biases-and-norms'
        ? weights.filter(({ role }) => role === 'bias' || role === 'scale')
        : weights.filter(({ name }) => choice.some((pattern) => globToRegExp(pattern).test(name)));
  if (chosen.length > 0) return chosen;
  const names = weights.slice(0, 8).map(({ name }) => name);
  throw new SnugError('E_USAGE', 'No weight of the model matches the choice of weights to train.', {
    action:
      names.length > 0
        ? `Its weights are called ${names.join(', ')}${weights.length > names.length ? ', …' : ''}.`
        : 'Quantized weights cannot be trained: train the model before it is quantized.',
  });
}

/** `*` stands for any text, `?` for one character. */
function globToRegExp(pattern: string): RegExp {
  const escaped = pattern
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.');
  return new RegExp(`^${escaped}$`);
}
