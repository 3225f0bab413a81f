import { getFloat, getInt, getInts, getString } from '../../onnx/attribute.js';
import type { Node } from '../../onnx/model.js';
import type { GradientContext, GradientRule, GradientRules } from '../differentiate.js';
import { noRule } from '../differentiate.js';
import { multiplyAxis } from './movement.js';

/** One axis of a Resize. */
interface ResizedAxis {
  axis: number;
  from: number;
  to: number;
  scale: number;
}

/** Axes whose values move, with the factor the runtime resizes them by. */
function resizedAxes({ builder, node, input, output }: GradientContext): ResizedAxis[] {
  const rank = builder.rank(input(0));
  const [old, made] = [builder.extent(input(0)), builder.extent(output(0))];
  const given = getInts(node, 'axes', null);
  const axes = given?.map((axis) => (axis < 0 ? axis + rank : axis)) ?? Array.from({ length: rank }, (_, axis) => axis);
  const scales = input(2) === '' ? null : builder.numbers(input(2));
  const usesScales = scales !== null && scales.length > 0;
  return axes.flatMap((axis, index) => {
    const scale = usesScales ? (scales[index] ?? 1) : 1;
    const isSame = usesScales ? scale === 1 : old.sizes[axis] === made.sizes[axis];
    if (isSame && (old.open[axis] || old.sizes[axis] === made.sizes[axis])) return [];
    const [from, to] = [builder.fixedSize(input(0), axis), builder.fixedSize(output(0), axis)];
    return [{ axis, from, to, scale: usesScales ? scale : Math.fround(to / from) }];
  });
}

/**
 * Every step is rounded as in the runtime: at a whole place, the last bit decides which neighbour is the nearest.
 */
const single = Math.fround;

/** Where place `at` of the result lies in the input (ONNX Resize, "coordinate_transformation_mode"). */
function coordinate(mode: string, at: number, { from, to, scale }: ResizedAxis): number | null {
  switch (mode) {
    case 'half_pixel':
      return single(single(at + 0.5) / scale) - 0.5;
    case 'half_pixel_symmetric': {
      const adjusted = to / (scale * from);
      return (from / 2) * (1 - adjusted) + (at + 0.5) / scale - 0.5;
    }
    case 'pytorch_half_pixel':
      return to > 1 ? single(single(at + 0.5) / scale) - 0.5 : 0;
    case 'align_corners':
      return to === 1 ? 0 : single((at * (from - 1)) / (to - 1));
    case 'asymmetric':
      return single(at / scale);
    default:
      return null;
  }
}

function nearest(mode: string, x: number): number {
  switch (mode) {
    case 'floor':
      return Math.floor(x);
    case 'ceil':
      return Math.ceil(x);
    case 'round_prefer_ceil':
      return Math.round(x);
    default:
      return x - Math.floor(x) === 0.5 ? Math.floor(x) : Math.round(x);
  }
}

/** Weights of the four neighbours of a place `t` behind the second of them (Keys 1981, with parameter `a`). */
const cubicWeights = (t: number, a: number): number[] => {
  const near = (d: number): number => ((a + 2) * d - (a + 3)) * d * d + 1;
  const far = (d: number): number => ((a * d - 5 * a) * d + 8 * a) * d - 4 * a;
  return [far(1 + t), near(t), near(1 - t), far(2 - t)];
};

/** Places of the input that one place of the result is made of, with their weights. */
function sources(node: Node, at: number, axis: ResizedAxis): [place: number, weight: number][] {
  const coordinates = getString(node, 'coordinate_transformation_mode', 'half_pixel');
  const x = coordinate(coordinates, at, axis);
  if (x === null) throw noRule(node, 'it cuts out a part of the input (tf_crop_and_resize)');
  const last = axis.from - 1;
  const inside = (place: number): number => Math.min(Math.max(place, 0), last);
  switch (getString(node, 'mode', 'nearest')) {
    case 'nearest':
      // The middle lies on a whole place there, and rounding decides which neighbour it gets.
      if (coordinates === 'half_pixel_symmetric') throw noRule(node, 'its nearest neighbour is not certain');
      return [[inside(nearest(getString(node, 'nearest_mode', 'round_prefer_floor'), x)), 1]];
    case 'linear': {
      const place = inside(x);
      const low = Math.floor(place);
      return [
        [low, 1 - (place - low)],
        [inside(low + 1), place - low],
      ];
    }
    default: {
      const low = Math.floor(x);
      const weights = cubicWeights(x - low, getFloat(node, 'cubic_coeff_a', -0.75));
      const isKept = (place: number): boolean =>
        getInt(node, 'exclude_outside', 0) === 0 || (place >= 0 && place <= last);
      const kept = weights.map((weight, i) => (isKept(low - 1 + i) ? weight : 0));
      const sum = kept.reduce((a, b) => a + b, 0);
      return kept.map((weight, i) => [inside(low - 1 + i), weight / sum]);
    }
  }
}

/** Every axis is resized by a matrix; the gradient is resized by the transposed ones. */
const resize: GradientRule = (context) => {
  const { builder, node } = context;
  if (getInt(node, 'antialias', 0) !== 0) throw noRule(node, 'it smooths before it makes smaller (antialias)');
  const policy = getString(node, 'keep_aspect_ratio_policy', 'stretch');
  if (policy !== 'stretch' && context.input(3) !== '') throw noRule(node, 'it keeps the aspect ratio');
  const rank = builder.rank(context.input(0));
  let { gradient } = context;
  for (const axis of resizedAxes(context)) {
    const values = new Array<number>(axis.from * axis.to).fill(0);
    for (let at = 0; at < axis.to; at++) {
      for (const [place, weight] of sources(node, at, axis)) {
        values[place * axis.to + at] = (values[place * axis.to + at] ?? 0) + weight;
      }
    }
    const matrix = builder.floats(values, [axis.from, axis.to], context.output(0));
    gradient = multiplyAxis(context, matrix, gradient, axis.axis, rank);
  }
  context.contribute(0, gradient);
};

/** Interpolation. */
export const resizeGradients: GradientRules = { Resize: resize };
