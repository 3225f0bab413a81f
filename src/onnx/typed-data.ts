import { Cursor } from './cursor.js';
import { DataType } from './model.js';
import type { TensorData } from './model.js';
import { assertRange, dataTypeBits } from './tensor.js';

/** Fields of a TensorProto. */
export const Field = {
  DIMS: 1,
  DATA_TYPE: 2,
  FLOAT_DATA: 4,
  INT32_DATA: 5,
  STRING_DATA: 6,
  INT64_DATA: 7,
  NAME: 8,
  RAW_DATA: 9,
  DOUBLE_DATA: 10,
  UINT64_DATA: 11,
  DOC_STRING: 12,
  EXTERNAL_DATA: 13,
  DATA_LOCATION: 14,
} as const;

/** Which typed field carries an element type, and how many bytes one entry of it stands for. */
export function typedField(dataType: number): { field: number; entryBytes: number } | null {
  switch (dataType) {
    case DataType.FLOAT:
    case DataType.COMPLEX64:
      return { field: Field.FLOAT_DATA, entryBytes: 4 };
    case DataType.DOUBLE:
    case DataType.COMPLEX128:
      return { field: Field.DOUBLE_DATA, entryBytes: 8 };
    case DataType.INT64:
      return { field: Field.INT64_DATA, entryBytes: 8 };
    case DataType.UINT64:
      return { field: Field.UINT64_DATA, entryBytes: 8 };
    case DataType.UINT32:
      return { field: Field.UINT64_DATA, entryBytes: 4 };
    case DataType.STRING:
      return null;
    default: {
      // int32_data; sub-byte types are packed into bytes first, one byte per entry.
      const bits = dataTypeBits(dataType);
      return bits === null ? null : { field: Field.INT32_DATA, entryBytes: Math.max(1, bits / 8) };
    }
  }
}

/** Decodes a typed field of the TensorProto at `start…end` into raw little-endian bytes. */
export function decodeTyped(cursor: Cursor, field: number, entryBytes: number, byteLength: number): Uint8Array {
  const bytes = new Uint8Array(byteLength);
  const view = new DataView(bytes.buffer);
  let at = 0;
  while (cursor.next()) {
    if (cursor.field !== field) {
      cursor.skip();
    } else if (field === Field.FLOAT_DATA || field === Field.DOUBLE_DATA) {
      cursor.fixed(field === Field.FLOAT_DATA ? 4 : 8, (part) => {
        bytes.set(part, at);
        at += part.byteLength;
      });
    } else {
      cursor.halves((low, high) => {
        if (entryBytes === 8) {
          view.setUint32(at, low, true);
          view.setUint32(at + 4, high, true);
        } else if (entryBytes === 4) view.setUint32(at, low, true);
        else if (entryBytes === 2) view.setUint16(at, low & 0xffff, true);
        else view.setUint8(at, low & 0xff);
        at += entryBytes;
      });
    }
  }
  return bytes;
}

/** Typed data that is decoded on each read, straight from the file. */
export function typedData(message: Cursor, field: number, entryBytes: number, byteLength: number): TensorData {
  const { source, position: start, end } = message;
  const read = (): Uint8Array =>
    source.reopen((again) => decodeTyped(new Cursor(again, start, end), field, entryBytes, byteLength));
  return {
    byteLength,
    origin: 'file',
    read,
    readRange: (offset, length) => {
      assertRange(byteLength, offset, length);
      return read().subarray(offset, offset + length);
    },
  };
}
