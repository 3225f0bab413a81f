import { getInt, getInts, getString, intAttribute, intsAttribute } from '../../onnx/attribute.js';
import type { Attribute, Node } from '../../onnx/model.js';
import type { GradientContext, GradientRule, GradientRules } from '../differentiate.js';
import type { GraphBuilder } from '../graph-builder.js';

/** Attributes of a convolution with every default written out; pads are [begin…, end…]. */
export interface Window {
  kernel: readonly number[];
  strides: readonly number[];
  dilations: readonly number[];
  begin: readonly number[];
  end: readonly number[];
  group: number;
}

/**
 * Reads the window of a convolution or pooling node.
 * @param size of the input, per spatial axis
 */
export function windowOf(node: Node, kernel: readonly number[], size: readonly number[]): Window {
  const ones = kernel.map(() => 1);
  const strides = getInts(node, 'strides', ones);
  const dilations = getInts(node, 'dilations', ones);
  const autoPad = getString(node, 'auto_pad', 'NOTSET');
  const pads = getInts(node, 'pads', null) ?? [...kernel.map(() => 0), ...kernel.map(() => 0)];
  let begin = pads.slice(0, kernel.length);
  let end = pads.slice(kernel.length);
  if (autoPad.startsWith('SAME')) {
    const total = kernel.map((k, i) => {
      const [s, d, n] = [strides[i] ?? 1, dilations[i] ?? 1, size[i] ?? 1];
      return Math.max(0, (Math.ceil(n / s) - 1) * s + d * (k - 1) + 1 - n);
    });
    const small = total.map((count) => Math.floor(count / 2));
    const large = total.map((count, i) => count - (small[i] ?? 0));
    [begin, end] = autoPad === 'SAME_UPPER' ? [small, large] : [large, small];
  } else if (autoPad === 'VALID') [begin, end] = [kernel.map(() => 0), kernel.map(() => 0)];
  return { kernel, strides, dilations, begin, end, group: getInt(node, 'group', 1) };
}

function attributes(window: Window, more: Record<string, Attribute> = {}): Record<string, Attribute> {
  return {
    kernel_shape: intsAttribute(window.kernel),
    strides: intsAttribute(window.strides),
    dilations: intsAttribute(window.dilations),
    pads: intsAttribute([...window.begin, ...window.end]),
    group: intAttribute(window.group),
    ...more,
  };
}

const spatial = (builder: GraphBuilder, x: string): number[] =>
  Array.from({ length: builder.rank(x) - 2 }, (_, i) => builder.fixedSize(x, i + 2));

/** How far a kernel reaches: d(k − 1) + 1. */
const reach = ({ kernel, dilations }: Window, i: number): number => (dilations[i] ?? 1) * ((kernel[i] ?? 1) - 1) + 1;

function biasGradient(context: GradientContext): void {
  if (!context.needs(2)) return;
  const { builder } = context;
  const rank = builder.rank(context.output(0));
  const axes = [0, ...Array.from({ length: rank - 2 }, (_, i) => i + 2)];
  context.contribute(2, builder.reduceSum(context.gradient, axes, false));
}

const conv: GradientRule = (context) => {
  const { builder, node, gradient } = context;
  const [x, weight] = [context.input(0), context.input(1)];
  const kernel = spatial(builder, weight);
  const size = spatial(builder, x);
  const window = windowOf(node, kernel, size);
  if (context.needs(0)) {
    const outputPadding = size.map((n, i) => {
      const left = n + (window.begin[i] ?? 0) + (window.end[i] ?? 0) - reach(window, i);
      return left % (window.strides[i] ?? 1);
    });
    const settings = attributes(window, { output_padding: intsAttribute(outputPadding) });
    context.contribute(0, builder.emit('ConvTranspose', [gradient, weight], settings));
  }
  if (context.needs(1)) {
    context.contribute(1, weightGradient(builder, x, gradient, context.output(0), window));
  }
  biasGradient(context);
};

/**
 * Gradient of a convolution's weight: one product per position of the kernel, between the output's gradient and
 * the input as that position sees it, both laid out as [group, channels, batch · positions].
 * @param outer has the shape of `dY`
 * @returns a value of the shape of `weight`
 */
function weightGradient(builder: GraphBuilder, x: string, dY: string, outer: string, window: Window): string {
  const { group, kernel, strides, dilations, begin, end } = window;
  const rank = kernel.length + 2;
  const positions = spatial(builder, outer);
  const channels = builder.fixedSize(x, 1) / group;
  const filters = builder.fixedSize(outer, 1) / group;
  const channelsFirst = [1, 0, ...kernel.map((_, i) => i + 2)];
  const columns = (value: string, count: number): string =>
    builder.reshape(value, group === 1 ? [count, -1] : [group, count, -1]);
  const left = columns(builder.transpose(dY, channelsFirst), filters);
  let padded = builder.transpose(x, channelsFirst);
  if ([...begin, ...end].some((count) => count !== 0)) {
    padded = builder.emit('Pad', [padded, builder.ints([0, 0, ...begin, 0, 0, ...end])]);
  }
  const axes = builder.ints(kernel.map((_, i) => i + 2));
  const steps = builder.ints(strides);
  const unmoved = kernel.every((k) => k === 1) && strides.every((s) => s === 1);
  const parts = offsets(kernel).map((offset) => {
    const starts = offset.map((at, i) => at * (dilations[i] ?? 1));
    const ends = starts.map((start, i) => start + ((positions[i] ?? 1) - 1) * (strides[i] ?? 1) + 1);
    const seen = unmoved
      ? padded
      : builder.emit('Slice', [padded, builder.ints(starts), builder.ints(ends), axes, steps]);
    const right = columns(seen, channels);
    if (group === 1) {
      return builder.emit('Gemm', [left, right], { transB: intAttribute(1) });
    }
    return builder.emit('MatMul', [left, builder.transpose(right, [0, 2, 1])]);
  });
  const single = parts.length === 1 ? (parts[0] ?? '') : stack(builder, parts);
  // [(group,) filters, channels, kernel positions] → [group · filters, channels, kernel…]
  return builder.setExtent(builder.reshape(single, [group * filters, channels, ...kernel]), {
    sizes: [group * filters, channels, ...kernel],
    open: new Array<boolean>(rank).fill(false),
  });
}

/** Puts values of one shape side by side along a new last axis. */
function stack(builder: GraphBuilder, parts: readonly string[]): string {
  const separate = parts.map((part) => builder.unsqueeze(part, [-1]));
  return builder.emit('Concat', separate, { axis: intAttribute(-1) });
}

/** Every position of a kernel, last axis fastest. */
export function offsets(kernel: readonly number[]): number[][] {
  return kernel.reduce<number[][]>(
    (all, size) => all.flatMap((start) => Array.from({ length: size }, (_, i) => [...start, i])),
    [[]],
  );
}

/** Convolutions transposed: what Conv does to the gradient of its output is what this does to its input. */
const convTranspose: GradientRule = (context) => {
  const { builder, node, gradient } = context;
  const [x, weight] = [context.input(0), context.input(1)];
  const kernel = spatial(builder, weight);
  const outputSize = spatial(builder, context.output(0));
  const inputSize = spatial(builder, x);
  const window = transposedWindow(node, kernel, inputSize, outputSize);
  if (context.needs(0)) {
    const settings = attributes(window);
    context.contribute(0, builder.emit('Conv', [gradient, weight], settings));
  }
  if (context.needs(1)) {
    const wide = builder.setExtent(gradient, builder.extent(context.output(0)));
    context.contribute(1, weightGradient(builder, wide, x, x, window));
  }
  biasGradient(context);
};

/** The window as the equal convolution from output to input has it: its end pads follow from the sizes. */
function transposedWindow(
  node: Node,
  kernel: readonly number[],
  inputSize: readonly number[],
  outputSize: readonly number[],
): Window {
  const ones = kernel.map(() => 1);
  const strides = getInts(node, 'strides', ones);
  const dilations = getInts(node, 'dilations', ones);
  const autoPad = getString(node, 'auto_pad', 'NOTSET');
  const total = kernel.map(
    (k, i) => ((inputSize[i] ?? 1) - 1) * (strides[i] ?? 1) + (dilations[i] ?? 1) * (k - 1) + 1 - (outputSize[i] ?? 1),
  );
  const pads = getInts(node, 'pads', null);
  // With output_shape or SAME padding, the runtime splits the total pad itself (ConvTranspose, "auto_pad").
  const derived = autoPad.startsWith('SAME') || getInts(node, 'output_shape', null) !== null;
  const begin = total.map((sum, i) => {
    if (!derived) return pads?.[i] ?? 0;
    const whole = Math.max(0, sum);
    return autoPad === 'SAME_UPPER' ? Math.floor(whole / 2) : whole - Math.floor(whole / 2);
  });
  return {
    kernel,
    strides,
    dilations,
    begin,
    end: total.map((sum, i) => sum - (begin[i] ?? 0)),
    group: getInt(node, 'group', 1),
  };
}

/** Convolutions. */
export const convolutionGradients: GradientRules = { Conv: conv, ConvTranspose: convTranspose };
