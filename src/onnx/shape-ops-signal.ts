import { DataType } from './model.js';
import { floorDivide, plus } from './shape-expression.js';
import { fresh } from './shape-ops-layout.js';
import {
  axisOf,
  computed,
  dataOf,
  derived,
  dimFromData,
  fixed,
  ShapeGap,
  type RuleContext,
  type ShapeDim,
  type ShapeRule,
  type ShapeRules,
} from './shape-types.js';

/** Bins of a one-sided transform of `length` points. */
function oneSided(length: ShapeDim): ShapeDim {
  return computed(Math.floor(length.size / 2) + 1, plus(floorDivide(length.expression, 2), 1), length);
}

const window: ShapeRule = (context) => [
  { dataType: context.int('output_datatype', DataType.FLOAT), dims: [dimFromData(dataOf(context, 0), 0)] },
];

function axisOfTransform(context: RuleContext, rank: number): number {
  if (context.opset < 20) return axisOf(context.int('axis', 1), rank);
  return axisOf(context.has(2) ? (dataOf(context, 2).values[0] ?? -2) : -2, rank);
}

/** Signals [batch, …, real or complex pairs]; one-sided transforms keep half of the bins. */
const dft: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const axis = axisOfTransform(context, dims.length);
  const length = context.has(1) ? dimFromData(dataOf(context, 1), 0) : (dims[axis] ?? fixed(1));
  const half = context.int('onesided', 0) !== 0;
  const inverse = context.int('inverse', 0) !== 0;
  if (half && inverse) throw new ShapeGap('the inverse of a one-sided transform');
  const bins = half ? oneSided(length) : length;
  const result = dims.map((dim, at) => (at === axis ? bins : dim));
  result[dims.length - 1] = fixed(2);
  return [{ dataType, dims: result }];
};

/** [batch, samples, 1 or 2] → [batch, frames, bins, 2]. */
const stft: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const [batch = fixed(1), samples = fixed(1)] = dims;
  const step = context.input(1).data?.values[0];
  const length = context.has(3)
    ? dimFromData(dataOf(context, 3), 0)
    : context.has(2)
      ? (context.input(2).dims[0] ?? fixed(1))
      : samples;
  const frames =
    step === undefined
      ? fresh(context, 1)
      : derived(Math.floor((samples.size - length.size) / step) + 1, samples, length);
  return [{ dataType, dims: [batch, frames, context.int('onesided', 1) !== 0 ? oneSided(length) : length, fixed(2)] }];
};

const melWeightMatrix: ShapeRule = (context) => [
  {
    dataType: context.int('output_datatype', DataType.FLOAT),
    dims: [oneSided(dimFromData(dataOf(context, 1), 0)), dimFromData(dataOf(context, 0), 0)],
  },
];

const rfft: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  if (context.int('signal_ndim', 1) !== 1) throw new ShapeGap('a transform over several dimensions');
  const [bins] = dims.slice(-1);
  if (bins === undefined) throw new ShapeGap('a scalar is no signal');
  const half = context.int('onesided', 1) !== 0;
  return [{ dataType, dims: [...dims.slice(0, -1), half ? oneSided(bins) : bins, fixed(2)] }];
};

const irfft: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  if (context.int('signal_ndim', 1) !== 1) throw new ShapeGap('a transform over several dimensions');
  const [bins] = dims.slice(-2, -1);
  if (bins === undefined) throw new ShapeGap('a scalar is no signal');
  const half = context.int('onesided', 1) !== 0;
  return [{ dataType, dims: [...dims.slice(0, -2), half ? derived(2 * (bins.size - 1), bins) : bins] }];
};

/** Signals: windows and Fourier transforms. */
export const signalRules: ShapeRules = {
  BlackmanWindow: window,
  HannWindow: window,
  HammingWindow: window,
  DFT: dft,
  STFT: stft,
  MelWeightMatrix: melWeightMatrix,
  'com.microsoft:Rfft': rfft,
  'com.microsoft:Irfft': irfft,
};
