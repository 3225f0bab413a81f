import { getInt } from '../../onnx/attribute.js';
import { DataType } from '../../onnx/model.js';
import type { GradientContext, GradientRule, GradientRules } from '../differentiate.js';
import { noRule } from '../differentiate.js';

/** Smallest and largest code of an element type; null for types whose codes are no integers. */
const codeRange = (dataType: number): readonly [number, number] | null => {
  switch (dataType) {
    case DataType.INT8:
      return [-128, 127];
    case DataType.UINT8:
      return [0, 255];
    case DataType.INT16:
      return [-32768, 32767];
    case DataType.UINT16:
      return [0, 65535];
    case DataType.INT4:
      return [-8, 7];
    case DataType.UINT4:
      return [0, 15];
    default:
      return null;
  }
};

/** The scale of input 1, shaped to broadcast over the value that is quantized along the node's axis. */
function scaleOver(context: GradientContext, value: string): string {
  const { builder, node } = context;
  if (getInt(node, 'block_size', 0) !== 0) throw noRule(node, 'activations in blocks are not followed');
  const rank = builder.rank(value);
  const axis = getInt(node, 'axis', 1);
  return builder.alongAxis(context.input(1), builder.extent(context.input(1)), axis < 0 ? axis + rank : axis, rank);
}

/**
 * Straight through the rounding: code = x / scale + zero point. What was clipped to the range of the codes has no
 * gradient: exporters leave a Relu away where the range already ends at zero.
 */
const quantizeLinear: GradientRule = (context) => {
  const { builder, node, gradient } = context;
  if (context.needs(1)) throw noRule(node, 'the scale of an activation cannot be trained');
  const x = context.input(0);
  const share = builder.div(gradient, scaleOver(context, x));
  const range = codeRange(builder.dataType(context.output(0)));
  const [scale, ...more] = builder.numbers(context.input(1)) ?? [];
  const zero = context.input(2) === '' ? 0 : builder.numbers(context.input(2))?.[0];
  if (!range || scale === undefined || more.length > 0 || zero === undefined) {
    context.contribute(0, share);
    return;
  }
  // Half a step further still rounds to the last code.
  const [low, high] = [(range[0] - zero - 0.5) * scale, (range[1] - zero + 0.5) * scale];
  const inside = builder.emit('And', [
    builder.emit('Greater', [x, builder.scalar(low, x)]),
    builder.emit('Less', [x, builder.scalar(high, x)]),
  ]);
  context.contribute(0, builder.keepWhere(inside, share, x));
};

/** y = (code − zero point) · scale */
const dequantizeLinear: GradientRule = (context) => {
  if (!context.needs(0)) throw noRule(context.node, 'the scale of an activation cannot be trained');
  context.contribute(0, context.builder.mul(context.gradient, scaleOver(context, context.input(0))));
};

/** Its range holds every value, so that nothing is clipped. */
const dynamicQuantizeLinear: GradientRule = (context) => {
  context.contribute(0, context.builder.div(context.gradient, context.output(1)));
};

/** Straight through quantization; codes have their gradient in steps of their scale. */
export const quantizationGradients: GradientRules = {
  QuantizeLinear: quantizeLinear,
  DequantizeLinear: dequantizeLinear,
  DynamicQuantizeLinear: dynamicQuantizeLinear,
};
