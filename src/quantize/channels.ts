import { elementCount } from '../onnx/tensor.js';
import type { Tensor } from '../onnx/model.js';
import { Balancer } from './balance.js';
import { heldFinite, readFloatRange } from './floats.js';
import { readRows, type WeightMatrix } from './matrix.js';

/** int8 codes of a whole tensor with one scale for each index of one axis (or one scale in all). */
export interface ChannelCodes {
  /** In the order of the tensor. */
  codes: Int8Array;
  /** Positive; one for each channel. */
  scales: Float32Array;
}

const panelValues = 2 ** 22;

/**
 * Symmetric int8, −127 … 127, one scale for each index of `axis` (null: one for the tensor): codes by the largest
 * magnitude of the channel, then the least-squares scale for those codes (Σwq / Σq²). Reads the tensor twice, in
 * panels of 16 MiB.
 * @param options.floors smallest scale allowed for each channel; such a channel keeps exactly that scale.
 * @param options.share of the inputs ({@link meanShares}); above 0, errors of a channel of matrices and of kernels
 *   `[channels, …]` are balanced, in a third reading.
 * @param options.nearest plain rounding: scales reach to the largest magnitude, and nothing is balanced
 */
export function quantizeChannels(
  tensor: Tensor,
  axis: number | null,
  {
    floors = null,
    share = 0,
    nearest = false,
  }: { floors?: Float64Array | null; share?: number; nearest?: boolean } = {},
): ChannelCodes {
  const { channels, inner } = channelShape(tensor, axis);
  const total = elementCount(tensor.dims);
  const largest = new Float64Array(channels);
  forEachChannelRun(tensor, channels, inner, total, (values, start, end, channel) => {
    let most = largest[channel]!;
    for (let i = start; i < end; i++) {
      const magnitude = Math.abs(values[i]!);
      if (magnitude > most) most = magnitude;
    }
    largest[channel] = most;
  });
  const held = new Uint8Array(channels);
  for (let channel = 0; floors !== null && channel < channels; channel++) {
    if (floors[channel]! * 127 <= largest[channel]!) continue;
    largest[channel] = floors[channel]! * 127;
    held[channel] = 1;
  }
  const codes = new Int8Array(total);
  const cross = new Float64Array(channels);
  const square = new Float64Array(channels);
  forEachChannelRun(tensor, channels, inner, total, (values, start, end, channel, position) => {
    const inverse = largest[channel] === 0 ? 0 : 127 / largest[channel]!;
    let sumCross = 0;
    let sumSquare = 0;
    for (let i = start, at = position; i < end; i++, at++) {
      const value = values[i]!;
      const code = Math.round(value * inverse);
      codes[at] = code;
      sumCross += value * code;
      sumSquare += code * code;
    }
    cross[channel]! += sumCross;
    square[channel]! += sumSquare;
  });
  const scales = new Float32Array(channels);
  // A channel of zeros keeps scale 1: any scale is exact, and 0 would divide by zero in integer kernels.
  for (let channel = 0; channel < channels; channel++) {
    const fitted = square[channel] === 0 ? 1 : Math.max(cross[channel]! / square[channel]!, 2 ** -126);
    const reaching = held[channel] === 1 || (nearest && square[channel] !== 0);
    scales[channel] = reaching ? Math.max(largest[channel]! / 127, 2 ** -126) : fitted;
  }
  if (share > 0 && !nearest) balanceChannels(tensor, axis, codes, scales, share);
  return { codes, scales };
}

/** Moves one signed code unless it would leave ± `largest`. */
export function moveCode(codes: Int8Array, at: number, by: number, largest: number): boolean {
  const moved = codes[at]! + by;
  if (Math.abs(moved) > largest) return false;
  codes[at] = moved;
  return true;
}

function balanceChannels(
  tensor: Tensor,
  axis: number | null,
  codes: Int8Array,
  scales: Float32Array,
  share: number,
): void {
  const { dims } = tensor;
  if (axis !== 0 && !(axis === 1 && dims.length === 2)) return;
  const rows = dims[axis]!;
  const columns = elementCount(dims) / rows;
  const matrix: WeightMatrix = { tensor, rows, columns, order: axis === 0 ? 'row-major' : 'column-major' };
  const [rowStep, columnStep] = axis === 0 ? [columns, 1] : [1, rows];
  const balancer = new Balancer(share);
  const panelRows = Math.max(1, Math.floor(panelValues / columns));
  for (let first = 0; first < rows; first += panelRows) {
    const count = Math.min(panelRows, rows - first);
    const values = readRows(matrix, first, count);
    for (let row = 0; row < count; row++) {
      const at = (first + row) * rowStep;
      const scale = scales[first + row]!;
      balancer.balance(columns, {
        exact: (i) => values[row * columns + i]!,
        step: () => scale,
        code: (i) => codes[at + i * columnStep]!,
        move: (i, by) => moveCode(codes, at + i * columnStep, by, 127),
      });
    }
  }
}

/** The values a runtime sees: `code · scale`, in the order of the tensor. */
export function dequantizeChannels(codes: ChannelCodes, tensor: Tensor, axis: number | null): Float32Array {
  const { channels, inner } = channelShape(tensor, axis);
  return Float32Array.from(codes.codes, (code, i) => code * codes.scales[Math.floor(i / inner) % channels]!);
}

/** Number of channels along an axis and how many consecutive elements share one. */
export function channelShape(tensor: Tensor, axis: number | null): { channels: number; inner: number } {
  if (axis === null) return { channels: 1, inner: elementCount(tensor.dims) };
  return { channels: tensor.dims[axis]!, inner: elementCount(tensor.dims.slice(axis + 1)) };
}

function forEachChannelRun(
  tensor: Tensor,
  channels: number,
  inner: number,
  total: number,
  visit: (values: Float32Array, start: number, end: number, channel: number, position: number) => void,
): void {
  for (let first = 0; first < total; first += panelValues) {
    const count = Math.min(panelValues, total - first);
    const values = heldFinite(readFloatRange(tensor, first, count));
    for (let start = 0; start < count;) {
      const position = first + start;
      const end = Math.min(count, start + inner - (position % inner));
      visit(values, start, end, Math.floor(position / inner) % channels, position);
      start = end;
    }
  }
}
