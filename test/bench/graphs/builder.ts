import {
  floatAttribute,
  intAttribute,
  intsAttribute,
  makeNode,
  stringAttribute,
  tensorAttribute,
} from '../../../src/onnx/graph.js';
import { DataType, type Attribute, type Dim, type Model, type Node, type Tensor } from '../../../src/onnx/model.js';
import { newModel } from '../../../src/onnx/new-model.js';
import { computedData, float32Tensor, int64Tensor, rawTensor } from '../../../src/onnx/tensor.js';

/** Attribute values as plain numbers, lists or words; a float is marked because 1 and 1.0 look alike. */
export type Plain = number | readonly number[] | string | Tensor | { readonly float: number };

function attribute(value: Plain): Attribute {
  if (typeof value === 'number') return intAttribute(value);
  if (typeof value === 'string') return stringAttribute(value);
  if (Array.isArray(value)) return intsAttribute(value as readonly number[]);
  return 'float' in value ? floatAttribute(value.float) : tensorAttribute(value as Tensor);
}

/** One table of random numbers serves all weights: each starts at its own place, so that no two are equal. */
const tableLength = 1_048_573;
let table: Float32Array | null = null;

function randomTable(): Float32Array {
  if (table) return table;
  let state = 0x2545f491;
  table = Float32Array.from({ length: tableLength }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state / 2 ** 32 - 0.5) * Math.sqrt(12);
  });
  return table;
}

function hash(text: string, seed: number): number {
  let value = (seed * 2654435761 + 97) >>> 0;
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 16777619) >>> 0;
  return value;
}

/** Values of a random weight: zero mean, the given deviation, the same for the same name and seed. */
function randomBytes(name: string, seed: number, count: number, deviation: number, mean: number): Uint8Array {
  const random = randomTable();
  const values = new Float32Array(count);
  let from = hash(name, seed) % tableLength;
  for (let i = 0; i < count; i++) {
    values[i] = mean + deviation * (random[from] ?? 0);
    from = from + 1 === tableLength ? 0 : from + 1;
  }
  return new Uint8Array(values.buffer);
}

/**
 * Writes graphs the way exporters do: names, constants as nodes, shapes computed by nodes. Random weights are
 * computed when they are read, so that building costs nothing.
 */
export class GraphBuilder {
  private readonly nodes: Node[] = [];
  private readonly initializers = new Map<string, Tensor>();
  private readonly inputs: { name: string; dataType: number; dims: Dim[] }[] = [];
  private readonly outputs: { name: string; dataType: number; dims: Dim[] }[] = [];
  private readonly counts = new Map<string, number>();

  constructor(
    private readonly name: string,
    private readonly seed: number,
  ) {}

  /** Adds a node with one output and returns its name. */
  op(opType: string, inputs: readonly string[], attributes: Record<string, Plain> = {}, scope = ''): string {
    const output = this.ops(opType, inputs, 1, attributes, scope)[0];
    return output ?? '';
  }

  /** Adds a node with `count` outputs. */
  ops(
    opType: string,
    inputs: readonly string[],
    count: number,
    attributes: Record<string, Plain> = {},
    scope = '',
  ): string[] {
    const path = `${scope}/${opType}`;
    const number = this.counts.get(path) ?? 0;
    this.counts.set(path, number + 1);
    const name = number === 0 ? path : `${path}_${number}`;
    const outputs = Array.from({ length: count }, (_, index) => `${name}_output_${index}`);
    const encoded = Object.fromEntries(Object.entries(attributes).map(([key, value]) => [key, attribute(value)]));
    this.nodes.push(makeNode(opType, inputs, outputs, encoded, { name }));
    return outputs;
  }

  /** A random FLOAT weight. */
  weight(name: string, dims: readonly number[], deviation: number, mean = 0): string {
    const count = dims.reduce((product, size) => product * size, 1);
    const data = computedData(count * 4, () => randomBytes(name, this.seed, count, deviation, mean));
    this.initializers.set(name, { name, dataType: DataType.FLOAT, dims: [...dims], data });
    return name;
  }

  /** A positive random FLOAT vector (scales, variances). */
  positive(name: string, size: number): string {
    return this.weight(name, [size], 0.1, 1);
  }

  /** INT64 initializer. */
  indices(name: string, values: readonly number[], dims: readonly number[] = [values.length]): string {
    this.initializers.set(name, int64Tensor(name, dims, values));
    return name;
  }

  /** BOOL initializer from a rule over its flat index. */
  mask(name: string, dims: readonly number[], rule: (index: number) => boolean): string {
    const count = dims.reduce((product, size) => product * size, 1);
    const bytes = Uint8Array.from({ length: count }, (_, index) => (rule(index) ? 1 : 0));
    this.initializers.set(name, rawTensor(name, DataType.BOOL, dims, bytes));
    return name;
  }

  /** FLOAT Constant node. */
  float(value: number | readonly number[], scope = ''): string {
    const list = typeof value === 'number' ? [value] : value;
    const dims = typeof value === 'number' ? [] : [list.length];
    return this.op('Constant', [], { value: float32Tensor('', dims, Float32Array.from(list)) }, scope);
  }

  /** INT64 Constant node: a number makes a scalar, a list a vector. */
  int(value: number | readonly number[], scope = ''): string {
    const list = typeof value === 'number' ? [value] : value;
    return this.op(
      'Constant',
      [],
      { value: int64Tensor('', typeof value === 'number' ? [] : [list.length], list) },
      scope,
    );
  }

  /** Size of one axis as a scalar, as TorchScript exports it: Shape, then Gather. */
  size(value: string, axis: number, scope = ''): string {
    return this.op('Gather', [this.op('Shape', [value], {}, scope), this.int(axis, scope)], { axis: 0 }, scope);
  }

  /** Reshape to sizes that are numbers or computed scalars: Unsqueeze each, Concat, Reshape. */
  reshape(value: string, sizes: readonly (number | string)[], scope = ''): string {
    if (sizes.every((size) => typeof size === 'number'))
      return this.op('Reshape', [value, this.int(sizes, scope)], {}, scope);
    const parts = sizes.map((size) =>
      typeof size === 'number'
        ? this.int([size], scope)
        : this.op('Unsqueeze', [size, this.int([0], scope)], {}, scope),
    );
    return this.op('Reshape', [value, this.op('Concat', parts, { axis: 0 }, scope)], {}, scope);
  }

  input(name: string, dataType: number, dims: Dim[]): string {
    this.inputs.push({ name, dataType, dims });
    return name;
  }

  /** Lets a value be called `name` and makes it a graph output. */
  output(value: string, name: string, dataType: number, dims: Dim[]): void {
    for (const node of this.nodes) {
      node.outputs = node.outputs.map((output) => (output === value ? name : output));
      node.inputs = node.inputs.map((input) => (input === value ? name : input));
    }
    this.outputs.push({ name, dataType, dims });
  }

  finish(opset: number): Model {
    const { name, nodes, initializers, inputs, outputs } = this;
    return newModel({
      ...{ name, opset, nodes, inputs, outputs, weights: initializers.values() },
      producerName: 'snug-bench',
    });
  }
}
