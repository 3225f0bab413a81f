import { elementCount, readFloat32 } from '../onnx/tensor.js';
import type { Tensor } from '../onnx/model.js';
import { Balancer } from './balance.js';
import { BlockSearch } from './block-search.js';
import { moveCode } from './channels.js';
import { heldFinite } from './floats.js';

/** int4 codes for DequantizeLinear with `axis` and `block_size` (opset 21). */
export interface AxisBlockCodes {
  /** INT4, two's complement, two for each byte over the flattened tensor, even element in the low nibble. */
  codes: Uint8Array;
  /** FLOAT, dims of the tensor with that of the axis divided (rounded up) by the block size. */
  scales: Float32Array;
}

/**
 * Symmetric int4 in blocks along one axis: input channels of Conv and ConvTranspose (1), the summed axis of stacked
 * matrices. The tensor is read whole.
 * @param options.share of the inputs of `[outputs, C, kernel…]` ({@link meanShares}); above 0, errors of an output
 *   are balanced
 * @param options.nearest codes are plainly rounded, neither searched nor balanced
 */
export function quantizeAxisBlocks(
  tensor: Tensor,
  axis: number,
  blockSize: number,
  { halfScales = false, share = 0, nearest = false }: { halfScales?: boolean; share?: number; nearest?: boolean } = {},
): AxisBlockCodes {
  const outer = elementCount(tensor.dims.slice(0, axis));
  const depth = tensor.dims[axis]!;
  const inner = elementCount(tensor.dims.slice(axis + 1));
  const blocks = Math.ceil(depth / blockSize);
  const values = heldFinite(readFloat32(tensor));
  const scales = new Float32Array(outer * blocks * inner);
  const row = new Int8Array(depth * inner);
  const codes = new Uint8Array(Math.ceil(values.length / 2));
  const balancer = share > 0 && !nearest ? new Balancer(share) : null;
  const search = new BlockSearch(4, blockSize, false, halfScales, nearest);
  const block = new Float32Array(blockSize);
  for (let first = 0; first < outer; first++) {
    for (let index = 0; index < blocks; index++) {
      const count = Math.min(blockSize, depth - index * blockSize);
      for (let at = 0; at < inner; at++) {
        const base = (first * depth + index * blockSize) * inner + at;
        for (let i = 0; i < count; i++) block[i] = values[base + i * inner]!;
        search.run(block, 0, count, null);
        scales[(first * blocks + index) * inner + at] = search.scale;
        for (let i = 0; i < count; i++) row[(index * blockSize + i) * inner + at] = search.codes[i]! - 8;
      }
    }
    const start = first * depth * inner;
    balancer?.balance(row.length, {
      exact: (i) => values[start + i]!,
      step: (i) => scales[(first * blocks + Math.floor(i / (inner * blockSize))) * inner + (i % inner)]!,
      code: (i) => row[i]!,
      move: (i, by) => moveCode(row, i, by, 7),
    });
    for (let i = 0; i < row.length; i++) {
      const element = start + i;
      codes[element >> 1]! |= (row[i]! & 15) << (element % 2 === 0 ? 0 : 4);
    }
  }
  return { codes, scales };
}

/** The values a runtime sees. */
export function dequantizeAxisBlocks(
  blocks: AxisBlockCodes,
  dims: readonly number[],
  axis: number,
  blockSize: number,
): Float32Array {
  const depth = dims[axis]!;
  const inner = elementCount(dims.slice(axis + 1));
  const perOuter = Math.ceil(depth / blockSize);
  return Float32Array.from({ length: elementCount(dims) }, (_, element) => {
    const nibble = (blocks.codes[element >> 1]! >> (element % 2 === 0 ? 0 : 4)) & 15;
    const outer = Math.floor(element / (depth * inner));
    const block = Math.floor((Math.floor(element / inner) % depth) / blockSize);
    return (
      (nibble >= 8 ? nibble - 16 : nibble) * blocks.scales[(outer * perOuter + block) * inner + (element % inner)]!
    );
  });
}
