/**
 * The ONNX model as Snug holds it in memory: structure is parsed, weights stay where they are (file ranges)
 * until somebody asks for their bytes. Mirrors onnx.proto3 (IR version ≤ 13); unknown fields are carried
 * verbatim so that a round trip loses nothing.
 */

/** TensorProto.DataType. */
export const DataType = {
  UNDEFINED: 0,
  FLOAT: 1,
  UINT8: 2,
  INT8: 3,
  UINT16: 4,
  INT16: 5,
  INT32: 6,
  INT64: 7,
  STRING: 8,
  BOOL: 9,
  FLOAT16: 10,
  DOUBLE: 11,
  UINT32: 12,
  UINT64: 13,
  COMPLEX64: 14,
  COMPLEX128: 15,
  BFLOAT16: 16,
  FLOAT8E4M3FN: 17,
  FLOAT8E4M3FNUZ: 18,
  FLOAT8E5M2: 19,
  FLOAT8E5M2FNUZ: 20,
  UINT4: 21,
  INT4: 22,
  FLOAT4E2M1: 23,
  FLOAT8E8M0: 24,
  UINT2: 25,
  INT2: 26,
} as const;

/** A protobuf field Snug does not interpret, kept byte for byte (tag included). */
export type RawField = Uint8Array;

/**
 * Bytes of a tensor: little-endian, row-major; sub-byte types packed low bits first over the flattened
 * tensor. Reading never caches, so holding a TensorData costs nothing.
 */
export interface TensorData {
  readonly byteLength: number;
  /** Where the bytes live, for writers that can copy ranges and for memory-mapping decisions. */
  readonly origin: 'file' | 'external' | 'memory' | 'computed';
  /** Of computed bytes: what they are a part of, element by element in the same type. */
  readonly partOf?: TensorData;
  /** All bytes, read (or computed) anew. Throws SnugError when the file is gone, short or changed. */
  read(): Uint8Array;
  /** Part of the bytes; `offset + length <= byteLength`. */
  readRange(offset: number, length: number): Uint8Array;
}

export interface Tensor {
  name: string;
  /** TensorProto.DataType value. */
  dataType: number;
  dims: number[];
  data: TensorData;
  /** Only for STRING tensors (raw data does not exist for them). */
  strings?: Uint8Array[];
  docString?: string;
  unknown?: RawField[];
}

/** Immutable: to change an attribute, set a new object (then `raw` is absent and it is encoded anew). */
export type Attribute = { readonly raw?: Uint8Array; readonly docString?: string } & (
  | { readonly type: 'float'; readonly value: number }
  | { readonly type: 'int'; readonly value: number }
  | { readonly type: 'string'; readonly value: Uint8Array }
  | { readonly type: 'tensor'; readonly value: Tensor }
  | { readonly type: 'graph'; readonly value: Graph }
  | { readonly type: 'floats'; readonly value: readonly number[] }
  | { readonly type: 'ints'; readonly value: readonly number[] }
  | { readonly type: 'strings'; readonly value: readonly Uint8Array[] }
  | { readonly type: 'tensors'; readonly value: readonly Tensor[] }
  | { readonly type: 'graphs'; readonly value: readonly Graph[] }
  /** sparse tensors, type protos, attribute references: kept verbatim in `raw`. */
  | { readonly type: 'opaque'; readonly value: null }
);

export interface Node {
  /** May be empty in the file; `nodeLabel` gives something to show. */
  name: string;
  opType: string;
  /** '' means ai.onnx. */
  domain: string;
  /** Empty string = optional input left out. */
  inputs: string[];
  outputs: string[];
  attributes: Map<string, Attribute>;
  docString?: string;
  unknown?: RawField[];
}

/** A dimension: fixed size, symbol, or unknown. */
export type Dim = number | string | null;

export interface ValueInfo {
  name: string;
  /** Element type; 0 when the value is no dense tensor (sequence, map, optional, sparse). */
  dataType: number;
  /** null = rank unknown. */
  dims: Dim[] | null;
  /** The encoded TypeProto as read; dropped by whoever changes `dataType` or `dims`. */
  rawType?: Uint8Array;
  docString?: string;
  unknown?: RawField[];
}

export interface Graph {
  name: string;
  nodes: Node[];
  /** Insertion order is file order. */
  initializers: Map<string, Tensor>;
  /** Kept verbatim (SparseTensorProto); counted, never edited. */
  sparseInitializers: { name: string; raw: Uint8Array }[];
  inputs: ValueInfo[];
  outputs: ValueInfo[];
  valueInfo: Map<string, ValueInfo>;
  docString?: string;
  unknown?: RawField[];
}

export interface ModelSource {
  path: string;
  directory: string;
  fileBytes: number;
  /** External data files referenced, with their sizes. */
  externalFiles: { name: string; bytes: number }[];
}

export interface Model {
  irVersion: number;
  producerName: string;
  producerVersion: string;
  domain: string;
  modelVersion: number;
  docString: string;
  /** Domain ('' = ai.onnx) → version. */
  opsets: Map<string, number>;
  graph: Graph;
  metadata: Map<string, string>;
  /** Local functions, verbatim, with the names needed to know which operators they define. */
  functions: { domain: string; name: string; raw: Uint8Array }[];
  unknown: RawField[];
  source: ModelSource | null;
}
