import { SnugError } from '../contract/errors.js';
import { Cursor, cutShort, decodeText } from './cursor.js';
import type { ExternalFiles } from './external.js';
import { malformed } from './failures.js';
import { Budget } from './limits.js';
import type { Limits } from './limits.js';
import type { Model, Node } from './model.js';
import { canonicalDomain, parseGraph, parseNode, readName, readText, readUnknown } from './parse-graph.js';
import type { ParseContext } from './parse-tensor.js';
import { MemorySource } from './source.js';
import type { ByteSource } from './source.js';

/** A local function, as far as names and operators go. */
export interface FunctionSummary {
  domain: string;
  name: string;
  nodes: Node[];
  opsets: Map<string, number>;
}

function parseOpset(cursor: Cursor, context: ParseContext): [string, number] {
  let domain = '';
  let version = 0;
  while (cursor.next()) {
    if (cursor.field === 1) domain = canonicalDomain(readName(cursor, context));
    else if (cursor.field === 2) version = cursor.int();
    else cursor.skip();
  }
  return [domain, version];
}

function readFunction(cursor: Cursor, context: ParseContext): FunctionSummary {
  const summary: FunctionSummary = { domain: '', name: '', nodes: [], opsets: new Map() };
  const inner: ParseContext = { budget: context.budget, external: null };
  while (cursor.next()) {
    if (cursor.field === 1) summary.name = readName(cursor, context);
    else if (cursor.field === 10) summary.domain = canonicalDomain(readName(cursor, context));
    else if (cursor.field === 7) summary.nodes.push(parseNode(cursor.message(), inner, 1));
    else if (cursor.field === 9) {
      const [domain, version] = parseOpset(cursor.message(), context);
      summary.opsets.set(domain, version);
    } else cursor.skip();
  }
  return summary;
}

/** Reads the body of a local function ({@link Model.functions} keeps it verbatim). */
export function parseFunction(raw: Uint8Array, limits: Limits): FunctionSummary {
  const context: ParseContext = { budget: new Budget(limits), external: null };
  return readFunction(new Cursor(new MemorySource(raw), 0, raw.byteLength), context);
}

function notOnnx(action = 'Choose a file exported to ONNX (.onnx).'): SnugError {
  return new SnugError('E_NOT_ONNX', 'This is not an ONNX model.', { action });
}

/** First bytes of formats people confuse with ONNX, and what to do about each. */
const lookalikes: readonly (readonly [offset: number, text: string, action: string])[] = [
  [0, 'version https://git-lfs', 'This is a Git LFS pointer: run "git lfs pull" to get the real file.'],
  [0, 'GGUF', 'This is a GGUF file; Snug reads ONNX models.'],
  [0, 'PK\u0003\u0004', 'This is a zip or PyTorch file: unpack it, or export the model to ONNX first.'],
  [4, 'ORTM', 'This is an ORT-format file: use the .onnx file it was made from.'],
  [8, '{"', 'This looks like safetensors: export the model to ONNX first.'],
  [0, '<', 'This is a web page: the download went wrong.'],
];

function recognise(source: ByteSource): SnugError {
  for (const [offset, text, action] of lookalikes) {
    if (source.size < offset + text.length) continue;
    if (decodeText(source.view(offset, text.length), false) === text) return notOnnx(action);
  }
  return notOnnx();
}

/** Fields a ModelProto may have after ir_version → their wire type. */
const modelFields = new Map([
  ...[1, 5].map((field) => [field, 0] as const),
  ...[2, 3, 4, 6, 7, 8, 14, 20, 25, 26].map((field) => [field, 2] as const),
]);

/**
 * Reads one ModelProto. A file that starts like a model but ends before its own lengths say is E_TRUNCATED;
 * one that never looked like a model is E_NOT_ONNX.
 */
export function parseModelFrom(source: ByteSource, limits: Limits, external: ExternalFiles): Model {
  const context: ParseContext = { budget: new Budget(limits), external };
  const model: Omit<Model, 'graph'> & { graph: Model['graph'] | null } = {
    irVersion: 0,
    producerName: '',
    producerVersion: '',
    domain: '',
    modelVersion: 0,
    docString: '',
    opsets: new Map(),
    graph: null,
    metadata: new Map(),
    functions: [],
    unknown: [],
    source: null,
  };
  // Every exporter writes ir_version first; what follows is then believed to be a model.
  const first = new Cursor(source, 0, source.size, true);
  try {
    if (!first.next() || first.field !== 1) throw notOnnx();
    const version = first.int();
    if (version < 1 || version > 1000) throw notOnnx();
    if (first.next() && modelFields.get(first.field) !== first.wire) throw notOnnx();
  } catch (error) {
    if (error instanceof SnugError && error.code === 'E_TRUNCATED') throw error;
    throw recognise(source);
  }
  const cursor = new Cursor(source, 0, source.size, true);
  while (cursor.next()) {
    switch (cursor.field) {
      case 1:
        model.irVersion = cursor.int();
        break;
      case 2:
        model.producerName = readText(cursor, context);
        break;
      case 3:
        model.producerVersion = readText(cursor, context);
        break;
      case 4:
        model.domain = readText(cursor, context);
        break;
      case 5:
        model.modelVersion = cursor.int();
        break;
      case 6:
        model.docString = readText(cursor, context);
        break;
      case 7:
        if (model.graph) throw malformed('it holds two graphs.');
        model.graph = parseGraph(cursor.message(), context, 1);
        break;
      case 8: {
        const [domain, version] = parseOpset(cursor.message(), context);
        const known = model.opsets.get(domain);
        if (known !== undefined && known !== version) {
          throw malformed(`two versions of the operator set "${domain || 'ai.onnx'}".`);
        }
        model.opsets.set(domain, version);
        break;
      }
      case 14: {
        const entry = cursor.message();
        let key = '';
        let value = '';
        while (entry.next()) {
          if (entry.field === 1) key = readText(entry, context);
          else if (entry.field === 2) value = readText(entry, context);
          else entry.skip();
        }
        model.metadata.set(key, value);
        break;
      }
      case 25: {
        const { start, end } = cursor.span();
        context.budget.piece(end - start);
        const { domain, name } = readFunction(new Cursor(source, start, end), context);
        model.functions.push({ domain, name, raw: source.view(start, end - start).slice() });
        break;
      }
      default:
        model.unknown.push(readUnknown(cursor, context));
    }
  }
  if (model.graph === null) throw cutShort();
  return { ...model, graph: model.graph };
}
