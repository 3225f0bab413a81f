import { SnugError } from '../contract/errors.js';
import { float16BitsToFloat32, float32ToFloat16Bits } from '../onnx/half.js';
import type { RuntimeArray, RuntimeDtype } from './types.js';

interface ArrayType {
  new (length: number): RuntimeArray;
  new (buffer: ArrayBuffer, offset: number, length: number): RuntimeArray;
  readonly BYTES_PER_ELEMENT: number;
}

const arrayTypes: Record<RuntimeDtype, ArrayType> = {
  float32: Float32Array,
  float16: Uint16Array,
  float64: Float64Array,
  int8: Int8Array,
  uint8: Uint8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
  bool: Uint8Array,
};

/** The name as a type that tensors can carry, or null. */
export function runtimeDtype(name: string): RuntimeDtype | null {
  return Object.hasOwn(arrayTypes, name) ? (name as RuntimeDtype) : null;
}

/** Bytes of one element. */
export function elementBytes(dtype: RuntimeDtype): number {
  return arrayTypes[dtype].BYTES_PER_ELEMENT;
}

/** New zeroed array. */
export function newArray(dtype: RuntimeDtype, length: number): RuntimeArray {
  return new arrayTypes[dtype](length);
}

/** Little-endian bytes as elements; copies, so that any offset is aligned. */
export function arrayFromBytes(dtype: RuntimeDtype, bytes: Uint8Array): RuntimeArray {
  const copy = new Uint8Array(bytes);
  return new arrayTypes[dtype](copy.buffer, 0, copy.byteLength / elementBytes(dtype));
}

export function isBigType(dtype: RuntimeDtype): boolean {
  return dtype === 'int64' || dtype === 'uint64';
}

export function isFloatType(dtype: RuntimeDtype): boolean {
  return dtype === 'float16' || dtype === 'float32' || dtype === 'float64';
}

/**
 * The values as another number type. Floats that are no whole numbers do not become integers silently.
 *
 * @throws SnugError E_DATA_FORMAT when a value does not exist in the wanted type
 */
export function castArray(data: RuntimeArray, from: RuntimeDtype, to: RuntimeDtype): RuntimeArray {
  if (from === to) return data;
  if (from === 'float16') return castArray(float16BitsToFloat32(data as Uint16Array), 'float32', to);
  if (to === 'float16') return float32ToFloat16Bits(castArray(data, from, 'float32') as Float32Array);
  const result = newArray(to, data.length);
  if (isBigType(to)) {
    const big = result as BigInt64Array;
    for (let i = 0; i < data.length; i += 1) {
      const value = data[i] as number | bigint;
      if (typeof value === 'number' && !Number.isInteger(value)) throw notWhole(value, to);
      big[i] = BigInt(value);
      if (to === 'uint64' && value < 0) throw notWhole(value, to);
    }
    return result;
  }
  const plain = result as Float64Array;
  const exact = !isFloatType(to);
  for (let i = 0; i < data.length; i += 1) {
    const value = Number(data[i]);
    plain[i] = to === 'bool' ? Number(value !== 0) : value;
    if (exact && to !== 'bool' && plain[i] !== value) throw notWhole(value, to);
  }
  return result;
}

function notWhole(value: number | bigint, to: RuntimeDtype): SnugError {
  return new SnugError('E_DATA_FORMAT', `The data holds ${value}, which is no ${to}.`, {
    action: `Convert the data to ${to}, which the model's input wants.`,
    params: { value: String(value), dtype: to },
  });
}
