import { floatAttribute, intAttribute, intsAttribute, makeNode } from '../../../src/onnx/graph.js';
import { DataType, type Attribute, type Model, type Node, type Tensor } from '../../../src/onnx/model.js';
import { float32Tensor, int64Tensor } from '../../../src/onnx/tensor.js';

/** Seeded numbers in [0, 1): small linear congruential generator, good enough to vary graphs. */
export function numbers(seed: number): () => number {
  let state = (seed * 2654435761 + 12345) >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Builds graphs op by op with random weights. Values are named v0, v1, … */
export class GraphBuilder {
  readonly nodes: Node[] = [];
  readonly initializers = new Map<string, Tensor>();
  readonly random: () => number;
  readonly #biases = new Map<number, string>();
  #count = 0;

  constructor(seed: number) {
    this.random = numbers(seed);
  }

  pick<T>(options: readonly T[]): T {
    return options[Math.floor(this.random() * options.length)]!;
  }

  weight(dims: number[], scale = 1 / Math.sqrt(dims.slice(1).reduce((a, b) => a * b, 1) || 1), offset = 0): string {
    const name = `w${this.#count++}`;
    const size = dims.reduce((a, b) => a * b, 1);
    const values = Float32Array.from({ length: size }, () => offset + (this.random() - 0.5) * 2 * scale);
    this.initializers.set(name, float32Tensor(name, dims, values));
    return name;
  }

  ints(values: number[]): string {
    const name = `i${this.#count++}`;
    this.initializers.set(name, int64Tensor(name, [values.length], values));
    return name;
  }

  /** `domain:Operator` for operators that are not of ai.onnx. */
  op(operator: string, inputs: string[], attributes: Record<string, Attribute> = {}, outputs = 1): string[] {
    const names = Array.from({ length: outputs }, () => `v${this.#count++}`);
    const [opType, domain] = operator.split(':').reverse() as [string, string?];
    this.nodes.push(makeNode(opType, inputs, names, attributes, { name: `n${this.#count++}`, domain: domain ?? '' }));
    return names;
  }

  scalar(value: number): string {
    const name = `s${this.#count++}`;
    this.initializers.set(name, float32Tensor(name, [], Float32Array.of(value)));
    return name;
  }

  /** A vector; sometimes one that another layer of the width uses too, as exporters merge equal constants. */
  bias(size: number): string {
    const known = this.#biases.get(size);
    if (known !== undefined && this.random() < 0.3) return known;
    const made = this.weight([size], 0.3);
    this.#biases.set(size, made);
    return made;
  }

  /** One integer without an axis, as Gather takes to drop one. */
  integer(value: number): string {
    const name = `i${this.#count++}`;
    this.initializers.set(name, int64Tensor(name, [], [value]));
    return name;
  }

  conv(x: string, from: number, to: number, group = 1): string {
    const k = this.pick([1, 3]);
    const inputs = [x, this.weight([to, from / group, k, k])];
    if (this.random() < 0.7) inputs.push(this.weight([to], 0.5));
    const pad = (k - 1) / 2;
    return this.op('Conv', inputs, {
      kernel_shape: intsAttribute([k, k]),
      pads: intsAttribute([pad, pad, pad, pad]),
      group: intAttribute(group),
    })[0]!;
  }

  batchNorm(x: string, channels: number): string {
    const vectors = [1, 0, 0, 1].map((offset) => this.weight([channels], 0.4, offset));
    return this.op('BatchNormalization', [x, ...vectors], { epsilon: floatAttribute(1e-5) })[0]!;
  }

  activation(x: string): string {
    return this.op(this.pick(['Relu', 'Sigmoid', 'Tanh', 'HardSwish', 'Identity', 'Softplus']), [x])[0]!;
  }

  model(
    output: string,
    inputDims: (number | string)[],
    outputDims: (number | string)[],
    { opset = 17, dataType = DataType.FLOAT as number } = {},
  ): Model {
    return {
      irVersion: 9,
      producerName: 'test',
      producerVersion: '',
      domain: '',
      modelVersion: 0,
      docString: '',
      opsets: new Map([
        ['', opset],
        ['com.microsoft', 1],
      ]),
      graph: {
        name: 'random',
        nodes: this.nodes,
        initializers: this.initializers,
        sparseInitializers: [],
        inputs: [{ name: 'x', dataType, dims: inputDims }],
        outputs: [{ name: output, dataType: DataType.FLOAT, dims: outputDims }],
        valueInfo: new Map(),
      },
      metadata: new Map(),
      functions: [],
      unknown: [],
      source: null,
    };
  }
}

const side = 6;

/** One random block: takes and gives [N, channels, side, side]; returns the new channel count. */
function block(g: GraphBuilder, x: string, channels: number): [string, number] {
  const width = g.pick([4, 6, 8]);
  const kind = g.pick([
    'plain',
    'norm',
    'depthwise',
    'grouped',
    'residual',
    'gated',
    'concat',
    'split',
    'squeeze',
    'slope',
  ]);
  switch (kind) {
    case 'plain':
      return [g.activation(g.conv(x, channels, width)), width];
    case 'norm':
      return [
        g.op('MaxPool', [g.activation(g.batchNorm(g.conv(x, channels, width), width))], {
          kernel_shape: intsAttribute([3, 3]),
          pads: intsAttribute([1, 1, 1, 1]),
        })[0]!,
        width,
      ];
    case 'depthwise': {
      const wide = g.activation(g.conv(x, channels, width));
      const multiplier = g.pick([1, 2]);
      return [g.activation(g.conv(wide, width, width * multiplier, width)), width * multiplier];
    }
    case 'grouped': {
      const wide = g.activation(g.conv(x, channels, 8));
      return [g.activation(g.conv(wide, 8, 12, 2)), 12];
    }
    case 'residual': {
      const inner = g.activation(g.conv(x, channels, width));
      return [g.activation(g.op('Add', [x, g.conv(inner, width, channels)])[0]!), channels];
    }
    case 'gated': {
      const gate = g.op('Sigmoid', [g.conv(x, channels, width)])[0]!;
      return [g.op('Mul', [gate, g.conv(x, channels, width)])[0]!, width];
    }
    case 'concat': {
      const parts = [g.activation(g.conv(x, channels, width)), g.activation(g.conv(x, channels, 5))];
      return [g.op('Concat', parts, { axis: intAttribute(1) })[0]!, width + 5];
    }
    case 'split': {
      const wide = g.conv(x, channels, 2 * width);
      const [a, b] = g.op('Split', [wide], { axis: intAttribute(1) }, 2);
      return [g.op('Mul', [g.op('Sigmoid', [a!])[0]!, b!])[0]!, width];
    }
    case 'squeeze': {
      const wide = g.activation(g.conv(x, channels, width));
      const pooled = g.op('GlobalAveragePool', [wide])[0]!;
      const small = g.op('Relu', [g.conv(pooled, width, 4)])[0]!;
      const scale = g.op('Sigmoid', [g.conv(small, 4, width)])[0]!;
      return [g.op('Mul', [wide, scale])[0]!, width];
    }
    default:
      return [g.op('PRelu', [g.conv(x, channels, width), g.weight([width, 1, 1], 0.3)])[0]!, width];
  }
}

/** From [N, C, H, W] to [N, features], in one of the ways exporters do it. */
function flatten(g: GraphBuilder, x: string, channels: number): [string, number] {
  const all = channels * side * side;
  switch (g.pick(['flatten', 'reshape', 'keep-batch', 'pooled', 'dynamic'])) {
    case 'flatten':
      return [g.op('Flatten', [x])[0]!, all];
    case 'reshape':
      return [g.op('Reshape', [x, g.ints([-1, all])])[0]!, all];
    case 'keep-batch':
      return [g.op('Reshape', [x, g.ints([0, -1])])[0]!, all];
    case 'dynamic': {
      const batch = g.op('Gather', [g.op('Shape', [x])[0]!, g.ints([0])], { axis: intAttribute(0) })[0]!;
      const target = g.op('Concat', [batch, g.ints([-1])], { axis: intAttribute(0) })[0]!;
      return [g.op('Reshape', [x, target])[0]!, all];
    }
    default:
      return [g.op('Flatten', [g.op('GlobalAveragePool', [x])[0]!])[0]!, channels];
  }
}

/** A random convolutional front and a random MLP behind it; input x is [batch, 3, 6, 6], output [batch, 5]. */
export function randomModel(seed: number): Model {
  const g = new GraphBuilder(seed);
  let [x, channels]: [string, number] = ['x', 3];
  for (let i = 1 + Math.floor(g.random() * 4); i > 0; i--) [x, channels] = block(g, x, channels);
  let features: number;
  [x, features] = flatten(g, x, channels);
  for (let i = Math.floor(g.random() * 3); i > 0; i--) {
    const width = g.pick([6, 10]);
    [x, features] = [layer(g, x, features, width), width];
  }
  const output = g.op('Gemm', [x, g.weight([5, features]), g.weight([5])], { transB: intAttribute(1) })[0]!;
  return g.model(output, ['batch', 3, side, side], ['batch', 5]);
}

function layer(g: GraphBuilder, x: string, from: number, to: number): string {
  switch (g.pick(['gemm', 'gemm-alpha', 'matmul', 'norm', 'gated', 'transposed'])) {
    case 'gemm':
      return g.activation(g.op('Gemm', [x, g.weight([to, from]), g.weight([to])], { transB: intAttribute(1) })[0]!);
    case 'gemm-alpha':
      return g.activation(
        g.op('Gemm', [x, g.weight([from, to], 0.3), g.weight([1, to])], {
          alpha: floatAttribute(0.5),
          beta: floatAttribute(2),
        })[0]!,
      );
    case 'matmul':
      return g.activation(g.op('Add', [g.op('MatMul', [x, g.weight([from, to], 0.3)])[0]!, g.weight([to])])[0]!);
    case 'norm': {
      const made = g.op('MatMul', [x, g.weight([from, to], 0.3)])[0]!;
      return g.op('LayerNormalization', [made, g.weight([to], 0.3, 1), g.weight([to])], { axis: intAttribute(-1) })[0]!;
    }
    case 'gated': {
      const gate = g.op('Sigmoid', [g.op('MatMul', [x, g.weight([from, to], 0.3)])[0]!])[0]!;
      return g.op('Mul', [gate, g.op('MatMul', [x, g.weight([from, to], 0.3)])[0]!])[0]!;
    }
    default: {
      const turned = g.op('Transpose', [g.weight([to, from], 0.3)], { perm: intsAttribute([1, 0]) })[0]!;
      return g.activation(g.op('MatMul', [x, turned])[0]!);
    }
  }
}
