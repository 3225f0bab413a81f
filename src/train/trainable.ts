import { SnugError } from '../contract/errors.js';
import { indexGraph, type Consumer } from '../onnx/graph.js';
import type { Model, Tensor } from '../onnx/model.js';
import { elementCount, readFloat32 } from '../onnx/tensor.js';
import { takesAdapter } from './adapters.js';
import { floatTypes } from './graph-builder.js';

/** What a weight does in its layer. */
export type WeightRole = 'matrix' | 'kernel' | 'table' | 'scale' | 'bias' | 'embedding';

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

/** Inputs that take a vector of scales (true) or shifts (false). */
const normInputs: Readonly<Record<string, readonly boolean[]>> = {
  BatchNormalization: [true, false],
  LayerNormalization: [true, false],
  RMSNormalization: [true],
  SimplifiedLayerNormalization: [true],
  InstanceNormalization: [true, false],
  GroupNormalization: [true, false],
};

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
    const roles = uses.map((use) => roleOf(use, tensor));
    const role = roles[0];
    if (!role || roles.some((other) => other === null)) continue;
    if (role === 'embedding' && readFloat32(tensor).some((value) => value < maskBelow)) continue;
    found.push({
      name,
      role,
      dims: [...tensor.dims],
      fanIn: fanIn(role, tensor, uses[0]),
      adaptable: role === 'matrix' && (index.consumers.get(name) ?? []).every(({ node }) => takesAdapter(node, name)),
    });
  }
  return found;
}

function finalUses(name: string, index: ReturnType<typeof indexGraph>): Consumer[] {
  return (index.consumers.get(name) ?? []).flatMap((use) =>
    use.input === 0 && rearranging.has(use.node.opType) ? finalUses(use.node.outputs[0] ?? '', index) : [use],
  );
}

function roleOf({ node, input, captured }: Consumer, tensor: Tensor): WeightRole | null {
  if (captured) return null;
  const { opType } = node;
  const norm = normInputs[opType]?.[input - 1];
  if (norm !== undefined) return norm ? 'scale' : 'bias';
  if ((opType === 'Conv' || opType === 'ConvTranspose') && input >= 1) return input === 1 ? 'kernel' : 'bias';
  if (opType === 'Gemm') return input === 2 ? 'bias' : 'matrix';
  if (opType === 'MatMul') return 'matrix';
  if (opType === 'Gather' && input === 0) return tensor.dims.length === 2 ? 'table' : null;
  if (opType === 'PRelu' && input === 1) return 'scale';
  const elements = elementCount(tensor.dims);
  if (elements < 2) return null;
  const isVector = tensor.dims.filter((size) => size > 1).length <= 1;
  if (opType === 'Add' || (opType === 'Sub' && input === 1)) return isVector ? 'bias' : 'embedding';
  return opType === 'Mul' && isVector ? 'scale' : null;
}

function fanIn(role: WeightRole, { dims }: Tensor, use: Consumer | undefined): number {
  if (role === 'kernel') {
    const perFilter = elementCount(dims.slice(1));
    return use?.node.opType === 'ConvTranspose' ? (dims[0] ?? 1) * elementCount(dims.slice(2)) : perFilter;
  }
  if (role !== 'matrix') return 0;
  const transB = use?.node.attributes.get('transB');
  const transposed = (transB?.type === 'int' && transB.value !== 0) !== (use?.input === 0);
  return dims[transposed ? dims.length - 1 : dims.length - 2] ?? 1;
}

/** Which weights to train: all, biases and norms only, or those whose names match one of some patterns. */
export type TrainableChoice = 'all' | 'biases-and-norms' | readonly string[];

/** @throws SnugError E_USAGE when nothing is chosen */
export function chooseTrainable(weights: readonly TrainableWeight[], choice: TrainableChoice): TrainableWeight[] {
  const chosen =
    choice === 'all'
      ? [...weights]
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
