import { randomUUID } from 'node:crypto';
import path from 'node:path';
import * as ort from 'onnxruntime-node';
import { makeNode } from '../../../src/onnx/graph.js';
import { DataType, type Attribute, type Graph, type Model, type Node, type Tensor } from '../../../src/onnx/model.js';
import { elementCount, float32Tensor } from '../../../src/onnx/tensor.js';
import { readModel } from '../../../src/onnx/read.js';
import { serializeModel } from '../../../src/onnx/write.js';
import type { Dataset } from '../../../src/runtime/dataset-types.js';
import { ProductSums } from '../../../src/runtime/products.js';
import type { Feeds, Runtime, RuntimeTensor } from '../../../src/runtime/types.js';

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
  level?: 'disabled' | 'basic' | 'extended' | 'all';
}

type FeedSpec = Record<string, { dims: number[]; data: Float32Array | BigInt64Array }>;

function ortFeeds(feeds: FeedSpec): Record<string, ort.Tensor> {
  return Object.fromEntries(
    Object.entries(feeds).map(([name, { dims, data }]) => {
      if (elementCount(dims) !== data.length) throw new Error(`feed ${name} does not match its dims`);
      const tensor =
        data instanceof BigInt64Array ? new ort.Tensor('int64', data, dims) : new ort.Tensor('float32', data, dims);
      return [name, tensor];
    }),
  );
}

/** Runs a model once in this process; outputs by name. */
export async function runModel(
  model: Model,
  feeds: FeedSpec,
  options: RunOptions = {},
): Promise<Record<string, Float32Array>> {
  const session = await ort.InferenceSession.create(serializeModel(model), {
    graphOptimizationLevel: options.level ?? 'all',
    logSeverityLevel: 3,
  });
  const results = await session.run(ortFeeds(feeds));
  const outputs = Object.fromEntries(
    Object.entries(results).map(([name, tensor]) => [name, Float32Array.from(tensor.data as Float32Array)]),
  );
  await session.release();
  return outputs;
}

/** Operator types of the graph onnxruntime would run on the CPU (level extended, in order). */
export async function optimizedOperators(model: Model, folder: string): Promise<string[]> {
  const file = path.join(folder, `optimized-${randomUUID()}.onnx`);
  const session = await ort.InferenceSession.create(serializeModel(model), {
    graphOptimizationLevel: 'extended',
    optimizedModelFilePath: file,
    logSeverityLevel: 3,
  });
  await session.release();
  return readModel(file).graph.nodes.map((candidate) => candidate.opType);
}

const valuesOf = (results: Readonly<Record<string, ort.Tensor>>): Feeds =>
  Object.fromEntries(
    Object.entries(results).map(([name, tensor]): [string, RuntimeTensor] => [
      name,
      { dtype: tensor.type as 'float32', dims: [...tensor.dims], data: tensor.data as Float32Array },
    ]),
  );

/** The runtime interface over sessions of this process: enough to calibrate. */
export function directRuntime(): Runtime {
  const unused = (): never => {
    throw new Error('not used by this test');
  };
  return {
    providers: async () => ['cpu'],
    measure: unused,
    close: async () => undefined,
    open: async (spec) => {
      const session = await ort.InferenceSession.create(spec.modelPath, { logSeverityLevel: 3 });
      const held: Feeds = {};
      const products = new ProductSums();
      const run = (feeds: Feeds, fetches?: string[]): Promise<ort.InferenceSession.OnnxValueMapType> => {
        const inputs = Object.fromEntries(
          Object.entries({ ...held, ...feeds }).map(([name, t]) => [
            name,
            new ort.Tensor(t.dtype as 'float32', t.data as Float32Array, t.dims),
          ]),
        );
        return fetches === undefined ? session.run(inputs) : session.run(inputs, fetches);
      };
      return {
        inputs: [],
        outputs: [],
        run: async (feeds: Feeds, fetches?: string[]) => valuesOf(await run(feeds, fetches)),
        hold: async (values) => void Object.assign(held, values),
        holdFile: unused,
        runProducts: async (feeds, wanted, fetches) => {
          const results = await run(feeds, [...fetches, ...wanted.map(({ output }) => output)]);
          const rows = await products.add(results, wanted);
          return { results: valuesOf(Object.fromEntries(fetches.map((name) => [name, results[name]!]))), rows };
        },
        storeProducts: async (output, file) => products.store(output, file),
        close: async () => session.release(),
      };
    },
  };
}

/** A data set of ready feeds, one sample each. */
export function listDataset(batches: readonly Record<string, { dims: number[]; data: Float32Array }>[]): Dataset {
  return {
    name: 'list',
    samples: batches.length,
    dims: {},
    fixedBatch: 1,
    feeds: async (start) =>
      Object.fromEntries(
        Object.entries(batches[start]!).map(([name, { dims, data }]): [string, RuntimeTensor] => [
          name,
          { dtype: 'float32', dims, data },
        ]),
      ),
    close: async () => undefined,
  };
}

/** Operator types of a graph, in order, without the Casts of constants that the runtime does while loading. */
export function graphOperators({ nodes, initializers }: Graph): string[] {
  return nodes
    .filter(({ opType, inputs }) => opType !== 'Cast' || !initializers.has(inputs[0] ?? ''))
    .map(({ opType }) => opType);
}

/** Operator types of the top graph, sorted. */
export function operators(model: Model): string[] {
  return graphOperators(model.graph).sort();
}
