import { getInt, getInts, intAttribute } from '../../onnx/attribute.js';
import type { GradientContext, GradientRule, GradientRules } from '../differentiate.js';
import { noRule } from '../differentiate.js';
import type { GraphBuilder } from '../graph-builder.js';

/** Axes from the attribute (older opsets) or the second input, not negative; all of them when neither says. */
function reducedAxes({ builder, node, input }: GradientContext): number[] {
  const rank = builder.rank(input(0));
  const given = getInts(node, 'axes', null) ?? (input(1) === '' ? null : builder.requireNumbers(input(1), node));
  if (given === null || given.length === 0) {
    return getInt(node, 'noop_with_empty_axes', 0) !== 0 ? [] : Array.from({ length: rank }, (_, axis) => axis);
  }
  return given.map((axis) => (axis < 0 ? axis + rank : axis)).sort((a, b) => a - b);
}

/** A value in the shape of the output, with the reduced axes put back as size 1. */
function kept({ builder, node }: GradientContext, x: string, axes: readonly number[]): string {
  return getInt(node, 'keepdims', 1) !== 0 || axes.length === 0 ? x : builder.unsqueeze(x, axes);
}

/** Repeats a value whose reduced axes have size 1 to the shape of `value`. */
export function expandTo(builder: GraphBuilder, x: string, axes: readonly number[], value: string): string {
  const { sizes, open } = builder.extent(value);
  // Expand broadcasts both ways, so sizes that are the same already need not be named.
  const constant = axes.every((axis) => open[axis] === false);
  if (constant && axes.every((axis) => sizes[axis] === 1)) return x;
  const target = constant
    ? builder.ints(sizes.map((size, axis) => (axes.includes(axis) ? size : 1)))
    : builder.shapeVector(value);
  return builder.emit('Expand', [x, target]);
}

/** How many elements are reduced to one, as a value of the element type of `x`. */
function reducedCount(builder: GraphBuilder, x: string, axes: readonly number[]): string {
  const { sizes, open } = builder.extent(x);
  if (axes.every((axis) => open[axis] === false)) {
    return builder.scalar(
      axes.reduce((product, axis) => product * (sizes[axis] ?? 1), 1),
      x,
    );
  }
  const chosen = builder.emit('Gather', [builder.emit('Shape', [x]), builder.ints(axes)]);
  const count = builder.emit('ReduceProd', [chosen], { keepdims: intAttribute(0) });
  return builder.cast(count, builder.dataType(x));
}

/** A rule whose gradient is a factor per input element, times the output's gradient, repeated. */
function reduction(
  factor: ((context: GradientContext, axes: readonly number[], x: string, y: string) => string) | null,
): GradientRule {
  return (context) => {
    const { builder } = context;
    const axes = reducedAxes(context);
    const gradient = kept(context, context.gradient, axes);
    const x = context.input(0);
    context.contribute(
      0,
      factor
        ? builder.mul(gradient, factor(context, axes, x, kept(context, context.output(0), axes)))
        : expandTo(builder, gradient, axes, x),
    );
  };
}

const mean: GradientRule = (context) => {
  const { builder } = context;
  const axes = reducedAxes(context);
  const x = context.input(0);
  const share = builder.div(kept(context, context.gradient, axes), reducedCount(builder, x, axes));
  context.contribute(0, expandTo(builder, share, axes, x));
};

/** dY / Σx, with Σx = eʸ */
const logSum: GradientRule = (context) => {
  const { builder } = context;
  const axes = reducedAxes(context);
  const share = builder.div(context.gradient, builder.emit('Exp', [context.output(0)]));
  context.contribute(0, expandTo(builder, kept(context, share, axes), axes, context.input(0)));
};

/** Ties share the gradient equally. */
const extremum = reduction(({ builder }, axes, x, y) => {
  const mask = builder.cast(builder.emit('Equal', [x, y]), builder.dataType(x));
  return builder.div(mask, builder.reduceSum(mask, axes, true));
});

const globalAverage: GradientRule = (context) => {
  const { builder } = context;
  const x = context.input(0);
  const axes = Array.from({ length: builder.rank(x) - 2 }, (_, i) => i + 2);
  const share = builder.div(context.gradient, reducedCount(builder, x, axes));
  context.contribute(0, expandTo(builder, share, axes, x));
};

const globalMax: GradientRule = (context) => {
  const { builder } = context;
  const x = context.input(0);
  const axes = Array.from({ length: builder.rank(x) - 2 }, (_, i) => i + 2);
  const mask = builder.cast(builder.emit('Equal', [x, context.output(0)]), builder.dataType(x));
  const share = builder.div(mask, builder.reduceSum(mask, axes, true));
  context.contribute(0, builder.mul(share, context.gradient));
};

/** Axes a softmax sums over: one since opset 13. */
function softmaxAxis({ builder, node, input }: GradientContext): number {
  const axis = getInt(node, 'axis', -1);
  return axis < 0 ? axis + builder.rank(input(0)) : axis;
}

/** y·(dY − Σ dY·y) */
const softmax: GradientRule = (context) => {
  const { builder, gradient } = context;
  const y = context.output(0);
  const weighted = builder.mul(gradient, y);
  const sum = builder.reduceSum(weighted, [softmaxAxis(context)], true);
  context.contribute(0, builder.sub(weighted, builder.mul(y, sum)));
};

/** dY − softmax·Σ dY */
const logSoftmax: GradientRule = (context) => {
  const { builder, gradient } = context;
  const sum = builder.reduceSum(gradient, [softmaxAxis(context)], true);
  context.contribute(0, builder.sub(gradient, builder.mul(builder.emit('Exp', [context.output(0)]), sum)));
};

const product: GradientRule = (context) => {
  throw noRule(context.node, 'a product over an axis is not followed');
};

/** Reductions, global pooling and softmax. */
export const reductionGradients: GradientRules = {
  ReduceSum: reduction(null),
  ReduceMean: mean,
  ReduceMax: extremum,
  ReduceMin: extremum,
  ReduceProd: product,
  ReduceSumSquare: reduction(({ builder }, _axes, x) => builder.scale(x, 2, x)),
  ReduceL2: reduction(({ builder }, _axes, x, y) => builder.div(x, y)),
  ReduceL1: reduction(({ builder }, _axes, x) => builder.emit('Sign', [x])),
  ReduceLogSumExp: reduction(({ builder }, _axes, x, y) => builder.emit('Exp', [builder.sub(x, y)])),
  ReduceLogSum: logSum,
  GlobalAveragePool: globalAverage,
  GlobalMaxPool: globalMax,
  Softmax: softmax,
  LogSoftmax: logSoftmax,
};
