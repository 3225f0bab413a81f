import { SnugError } from '../contract/errors.js';
import { bfloat16BitsToFloat32, float16BitsToFloat32, float32ToFloat16Bits } from './half.js';
import { DataType } from './model.js';
import type { Tensor, TensorData } from './model.js';

export { bfloat16BitsToFloat32, float16BitsToFloat32, float32ToFloat16Bits } from './half.js';

/** One row per TensorProto.DataType: its word on screen and the bits of one element (onnx.proto3, IR 13). */
const dataTypeRows: readonly (readonly [number, string, number])[] = [
  [DataType.FLOAT, 'float32', 32],
  [DataType.UINT8, 'uint8', 8],
  [DataType.INT8, 'int8', 8],
  [DataType.UINT16, 'uint16', 16],
  [DataType.INT16, 'int16', 16],
  [DataType.INT32, 'int32', 32],
  [DataType.INT64, 'int64', 64],
  [DataType.STRING, 'string', 0],
  [DataType.BOOL, 'bool', 8],
  [DataType.FLOAT16, 'float16', 16],
  [DataType.DOUBLE, 'float64', 64],
  [DataType.UINT32, 'uint32', 32],
  [DataType.UINT64, 'uint64', 64],
  [DataType.COMPLEX64, 'complex64', 64],
  [DataType.COMPLEX128, 'complex128', 128],
  [DataType.BFLOAT16, 'bfloat16', 16],
  [DataType.FLOAT8E4M3FN, 'float8e4m3fn', 8],
  [DataType.FLOAT8E4M3FNUZ, 'float8e4m3fnuz', 8],
  [DataType.FLOAT8E5M2, 'float8e5m2', 8],
  [DataType.FLOAT8E5M2FNUZ, 'float8e5m2fnuz', 8],
  [DataType.UINT4, 'uint4', 4],
  [DataType.INT4, 'int4', 4],
  [DataType.FLOAT4E2M1, 'float4e2m1', 4],
  [DataType.FLOAT8E8M0, 'float8e8m0', 8],
  [DataType.UINT2, 'uint2', 2],
  [DataType.INT2, 'int2', 2],
];

const dataTypes = new Map(dataTypeRows.map(([code, name, bits]) => [code, { name, bits }]));

/** Element type in words (`float32`, `int64`, …); `type N` for codes this IR version does not know. */
export function dataTypeName(dataType: number): string {
  return dataTypes.get(dataType)?.name ?? (dataType === 0 ? 'undefined' : `type ${dataType}`);
}

/** Bits of one element; 0 for STRING, null for unknown codes. */
export function dataTypeBits(dataType: number): number | null {
  return dataTypes.get(dataType)?.bits ?? null;
}

/** Number of elements: the product of `dims` (1 for a scalar). */
export function elementCount(dims: readonly number[]): number {
  return dims.reduce((product, dim) => product * dim, 1);
}

/**
 * Bytes of a dense tensor; sub-byte types are packed over the flattened tensor and padded to a whole byte
 * (onnx.proto3, raw_data).
 * @throws SnugError E_NOT_SUPPORTED for STRING and unknown element types.
 */
export function tensorByteLength(dataType: number, dims: readonly number[]): number {
  const bits = dataTypeBits(dataType);
  if (bits === null || bits === 0) {
    throw new SnugError('E_NOT_SUPPORTED', `A tensor of ${dataTypeName(dataType)} has no fixed byte size.`);
  }
  const elements = elementCount(dims);
  return bits >= 8 ? elements * (bits / 8) : Math.ceil((elements * bits) / 8);
}

/** Checks the arguments of {@link TensorData.readRange}. @throws SnugError E_INTERNAL when out of range. */
export function assertRange(byteLength: number, offset: number, length: number): void {
  if (!(offset >= 0 && length >= 0 && offset + length <= byteLength)) {
    throw new SnugError(
      'E_INTERNAL',
      `Bytes ${offset}…${offset + length} of a tensor with ${byteLength} bytes were asked for.`,
    );
  }
}

/** Tensor data held in memory. The bytes are not copied: do not change them afterwards. */
export function memoryData(bytes: Uint8Array): TensorData {
  return {
    byteLength: bytes.byteLength,
    origin: 'memory',
    read: () => bytes.slice(),
    readRange: (offset, length) => {
      assertRange(bytes.byteLength, offset, length);
      return bytes.slice(offset, offset + length);
    },
  };
}

/**
 * Tensor data produced when asked for, and never kept: writers produce one tensor at a time, so that the
 * peak is one tensor whatever the number of layers.
 * @param byteLength exact size of what `produce` returns (checked).
 * @param partOf see {@link TensorData.partOf}
 */
export function computedData(byteLength: number, produce: () => Uint8Array, partOf?: TensorData): TensorData {
  const read = (): Uint8Array => {
    const bytes = produce();
    if (bytes.byteLength !== byteLength) {
      throw new SnugError('E_INTERNAL', `A computed tensor has ${bytes.byteLength} bytes, not ${byteLength}.`);
    }
    return bytes;
  };
  return {
    byteLength,
    origin: 'computed',
    ...(partOf === undefined ? {} : { partOf }),
    read,
    readRange: (offset, length) => {
      assertRange(byteLength, offset, length);
      return read().subarray(offset, offset + length);
    },
  };
}

/** Dense tensor over little-endian bytes. @throws SnugError E_INTERNAL when size and dims disagree. */
export function rawTensor(name: string, dataType: number, dims: readonly number[], bytes: Uint8Array): Tensor {
  const expected = tensorByteLength(dataType, dims);
  if (expected !== bytes.byteLength) {
    throw new SnugError(
      'E_INTERNAL',
      `Tensor "${name}" needs ${expected} bytes for its dims but got ${bytes.byteLength}.`,
    );
  }
  return { name, dataType, dims: [...dims], data: memoryData(bytes) };
}

/** FLOAT tensor, row-major. */
export function float32Tensor(name: string, dims: readonly number[], values: Float32Array): Tensor {
  return rawTensor(
    name,
    DataType.FLOAT,
    dims,
    new Uint8Array(values.buffer, values.byteOffset, values.byteLength).slice(),
  );
}

const maxInt64 = 2n ** 63n - 1n;

/** Nearest INT64; values at or beyond ±2^63 clamp (Slice uses the extremes as "to the end"). */
export function toInt64(value: number): bigint {
  const big = BigInt(Math.trunc(value));
  if (big > maxInt64) return maxInt64;
  return big < -maxInt64 - 1n ? -maxInt64 - 1n : big;
}

/** INT64 tensor; `dims` defaults in callers to `[values.length]`, `[]` makes a scalar. */
export function int64Tensor(name: string, dims: readonly number[], values: readonly number[]): Tensor {
  const array = BigInt64Array.from(values, toInt64);
  return rawTensor(name, DataType.INT64, dims, new Uint8Array(array.buffer));
}

/** Little-endian bytes of numbers in a floating-point element type. */
export function encodeFloats(values: readonly number[] | Float32Array, dataType: number): Uint8Array {
  const bytes = (array: ArrayBufferView): Uint8Array =>
    new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  if (dataType === DataType.FLOAT) return bytes(Float32Array.from(values));
  if (dataType === DataType.DOUBLE) return bytes(Float64Array.from(values));
  if (dataType === DataType.FLOAT16) return bytes(float32ToFloat16Bits(Float32Array.from(values)));
  if (dataType === DataType.BFLOAT16) {
    const wide = new Uint32Array(Float32Array.from(values).buffer);
    // Round to nearest, ties to even, on the upper half of the bits.
    return bytes(Uint16Array.from(wide, (bits) => (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16));
  }
  throw new SnugError('E_INTERNAL', `Numbers cannot be encoded as element type ${dataType}.`);
}

/** Copies to an aligned buffer when needed, so that a typed array can be laid over it. */
function aligned(bytes: Uint8Array, size: number): { buffer: ArrayBufferLike; byteOffset: number; length: number } {
  const whole = bytes.byteOffset % size === 0 ? bytes : bytes.slice();
  return { buffer: whole.buffer, byteOffset: whole.byteOffset, length: Math.floor(whole.byteLength / size) };
}

/** Unpacks 4- or 2-bit elements, low bits first over the flattened tensor. */
function unpackBits(bytes: Uint8Array, bits: number, signed: boolean, count: number): Int8Array {
  const result = new Int8Array(count);
  const perByte = 8 / bits;
  const mask = (1 << bits) - 1;
  const half = 1 << (bits - 1);
  for (let i = 0; i < count; i++) {
    const code = ((bytes[Math.floor(i / perByte)] ?? 0) >> ((i % perByte) * bits)) & mask;
    result[i] = signed && code >= half ? code - 2 * half : code;
  }
  return result;
}

type NumberArray =
  | Float32Array
  | Float64Array
  | Int8Array
  | Uint8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array;

/** Typed view of a tensor's bytes; fp16 and bf16 are widened to Float32Array, sub-byte types to Int8Array. */
function typedValues(tensor: Tensor): NumberArray {
  const bytes = tensor.data.read();
  const over = (size: number): [ArrayBufferLike, number, number] => {
    const view = aligned(bytes, size);
    return [view.buffer, view.byteOffset, view.length];
  };
  switch (tensor.dataType) {
    case DataType.FLOAT:
      return new Float32Array(...over(4));
    case DataType.DOUBLE:
      return new Float64Array(...over(8));
    case DataType.FLOAT16:
      return float16BitsToFloat32(new Uint16Array(...over(2)));
    case DataType.BFLOAT16:
      return bfloat16BitsToFloat32(new Uint16Array(...over(2)));
    case DataType.INT8:
      return new Int8Array(...over(1));
    case DataType.UINT8:
    case DataType.BOOL:
      return bytes;
    case DataType.INT16:
      return new Int16Array(...over(2));
    case DataType.UINT16:
      return new Uint16Array(...over(2));
    case DataType.INT32:
      return new Int32Array(...over(4));
    case DataType.UINT32:
      return new Uint32Array(...over(4));
    case DataType.INT64:
      return new BigInt64Array(...over(8));
    case DataType.UINT64:
      return new BigUint64Array(...over(8));
    case DataType.INT4:
    case DataType.UINT4:
      return unpackBits(bytes, 4, tensor.dataType === DataType.INT4, elementCount(tensor.dims));
    case DataType.INT2:
    case DataType.UINT2:
      return unpackBits(bytes, 2, tensor.dataType === DataType.INT2, elementCount(tensor.dims));
    default:
      throw new SnugError(
        'E_NOT_SUPPORTED',
        `Tensor "${tensor.name}" of ${dataTypeName(tensor.dataType)} cannot be read as numbers.`,
      );
  }
}

/**
 * All elements as float32, row-major, in a new array. Integers are converted by value (no scale applied);
 * 64-bit integers and doubles are rounded.
 * @throws SnugError E_NOT_SUPPORTED for strings, complex and 8-bit or 4-bit floats.
 */
export function readFloat32(tensor: Tensor): Float32Array {
  const values = typedValues(tensor);
  if (values instanceof Float32Array) return values;
  if (values instanceof BigInt64Array || values instanceof BigUint64Array) {
    return Float32Array.from(values as Iterable<bigint>, Number);
  }
  return Float32Array.from(values);
}

/** All elements as JS numbers: shapes, axes, permutations. Same types as {@link readFloat32}. */
export function readNumbers(tensor: Tensor): number[] {
  const values = typedValues(tensor);
  return Array.from(values as Iterable<number | bigint>, Number);
}
