import { DataType } from './model.js';
import {
  axisOf,
  broadcast,
  dataOf,
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

const dropout: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  return [
    { dataType, dims },
    { dataType: context.opset >= 12 ? DataType.BOOL : dataType, dims },
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
  const data = context.opset >= 10 ? dataOf(context, 1) : null;
  const count = data === null ? context.int('k', 0) : (data.values[0] ?? 0);
  const kept = dims.map((dim, index) =>
    index === axis ? { size: count, symbol: data === null ? count : (data.symbols[0] ?? null) } : dim,
  );
  return [
    { dataType, dims: kept },
    { dataType: DataType.INT64, dims: kept },
  ];
};

function all(names: string, rule: ShapeRule): [string, ShapeRule][] {
  return names.split(' ').map((name) => [name, rule]);
}

/** Operators whose output shape is an input's shape, a broadcast or a reduction. */
export const elementwiseRules: ShapeRules = Object.fromEntries([
  ...all(
    'Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Ceil Celu Clip Cos Cosh CumSum Elu Erf Exp Floor Gelu HardSigmoid ' +
      'HardSwish Hardmax Identity InstanceNormalization GroupNormalization LRN LeakyRelu Log LogSoftmax LpNormalization ' +
      'MeanVarianceNormalization Mish Neg Not Reciprocal Relu ReverseSequence Round Scatter ScatterElements ScatterND ' +
      'Selu Shrink Sigmoid Sign Sin Sinh Softmax Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu Trilu ' +
      'RMSNormalization com.microsoft:QuickGelu com.microsoft:Gelu com.microsoft:FastGelu com.microsoft:BiasGelu ' +
      'com.microsoft:BiasSoftmax com.microsoft:BiasSplitGelu com.microsoft:GemmaRotaryEmbedding com.microsoft:GroupNorm',
    same,
  ),
  ...all('IsInf IsNaN', sameAsBool),
  ...all('Add Sub Mul Div Pow Mod Min Max Sum Mean PRelu BitShift BitwiseAnd BitwiseOr BitwiseXor', broadcasting),
  ...all('Equal Greater GreaterOrEqual Less LessOrEqual And Or Xor', comparing),
  ...all('LayerNormalization SimplifiedLayerNormalization', layerNormalization),
  ...all(
    'ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare',
    reduce,
  ),
  ...all('ArgMax ArgMin', argument),
  ['Where', where],
  ['Cast', cast],
  ['CastLike', castLike],
  ['Dropout', dropout],
  ['BatchNormalization', batchNormalization],
  ['TopK', topK],
]);
