import { getInt, getInts, getString } from '../onnx/attribute.js';
import type { Node } from '../onnx/model.js';
import type { Shape } from '../onnx/shape.js';
import { elementCount, tensorByteLength } from '../onnx/tensor.js';
import { operatorKey } from './inplace.js';
import { packsNBits } from './weights.js';

type Shapes = ReadonlyMap<string, Shape>;

/** Bytes of a value, 0 when its size is unknown or has none. */
export function valueBytes(shapes: Shapes, value: string | undefined): number {
  const shape = value === undefined ? undefined : shapes.get(value);
  if (shape === undefined || shape.dataType === 8 || shape.dataType === 0) return 0;
  return tensorByteLength(shape.dataType, shape.dims);
}

function dimsOf(shapes: Shapes, value: string | undefined): number[] {
  return (value === undefined ? undefined : shapes.get(value)?.dims) ?? [];
}

/** Multiply-adds per thread below which the runtime's matrix kernels use fewer threads. */
const workPerThread = 64 * 1024;
/** Floats of working buffer per thread of a segmented convolution (128 × 128). */
const segment = 128 * 128;

function isPointwise(node: Node, kernel: readonly number[]): boolean {
  const all = (name: string, wanted: number) => getInts(node, name, []).every((value) => value === wanted);
  return kernel.every((size) => size === 1) && all('strides', 1) && all('pads', 0);
}

/** Working buffer of a float convolution that is not in the blocked layout (im2col, whole or in segments). */
function convolutionScratch(node: Node, shapes: Shapes, threads: number): number[] {
  const [filters = 0, depth = 0, ...kernel] = dimsOf(shapes, node.inputs[1]);
  const output = dimsOf(shapes, node.outputs[0]).slice(2);
  const groups = getInt(node, 'group', 1);
  if (isPointwise(node, kernel)) return [];
  const perGroup = filters / groups;
  const columns = elementCount(output);
  const inner = depth * elementCount(kernel);
  if (perGroup > columns) return [columns * inner * 4];
  if (groups > 1) {
    // Threads share the groups of all images out among them.
    return [Math.min(threads, groups * (dimsOf(shapes, node.inputs[0])[0] ?? 1)) * segment * 4];
  }
  const wanted = Math.min(threads, Math.floor((perGroup * columns * inner) / workPerThread) + 1);
  const stride = Math.ceil(columns / wanted / 16) * 16;
  return [(wanted > 1 ? Math.ceil(columns / stride) : 1) * segment * 4];
}

/** A transposed convolution computes the columns of one image before it adds them up. */
function transposedConvolutionScratch(node: Node, shapes: Shapes): number[] {
  const [, perGroup = 0, ...kernel] = dimsOf(shapes, node.inputs[1]);
  const pixels = elementCount(dimsOf(shapes, node.inputs[0]).slice(2));
  return [perGroup * elementCount(kernel) * pixels * 4];
}

/** A whole weight as floats, for kernels that compute in full precision only. */
function unpackedMatrix(node: Node): number[] {
  return [getInt(node, 'K', 1) * getInt(node, 'N', 0) * 4];
}

/**
 * Level 4 quantizes the activations in blocks (codes, a scale and a sum each); kernels without a packed form
 * unpack the whole matrix.
 */
function nBitsScratch(node: Node, shapes: Shapes): Scratch {
  const inner = getInt(node, 'K', 1);
  if (!packsNBits(node)) return { ...noScratch, after: unpackedMatrix(node) };
  if (getInt(node, 'accuracy_level', 0) !== 4) return noScratch;
  const block = getInt(node, 'block_size', 32);
  const rows = elementCount(dimsOf(shapes, node.inputs[0]).slice(0, -1));
  return { ...noScratch, past: rows * Math.ceil(inner / block) * (block + 8) + 63 };
}

/** An 8-bit convolution unfolds one image at a time, unless it is pointwise. */
function integerConvolutionScratch(node: Node, shapes: Shapes): number[] {
  const [, depth = 0, ...kernel] = dimsOf(shapes, node.inputs[1]);
  const output = dimsOf(shapes, node.outputs[0]).slice(2);
  if (isPointwise(node, kernel)) return [];
  return [depth * getInt(node, 'group', 1) * elementCount(kernel) * elementCount(output)];
}

/**
 * A quantized convolution with channels in fours reads the image through a table of pointers; others unfold one
 * image and sum into int32.
 */
function quantizedConvolutionScratch(node: Node, shapes: Shapes): number[] {
  const [filters = 0, depth = 0, ...kernel] = dimsOf(shapes, node.inputs[3]);
  const output = dimsOf(shapes, node.outputs[0]);
  const last = getInt(node, 'channels_last', 0) !== 0;
  const pixels = elementCount(last ? output.slice(1, -1) : output.slice(2));
  const pointers = elementCount(kernel) * pixels * 8 * (output[0] ?? 1);
  const groups = getInt(node, 'group', 1);
  if (groups > 1 && depth === 1) return groups % 16 === 0 ? [pointers] : [pixels * filters * 4, pointers];
  if (groups > 1) return [pixels * filters * 4, depth * groups * elementCount(kernel) * pixels];
  if (last && depth % 4 === 0 && filters % 16 === 0) return isPointwise(node, kernel) ? [] : [pointers];
  const unfolded = isPointwise(node, kernel) ? [] : [depth * elementCount(kernel) * pixels];
  return [pixels * filters * 4, ...unfolded];
}

/**
 * Buffers a recurrent layer holds for all its directions at once: the gates of every step, a few states, and the
 * reversed input and output of a backward direction. Input is [steps, batch, features].
 */
function recurrentScratch(node: Node, shapes: Shapes, gates: number, states: number): number[] {
  const [steps = 0, batch = 0, features = 0] = dimsOf(shapes, node.inputs[0]);
  const [directions = 1] = dimsOf(shapes, node.inputs[1]);
  const hidden = getInt(node, 'hidden_size', 0);
  const direction = getString(node, 'direction', 'forward');
  return Array.from({ length: directions }, (_, index) => {
    const backward = direction === 'reverse' || index === 1;
    const own = [...Array<number>(states).fill(batch * hidden), steps * batch * gates * hidden];
    return (backward ? [...own, steps * batch * features, steps * batch * hidden] : own).map((count) => count * 4);
  }).flat();
}

/** What a kernel takes from the allocator while it runs, in the order it takes it: before its outputs, and after. */
export interface Scratch {
  readonly before: readonly number[];
  readonly after: readonly number[];
  /** Bytes past the allocator's regions, which leave no gaps there and are not rounded. */
  readonly past: number;
}

export const noScratch: Scratch = { before: [], after: [], past: 0 };

/** Where selects from either side into a tensor of its own, as large as the condition and that side together. */
function whereScratch(node: Node, shapes: Shapes): number[] {
  const [condition, ...sides] = node.inputs.map((input) => dimsOf(shapes, input));
  const width = valueBytes(shapes, node.inputs[1]) / Math.max(1, elementCount(sides[0] ?? []));
  return sides.map((side) => {
    const rank = Math.max(side.length, condition?.length ?? 0);
    const dim = (dims: readonly number[], axis: number) => dims[axis - (rank - dims.length)] ?? 1;
    const together = Array.from({ length: rank }, (_, axis) => {
      const own = dim(side, axis);
      return own === 1 ? dim(condition ?? [], axis) : own;
    });
    return elementCount(together) * width;
  });
}

/** Scratch of the CPU kernel of a node. */
export function cpuScratch(node: Node, shapes: Shapes, threads: number): Scratch {
  switch (operatorKey(node)) {
    case 'Where':
      return { ...noScratch, before: whereScratch(node, shapes) };
    case 'com.microsoft:MatMulNBits':
      return nBitsScratch(node, shapes);
    case 'com.microsoft:MatMulBnb4':
      return { ...noScratch, before: unpackedMatrix(node) };
    default:
      return { ...noScratch, after: scratchAfterOutputs(node, shapes, threads) };
  }
}

function scratchAfterOutputs(node: Node, shapes: Shapes, threads: number): number[] {
  switch (operatorKey(node)) {
    case 'com.microsoft:BiasGelu':
    case 'com.microsoft:FastGelu':
      return node.inputs[1] ? [valueBytes(shapes, node.outputs[0])] : [];
    case 'Conv':
    case 'com.microsoft:FusedConv':
      return convolutionScratch(node, shapes, threads);
    case 'ConvTranspose':
      return transposedConvolutionScratch(node, shapes);
    case 'QLinearConv':
    case 'com.microsoft:QLinearConv':
      return quantizedConvolutionScratch(node, shapes);
    case 'LSTM':
    case 'com.microsoft:DynamicQuantizeLSTM':
      return recurrentScratch(node, shapes, 4, 4);
    case 'GRU':
      return recurrentScratch(node, shapes, 3, 6);
    case 'ConvInteger':
      return integerConvolutionScratch(node, shapes);
    case 'com.microsoft:DynamicQuantizeMatMul':
      // The activations as 8-bit codes.
      return [elementCount(dimsOf(shapes, node.inputs[0]))];
    case 'com.microsoft:QLinearAveragePool':
      // The values as floats.
      return [elementCount(dimsOf(shapes, node.inputs[0])) * 4];
    case 'com.microsoft:QGemm':
      // Sums as int32, which are scaled into 8-bit outputs afterwards; float outputs hold them themselves.
      return node.inputs[8] ? [elementCount(dimsOf(shapes, node.outputs[0])) * 4] : [];
    default:
      return [];
  }
}
