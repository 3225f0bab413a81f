import { SnugError } from '../contract/errors.js';
import { getInt, intAttribute } from '../onnx/attribute.js';
import { DataType, type Graph, type Model, type ValueInfo } from '../onnx/model.js';
import { bodiesOf, topologicalOrder } from '../onnx/topology.js';
import { decompose } from './decompose.js';
import { unpackFrozenWeights } from './decompositions/quantized.js';
import { appendGradients } from './differentiate.js';
import { forwardGraph, type InputDims } from './forward.js';
import { batchSymbol, GraphBuilder } from './graph-builder.js';

/** A graph that tells how strongly each weight acts on the answers. */
export interface EnergyGraph {
  model: Model;
  /** Inputs beside the model's own: for each output a value of its shape, to be filled with ±1 at random. */
  signs: ValueInfo[];
  /** Weights the answers depend on, in the order of `energies`. */
  weights: string[];
  /** Output [weights]; see {@link buildEnergyGraph}. */
  energies: string;
  /** Output [1]: sum of the squares of the answers. */
  signal: string;
}

export interface EnergyRequest {
  inputDims: InputDims;
  /** Float answers. */
  outputs: readonly string[];
  /** Float32 initializers, each with the axis along which its values share scales. */
  weights: ReadonlyMap<string, number>;
}

/** Values that share a scale where the axis can be divided so. */
const block = 32;

/**
 * Makes the graph whose run gives, for every weight, Σ (g · d)² with the gradient g of Σ sign · answer and errors d that
 * are as large as the largest value of their block, scaled so that the errors together have the power of the weight. With
 * signs that are ±1 independently its expectation is what such errors, independent of each other, add to the squared
 * error of the answers, to first order (Hutchinson 1990: the diagonal of JᵀJ). One run serves all weights. A table whose
 * rows are only looked up is followed through the rows a run reads, so that no gradient of its own size is needed; a row
 * read twice then counts as two.
 *
 * @param model not changed
 * @throws SnugError E_NOT_SUPPORTED for operators without a rule and shapes that cannot be worked out, E_DATA_SHAPE
 */
export function buildEnergyGraph(model: Model, { inputDims, outputs, weights }: EnergyRequest): EnergyGraph {
  const base = forwardGraph(model, { inputDims, outputs });
  base.graph.nodes = topologicalOrder(base.graph);
  const wanted = [...weights.keys()].filter((name) => base.graph.initializers.get(name)?.dataType === DataType.FLOAT);
  decompose(base, wanted);
  unpackFrozenWeights(base.graph);
  const builder = new GraphBuilder(base);
  const signs = outputs.map((output): ValueInfo => {
    const { sizes, open } = builder.extent(output);
    const dims = sizes.map((size, axis) => (open[axis] ? batchSymbol : size));
    return { name: builder.name('signs'), dataType: DataType.FLOAT, dims };
  });
  const seeds = new Map(outputs.map((output, at) => [output, signs[at]!.name]));
  const read = new Map(wanted.map((name) => [rowsReadOf(base.graph, name, weights.get(name)!) ?? name, name]));
  const gradients = appendGradients(builder, seeds, [...read.keys()]);
  if (gradients.size === 0) {
    throw new SnugError('E_NOT_SUPPORTED', 'The answers depend on none of the weights.');
  }
  const energies = builder.emit(
    'Concat',
    [...gradients].map(([value, gradient]) => {
      const weight = read.get(value)!;
      if (value === weight) return energyOf(builder, weight, weights.get(weight)!, gradient);
      const width = builder.extent(weight).sizes[1]!;
      const flat = builder.reshape(value, [-1, width]);
      return energyOf(builder, flat, 1, gradient, [-1, width]);
    }),
    { axis: intAttribute(0) },
  );
  const signal = outputs.map((output) => sumOfSquares(builder, output)).reduce((a, b) => builder.add(a, b));
  base.graph.inputs.push(...signs);
  base.graph.outputs = [energies, signal].map((name) => ({ name, dataType: DataType.FLOAT, dims: null }));
  return { model: base, signs, weights: [...gradients.keys()].map((value) => read.get(value)!), energies, signal };
}

/** One number in a vector. */
function sumOfSquares(builder: GraphBuilder, value: string): string {
  return builder.reshape(builder.emit('ReduceSumSquare', [value], { keepdims: intAttribute(0) }), [1]);
}

/** What the only reader of a weight takes from it, where that is rows of a table in blocks along its rows; else null. */
function rowsReadOf({ nodes, outputs, initializers }: Graph, weight: string, axis: number): string | null {
  const readers = nodes.filter((node) => node.inputs.includes(weight) || bodiesOf(node).length > 0);
  const [reader] = readers;
  const looksUp =
    readers.length === 1 &&
    reader!.opType === 'Gather' &&
    reader!.domain === '' &&
    reader!.inputs[0] === weight &&
    getInt(reader!, 'axis', 0) === 0;
  const table = initializers.get(weight)!.dims.length === 2 && axis === 1;
  return looksUp && table && outputs.every(({ name }) => name !== weight) ? reader!.outputs[0]! : null;
}

function energyOf(
  builder: GraphBuilder,
  weight: string,
  axis: number,
  gradient: string,
  sizes: readonly number[] = builder.extent(weight).sizes,
): string {
  const length = sizes[axis] ?? 1;
  const shared = length % block === 0 ? block : length;
  const blocks = [...sizes.slice(0, axis), length / shared, shared, ...sizes.slice(axis + 1)];
  const largest = builder.reduceMax(builder.emit('Abs', [builder.reshape(weight, blocks)]), axis + 1);
  const errors = builder.scale(sumOfSquares(builder, largest), shared, weight);
  const share = builder.div(sumOfSquares(builder, weight), errors);
  return builder.mul(sumOfSquares(builder, builder.mul(builder.reshape(gradient, blocks), largest)), share);
}
