import { SnugError } from '../contract/errors.js';
import type { Dtype, WeightFormat } from '../contract/types.js';
import { float16BitsToFloat32, float32ToFloat16Bits } from '../onnx/half.js';
import type { Model } from '../onnx/model.js';
import { elementCount } from '../onnx/tensor.js';
import type { WeightMatrix } from './matrix.js';
import { normalFloatSqnr } from './normal-float.js';
import { summedAxis } from './axes.js';
import { axisBlock, blockBits, gatherBlock, matrixFormat, matrixOf } from './plan.js';
import { blockSqnr, decibels, remembered, sampleMatrix, zeroPointsPay, type WeightSample } from './sample.js';
import type { WeightRole, WeightSite } from './sites.js';
import { prepared } from './weights.js';

/**
 * Noise of 8-bit activations against their signal: 256 steps over ±4 standard deviations leave 40.9 dB, and the
 * outliers of real activations take some of it. Calibrated ranges are fixed, run-time ones follow the input.
 */
const activationDb: Partial<Record<Dtype, number>> = { 'int8-dynamic': 38, 'int8-static': 36 };

/**
 * Expected signal-to-noise ratio in dB of a weight in a number format, without data, from at most 16 384 of its
 * values (deterministic). For formats that quantize activations too, their noise is added. fp32 gives 150.
 * @throws SnugError E_BAD_REQUEST when the model has no such weight.
 */
export function estimateSqnr(model: Model, weight: string | { name: string }, asked: Dtype | WeightFormat): number {
  const format = typeof asked === 'string' ? { dtype: asked } : asked;
  const name = typeof weight === 'string' ? weight : weight.name;
  const site = prepared(model).sites.find((candidate) => candidate.name === name);
  if (site === undefined) {
    throw new SnugError('E_BAD_REQUEST', `The model has no weight named "${name}".`, { params: { weight: name } });
  }
  const weightDb = weightSqnr(site, format);
  const other = activationDb[format.dtype];
  return other === undefined ? weightDb : -10 * Math.log10(10 ** (-weightDb / 10) + 10 ** (-other / 10));
}

/**
 * Signal-to-noise ratio of the weight alone, in dB, from the same sample.
 * @param nearest codes in blocks are plainly rounded, as `QuantizeOptions.rounding` says
 */
export function weightSqnr(
  site: WeightSite,
  { dtype, blockSize, zeroPoints: asked }: WeightFormat,
  nearest = false,
): number {
  if (dtype === 'fp32') return 150;
  const matrix = sampledMatrix(site);
  const integers = dtype === 'int8-dynamic' || dtype === 'int8-static';
  const kind = integers ? 'channels' : dtype;
  return remembered(
    site.tensor.data,
    `sqnr ${kind} ${matrix.order} ${blockSize ?? ''} ${asked ?? ''} ${nearest}`,
    () => {
      const sample = lastSample(matrix);
      if (dtype === 'fp16') {
        const halves = float16BitsToFloat32(float32ToFloat16Bits(sample.values));
        let signal = 0;
        let noise = 0;
        sample.values.forEach((value, i) => {
          signal += value * value;
          noise += (value - Math.max(-65504, Math.min(65504, halves[i]!))) ** 2;
        });
        return decibels(signal, noise);
      }
      const role = site.uses[0]?.role ?? 'other';
      if (dtype === 'nf4') return normalFloatSqnr(sample);
      const bits = blockBits(dtype);
      if (role === 'gather') {
        const block = gatherBlock(matrix.columns, bits, blockSize);
        return blockSqnr(sample, { bits, zeroPoints: false, nearest }, block);
      }
      if (integers) return blockSqnr(sample, { bits: 8, zeroPoints: false }, null);
      if (role === 'matmul' || role === 'gemm' || role === 'matmul-left') {
        const format = matrixFormat(matrix, bits, blockSize);
        const zeroPoints = bits === 4 && (asked ?? zeroPointsPay(matrix, format));
        return blockSqnr(sample, { bits, zeroPoints, nearest }, format.blockSize);
      }
      const { dims } = site.tensor;
      const axis = site.uses[0] === undefined ? 1 : summedAxis(site.uses[0], dims.length);
      const block = bits === 4 ? axisBlock(dims[axis] ?? 1, blockSize) : null;
      return blockSqnr(sample, { bits, zeroPoints: false, nearest }, block);
    },
  );
}

let last: { matrix: WeightMatrix; sample: WeightSample } | null = null;

/** The sample of a weight, read once for all formats that are compared one after the other. */
function lastSample(matrix: WeightMatrix): WeightSample {
  const same = last?.matrix.tensor.data === matrix.tensor.data && last.matrix.order === matrix.order;
  if (last === null || !same || last.matrix.columns !== matrix.columns) last = { matrix, sample: sampleMatrix(matrix) };
  return last.sample;
}

const matrixRoles: ReadonlySet<WeightRole> = new Set(['matmul', 'matmul-left', 'gemm', 'gather']);

/** The weight as rows that share scales; kernels of convolutions are taken as rows of all their inputs. */
function sampledMatrix(site: WeightSite): WeightMatrix {
  const { tensor, uses } = site;
  const [use] = uses;
  const matrixLike = use !== undefined && matrixRoles.has(use.role);
  if (matrixLike && tensor.dims.length === 2) return matrixOf(site, use);
  if (use?.role === 'matmul-stack' && use.input === 1) {
    const rows = tensor.dims[tensor.dims.length - 1]!;
    return { tensor, rows, columns: elementCount(tensor.dims) / Math.max(1, rows), order: 'column-major' };
  }
  const columns =
    use?.role === 'conv' || use?.role === 'conv-transpose'
      ? elementCount(tensor.dims.slice(1))
      : (tensor.dims[tensor.dims.length - 1] ?? 1);
  return { tensor, rows: elementCount(tensor.dims) / Math.max(1, columns), columns, order: 'row-major' };
}
