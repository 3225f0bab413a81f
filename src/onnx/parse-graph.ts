import { Cursor, decodeText } from './cursor.js';
import { malformed } from './failures.js';
import type { Dim, Graph, Node, RawField, ValueInfo } from './model.js';
import { parseAttribute } from './parse-attribute.js';
import { parseTensor } from './parse-tensor.js';
import type { ParseContext } from './parse-tensor.js';

/** Reads a name (strict UTF-8, bounded). */
export function readName(cursor: Cursor, context: ParseContext): string {
  const { start, end } = cursor.span();
  context.budget.name(end - start);
  return decodeText(cursor.source.view(start, end - start), true);
}

/** Reads free text: bounded in total only, invalid UTF-8 replaced. */
export function readText(cursor: Cursor, context: ParseContext): string {
  const { start, end } = cursor.span();
  context.budget.retain(end - start);
  return decodeText(cursor.source.view(start, end - start), false);
}

/** Keeps a field Snug does not interpret. */
export function readUnknown(cursor: Cursor, context: ParseContext): RawField {
  context.budget.piece(cursor.rawLength());
  return cursor.raw();
}

/** The domain as the model keeps it: `ai.onnx` is spelled as ''. */
export function canonicalDomain(domain: string): string {
  return domain === 'ai.onnx' ? '' : domain;
}

/** A negative size says that the size is open, as older exporters write it and the runtime reads it. */
function parseDim(cursor: Cursor, context: ParseContext): Dim {
  let dim: Dim = null;
  while (cursor.next()) {
    if (cursor.field === 1) dim = cursor.int();
    else if (cursor.field === 2) dim = readName(cursor, context) || null;
    else cursor.skip();
  }
  return typeof dim === 'number' && dim < 0 ? null : dim;
}

/** Reads a TypeProto as far as it is a dense tensor; anything else stays in `rawType`. */
function parseType(cursor: Cursor, context: ParseContext): { dataType: number; dims: Dim[] | null } {
  let dataType = 0;
  let dims: Dim[] | null = null;
  while (cursor.next()) {
    if (cursor.field !== 1) {
      cursor.skip();
      continue;
    }
    const tensor = cursor.message();
    while (tensor.next()) {
      if (tensor.field === 1) dataType = tensor.int();
      else if (tensor.field === 2) {
        if (dims !== null) throw malformed('a value has two shapes.');
        const found: Dim[] = [];
        const shape = tensor.message();
        while (shape.next()) {
          if (shape.field === 1) found.push(parseDim(shape.message(), context));
          else shape.skip();
          if (found.length > context.budget.limits.rank) {
            throw malformed(`a value has more than ${context.budget.limits.rank} dimensions.`);
          }
        }
        dims = found;
      } else tensor.skip();
    }
  }
  return { dataType, dims };
}

export function parseValueInfo(cursor: Cursor, context: ParseContext): ValueInfo {
  const info: ValueInfo = { name: '', dataType: 0, dims: null };
  context.budget.retain(200);
  while (cursor.next()) {
    if (cursor.field === 1) info.name = readName(cursor, context);
    else if (cursor.field === 2) {
      if (info.rawType) throw malformed(`value "${info.name}" has two types.`);
      const { start, end } = cursor.span();
      context.budget.piece(2 * (end - start));
      const type = parseType(new Cursor(cursor.source, start, end), context);
      info.dataType = type.dataType;
      info.dims = type.dims;
      info.rawType = cursor.source.view(start, end - start).slice();
    } else if (cursor.field === 3) info.docString = readText(cursor, context);
    else (info.unknown ??= []).push(readUnknown(cursor, context));
  }
  return info;
}

/** Reads a SparseTensorProto for its bounds and its name (that of its values); external data are refused. */
export function parseSparse(cursor: Cursor, context: ParseContext): string {
  let name = '';
  const inner: ParseContext = { budget: context.budget, external: null };
  while (cursor.next()) {
    if (cursor.field === 1) name = parseTensor(cursor.message(), inner).name;
    else if (cursor.field === 2) parseTensor(cursor.message(), inner);
    else cursor.skip();
  }
  return name;
}

export function parseNode(cursor: Cursor, context: ParseContext, depth: number): Node {
  context.budget.node();
  const node: Node = { name: '', opType: '', domain: '', inputs: [], outputs: [], attributes: new Map() };
  while (cursor.next()) {
    switch (cursor.field) {
      case 1:
        node.inputs.push(readName(cursor, context));
        break;
      case 2:
        node.outputs.push(readName(cursor, context));
        break;
      case 3:
        node.name = readName(cursor, context);
        break;
      case 4:
        node.opType = readName(cursor, context);
        break;
      case 5: {
        const { name, attribute } = parseAttribute(
          cursor.message(),
          context,
          (body) => parseGraph(body, context, depth + 1),
          (sparse) => parseSparse(sparse, context),
        );
        if (node.attributes.has(name)) throw malformed(`node "${node.name}" has the attribute "${name}" twice.`);
        node.attributes.set(name, attribute);
        break;
      }
      case 6:
        node.docString = readText(cursor, context);
        break;
      case 7:
        node.domain = canonicalDomain(readName(cursor, context));
        break;
      default:
        (node.unknown ??= []).push(readUnknown(cursor, context));
    }
  }
  return node;
}

/** Reads one GraphProto. @param depth how many graphs are around this one. */
export function parseGraph(cursor: Cursor, context: ParseContext, depth: number): Graph {
  context.budget.depth(depth);
  const graph: Graph = {
    name: '',
    nodes: [],
    initializers: new Map(),
    sparseInitializers: [],
    inputs: [],
    outputs: [],
    valueInfo: new Map(),
  };
  while (cursor.next()) {
    switch (cursor.field) {
      case 1:
        graph.nodes.push(parseNode(cursor.message(), context, depth));
        break;
      case 2:
        graph.name = readName(cursor, context);
        break;
      case 5: {
        const tensor = parseTensor(cursor.message(), context);
        if (tensor.name === '') throw malformed('an initializer has no name.');
        if (graph.initializers.has(tensor.name)) {
          throw malformed(`the initializer "${tensor.name}" is there twice.`, { tensor: tensor.name });
        }
        graph.initializers.set(tensor.name, tensor);
        break;
      }
      case 10:
        graph.docString = readText(cursor, context);
        break;
      case 11:
        graph.inputs.push(parseValueInfo(cursor.message(), context));
        break;
      case 12:
        graph.outputs.push(parseValueInfo(cursor.message(), context));
        break;
      case 13: {
        const info = parseValueInfo(cursor.message(), context);
        graph.valueInfo.set(info.name, info);
        break;
      }
      case 15: {
        const { start, end } = cursor.span();
        context.budget.piece(end - start);
        const name = parseSparse(new Cursor(cursor.source, start, end), context);
        graph.sparseInitializers.push({ name, raw: cursor.source.view(start, end - start).slice() });
        break;
      }
      default:
        (graph.unknown ??= []).push(readUnknown(cursor, context));
    }
  }
  return graph;
}
