import * as ort from 'onnxruntime-node';
import { float32Tensor, int64Tensor } from '../../../src/onnx/tensor.js';
import { makeNode } from '../../../src/onnx/graph.js';
import { DataType, type Attribute, type Dim, type Model, type Tensor } from '../../../src/onnx/model.js';
import { serializeModel } from '../../../src/onnx/write.js';
import { decompose } from '../../../src/train/decompose.js';
import { appendGradients } from '../../../src/train/differentiate.js';
import { GraphBuilder } from '../../../src/train/graph-builder.js';
import { normalNumbers } from '../../../src/train/random.js';

/** A node of a test graph; the last one's first named output is the graph's output. */
export interface TestNode {
  op: string;
  in: string[];
  out: string[];
  attributes?: Record<string, Attribute>;
  domain?: string;
}

export interface TestGraph {
  opset?: number;
  /** Values to differentiate by; `'batch'` sizes become 3. */
  wanted: Record<string, Dim[]>;
  /** Integer or other constants. */
  ints?: Record<string, { dims: number[]; values: number[] }>;
  floats?: Record<string, { dims: number[]; values: number[] }>;
  /** Constants of other types: codes, lengths. */
  tensors?: Tensor[];
  nodes: TestNode[];
  /** Maps random normal numbers to what the operator takes, such as positive numbers. */
  values?: (x: number, input: string) => number;
}

export const batch = 3;
export const sizes = (dims: readonly Dim[]): number[] => dims.map((dim) => (typeof dim === 'number' ? dim : batch));
export const count = (dims: readonly number[]): number => dims.reduce((a, b) => a * b, 1);

function emptyModel(opset: number): Model {
  return {
    irVersion: 8,
    producerName: '',
    producerVersion: '',
    domain: '',
    modelVersion: 0,
    docString: '',
    opsets: new Map([
      ['', opset],
      ['com.microsoft', 1],
    ]),
    graph: {
      name: 'test',
      nodes: [],
      initializers: new Map(),
      sparseInitializers: [],
      inputs: [],
      outputs: [],
      valueInfo: new Map(),
    },
    metadata: new Map(),
    functions: [],
    unknown: [],
    source: null,
  };
}

export function testModel(graph: TestGraph): Model {
  const model = emptyModel(graph.opset ?? 18);
  for (const [name, dims] of Object.entries(graph.wanted)) {
    model.graph.inputs.push({ name, dataType: DataType.FLOAT, dims });
  }
  for (const [name, { dims, values }] of Object.entries(graph.ints ?? {})) {
    model.graph.initializers.set(name, int64Tensor(name, dims, values));
  }
  for (const [name, { dims, values }] of Object.entries(graph.floats ?? {})) {
    model.graph.initializers.set(name, float32Tensor(name, dims, Float32Array.from(values)));
  }
  for (const tensor of graph.tensors ?? []) model.graph.initializers.set(tensor.name, tensor);
  for (const node of graph.nodes) {
    model.graph.nodes.push(
      makeNode(node.op, node.in, node.out, node.attributes ?? {}, { domain: node.domain ?? '', name: node.out[0]! }),
    );
  }
  return model;
}

const session = (model: Model): Promise<ort.InferenceSession> =>
  ort.InferenceSession.create(serializeModel(model), { logSeverityLevel: 3, intraOpNumThreads: 1 });

export type Values = Record<string, Float32Array>;

/**
 * Compares the gradient of Σ c·y (random c) with central differences along random directions, summed in double
 * precision. Returns the largest error relative to the size of the derivatives.
 */
export async function gradientError(graph: TestGraph, seed: number, step = 1e-2): Promise<number> {
  const normal = normalNumbers(seed);
  const map = graph.values ?? ((x: number) => x);
  const point: Values = {};
  for (const [name, dims] of Object.entries(graph.wanted)) {
    point[name] = Float32Array.from({ length: count(sizes(dims)) }, () => map(normal(), name));
  }
  const outputs = graph.nodes.at(-1)!.out.filter((name) => name !== '');
  const output = outputs[0]!;
  const forward = testModel(graph);
  forward.graph.outputs = outputs.map((name) => ({ name, dataType: DataType.FLOAT, dims: null }));
  const run = await session(forward);
  const feedsOf = (values: Values): Record<string, ort.Tensor> =>
    Object.fromEntries(
      Object.entries(values).map(([name, data]) => [name, new ort.Tensor('float32', data, sizes(graph.wanted[name]!))]),
    );
  const first = await run.run(feedsOf(point));
  const factors = Float32Array.from({ length: (first[output]!.data as Float32Array).length }, () => normal());
  const loss = async (values: Values): Promise<number> => {
    const y = (await run.run(feedsOf(values)))[output]!.data as Float32Array;
    return y.reduce((sum, v, i) => sum + v * factors[i]!, 0);
  };

  const model = testModel(graph);
  const wanted = Object.keys(graph.wanted);
  model.graph.outputs = [{ name: output, dataType: DataType.FLOAT, dims: null }];
  decompose(model, wanted);
  const builder = new GraphBuilder(model);
  const seedName = 'seed';
  model.graph.inputs.push({
    name: seedName,
    dataType: DataType.FLOAT,
    dims: Array.from({ length: first[output]!.dims.length }, () => null),
  });
  const gradients = appendGradients(builder, new Map([[output, seedName]]), wanted);
  model.graph.outputs = [...gradients.values()].map((name) => ({ name, dataType: DataType.FLOAT, dims: null }));
  const backward = await session(model);
  const results = await backward.run({
    ...feedsOf(point),
    [seedName]: new ort.Tensor('float32', factors, first[output]!.dims),
  });

  let worst = 0;
  for (const name of wanted) {
    const gradient = results[gradients.get(name)!]!;
    if (gradient.dims.join() !== sizes(graph.wanted[name]!).join()) {
      throw new Error(`The gradient of ${name} has the shape [${gradient.dims.join()}].`);
    }
    const data = gradient.data as Float32Array;
    const size = Math.sqrt(data.reduce((sum, g) => sum + g * g, 0));
    for (let trial = 0; trial < 3; trial++) {
      const direction = Float32Array.from({ length: data.length }, () => normal());
      const length = Math.sqrt(direction.reduce((sum, d) => sum + d * d, 0)) || 1;
      const moved = (sign: number): Values => ({
        ...point,
        [name]: point[name]!.map((x, i) => x + (sign * step * direction[i]!) / length),
      });
      const [high, low] = [moved(1), moved(-1)];
      const difference = (await loss(high)) - (await loss(low));
      let predicted = 0;
      // Against the difference the float32 numbers really have.
      for (let i = 0; i < data.length; i++) predicted += data[i]! * (high[name]![i]! - low[name]![i]!);
      worst = Math.max(worst, Math.abs(predicted - difference) / (2 * step * (size + 1e-3)));
    }
  }
  await run.release();
  await backward.release();
  return worst;
}
