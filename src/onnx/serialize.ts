import { SnugError } from '../contract/errors.js';
import { MessageWriter } from './encode.js';
import type { Part } from './encode.js';
import { DataType } from './model.js';
import type { Attribute, Graph, Model, Node, RawField, Tensor, ValueInfo } from './model.js';
import { tensorByteLength } from './tensor.js';
import { listConstantNodesFirst } from './topology.js';

/** Where an initializer goes when it is kept outside of the model file. */
export interface Placement {
  location: string;
  offset: number;
}

export interface SerializeOptions {
  /** Decides for each initializer whether it goes to the data file (and where); absent = everything inline. */
  place?: (tensor: Tensor) => Placement | null;
  /** `constants-first` (default) as {@link listConstantNodesFirst}; `keep` writes nodes as they are listed. */
  nodeOrder?: 'constants-first' | 'keep';
}

function unknownFields(writer: MessageWriter, fields: readonly RawField[] | undefined): void {
  for (const field of fields ?? []) writer.raw(field);
}

function keyValue(key: string, value: string): MessageWriter {
  const writer = new MessageWriter();
  writer.string(1, key);
  writer.string(2, value);
  return writer;
}

function encodeTensor(tensor: Tensor, placement: Placement | null): MessageWriter {
  const writer = new MessageWriter();
  for (const dim of tensor.dims) writer.int(1, dim);
  writer.int(2, tensor.dataType);
  const isString = tensor.dataType === DataType.STRING;
  if (isString) for (const text of tensor.strings ?? []) writer.bytes(6, text);
  if (tensor.name !== '') writer.string(8, tensor.name);
  if (!isString) {
    const expected = tensorByteLength(tensor.dataType, tensor.dims);
    if (expected !== tensor.data.byteLength) {
      throw new SnugError(
        'E_INTERNAL',
        `Tensor "${tensor.name}" needs ${expected} bytes for its dims but holds ${tensor.data.byteLength}.`,
      );
    }
    if (placement === null) writer.data(9, tensor.data);
  }
  if (tensor.docString !== undefined) writer.string(12, tensor.docString);
  if (placement !== null) {
    writer.message(13, keyValue('location', placement.location));
    writer.message(13, keyValue('offset', String(placement.offset)));
    writer.message(13, keyValue('length', String(tensor.data.byteLength)));
    writer.int(14, 1);
  }
  unknownFields(writer, tensor.unknown);
  return writer;
}

/** AttributeProto.AttributeType. */
const typeCodes = {
  float: 1,
  int: 2,
  string: 3,
  tensor: 4,
  graph: 5,
  floats: 6,
  ints: 7,
  strings: 8,
  tensors: 9,
  graphs: 10,
} as const;

function encodeAttribute(name: string, attribute: Attribute, options: SerializeOptions): MessageWriter {
  const writer = new MessageWriter();
  writer.string(1, name);
  switch (attribute.type) {
    case 'tensor':
      writer.message(5, encodeTensor(attribute.value, null));
      break;
    case 'tensors':
      for (const tensor of attribute.value) writer.message(10, encodeTensor(tensor, null));
      break;
    case 'graph':
      writer.message(6, encodeGraph(attribute.value, options));
      break;
    case 'graphs':
      for (const graph of attribute.value) writer.message(11, encodeGraph(graph, options));
      break;
    default:
      if (attribute.raw) {
        // `raw` is the whole attribute but its name.
        writer.raw(attribute.raw);
        return writer;
      }
  }
  switch (attribute.type) {
    case 'float':
      writer.float(2, attribute.value);
      break;
    case 'int':
      writer.int(3, attribute.value);
      break;
    case 'string':
      writer.bytes(4, attribute.value);
      break;
    case 'floats':
      for (const value of attribute.value) writer.float(7, value);
      break;
    case 'ints':
      for (const value of attribute.value) writer.int(8, value);
      break;
    case 'strings':
      for (const value of attribute.value) writer.bytes(9, value);
      break;
    default:
      if (attribute.raw) writer.raw(attribute.raw);
  }
  if (attribute.docString !== undefined) writer.string(13, attribute.docString);
  if (attribute.type !== 'opaque') writer.int(20, typeCodes[attribute.type]);
  return writer;
}

function encodeNode(node: Node, options: SerializeOptions): MessageWriter {
  const writer = new MessageWriter();
  for (const input of node.inputs) writer.string(1, input);
  for (const output of node.outputs) writer.string(2, output);
  if (node.name !== '') writer.string(3, node.name);
  writer.string(4, node.opType);
  for (const [name, attribute] of node.attributes) writer.message(5, encodeAttribute(name, attribute, options));
  if (node.docString !== undefined) writer.string(6, node.docString);
  if (node.domain !== '') writer.string(7, node.domain);
  unknownFields(writer, node.unknown);
  return writer;
}

function encodeValueInfo(info: ValueInfo): MessageWriter {
  const writer = new MessageWriter();
  writer.string(1, info.name);
  if (info.rawType) writer.bytes(2, info.rawType);
  else if (info.dataType !== 0) {
    const tensor = new MessageWriter();
    tensor.int(1, info.dataType);
    if (info.dims) {
      const shape = new MessageWriter();
      for (const dim of info.dims) {
        const entry = new MessageWriter();
        if (typeof dim === 'number') entry.int(1, dim);
        else if (dim !== null) entry.string(2, dim);
        shape.message(1, entry);
      }
      tensor.message(2, shape);
    }
    const type = new MessageWriter();
    type.message(1, tensor);
    writer.message(2, type);
  }
  if (info.docString !== undefined) writer.string(3, info.docString);
  unknownFields(writer, info.unknown);
  return writer;
}

function encodeGraph(graph: Graph, options: SerializeOptions): MessageWriter {
  const writer = new MessageWriter();
  const nodes = options.nodeOrder === 'keep' ? graph.nodes : listConstantNodesFirst(graph);
  for (const node of nodes) writer.message(1, encodeNode(node, options));
  if (graph.name !== '') writer.string(2, graph.name);
  for (const [name, tensor] of graph.initializers) {
    // The map's key is the name that counts.
    const named = tensor.name === name ? tensor : { ...tensor, name };
    writer.message(5, encodeTensor(named, options.place?.(named) ?? null));
  }
  if (graph.docString !== undefined) writer.string(10, graph.docString);
  for (const input of graph.inputs) writer.message(11, encodeValueInfo(input));
  for (const output of graph.outputs) writer.message(12, encodeValueInfo(output));
  for (const info of graph.valueInfo.values()) writer.message(13, encodeValueInfo(info));
  for (const sparse of graph.sparseInitializers) writer.bytes(15, sparse.raw);
  unknownFields(writer, graph.unknown);
  return writer;
}

/** Encodes a model as parts (weights unread) and its exact size in bytes. */
export function encodeModel(model: Model, options: SerializeOptions = {}): { parts: Part[]; length: number } {
  const writer = new MessageWriter();
  writer.int(1, model.irVersion);
  if (model.producerName !== '') writer.string(2, model.producerName);
  if (model.producerVersion !== '') writer.string(3, model.producerVersion);
  if (model.domain !== '') writer.string(4, model.domain);
  if (model.modelVersion !== 0) writer.int(5, model.modelVersion);
  if (model.docString !== '') writer.string(6, model.docString);
  writer.message(7, encodeGraph(model.graph, options));
  for (const [domain, version] of model.opsets) {
    const opset = new MessageWriter();
    opset.string(1, domain);
    opset.int(2, version);
    writer.message(8, opset);
  }
  for (const [key, value] of model.metadata) writer.message(14, keyValue(key, value));
  for (const local of model.functions) writer.bytes(25, local.raw);
  unknownFields(writer, model.unknown);
  return { parts: writer.finish(), length: writer.length };
}

/** A small model as bytes, everything inline: for tests and for models built in memory. */
export function serializeModel(model: Model, options: Pick<SerializeOptions, 'nodeOrder'> = {}): Uint8Array {
  const { parts, length } = encodeModel(model, options);
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    const piece = part instanceof Uint8Array ? part : part.read();
    bytes.set(piece, at);
    at += piece.byteLength;
  }
  return bytes;
}
