/** Builds small ONNX files byte by byte, so that these tests need nothing but the runtime itself. */

type Part = Uint8Array;

function varint(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  while (rest > 127) {
    bytes.push((rest % 128) | 128);
    rest = Math.floor(rest / 128);
  }
  bytes.push(rest);
  return bytes;
}

const text = (value: string): Part => new TextEncoder().encode(value);
const int = (field: number, value: number): Part => Uint8Array.from([field << 3, ...varint(value)]);

function bytes(field: number, content: Part | string): Part {
  const part = typeof content === 'string' ? text(content) : content;
  return Buffer.concat([Uint8Array.from([(field << 3) | 2, ...varint(part.length)]), part]);
}

export interface TestNode {
  operator: string;
  inputs: string[];
  outputs: string[];
  domain?: string;
}

export interface TestGraph {
  nodes: TestNode[];
  /** float32 values; a string is a symbolic axis. */
  inputs: Record<string, (number | string)[]>;
  outputs: Record<string, (number | string)[]>;
  weights?: Record<string, { dims: number[]; data: Float32Array | BigInt64Array }>;
  opset?: number;
}

function valueInfo(name: string, dims: (number | string)[]): Part {
  const shape = dims.map((dim) => bytes(1, typeof dim === 'number' ? int(1, dim) : bytes(2, dim)));
  const tensor = Buffer.concat([int(1, 1), bytes(2, Buffer.concat(shape))]);
  return Buffer.concat([bytes(1, name), bytes(2, bytes(1, tensor))]);
}

/** A ModelProto. */
export function onnxModel(graph: TestGraph): Uint8Array {
  const nodes = graph.nodes.map(({ operator, inputs, outputs, domain }, index) =>
    Buffer.concat([
      ...inputs.map((name) => bytes(1, name)),
      ...outputs.map((name) => bytes(2, name)),
      bytes(3, `n${index}`),
      bytes(4, operator),
      ...(domain === undefined ? [] : [bytes(7, domain)]),
    ]),
  );
  const weights = Object.entries(graph.weights ?? {}).map(([name, { dims, data }]) =>
    Buffer.concat([
      ...dims.map((dim) => int(1, dim)),
      int(2, data instanceof Float32Array ? 1 : 7),
      bytes(8, name),
      bytes(9, new Uint8Array(data.buffer)),
    ]),
  );
  const body = Buffer.concat([
    ...nodes.map((node) => bytes(1, node)),
    bytes(2, 'g'),
    ...weights.map((weight) => bytes(5, weight)),
    ...Object.entries(graph.inputs).map(([name, dims]) => bytes(11, valueInfo(name, dims))),
    ...Object.entries(graph.outputs).map(([name, dims]) => bytes(12, valueInfo(name, dims))),
  ]);
  const domains = new Set(graph.nodes.flatMap((node) => (node.domain === undefined ? [] : [node.domain])));
  return Buffer.concat([
    int(1, 8),
    bytes(7, body),
    bytes(8, int(2, graph.opset ?? 17)),
    ...[...domains].map((domain) => bytes(8, Buffer.concat([bytes(1, domain), int(2, 1)]))),
  ]);
}
