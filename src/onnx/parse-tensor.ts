import { SnugError } from '../contract/errors.js';
import { Cursor, decodeText } from './cursor.js';
import type { ExternalFiles, ExternalReference } from './external.js';
import { malformed } from './failures.js';
import type { Budget } from './limits.js';
import { DataType } from './model.js';
import type { RawField, Tensor, TensorData } from './model.js';
import { dataTypeBits, dataTypeName, memoryData, tensorByteLength } from './tensor.js';
import { Field, decodeTyped, typedData, typedField } from './typed-data.js';

/** What parsing needs besides the bytes. */
export interface ParseContext {
  readonly budget: Budget;
  /** null where external data cannot be followed: function bodies and sparse tensors. */
  readonly external: ExternalFiles | null;
}

/** Data up to this size is held in memory, so that many small constants cost no file access. */
const smallBytes = 1024;

interface TensorFields {
  name: string;
  dataType: number;
  dims: number[];
  docString: string | undefined;
  raw: { start: number; end: number } | null;
  /** Bytes each typed field decodes to, before the element type is known: entries per field. */
  entries: Map<number, number>;
  /** Range of a typed fixed-width field that came as one packed piece. */
  packed: { field: number; start: number; end: number } | null;
  strings: Uint8Array[];
  external: boolean;
  reference: ExternalReference;
  unknown: RawField[];
}

function readReference(cursor: Cursor, reference: ExternalReference, budget: Budget): void {
  const entry = cursor.message();
  let key = '';
  let value = '';
  while (entry.next()) {
    if (entry.field === 1 || entry.field === 2) {
      const bytes = entry.bytes();
      budget.name(bytes.byteLength);
      if (entry.field === 1) key = decodeText(bytes, true);
      else value = decodeText(bytes, true);
    } else entry.skip();
  }
  if (key === 'location' || key === 'offset' || key === 'length') reference[key] = value;
}

/** Collects the fields of a TensorProto without reading its data. */
function readFields(cursor: Cursor, budget: Budget): TensorFields {
  const fields: TensorFields = {
    name: '',
    dataType: 0,
    dims: [],
    docString: undefined,
    raw: null,
    entries: new Map(),
    packed: null,
    strings: [],
    external: false,
    reference: { location: '', offset: '', length: '' },
    unknown: [],
  };
  const count = (field: number, entries: number): void => {
    fields.entries.set(field, (fields.entries.get(field) ?? 0) + entries);
  };
  while (cursor.next()) {
    switch (cursor.field) {
      case Field.DIMS:
        cursor.ints((dim) => {
          fields.dims.push(dim);
          if (fields.dims.length > budget.limits.rank)
            throw malformed(`a tensor has more than ${budget.limits.rank} dims.`);
        });
        break;
      case Field.DATA_TYPE:
        fields.dataType = cursor.int();
        break;
      case Field.FLOAT_DATA:
      case Field.DOUBLE_DATA: {
        const size = cursor.field === Field.FLOAT_DATA ? 4 : 8;
        if (cursor.wire === 2) {
          const range = cursor.span();
          if ((range.end - range.start) % size !== 0) throw malformed('a packed field ends inside a number.');
          fields.packed = fields.entries.has(cursor.field) ? null : { field: cursor.field, ...range };
          count(cursor.field, (range.end - range.start) / size);
        } else {
          fields.packed = null;
          count(cursor.field, 1);
          cursor.fixed(size, () => undefined);
        }
        break;
      }
      case Field.INT32_DATA:
      case Field.INT64_DATA:
      case Field.UINT64_DATA: {
        let entries = 0;
        cursor.halves(() => entries++);
        count(cursor.field, entries);
        break;
      }
      case Field.STRING_DATA: {
        const bytes = cursor.bytes();
        budget.piece(bytes.byteLength);
        fields.strings.push(bytes);
        break;
      }
      case Field.NAME: {
        const bytes = cursor.bytes();
        budget.name(bytes.byteLength);
        fields.name = decodeText(bytes, true);
        break;
      }
      case Field.RAW_DATA:
        fields.raw = cursor.span();
        break;
      case Field.DOC_STRING: {
        const bytes = cursor.bytes();
        budget.retain(bytes.byteLength);
        fields.docString = decodeText(bytes, false);
        break;
      }
      case Field.EXTERNAL_DATA:
        readReference(cursor, fields.reference, budget);
        break;
      case Field.DATA_LOCATION:
        fields.external = cursor.int() === 1;
        break;
      default:
        budget.piece(cursor.rawLength());
        fields.unknown.push(cursor.raw());
    }
  }
  return fields;
}

/** Keeps byte sizes (at most 16 bytes an element) exact in a JS number. */
const maxElements = 2n ** 49n;

/** The product of dims, exact. @throws SnugError E_MALFORMED for negative or absurd sizes. */
function checkedCount(name: string, dims: readonly number[]): number {
  let product = 1n;
  for (const dim of dims) {
    if (dim < 0 || !Number.isSafeInteger(dim)) throw malformed(`tensor "${name}" has the dimension ${dim}.`);
    product *= BigInt(dim);
  }
  if (product > maxElements) {
    throw malformed(`tensor "${name}" has ${product} elements.`);
  }
  return Number(product);
}

function locate(fields: TensorFields, message: Cursor, context: ParseContext): TensorData {
  const { name, dataType, dims } = fields;
  const byteLength = tensorByteLength(dataType, dims);
  if (fields.external) {
    if (context.external === null) {
      throw new SnugError('E_NOT_SUPPORTED', `Tensor "${name}" inside a function or sparse tensor is external.`, {
        action: 'Export the model again with these weights inside the model file.',
        params: { tensor: name },
      });
    }
    return context.external.resolve(fields.reference, byteLength, name);
  }
  const wrongSize = (got: number): SnugError =>
    malformed(
      `tensor "${name}" (${dataTypeName(dataType)} ${JSON.stringify(dims)}) needs ${byteLength} bytes but has ${got}.`,
      {
        tensor: name,
      },
    );
  const filled = [...fields.entries].filter(([, entries]) => entries > 0);
  let data: TensorData;
  if (filled.length === 0) {
    const length = fields.raw ? fields.raw.end - fields.raw.start : 0;
    if (length !== byteLength) throw wrongSize(length);
    data = fields.raw ? message.source.range(fields.raw.start, length) : memoryData(new Uint8Array(0));
  } else {
    const typed = typedField(dataType);
    const [field, entries] = filled[0] as [number, number];
    if (filled.length > 1 || (fields.raw && fields.raw.end > fields.raw.start)) {
      throw malformed(`tensor "${name}" holds its data twice.`);
    }
    if (typed === null || typed.field !== field) {
      throw malformed(`tensor "${name}" keeps ${dataTypeName(dataType)} in the wrong field.`);
    }
    if (entries * typed.entryBytes !== byteLength) throw wrongSize(entries * typed.entryBytes);
    data =
      fields.packed?.field === field
        ? message.source.range(fields.packed.start, byteLength)
        : typedData(message, field, typed.entryBytes, byteLength);
  }
  if (byteLength > smallBytes) return data;
  context.budget.retain(byteLength);
  // Read through the parser's own source: the window is already there.
  if (filled.length === 0) {
    return fields.raw ? memoryData(message.source.view(fields.raw.start, byteLength).slice()) : data;
  }
  const typed = typedField(dataType) as { field: number; entryBytes: number };
  return memoryData(decodeTyped(message, typed.field, typed.entryBytes, byteLength));
}

/**
 * Reads one TensorProto: its bytes stay where they are unless they are few.
 * @throws SnugError E_MALFORMED when dims, element type and bytes disagree; E_EXTERNAL_* for external data.
 */
export function parseTensor(cursor: Cursor, context: ParseContext): Tensor {
  context.budget.tensor();
  const fields = readFields(new Cursor(cursor.source, cursor.position, cursor.end), context.budget);
  const { name, dataType, dims } = fields;
  const elements = checkedCount(name, dims);
  if (dataTypeBits(dataType) === null) {
    throw malformed(`tensor "${name}" has the unknown element type ${dataType}.`, { tensor: name });
  }
  const tensor: Tensor = { name, dataType, dims, data: memoryData(new Uint8Array(0)) };
  if (dataType === DataType.STRING) {
    if (fields.external || fields.raw) throw malformed(`string tensor "${name}" has raw data.`);
    if (fields.strings.length !== elements) {
      throw malformed(`tensor "${name}" has ${fields.strings.length} strings, not ${elements}.`);
    }
    tensor.strings = fields.strings;
  } else {
    tensor.data = locate(fields, cursor, context);
  }
  if (fields.docString !== undefined) tensor.docString = fields.docString;
  if (fields.unknown.length > 0) tensor.unknown = fields.unknown;
  return tensor;
}
