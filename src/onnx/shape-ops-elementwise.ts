import { DataType } from './model.js';
import { fresh } from './shape-ops-layout.js';
import {
  axisOf,
  broadcast,
  dimFromData,
  fixed,
  intsFrom,
  type RuleContext,
  type ShapeRule,
  type ShapeRules,
} from './shape-types.js';

const same: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  return [{ dataType, dims }];
};

const sameAsBool: ShapeRule = (context) => [{ dataType: DataType.BOOL, dims: context.input(0).dims }];

function inputsBroadcast(context: RuleContext) {
  return broadcast(context.node.inputs.map((_, index) => context.input(index).dims));
}

const broadcasting: ShapeRule = (context) => [{ dataType: context.input(0).dataType, dims: inputsBroadcast(context) }];
const comparing: ShapeRule = (context) => [{ dataType: DataType.BOOL, dims: inputsBroadcast(context) }];

const where: ShapeRule = (context) => [{ dataType: context.input(1).dataType, dims: inputsBroadcast(context) }];

const cast: ShapeRule = (context) => [{ dataType: context.int('to', DataType.FLOAT), dims: context.input(0).dims }];
const castLike: ShapeRule = (context) => [{ dataType: context.input(1).dataType, dims: context.input(0).dims }];

/** The shape of input 0 with the element type an attribute may change. */
const like: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  return [{ dataType: context.int('dtype', dataType), dims }];
};

const dropout: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  return [
    { dataType, dims },
    { dataType: context.opset >= 10 || context.node.domain !== '' ? DataType.BOOL : dataType, dims },
  ];
};

const batchNormalization: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const perChannel = { dataType: context.input(3).dataType, dims: context.input(3).dims };
  return [{ dataType, dims }, perChannel, perChannel, perChannel, perChannel];
};

const layerNormalization: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const axis = axisOf(context.int('axis', -1), dims.length);
  const statistics = {
    dataType: context.int('stash_type', DataType.FLOAT),
    dims: dims.map((dim, index) => (index < axis ? dim : fixed(1))),
  };
  return [{ dataType, dims }, statistics, statistics];
};

/** Reductions take axes from an attribute before opset 13 (ReduceSum) or 18 (others), from input 1 after. */
const reduce: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const given = intsFrom(context, 'axes', 1);
  const keep = context.int('keepdims', 1) !== 0;
  if ((given === undefined || given.length === 0) && context.int('noop_with_empty_axes', 0) !== 0) {
    return [{ dataType, dims }];
  }
  const all = given === undefined || given.length === 0;
  const axes = new Set(all ? dims.map((_, index) => index) : given.map((axis) => axisOf(axis, dims.length)));
  const kept = keep
    ? dims.map((dim, index) => (axes.has(index) ? fixed(1) : dim))
    : dims.filter((_, index) => !axes.has(index));
  return [{ dataType, dims: kept }];
};

const argument: ShapeRule = (context) => {
  const { dims } = context.input(0);
  const axis = axisOf(context.int('axis', 0), dims.length);
  const keep = context.int('keepdims', 1) !== 0;
  const kept = keep
    ? dims.map((dim, index) => (index === axis ? fixed(1) : dim))
    : dims.filter((_, index) => index !== axis);
  return [{ dataType: DataType.INT64, dims: kept }];
};

const topK: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const axis = axisOf(context.int('axis', -1), dims.length);
  const data = context.opset >= 10 ? context.input(1).data : undefined;
  const count =
    context.opset < 10 ? fixed(context.int('k', 0)) : data === undefined ? fresh(context, axis) : dimFromData(data, 0);
  const kept = dims.map((dim, index) => (index === axis ? count : dim));
  return [
    { dataType, dims: kept },
    { dataType: DataType.INT64, dims: kept },
  ];
};

/** A loss over all elements, or one for each target with reduction "none"; then the log probabilities. */
const loss: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const each = context.text('reduction', 'mean') === 'none';
  return [
    { dataType, dims: each ? context.input(1).dims : [] },
    { dataType, dims },
  ];
};

/** Pairs of operators and their rule, one rule for all names of a line. */
export function all(names: string, rule: ShapeRule): [string, ShapeRule][] {
  return names.split(' ').map((name) => [name, rule]);
}

const microsoft = (names: string) =>
  names
    .split(' ')
    .map((name) => `com.microsoft:${name}`)
    .join(' ');

/** Operators whose output shape is an input's shape, a broadcast or a reduction. */
export const elementwiseRules: ShapeRules = Object.fromEntries([
  ...all(
    'Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Ceil Celu Clip Cos Cosh CumSum Elu Erf Exp Floor Gelu HardSigmoid ' +
      'HardSwish Hardmax InstanceNormalization GroupNormalization LRN LeakyRelu Log LogSoftmax LpNormalization ' +
      'MeanVarianceNormalization Mish Neg Not Reciprocal Relu ReverseSequence Round Scatter ScatterElements ScatterND ' +
      'Selu Shrink Sigmoid Sign Sin Sinh Softmax Softplus Softsign Sqrt Swish Tan Tanh TensorScatter ThresholdedRelu ' +
      'Trilu RMSNormalization RotaryEmbedding ParametricSoftplus ScaledTanh Affine ImageScaler',
    same,
  ),
  ...all(
    microsoft(
      'QuickGelu Gelu FastGelu BiasGelu BiasSoftmax BiasAdd GroupNorm RotaryEmbedding MoE QMoE LongformerAttention ' +
        'ComplexMul ComplexMulConj Inverse Trilu ScaledSiLU SampleOp QOrderedGelu QOrderedLayerNormalization ' +
        'QLinearSigmoid QLinearLeakyRelu QLinearSoftmax ParametricSoftplus ScaledTanh MRotaryEmbedding',
    ),
    same,
  ),
  ...all('com.microsoft.nchwc:ReorderInput', same),
  ...all('IsInf IsNaN RegexFullMatch', sameAsBool),
  ...all('Add Sub Mul Div Pow Mod Min Max Sum Mean PRelu BitShift BitwiseAnd BitwiseOr BitwiseXor', broadcasting),
  ...all('StringConcat', broadcasting),
  ...all('Equal Greater GreaterOrEqual Less LessOrEqual And Or Xor', comparing),
  ...all('LayerNormalization SimplifiedLayerNormalization', layerNormalization),
  ...all(
    'ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare',
    reduce,
  ),
  ...all('ArgMax ArgMin', argument),
  ...all('Bernoulli EyeLike RandomNormalLike RandomUniformLike', like),
  ...all('Dropout com.microsoft:BiasDropout', dropout),
  ...all('NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss', loss),
  ['Where', where],
  ['Cast', cast],
  ['CastLike', castLike],
  ['BatchNormalization', batchNormalization],
  ['TopK', topK],
]);
