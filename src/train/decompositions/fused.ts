import { floatAttribute, getFloat, getInt, getString, intAttribute } from '../../onnx/attribute.js';
import { DataType, type Attribute, type Node } from '../../onnx/model.js';
import type { Decomposition, DecompositionContext, Decompositions } from '../decompose.js';
import { noRule } from '../differentiate.js';
import type { GraphBuilder } from '../graph-builder.js';

const microsoft = 'com.microsoft';

/** Numbers of an attribute of floats. */
function floats(node: Node, name: string): readonly number[] {
  const attribute = node.attributes.get(name);
  return attribute?.type === 'floats' ? attribute.value : [];
}

/** Attributes of a node but for those named. */
const attributesWithout = (node: Node, names: readonly string[]): Record<string, Attribute> =>
  Object.fromEntries([...node.attributes].filter(([name]) => !names.includes(name)));

/** The activation a fused convolution or product ends with; its parameters are `alpha` and `beta` in order. */
function activated({ builder, node }: DecompositionContext, x: string, parameters: readonly number[]): string {
  const kind = getString(node, 'activation', '');
  const [alpha, beta] = parameters;
  switch (kind) {
    case '':
      return x;
    case 'Relu':
    case 'Sigmoid':
    case 'Tanh':
    case 'Softplus':
    case 'HardSwish':
      return builder.emit(kind, [x]);
    case 'LeakyRelu':
      return builder.emit(kind, [x], { alpha: floatAttribute(alpha ?? 0.01) });
    case 'HardSigmoid':
      return builder.emit(kind, [x], { alpha: floatAttribute(alpha ?? 0.2), beta: floatAttribute(beta ?? 0.5) });
    case 'Clip':
      return builder.emit(kind, [x, builder.scalar(alpha ?? 0, x), builder.scalar(beta ?? 6, x)]);
    default:
      throw noRule(node, `the activation ${kind} is not known`);
  }
}

/** Conv, then what is added to it, then the activation. */
const fusedConv: Decomposition = (context) => {
  const { builder, node, input } = context;
  const inputs = [input(0), input(1), ...(input(2) === '' ? [] : [input(2)])];
  const convolved = builder.emit('Conv', inputs, attributesWithout(node, ['activation', 'activation_params']));
  const sum = input(3) === '' ? convolved : builder.add(convolved, input(3));
  return [activated(context, sum, floats(node, 'activation_params'))];
};

const fusedGemm: Decomposition = (context) => {
  const { builder, node } = context;
  const own = [...node.attributes.keys()].filter((name) => name.startsWith('activation'));
  const product = builder.emit('Gemm', node.inputs, attributesWithout(node, own));
  const parameters = ['alpha', 'beta'].map((name) => getFloat(node, `activation_${name}`, NaN));
  return [
    activated(
      context,
      product,
      parameters.filter((value) => !Number.isNaN(value)),
    ),
  ];
};

/** alpha · A·B with either operand's last axes swapped. */
const fusedMatMul: Decomposition = ({ builder, node, input }) => {
  if (getInt(node, 'transBatchA', 0) !== 0 || getInt(node, 'transBatchB', 0) !== 0) {
    throw noRule(node, 'its batch axes are transposed');
  }
  const [a, b] = ['transA', 'transB'].map((name, index) => {
    const rank = builder.rank(input(index));
    return getInt(node, name, 0) === 0 || rank < 2 ? input(index) : swapLast(builder, input(index), rank);
  }) as [string, string];
  return [builder.scale(builder.emit('MatMul', [a, b]), getFloat(node, 'alpha', 1), input(0))];
};

/** Exchanges the last two axes. */
export function swapLast(builder: GraphBuilder, x: string, rank: number): string {
  const order = Array.from({ length: rank }, (_, axis) => axis);
  order.splice(rank - 2, 2, rank - 1, rank - 2);
  return builder.transpose(x, order);
}

const biasGelu: Decomposition = ({ builder, input }) => [
  builder.emit('Gelu', [builder.add(input(0), input(1))], {}, microsoft),
];

const fastGelu: Decomposition = ({ builder, input }) =>
  input(1) === '' ? null : [builder.emit('FastGelu', [builder.add(input(0), input(1))], {}, microsoft)];

const gemmFastGelu: Decomposition = ({ builder, input }) => {
  const product = builder.emit('MatMul', [input(0), input(1)]);
  return [builder.emit('FastGelu', [input(2) === '' ? product : builder.add(product, input(2))], {}, microsoft)];
};

/** The first half times the Gelu of the second. */
const biasSplitGelu: Decomposition = ({ builder, input }) => {
  const whole = builder.add(input(0), input(1));
  const half = builder.fixedSize(input(0), -1) / 2;
  const [value, gate] = builder.emitMany('Split', [whole, builder.ints([half, half])], 2, { axis: intAttribute(-1) });
  return [builder.mul(value ?? '', builder.emit('Gelu', [gate ?? ''], {}, microsoft))];
};

const biasAdd: Decomposition = ({ builder, input }) => [builder.add(builder.add(input(0), input(1)), input(2))];

const biasSoftmax: Decomposition = ({ builder, node, input }) => {
  const rank = builder.rank(input(0));
  const axis = getInt(node, 'axis', 1);
  if ((axis < 0 ? axis + rank : axis) !== rank - 1) throw noRule(node, 'it sums over more than the last axis');
  return [builder.emit('Softmax', [builder.add(input(0), input(1))], { axis: intAttribute(-1) })];
};

/** Normalises the sum of what comes in, a skip connection and a bias; the sum itself is its fourth output. */
const skipNorm =
  (opType: 'LayerNormalization' | 'SimplifiedLayerNormalization'): Decomposition =>
  (context) => {
    const { builder, node, input } = context;
    const [beta, bias] = opType === 'LayerNormalization' ? [input(3), input(4)] : ['', input(3)];
    const joined = builder.add(input(0), input(1));
    const sum = bias === '' ? joined : builder.add(joined, bias);
    const normalized = builder.emit(opType, [sum, input(2), ...(beta === '' ? [] : [beta])], {
      axis: intAttribute(-1),
      epsilon: floatAttribute(getFloat(node, 'epsilon', 1e-12)),
    });
    return [normalized, null, null, sum];
  };

/** Words, positions and segments looked up, added and normalised. */
const embedLayerNormalization: Decomposition = ({ builder, node, input, isUsed }) => {
  const [ids, segments, words, positions, segmentTable, gamma, beta] = [0, 1, 2, 3, 4, 5, 6].map((i) => input(i)) as [
    string,
    string,
    string,
    string,
    string,
    string,
    string,
  ];
  const length = builder.fixedSize(ids, 1);
  const places = input(8) === '' ? builder.ints(Array.from({ length }, (_, i) => i)) : input(8);
  let sum = builder.add(builder.emit('Gather', [words, ids]), builder.emit('Gather', [positions, places]));
  if (segments !== '') sum = builder.add(sum, builder.emit('Gather', [segmentTable, segments]));
  const normalized = builder.emit('LayerNormalization', [sum, gamma, beta], {
    axis: intAttribute(-1),
    epsilon: floatAttribute(getFloat(node, 'epsilon', 1e-12)),
  });
  // How many places of each row the mask leaves.
  const mask = input(7) === '' ? null : builder.cast(input(7), DataType.INT32);
  return [normalized, isUsed(1) && mask ? builder.reduceSum(mask, [1], false) : null, sum];
};

/** Operators that onnxruntime's optimizer and model builders put together (onnxruntime ContribOperators.md). */
export const fusedDecompositions: Decompositions = {
  [`${microsoft}:FusedConv`]: fusedConv,
  [`${microsoft}:FusedGemm`]: fusedGemm,
  [`${microsoft}:FusedMatMul`]: fusedMatMul,
  [`${microsoft}:TransposeMatMul`]: fusedMatMul,
  [`${microsoft}:BiasGelu`]: biasGelu,
  [`${microsoft}:FastGelu`]: fastGelu,
  [`${microsoft}:GemmFastGelu`]: gemmFastGelu,
  [`${microsoft}:BiasSplitGelu`]: biasSplitGelu,
  [`${microsoft}:BiasAdd`]: biasAdd,
  [`${microsoft}:BiasSoftmax`]: biasSoftmax,
  [`${microsoft}:SkipLayerNormalization`]: skipNorm('LayerNormalization'),
  [`${microsoft}:SkipSimplifiedLayerNormalization`]: skipNorm('SimplifiedLayerNormalization'),
  [`${microsoft}:EmbedLayerNormalization`]: embedLayerNormalization,
};
