import type { Cursor } from './cursor.js';
import { decodeText } from './cursor.js';
import { malformed } from './failures.js';
import type { Attribute, Graph, Tensor } from './model.js';
import { parseTensor } from './parse-tensor.js';
import type { ParseContext } from './parse-tensor.js';
import type { ByteSource } from './source.js';

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

function readPiece(cursor: Cursor, context: ParseContext): Uint8Array {
  const { start, end } = cursor.span();
  context.budget.piece(end - start);
  return cursor.source.view(start, end - start).slice();
}

/**
 * Byte ranges of fields, neighbours merged. They make up {@link Attribute.raw}: every field of the AttributeProto
 * except `name`, and, where the value is a tensor or graph (which may be large or edited in place), except the
 * value, `type` and `doc_string` too.
 */
class Ranges {
  readonly #ranges: { start: number; end: number }[] = [];

  add(start: number, end: number): void {
    const last = this.#ranges.at(-1);
    if (last?.end === start) last.end = end;
    else this.#ranges.push({ start, end });
  }

  /** The bytes, copied into one piece; undefined when there are none. */
  copy(source: ByteSource, context: ParseContext): Uint8Array | undefined {
    const length = this.#ranges.reduce((sum, range) => sum + range.end - range.start, 0);
    if (length === 0) return undefined;
    context.budget.piece(length);
    const bytes = new Uint8Array(length);
    let at = 0;
    for (const { start, end } of this.#ranges) {
      bytes.set(source.view(start, end - start), at);
      at += end - start;
    }
    return bytes;
  }
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
  /** All fields but the name; and of these the ones that are neither a tensor or graph, nor type, nor text. */
  const whole = new Ranges();
  const rest = new Ranges();
  while (cursor.next()) {
    const { field } = cursor;
    if (field >= 2 && field <= 11) {
      if (valueField !== 0 && valueField !== field) throw malformed(`attribute "${name}" has two values.`);
      valueField = field;
    }
    const start = cursor.fieldStart;
    switch (field) {
      case 1: {
        const bytes = cursor.bytes();
        budget.name(bytes.byteLength);
        name = decodeText(bytes, true);
        continue;
      }
      case 2:
        values.float = cursor.float();
        break;
      case 3:
        values.int = cursor.int();
        break;
      case 4:
        values.string = readPiece(cursor, context);
        break;
      case 5:
      case 10:
        values.tensors.push(parseTensor(cursor.message(), context));
        break;
      case 6:
      case 11:
        values.graphs.push(parseGraph(cursor.message()));
        break;
      case 7:
        cursor.fixed(4, (part) => {
          budget.retain(4 * part.byteLength);
          const view = new DataView(part.buffer, part.byteOffset, part.byteLength);
          for (let at = 0; at < part.byteLength; at += 4) values.floats.push(view.getFloat32(at, true));
        });
        break;
      case 8:
        cursor.ints((value) => {
          budget.retain(16);
          values.ints.push(value);
        });
        break;
      case 9:
        values.strings.push(readPiece(cursor, context));
        break;
      case 13:
        docString = decodeText(readPiece(cursor, context), false);
        break;
      case 20:
        typeCode = cursor.int();
        break;
      case 22:
      case 23:
        parseSparse(cursor.message());
        opaque = true;
        break;
      default:
        opaque ||= field === 14 || field === 15 || field === 21;
        cursor.skip();
    }
    const large = field === 5 || field === 6 || field === 10 || field === 11;
    whole.add(start, cursor.position);
    if (!large && field !== 13 && field !== 20) rest.add(start, cursor.position);
  }
  const declared = typeFields.get(typeCode) ?? (typeCode === 0 ? valueField : 0);
  if (valueField !== 0 && declared !== 0 && declared !== valueField) {
    throw malformed(`attribute "${name}" has a value of another type than it says.`, { attribute: name });
  }
  // A value of zero or an empty list may be absent from the file, so the declared type decides.
  const attribute = opaque || declared === 0 ? null : build(declared, values);
  const holdsLarge = values.tensors.length > 0 || values.graphs.length > 0;
  if (attribute === null) {
    if (holdsLarge || declared === 5 || declared === 6) {
      throw malformed(`attribute "${name}" has no single value.`, { attribute: name });
    }
    const raw = whole.copy(cursor.source, context) ?? new Uint8Array(0);
    return { name, attribute: { type: 'opaque', value: null, raw } };
  }
  const large = declared === 5 || declared === 6 || declared === 10 || declared === 11;
  const raw = (large ? rest : whole).copy(cursor.source, context);
  return {
    name,
    attribute: { ...attribute, ...(raw ? { raw } : {}), ...(docString === undefined ? {} : { docString }) },
  };
}
