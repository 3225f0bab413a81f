import type { Node } from '../onnx/model.js';

/** Operators whose kernels hand input 0 through (alias) or may overwrite it (in place), by provider. */
export interface BufferRules {
  readonly alias: ReadonlySet<string>;
  readonly inPlace: ReadonlySet<string>;
}

const words = (text: string) => text.split(' ');

const aliases = words(
  'Reshape Squeeze Unsqueeze Flatten Identity Optional OptionalGetElement com.microsoft:ExpandDims',
);

const activations = words(
  'Relu LeakyRelu Sigmoid Tanh Elu HardSigmoid Selu Softplus Softsign ThresholdedRelu Celu Clip ' +
    'com.microsoft:ParametricSoftplus com.microsoft:ScaledTanh',
);

/** From the kernel registrations of ONNX Runtime's CPU provider; Add, Mul and normalizations are not in place. */
const cpu: BufferRules = {
  alias: new Set(aliases),
  inPlace: new Set([
    ...activations,
    ...words('Cast Softmax LogSoftmax Scatter ScatterElements ScatterND Shrink Trilu'),
  ]),
};

const cuda: BufferRules = {
  alias: new Set([...aliases, 'Dropout']),
  inPlace: new Set([...activations, ...words('ScatterND ScatterElements Shrink Trilu')]),
};

const gpu: BufferRules = { alias: new Set(aliases), inPlace: new Set(activations) };

/** WebGPU kernels never write over their input. */
const webgpu: BufferRules = { alias: new Set(aliases), inPlace: new Set() };

export const bufferRules = { cpu, cuda, dml: gpu, webgpu, coreml: gpu } as const;

/** The operator's name with its domain unless that is ai.onnx. */
export function operatorKey(node: Pick<Node, 'domain' | 'opType'>): string {
  return node.domain === '' || node.domain === 'ai.onnx' ? node.opType : `${node.domain}:${node.opType}`;
}

/** Inputs whose buffer output `index` must share (`alias`) or may take over (`inPlace`, in this order). */
export function reusedInputs(
  node: Node,
  index: number,
  rules: BufferRules,
): { alias: string | null; inPlace: string[] } {
  const key = operatorKey(node);
  const first = node.inputs[0];
  if (index !== 0 || first === undefined) return { alias: null, inPlace: [] };
  if (rules.alias.has(key)) return { alias: first, inPlace: [] };
  if (rules.inPlace.has(key)) return { alias: null, inPlace: [first] };
  // The sum fused into a convolution is added to in place.
  const sum = node.inputs[3];
  const convolution = key === 'com.microsoft.nchwc:Conv' || key === 'com.microsoft:FusedConv';
  if (convolution && sum !== undefined && sum !== '') return { alias: null, inPlace: [sum] };
  return { alias: null, inPlace: [] };
}
