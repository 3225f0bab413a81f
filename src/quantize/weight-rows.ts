import { getInt } from '../onnx/graph.js';
import type { Tensor } from '../onnx/model.js';
import { elementCount } from '../onnx/tensor.js';
import { heldFinite, readFloatRange } from './floats.js';
import { channelAxis } from './axes.js';
import type { WeightUse } from './sites.js';

/** Some output channels of a weight as rows over its inputs. */
export interface WeightRows {
  /** Channels of the activation the weight reads. */
  channels: number;
  rows: Float32Array[];
  /** Output channel of each row. */
  outputs: number[];
  /** Elements of a row for each input channel (the size of a convolution's kernel). */
  kernel: number;
  /** First input channel of a row (0 unless convolutions are grouped). */
  firstChannel(row: number): number;
  /** All output channels over those given here. */
  share: number;
}

const mostRows = 256;
const panelValues = 2 ** 20;

/** Channels of the activation that a Conv, Gemm or MatMul weight reads. */
export function inputChannels(use: WeightUse, tensor: Tensor): number {
  if (use.role === 'conv') return tensor.dims[1]! * getInt(use.node, 'group', 1);
  return tensor.dims[1 - channelAxis(use)]!;
}

/**
 * Up to 256 output channels of a weight, evenly spread (all of a grouped convolution, whose rows are short and each
 * see other inputs). Reads the weight in panels.
 */
export function weightRows(use: WeightUse, tensor: Tensor): WeightRows {
  const channels = inputChannels(use, tensor);
  const groups = use.role === 'conv' ? getInt(use.node, 'group', 1) : 1;
  const axis = channelAxis(use);
  const total = tensor.dims[axis]!;
  const step = groups > 1 ? 1 : Math.ceil(total / mostRows);
  const picked = Math.ceil(total / step);
  const length = elementCount(tensor.dims) / total;
  const rows =
    axis === 0
      ? Array.from({ length: picked }, (_, row) =>
          heldFinite(readFloatRange(tensor, row * step * length, length)).slice(),
        )
      : columns(tensor, length, total, step, picked);
  const kernel = use.role === 'conv' ? elementCount(tensor.dims.slice(2)) : 1;
  const perGroup = total / groups;
  return {
    channels,
    rows,
    outputs: rows.map((_, row) => row * step),
    kernel,
    firstChannel: (row) => Math.floor((row * step) / perGroup) * (channels / groups),
    share: total / picked,
  };
}

/** Every `step`-th column of a matrix `[length, total]`. */
function columns(tensor: Tensor, length: number, total: number, step: number, picked: number): Float32Array[] {
  const result = Array.from({ length: picked }, () => new Float32Array(length));
  const panel = Math.max(1, Math.floor(panelValues / total));
  for (let first = 0; first < length; first += panel) {
    const count = Math.min(panel, length - first);
    const values = heldFinite(readFloatRange(tensor, first * total, count * total));
    for (let k = 0; k < count; k++) {
      for (let row = 0; row < picked; row++) result[row]![first + k] = values[k * total + row * step]!;
    }
  }
  return result;
}

/** Σ w² over all outputs for each input channel: by how much the squared error of that channel grows. */
export function inputPower({ channels, rows, kernel, firstChannel, share }: WeightRows): Float64Array {
  const power = new Float64Array(channels);
  rows.forEach((row, r) => {
    const first = firstChannel(r);
    for (let i = 0; i < row.length; i++) {
      const value = row[i]!;
      power[first + (kernel === 1 ? i : Math.floor(i / kernel))]! += value * value * share;
    }
  });
  return power;
}
