import { SnugError } from '../../../src/contract/errors.js';
import { floatAttribute, makeNode, tensorAttribute } from '../../../src/onnx/graph.js';
import type { Graph, Model, Node, Tensor, ValueInfo } from '../../../src/onnx/model.js';
import { DataType } from '../../../src/onnx/model.js';
import { float32Tensor, int64Tensor } from '../../../src/onnx/tensor.js';

/** Hand-made protobuf for files no writer of ours would produce. */
export function varint(value: number | bigint): Uint8Array {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  do {
    const low = Number(rest & 0x7fn);
    rest >>= 7n;
    bytes.push(rest > 0n ? low | 0x80 : low);
  } while (rest > 0n);
  return Uint8Array.from(bytes);
}

export const join = (...parts: Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(parts));
export const int = (field: number, value: number | bigint): Uint8Array => join(varint(field * 8), varint(value));
export const bytes = (field: number, ...content: Uint8Array[]): Uint8Array => {
  const body = join(...content);
  return join(varint(field * 8 + 2), varint(body.byteLength), body);
};
export const text = (field: number, value: string): Uint8Array => bytes(field, Buffer.from(value));

/** ModelProto around the fields of a GraphProto. */
export const modelBytes = (...graph: Uint8Array[]): Uint8Array =>
  join(int(1, 8), bytes(7, ...graph), bytes(8, text(1, ''), int(2, 17)));

export const value = (name: string, dims: ValueInfo['dims'] = null, dataType: number = DataType.FLOAT): ValueInfo => ({
  name,
  dataType,
  dims,
});

export function graphOf(parts: Partial<Omit<Graph, 'initializers'>> & { initializers?: Tensor[] }): Graph {
  return {
    name: 'g',
    nodes: [],
    sparseInitializers: [],
    inputs: [],
    outputs: [],
    valueInfo: new Map(),
    ...parts,
    initializers: new Map((parts.initializers ?? []).map((tensor) => [tensor.name, tensor])),
  };
}

export function modelOf(graph: Graph, opset = 17): Model {
  return {
    irVersion: 8,
    producerName: '',
    producerVersion: '',
    domain: '',
    modelVersion: 0,
    docString: '',
    opsets: new Map([['', opset]]),
    graph,
    metadata: new Map(),
    functions: [],
    unknown: [],
    source: null,
  };
}

/** x [n,k] → MatMul by the tensors in turn → y. */
export function chain(weights: Tensor[], extra: Node[] = []): Model {
  const nodes = weights.map((weight, index) =>
    makeNode(
      'MatMul',
      [index === 0 ? 'x' : `h${index}`, weight.name],
      [index === weights.length - 1 ? 'y' : `h${index + 1}`],
      {},
      { name: `mul${index}` },
    ),
  );
  return modelOf(
    graphOf({
      nodes: [...extra, ...nodes],
      initializers: weights,
      inputs: [value('x', ['batch', weights[0]?.dims[0] ?? 1])],
      outputs: [value('y', ['batch', weights.at(-1)?.dims[1] ?? 1])],
    }),
  );
}

/** Code of the SnugError an action throws; `none` when it throws nothing, `raw …` for any other error. */
export function codeOf(act: () => unknown): string {
  try {
    act();
    return 'none';
  } catch (error) {
    return error instanceof SnugError ? error.code : `raw ${String(error)}`;
  }
}

/** A bit of everything: bodies, attributes of all kinds, unknown fields, strings. */
export function rich(): Model {
  const body = graphOf({ nodes: [makeNode('Identity', ['x'], ['t'])], outputs: [value('t')] });
  const model = chain([float32Tensor('w', [2, 2], Float32Array.of(1, 2, 3, 4))]);
  model.graph.nodes.push(
    makeNode('If', ['c'], ['z'], {
      then_branch: { type: 'graph', value: body },
      else_branch: { type: 'graph', value: body },
    }),
    makeNode('Constant', [], ['k'], { value: tensorAttribute(int64Tensor('', [2], [1, 2])) }),
    makeNode('LeakyRelu', ['y'], ['l'], {
      alpha: floatAttribute(0.25),
      list: { type: 'floats', value: [1, 2] },
      ints: { type: 'ints', value: [-1, 2 ** 63] },
      words: { type: 'strings', value: [Buffer.from('a')] },
    }),
  );
  model.graph.inputs.push(value('c', [], DataType.BOOL));
  model.graph.outputs.push(value('z'), value('l'));
  model.metadata.set('who', 'me');
  model.docString = 'doc';
  model.unknown.push(bytes(99, text(1, 'future')));
  model.graph.unknown = [bytes(16, text(1, 'k'), text(2, 'v'))];
  model.graph.nodes[0]!.unknown = [int(77, 5)];
  model.graph.initializers.get('w')!.unknown = [bytes(16, text(1, 'a'))];
  return model;
}
