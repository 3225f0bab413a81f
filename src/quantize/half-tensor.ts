import { float32ToFloat16Bits } from '../onnx/half.js';
import { DataType, type Tensor, type TensorData } from '../onnx/model.js';
import { assertRange, elementCount } from '../onnx/tensor.js';
import { readFloatRange } from './floats.js';

const largestHalf = 65504;
const smallestHalf = 2 ** -24;

/**
 * In place: large finite values clamp to what float16 holds. Tiny ones of a tensor round as they do, to zero perhaps;
 * a single number (the epsilon of a division) does not become zero.
 */
function clampToHalf(values: Float32Array, single: boolean): Float32Array {
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if (value > largestHalf && value < Infinity) values[i] = largestHalf;
    else if (value < -largestHalf && value > -Infinity) values[i] = -largestHalf;
    else if (single && value > 0 && value < smallestHalf) values[i] = smallestHalf;
    else if (single && value < 0 && value > -smallestHalf) values[i] = -smallestHalf;
  }
  return values;
}

/** A float tensor's bytes as float16, converted range by range. */
function halfData(tensor: Tensor): TensorData {
  const byteLength = elementCount(tensor.dims) * 2;
  const readRange = (offset: number, length: number): Uint8Array => {
    assertRange(byteLength, offset, length);
    const first = Math.floor(offset / 2);
    const count = Math.ceil((offset + length) / 2) - first;
    const halves = float32ToFloat16Bits(clampToHalf(readFloatRange(tensor, first, count), byteLength === 2));
    return new Uint8Array(halves.buffer, offset - first * 2, length);
  };
  return { byteLength, origin: 'computed', read: () => readRange(0, byteLength), readRange };
}

/** A float tensor as float16. */
export function toHalf(tensor: Tensor): Tensor {
  return { ...tensor, dataType: DataType.FLOAT16, data: halfData(tensor) };
}
