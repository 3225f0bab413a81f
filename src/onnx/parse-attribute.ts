import { Cursor, decodeText } from './cursor.js';
import { malformed } from './failures.js';
import type { Attribute, Graph, Tensor } from './model.js';
import { parseTensor } from './parse-tensor.js';
import type { ParseContext } from './parse-tensor.js';
import { MemorySource } from './source.js';

/** AttributeProto.AttributeType → field that carries the value. */
const typeFields = new Map<number, number>([
  [1, 2], // FLOAT
  [2, 3], // INT
  [3, 4], // STRING
  [4, 5], // TENSOR
  [5, 6], // GRAPH
  [6, 7], // FLOATS
  [7, 8], // INTS
  [8, 9], // STRINGS
  [9, 10], // TENSORS
  [10, 11], // GRAPHS
]);

interface Values {
  float: number;
  int: number;
  string: Uint8Array;
  tensors: Tensor[];
  graphs: Graph[];
  floats: number[];
  ints: number[];
  strings: Uint8Array[];
}

const floatOf = (bytes: Uint8Array, at: number): number =>
  new DataView(bytes.buffer, bytes.byteOffset + at, 4).getFloat32(0, true);

/**
 * Joins raw fields. The result is what {@link Attribute.raw} holds: every field of the AttributeProto except
 * `name`, and, where the value is a tensor or graph (which may be large or edited in place), except the value,
 * `type` and `doc_string` too.
 */
function join(parts: Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}

function build(valueField: number, values: Values): Attribute | null {
  switch (valueField) {
    case 2:
      return { type: 'float', value: values.float };
    case 3:
      return { type: 'int', value: values.int };
    case 4:
      return { type: 'string', value: values.string };
    case 5:
      return values.tensors.length === 1 ? { type: 'tensor', value: values.tensors[0] as Tensor } : null;
    case 6:
      return values.graphs.length === 1 ? { type: 'graph', value: values.graphs[0] as Graph } : null;
    case 7:
      return { type: 'floats', value: values.floats };
    case 8:
      return { type: 'ints', value: values.ints };
    case 9:
      return { type: 'strings', value: values.strings };
    case 10:
      return { type: 'tensors', value: values.tensors };
    case 11:
      return { type: 'graphs', value: values.graphs };
    default:
      return null;
  }
}

/**
 * Reads one AttributeProto. Sparse tensors, type protos and references to function attributes become `opaque`.
 * @param parseGraph reads a body; handed in because graphs and attributes contain each other.
 */
export function parseAttribute(
  cursor: Cursor,
  context: ParseContext,
  parseGraph: (cursor: Cursor) => Graph,
  parseSparse: (cursor: Cursor) => void,
): { name: string; attribute: Attribute } {
  const { budget } = context;
  let name = '';
  let docString: string | undefined;
  let typeCode = 0;
  let opaque = false;
  let valueField = 0;
  const values: Values = {
    float: 0,
    int: 0,
    string: new Uint8Array(0),
    tensors: [],
    graphs: [],
    floats: [],
    ints: [],
    strings: [],
  };
  const raw: Uint8Array[] = [];
  const described: Uint8Array[] = [];
  while (cursor.next()) {
    const { field } = cursor;
    if (field === 1) {
      const bytes = cursor.bytes();
      budget.name(bytes.byteLength);
      name = decodeText(bytes, true);
      continue;
    }
    if (field >= 2 && field <= 11) {
      if (valueField !== 0 && valueField !== field) throw malformed(`attribute "${name}" has two values.`);
      valueField = field;
    }
    if (field === 5 || field === 10) {
      values.tensors.push(parseTensor(cursor.message(), context));
      continue;
    }
    if (field === 6 || field === 11) {
      values.graphs.push(parseGraph(cursor.message()));
      continue;
    }
    if (field === 22 || field === 23) {
      const resume = cursor.position;
      parseSparse(cursor.message());
      cursor.position = resume;
    }
    // A packed integer of one byte becomes a number of eight.
    budget.retain(cursor.rawLength() * (field === 8 ? 9 : 2) + 64);
    const bytes = cursor.raw();
    const again = new Cursor(new MemorySource(bytes), 0, bytes.byteLength);
    again.next();
    (field === 13 || field === 20 ? described : raw).push(bytes);
    switch (field) {
      case 2:
        values.float = again.float();
        break;
      case 3:
        values.int = again.int();
        break;
      case 4:
        values.string = again.bytes();
        break;
      case 7:
        again.fixed(4, (part) => {
          for (let at = 0; at < part.byteLength; at += 4) values.floats.push(floatOf(part, at));
        });
        break;
      case 8:
        again.ints((value) => values.ints.push(value));
        break;
      case 9:
        values.strings.push(again.bytes());
        break;
      case 13:
        docString = decodeText(again.bytes(), false);
        break;
      case 20:
        typeCode = again.int();
        break;
      case 14:
      case 15:
      case 21:
      case 22:
      case 23:
        opaque = true;
        break;
      default:
    }
  }
  const declared = typeFields.get(typeCode) ?? (typeCode === 0 ? valueField : 0);
  if (valueField !== 0 && declared !== 0 && declared !== valueField) {
    throw malformed(`attribute "${name}" has a value of another type than it says.`, { attribute: name });
  }
  // A value of zero or an empty list may be absent from the file, so the declared type decides.
  const attribute = opaque || declared === 0 ? null : build(declared, values);
  if (attribute === null) {
    if (values.tensors.length > 0 || values.graphs.length > 0 || declared === 5 || declared === 6) {
      throw malformed(`attribute "${name}" has no single value.`, { attribute: name });
    }
    return { name, attribute: { type: 'opaque', value: null, raw: join([...raw, ...described]) } };
  }
  const large = declared === 5 || declared === 6 || declared === 10 || declared === 11;
  const kept = large ? raw : [...raw, ...described];
  return {
    name,
    attribute: {
      ...attribute,
      ...(kept.length > 0 ? { raw: join(kept) } : {}),
      ...(docString === undefined ? {} : { docString }),
    },
  };
}
