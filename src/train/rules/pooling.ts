import { getInt, getInts, intAttribute, intsAttribute } from '../../onnx/attribute.js';
import { DataType, type Node } from '../../onnx/model.js';
import type { GradientContext, GradientRule, GradientRules } from '../differentiate.js';
import { noRule } from '../differentiate.js';
import { offsets, windowOf, type Window } from './convolution.js';

/** Positions of a window over one axis, for the input and the output of a pooling node. */
interface Pooling {
  window: Window;
  input: readonly number[];
  output: readonly number[];
  /** Size of the padded input that the windows cover together. */
  covered: readonly number[];
}

function poolingOf({ builder, node, input, output }: GradientContext): Pooling {
  const kernel = getInts(node, 'kernel_shape', [] as readonly number[]);
  const sizes = (value: string): number[] => kernel.map((_, i) => builder.fixedSize(value, i + 2));
  const [from, to] = [sizes(input(0)), sizes(output(0))];
  const window = windowOf(node, kernel, from);
  if (getInt(node, 'ceil_mode', 0) !== 0) refusePaddingWindows(node, window, from);
  const covered = to.map(
    (n, i) => (n - 1) * (window.strides[i] ?? 1) + (window.dilations[i] ?? 1) * ((kernel[i] ?? 1) - 1) + 1,
  );
  return { window, input: from, output: to, covered };
}

/**
 * Rounding up can leave a last window that begins in the padding: onnxruntime counts it when it loads a model and
 * leaves it out when it runs, so no graph can be right for both.
 */
function refusePaddingWindows(node: Node, window: Window, input: readonly number[]): void {
  const contradicts = input.some((size, i) => {
    const [begin, end, stride] = [window.begin[i] ?? 0, window.end[i] ?? 0, window.strides[i] ?? 1];
    const reach = (window.dilations[i] ?? 1) * ((window.kernel[i] ?? 1) - 1) + 1;
    return Math.ceil((size + begin + end - reach) / stride) * stride >= size + begin;
  });
  if (contradicts) throw noRule(node, 'its last window begins in the padding');
}

/**
 * Spreads values at the positions of the output over the windows they stand for, and adds where windows overlap.
 * @param values [rows, kernel positions or 1, output…]
 * @param kernel the weight [kernel positions or 1, 1, kernel…]
 * @returns the shape of the pooling's input
 */
function spread(context: GradientContext, pooling: Pooling, values: string, kernel: string): string {
  const { builder } = context;
  const { window, input, covered } = pooling;
  const wide = builder.emit('ConvTranspose', [values, kernel], {
    kernel_shape: intsAttribute(window.kernel),
    strides: intsAttribute(window.strides),
    dilations: intsAttribute(window.dilations),
  });
  // Rows of the padded input that no window reaches get a gradient of zero; the pads themselves are cut off.
  const ends = input.map((size, i) => (window.begin[i] ?? 0) + size);
  const missing = ends.map((end, i) => Math.max(0, end - (covered[i] ?? 0)));
  const zeros = input.map(() => 0);
  const whole = missing.some((count) => count > 0)
    ? builder.emit('Pad', [wide, builder.ints([0, 0, ...zeros, 0, 0, ...missing])])
    : wide;
  const axes = input.map((_, i) => i + 2);
  const cut = builder.emit('Slice', [whole, builder.ints(window.begin), builder.ints(ends), builder.ints(axes)]);
  return builder.reshapeLike(cut, context.input(0));
}

/** How many elements each window averages, as [1, 1, output…]. */
function averagedCounts({ window, input, output }: Pooling, includePads: boolean): number[] {
  const alongAxis = output.map((size, i) =>
    Array.from({ length: size }, (_, at) => {
      let count = 0;
      for (let k = 0; k < (window.kernel[i] ?? 1); k++) {
        const place = at * (window.strides[i] ?? 1) + k * (window.dilations[i] ?? 1) - (window.begin[i] ?? 0);
        const low = includePads ? -(window.begin[i] ?? 0) : 0;
        const high = (input[i] ?? 1) + (includePads ? (window.end[i] ?? 0) : 0);
        if (place >= low && place < high) count++;
      }
      return count;
    }),
  );
  return alongAxis.reduce<number[]>((all, axis) => all.flatMap((a) => axis.map((b) => a * b)), [1]);
}

const averagePool: GradientRule = (context) => {
  const { builder, node, gradient } = context;
  const pooling = poolingOf(context);
  const { window, output } = pooling;
  const counts = averagedCounts(pooling, getInt(node, 'count_include_pad', 0) !== 0);
  const share = builder.div(gradient, builder.floats(counts, [1, 1, ...output], context.input(0)));
  const positions = window.kernel.reduce((a, b) => a * b, 1);
  const ones = builder.floats(new Array<number>(positions).fill(1), [1, 1, ...window.kernel], context.input(0));
  context.contribute(0, spread(context, pooling, builder.reshape(share, [-1, 1, ...output]), ones));
};

/** The gradient goes to the first of the largest elements of a window: no indices are needed (facts of 5.4b). */
const maxPool: GradientRule = (context) => {
  const { builder, gradient } = context;
  const pooling = poolingOf(context);
  const { window, input, output, covered } = pooling;
  const [x, y] = [context.input(0), context.output(0)];
  const after = covered.map((size, i) => Math.max(0, size - (input[i] ?? 0) - (window.begin[i] ?? 0)));
  const padded = [...window.begin, ...after].some((count) => count > 0)
    ? builder.emit('Pad', [
        x,
        builder.ints([0, 0, ...window.begin, 0, 0, ...after]),
        builder.scalar(lowest(builder.dataType(x)), x),
      ])
    : x;
  const axes = builder.ints(input.map((_, i) => i + 2));
  const steps = builder.ints(window.strides);
  let free: string | null = null;
  const shares = offsets(window.kernel).map((offset) => {
    const starts = offset.map((at, i) => at * (window.dilations[i] ?? 1));
    const ends = starts.map((start, i) => start + ((output[i] ?? 1) - 1) * (window.strides[i] ?? 1) + 1);
    const seen = builder.emit('Slice', [padded, builder.ints(starts), builder.ints(ends), axes, steps]);
    const equal = builder.emit('Equal', [seen, y]);
    const first = free === null ? equal : builder.emit('And', [equal, free]);
    const rest = builder.emit('Not', [equal]);
    free = free === null ? rest : builder.emit('And', [free, rest]);
    return builder.unsqueeze(builder.keepWhere(first, gradient, x), [2]);
  });
  const positions = shares.length;
  const stacked = builder.emit('Concat', shares, { axis: intAttribute(2) });
  const oneHot = Array.from({ length: positions ** 2 }, (_, i) => (i % (positions + 1) === 0 ? 1 : 0));
  const kernel = builder.floats(oneHot, [positions, 1, ...window.kernel], x);
  context.contribute(0, spread(context, pooling, builder.reshape(stacked, [-1, positions, ...output]), kernel));
};

const lowest = (dataType: number): number => (dataType === DataType.FLOAT16 ? -65504 : -3.4028234663852886e38);

/** Pooling with windows. */
export const poolingGradients: GradientRules = { AveragePool: averagePool, MaxPool: maxPool };
