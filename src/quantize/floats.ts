import { bfloat16BitsToFloat32, float16BitsToFloat32 } from '../onnx/half.js';
import { DataType, type Tensor } from '../onnx/model.js';
import { SnugError } from '../contract/errors.js';

/** Bytes of one element of the float types that weights come in; null for every other type. */
export function floatBytes(dataType: number): number | null {
  switch (dataType) {
    case DataType.FLOAT:
      return 4;
    case DataType.FLOAT16:
    case DataType.BFLOAT16:
      return 2;
    case DataType.DOUBLE:
      return 8;
    default:
      return null;
  }
}

/**
 * Elements `[start, start + count)` of a float tensor, row-major, widened or rounded to float32. Reads only
 * that range.
 * @throws SnugError E_NOT_SUPPORTED when the tensor is not FLOAT, FLOAT16, BFLOAT16 or DOUBLE.
 */
export function readFloatRange(tensor: Tensor, start: number, count: number): Float32Array {
  const size = floatBytes(tensor.dataType);
  if (size === null) {
    throw new SnugError('E_NOT_SUPPORTED', `Tensor "${tensor.name}" does not hold floating point numbers.`);
  }
  const bytes = tensor.data.readRange(start * size, count * size);
  const whole = bytes.byteOffset % size === 0 ? bytes : bytes.slice();
  switch (tensor.dataType) {
    case DataType.FLOAT:
      return new Float32Array(whole.buffer, whole.byteOffset, count);
    case DataType.DOUBLE:
      return Float32Array.from(new Float64Array(whole.buffer, whole.byteOffset, count));
    case DataType.FLOAT16:
      return float16BitsToFloat32(new Uint16Array(whole.buffer, whole.byteOffset, count));
    default:
      return bfloat16BitsToFloat32(new Uint16Array(whole.buffer, whole.byteOffset, count));
  }
}

/** Bits of a float32 that are all set in infinities and NaN alone. */
const exponentBits = 0x7f800000;

/** Whether all values are numbers and finite. */
export function allFinite(values: Float32Array): boolean {
  const bits = new Int32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < bits.length; i++) if ((bits[i]! & exponentBits) === exponentBits) return false;
  return true;
}

/** The values as they are where all are finite; else a copy with infinities held at the largest finite magnitude, NaN at 0. */
export function heldFinite(values: Float32Array): Float32Array {
  if (allFinite(values)) return values;
  let most = 0;
  for (const value of values) if (Number.isFinite(value)) most = Math.max(most, Math.abs(value));
  return values.map((value) => (Number.isNaN(value) ? 0 : Math.max(-most, Math.min(most, value))));
}
