import { getFloat, getInt, getInts, intAttribute, intsAttribute } from '../../onnx/attribute.js';
import type { GradientContext, GradientRule, GradientRules } from '../differentiate.js';
import { noRule } from '../differentiate.js';
import type { GraphBuilder } from '../graph-builder.js';

/** inv·(g − mean(g) − x̂·mean(g·x̂)): what normalising over `axes` does to a gradient; `centred` is false for RMS. */
function throughNormalization(
  builder: GraphBuilder,
  gradient: string,
  normalized: string,
  inverse: string,
  axes: readonly number[],
  centred: boolean,
): string {
  const projection = builder.mul(normalized, builder.reduceMean(builder.mul(gradient, normalized), axes));
  const rest = centred ? builder.sub(gradient, builder.reduceMean(gradient, axes)) : gradient;
  return builder.mul(inverse, builder.sub(rest, projection));
}

/** 1/√(mean(x²) + ε) over `axes`. */
function inverseRoot(builder: GraphBuilder, x: string, axes: readonly number[], epsilon: number, like: string): string {
  const meanSquare = builder.reduceMean(builder.mul(x, x), axes);
  const root = builder.emit('Sqrt', [builder.add(meanSquare, builder.scalar(epsilon, like))]);
  return builder.emit('Reciprocal', [root]);
}

/** LayerNormalization and its form without a mean. Statistics are computed again, so that nothing else is held. */
function layerNormalization(centred: boolean): GradientRule {
  return (context) => {
    const { builder, node, gradient } = context;
    const x = context.input(0);
    const rank = builder.rank(x);
    const given = getInt(node, 'axis', -1);
    const first = given < 0 ? given + rank : given;
    const axes = Array.from({ length: rank - first }, (_, i) => first + i);
    const epsilon = getFloat(node, 'epsilon', 1e-5);
    const shifted = centred ? builder.sub(x, builder.reduceMean(x, axes)) : x;
    const inverse = inverseRoot(builder, shifted, axes, epsilon, x);
    const normalized = builder.mul(shifted, inverse);
    if (context.needs(0)) {
      const scaled = builder.mul(gradient, context.input(1));
      context.contribute(0, throughNormalization(builder, scaled, normalized, inverse, axes, centred));
    }
    const extent = builder.extent(x);
    if (context.needs(1)) {
      context.contribute(1, builder.sumToShape(builder.mul(gradient, normalized), extent, context.input(1)));
    }
    if (context.needs(2)) context.contribute(2, builder.sumToShape(gradient, extent, context.input(2)));
  };
}

/** A vector over channels, written so that it broadcasts over [N, C, …]. */
function perChannel(builder: GraphBuilder, vector: string, rank: number): string {
  return rank === 2 ? vector : builder.reshape(vector, [-1, ...new Array<number>(rank - 2).fill(1)]);
}

/** Sums over everything but the channels. */
function sumChannels(builder: GraphBuilder, x: string, rank: number): string {
  return builder.reduceSum(x, [0, ...Array.from({ length: rank - 2 }, (_, i) => i + 2)], false);
}

/**
 * BatchNormalization as it runs: with its stored mean and variance, which training leaves as they are. Fine-tuning
 * on small batches would only make them worse, and most exported files have them folded into the weights.
 */
const batchNormalization: GradientRule = (context) => {
  const { builder, node, gradient } = context;
  if (getInt(node, 'training_mode', 0) !== 0) throw noRule(node, 'it was exported in training mode');
  if (context.needs(3) || context.needs(4)) throw noRule(node, 'its stored statistics cannot be trained');
  const x = context.input(0);
  const rank = builder.rank(x);
  const epsilon = builder.scalar(getFloat(node, 'epsilon', 1e-5), x);
  const inverse = builder.emit('Reciprocal', [builder.emit('Sqrt', [builder.add(context.input(4), epsilon)])]);
  if (context.needs(0)) {
    const factor = perChannel(builder, builder.mul(context.input(1), inverse), rank);
    context.contribute(0, builder.mul(gradient, factor));
  }
  if (context.needs(1)) {
    const shifted = builder.sub(x, perChannel(builder, context.input(3), rank));
    const sum = sumChannels(builder, builder.mul(gradient, shifted), rank);
    context.contribute(1, builder.mul(sum, inverse));
  }
  if (context.needs(2)) context.contribute(2, sumChannels(builder, gradient, rank));
};

const instanceNormalization: GradientRule = (context) => {
  const { builder, node, gradient } = context;
  const x = context.input(0);
  const rank = builder.rank(x);
  const axes = Array.from({ length: rank - 2 }, (_, i) => i + 2);
  const shifted = builder.sub(x, builder.reduceMean(x, axes));
  const inverse = inverseRoot(builder, shifted, axes, getFloat(node, 'epsilon', 1e-5), x);
  const normalized = builder.mul(shifted, inverse);
  if (context.needs(0)) {
    const scaled = builder.mul(gradient, perChannel(builder, context.input(1), rank));
    context.contribute(0, throughNormalization(builder, scaled, normalized, inverse, axes, true));
  }
  if (context.needs(1)) context.contribute(1, sumChannels(builder, builder.mul(gradient, normalized), rank));
  if (context.needs(2)) context.contribute(2, sumChannels(builder, gradient, rank));
};

/** Channels are normalised in groups: everything is done on [N, groups, elements of a group]. */
const groupNormalization: GradientRule = (context) => {
  const { builder, node, gradient } = context;
  const x = context.input(0);
  const rank = builder.rank(x);
  const groups = getInt(node, 'num_groups', 1);
  const channels = builder.fixedSize(x, 1);
  // Up to opset 20 scale and bias were given per group.
  if (builder.opset < 21) throw noRule(node, 'its older form has one scale for each group');
  const grouped = (value: string): string => builder.reshape(value, [0, groups, -1]);
  const flat = grouped(x);
  const shifted = builder.sub(flat, builder.reduceMean(flat, [2]));
  const inverse = inverseRoot(builder, shifted, [2], getFloat(node, 'epsilon', 1e-5), x);
  const normalized = builder.mul(shifted, inverse);
  if (context.needs(0)) {
    const scaled = builder.mul(gradient, perChannel(builder, context.input(1), rank));
    const through = throughNormalization(builder, grouped(scaled), normalized, inverse, [2], true);
    context.contribute(0, builder.reshapeLike(through, x));
  }
  if (context.needs(1)) {
    const product = builder.mul(
      builder.reshape(gradient, [0, channels, -1]),
      builder.reshape(normalized, [0, channels, -1]),
    );
    context.contribute(1, sumChannels(builder, product, 3));
  }
  if (context.needs(2)) context.contribute(2, sumChannels(builder, gradient, rank));
};

/** (x − mean) / deviation over axes, without anything trained (ONNX MeanVarianceNormalization). */
const meanVarianceNormalization: GradientRule = (context) => {
  const { builder, node, gradient } = context;
  const x = context.input(0);
  const axes = getInts(node, 'axes', [0, 2, 3]);
  const shifted = builder.sub(x, builder.reduceMean(x, axes));
  const inverse = inverseRoot(builder, shifted, axes, 1e-9, x);
  const normalized = builder.mul(shifted, inverse);
  context.contribute(0, throughNormalization(builder, gradient, normalized, inverse, axes, true));
};

/** x / |x| over one axis: (dY − d|x|·Σ dY·y) / |x|. */
const lpNormalization: GradientRule = (context) => {
  const { builder, node, gradient } = context;
  const [x, y] = [context.input(0), context.output(0)];
  const axis = [getInt(node, 'axis', -1)];
  const isFirst = getInt(node, 'p', 2) === 1;
  const length = isFirst
    ? builder.reduceSum(builder.emit('Abs', [x]), axis, true)
    : builder.emit('Sqrt', [builder.reduceSum(builder.mul(x, x), axis, true)]);
  const share = builder.reduceSum(builder.mul(gradient, y), axis, true);
  const slope = isFirst ? builder.emit('Sign', [x]) : y;
  context.contribute(0, builder.div(builder.sub(gradient, builder.mul(slope, share)), length));
};

/** x / s^β with s = bias + α/size · Σ x² over neighbouring channels (Krizhevsky et al. 2012, section 3.3). */
const localResponse: GradientRule = (context) => {
  const { builder, node, gradient } = context;
  const x = context.input(0);
  const size = getInt(node, 'size', 1);
  const [alpha, beta, bias] = [getFloat(node, 'alpha', 1e-4), getFloat(node, 'beta', 0.75), getFloat(node, 'bias', 1)];
  const [before, after] = [Math.floor((size - 1) / 2), Math.ceil((size - 1) / 2)];
  const channels = builder.fixedSize(x, 1);
  /** Mean over a window of channels, nothing being outside. */
  const around = (value: string, pads: readonly number[]): string => {
    const rows = builder.reshape(value, [0, 1, channels, -1]);
    const mean = builder.emit('AveragePool', [rows], {
      kernel_shape: intsAttribute([size, 1]),
      pads: intsAttribute([pads[0] ?? 0, 0, pads[1] ?? 0, 0]),
      count_include_pad: intAttribute(1),
    });
    return builder.reshapeLike(mean, x);
  };
  const mean = around(builder.mul(x, x), [before, after]);
  const s = builder.add(builder.scale(mean, alpha, x), builder.scalar(bias, x));
  const direct = builder.mul(gradient, builder.binary('Pow', s, builder.scalar(-beta, x)));
  const shared = builder.div(builder.mul(gradient, context.output(0)), s);
  const through = builder.mul(x, around(shared, [after, before]));
  context.contribute(0, builder.sub(direct, builder.scale(through, 2 * alpha * beta, x)));
};

const refuseExtraOutputs =
  (rule: GradientRule): GradientRule =>
  (context: GradientContext) => {
    if (context.node.outputs.some((_, index) => index > 0 && context.gradientOf(index) !== null)) {
      throw noRule(context.node, 'its statistics are used as outputs');
    }
    rule(context);
  };

/** Normalization layers. */
export const normalizationGradients: GradientRules = {
  LayerNormalization: refuseExtraOutputs(layerNormalization(true)),
  RMSNormalization: layerNormalization(false),
  SimplifiedLayerNormalization: refuseExtraOutputs(layerNormalization(false)),
  'com.microsoft:SimplifiedLayerNormalization': refuseExtraOutputs(layerNormalization(false)),
  BatchNormalization: batchNormalization,
  InstanceNormalization: instanceNormalization,
  GroupNormalization: groupNormalization,
  MeanVarianceNormalization: meanVarianceNormalization,
  LpNormalization: lpNormalization,
  LRN: localResponse,
};
