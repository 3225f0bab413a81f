import * as ort from 'onnxruntime-node';
import { makeNode } from '../../../src/onnx/graph.js';
import { DataType, type Attribute, type Graph, type Model, type Node, type Tensor } from '../../../src/onnx/model.js';
import { elementCount, float32Tensor } from '../../../src/onnx/tensor.js';
import { serializeModel } from '../../../src/onnx/write.js';

export interface GraphSpec {
  inputs: Record<string, (number | string)[]>;
  outputs: string[];
  nodes: Node[];
  weights: Tensor[];
  opset?: number;
  /** Element types of inputs that are not float. */
  inputTypes?: Record<string, number>;
}

/** A model in memory from a few nodes. */
export function buildModel(spec: GraphSpec): Model {
  return {
    irVersion: 9,
    producerName: 'test',
    producerVersion: '',
    domain: '',
    modelVersion: 0,
    docString: '',
    opsets: new Map([['', spec.opset ?? 17]]),
    graph: buildGraph(spec),
    metadata: new Map(),
    functions: [],
    unknown: [],
    source: null,
  };
}

export function buildGraph(spec: GraphSpec): Graph {
  const value = (
    name: string,
    dims: (number | string)[] | null,
    dataType: number = DataType.FLOAT,
  ): Graph['inputs'][0] => ({
    name,
    dataType,
    dims,
  });
  return {
    name: 'main',
    nodes: spec.nodes,
    initializers: new Map(spec.weights.map((tensor) => [tensor.name, tensor])),
    sparseInitializers: [],
    inputs: Object.entries(spec.inputs).map(([name, dims]) => value(name, dims, spec.inputTypes?.[name])),
    outputs: spec.outputs.map((name) => value(name, null)),
    valueInfo: new Map(),
  };
}

export function node(
  opType: string,
  inputs: string[],
  output: string,
  attributes: Record<string, Attribute> = {},
): Node {
  return makeNode(opType, inputs, [output], attributes, { name: `${output}_node` });
}

export function weight(name: string, dims: number[], values: Float32Array): Tensor {
  return float32Tensor(name, dims, values);
}

export interface RunOptions {
  provider?: 'cpu' | 'webgpu';
  level?: 'disabled' | 'basic' | 'extended' | 'all';
}

/** Runs a model once in this process; outputs by name. Float inputs only unless given as ort tensors. */
export async function runModel(
  model: Model,
  feeds: Record<string, { dims: number[]; data: Float32Array | BigInt64Array }>,
  options: RunOptions = {},
): Promise<Record<string, Float32Array>> {
  const session = await ort.InferenceSession.create(serializeModel(model), {
    executionProviders: [options.provider ?? 'cpu'],
    graphOptimizationLevel: options.level ?? 'all',
    logSeverityLevel: 3,
  });
  const inputs: Record<string, ort.Tensor> = {};
  for (const [name, { dims, data }] of Object.entries(feeds)) {
    if (elementCount(dims) !== data.length) throw new Error(`feed ${name} does not match its dims`);
    inputs[name] =
      data instanceof BigInt64Array ? new ort.Tensor('int64', data, dims) : new ort.Tensor('float32', data, dims);
  }
  const results = await session.run(inputs);
  const outputs = Object.fromEntries(
    Object.entries(results).map(([name, tensor]) => [name, Float32Array.from(tensor.data as Float32Array)]),
  );
  await session.release();
  return outputs;
}

/** Operator types of the top graph, sorted. */
export function operators(model: Model): string[] {
  return model.graph.nodes.map((candidate) => candidate.opType).sort();
}
