import { floatAttribute, getFloat } from '../onnx/graph.js';
import { DataType, type Node, type Tensor } from '../onnx/model.js';
import { float32ToFloat16Bits, rawTensor, readFloat32 } from '../onnx/tensor.js';
import { unitIndices, segmentsOf, type Atom } from './axis-atoms.js';
import type { AxisGraph, WeightUse } from './axis-graph.js';
import type { Edits } from './rewrite.js';

/**
 * A Conv, Gemm or MatMul seen as `y = a W + b` with `W` of columns × outputs, in the model's original widths. A
 * column is one input feature (Gemm, MatMul) or one (channel, kernel position) pair of a patch (Conv).
 */
export interface LinearConsumer {
  use: WeightUse;
  /** Sizes of the kernel; empty for Gemm and MatMul. */
  kernel: readonly number[];
  /** Columns per index of the weight's input axis: 1, or the number of kernel positions. */
  columnsPerIndex: number;
  indices: number;
  outputs: number;
  /** Where an intercept can go: the node's own bias, an Add behind a MatMul, or nowhere. */
  bias: 'own' | 'added' | 'none';
  /** Value that holds `y` (behind the Add when there is one). */
  target: string;
  /** The Add node and its position, when `bias` is `added`. */
  add: { node: Node; at: number; constant: string } | null;
}

/** Null when the consumer's weight cannot be refitted: grouped, transposed elsewhere, on the left, not float. */
export function linearConsumer(graph: AxisGraph, use: WeightUse): LinearConsumer | null {
  const weight = graph.constant(use.operand);
  const { node } = use;
  if (weight === undefined || use.grouped || node.inputs[1] !== use.operand) return null;
  if (weight.dataType !== DataType.FLOAT && weight.dataType !== DataType.FLOAT16) return null;
  const outputs = weight.dims[use.outputAxis]!;
  const indices = weight.dims[use.inputAxis]!;
  const kernel = node.opType === 'Conv' ? weight.dims.slice(2) : [];
  const columnsPerIndex = kernel.reduce((product, dim) => product * dim, 1);
  const base = { use, kernel, columnsPerIndex, indices, outputs, target: node.outputs[0]!, add: null };
  if (node.opType === 'Conv' || node.opType === 'Gemm') {
    // One bias for all rows, known beforehand: anything else is no intercept a fit could move.
    const bias = node.inputs[2] ?? '';
    const dims = graph.constant(bias)?.dims;
    if (bias !== '' && (dims === undefined || dims.slice(0, -1).some((dim) => dim !== 1))) return null;
    return getFloat(node, 'alpha', 1) === 0 ? null : { ...base, bias: 'own' };
  }
  const add = followingBias(graph, node, outputs);
  if (add === null) return { ...base, bias: 'none' };
  return { ...base, bias: 'added', target: add.node.outputs[0]!, add };
}

function followingBias(graph: AxisGraph, node: Node, outputs: number): LinearConsumer['add'] {
  const users = graph.consumers(node.outputs[0]!);
  const add = users[0];
  if (users.length !== 1 || add?.opType !== 'Add' || graph.graph.outputs.some((o) => o.name === node.outputs[0])) {
    return null;
  }
  const constant = add.inputs.find((name) => name !== node.outputs[0]);
  const tensor = graph.constant(constant);
  if (constant === undefined || tensor?.dims.length !== 1 || tensor.dims[0] !== outputs) return null;
  return { node: add, at: graph.graph.nodes.indexOf(add), constant };
}

/** Column numbers of every unit of `leaf`. */
export function unitColumns(consumer: LinearConsumer, leaf: Atom, width: number): number[][] {
  const segments = segmentsOf(consumer.use.input, leaf);
  const k = consumer.columnsPerIndex;
  return Array.from({ length: width }, (_, unit) =>
    unitIndices(segments, unit).flatMap((index) => Array.from({ length: k }, (__, tap) => index * k + tap)),
  );
}

/** Offset in the stored weight of (column, output). */
function stored(consumer: LinearConsumer): (column: number, output: number) => number {
  const { columnsPerIndex: k, indices, outputs, use } = consumer;
  if (use.node.opType === 'Conv') return (column, output) => output * indices * k + column;
  return use.inputAxis === 0
    ? (column, output) => column * outputs + output
    : (column, output) => output * indices + column;
}

/** The weight as columns × outputs in float64, Gemm's alpha multiplied in. */
export function readWeights(graph: AxisGraph, edits: Edits, consumer: LinearConsumer): Float64Array {
  const at = stored(consumer);
  const values = readFloat32(currentWeight(graph, edits, consumer));
  const columns = consumer.indices * consumer.columnsPerIndex;
  const scale = getFloat(currentNode(edits, consumer), 'alpha', 1);
  const result = new Float64Array(columns * consumer.outputs);
  for (let column = 0; column < columns; column++) {
    for (let output = 0; output < consumer.outputs; output++) {
      result[column * consumer.outputs + output] = values[at(column, output)]! * scale;
    }
  }
  return result;
}

function currentNode(edits: Edits, consumer: LinearConsumer): Node {
  return edits.nodes.get(consumer.use.at) ?? consumer.use.node;
}

function currentWeight(graph: AxisGraph, edits: Edits, consumer: LinearConsumer): Tensor {
  const name = currentNode(edits, consumer).inputs[1]!;
  return edits.constants.get(name) ?? graph.constant(name)!;
}

/** The bias in float64, Gemm's beta multiplied in; zeros where there is none. That of the original node without `edits`. */
export function readBias(graph: AxisGraph, consumer: LinearConsumer, edits?: Edits): Float64Array {
  const { outputs, use, add } = consumer;
  const node = edits?.nodes.get(add?.at ?? use.at) ?? add?.node ?? use.node;
  const name = add === null ? node.inputs[2] : node.inputs.find((input) => input !== use.node.outputs[0]);
  const tensor = edits?.constants.get(name ?? '') ?? graph.constant(name);
  const bias = new Float64Array(outputs);
  if (tensor === undefined) return bias;
  const values = readFloat32(tensor);
  const scale = node.opType === 'Gemm' ? getFloat(node, 'beta', 1) : 1;
  return bias.map((_, output) => values[values.length === 1 ? 0 : output]! * scale);
}

/**
 * Puts new values for some columns (and the whole bias) into `edits`. Constants that other nodes use too, or that
 * are no initializers, are replaced by new ones for this node alone.
 */
export function writeRepair(
  graph: AxisGraph,
  edits: Edits,
  consumer: LinearConsumer,
  columns: readonly number[],
  repair: { weights: Float64Array; bias: Float64Array },
): void {
  const { use, outputs } = consumer;
  const at = stored(consumer);
  const old = currentWeight(graph, edits, consumer);
  const values = readFloat32(old);
  const node = currentNode(edits, consumer);
  const scale = getFloat(node, 'alpha', 1);
  if (scale !== 1) for (let i = 0; i < values.length; i++) values[i]! *= scale;
  columns.forEach((column, row) => {
    for (let output = 0; output < outputs; output++) {
      values[at(column, output)] = repair.weights[row * outputs + output]!;
    }
  });
  const inputs = [...node.inputs];
  const name = ownName(graph, edits, use.node, inputs[1]!, `${use.weight}_repaired`);
  edits.constants.set(name, floatTensor(name, old.dims, values, old.dataType));
  knowAxes(graph, name, edits.constants.get(name)!, graph.axes(use.operand)!);
  inputs[1] = name;
  const bias = Float32Array.from(repair.bias);
  const biasAxes = [use.output];
  if (consumer.bias === 'own') {
    // A bias written down as [1, outputs] or as one number keeps its axes; the new vector needs a name of its own.
    const given = graph.constant(inputs[2])?.dims.length === 1 && graph.constant(inputs[2])?.dims[0] === outputs;
    const biasName = ownName(graph, edits, use.node, given ? inputs[2]! : '', `${use.weight}_repaired_bias`);
    edits.constants.set(biasName, floatTensor(biasName, [outputs], bias, old.dataType));
    knowAxes(graph, biasName, edits.constants.get(biasName)!, biasAxes);
    inputs[2] = biasName;
  }
  if (consumer.add !== null) {
    const { node: add, at: addAt, constant } = consumer.add;
    const current = edits.nodes.get(addAt) ?? add;
    const used = current.inputs.find((input) => input !== use.node.outputs[0]) ?? constant;
    const biasName = ownName(graph, edits, add, used, `${use.weight}_repaired_bias`);
    edits.constants.set(biasName, floatTensor(biasName, [outputs], bias, old.dataType));
    knowAxes(graph, biasName, edits.constants.get(biasName)!, biasAxes);
    edits.nodes.set(addAt, { ...current, inputs: current.inputs.map((input) => (input === used ? biasName : input)) });
  }
  const attributes = new Map(node.attributes);
  if (node.opType === 'Gemm') attributes.set('alpha', floatAttribute(1)).set('beta', floatAttribute(1));
  edits.nodes.set(use.at, { ...node, inputs, attributes });
}

/** Tells the graph the axes of a constant it does not have yet; those it has keep their dense values there. */
function knowAxes(graph: AxisGraph, name: string, tensor: Tensor, axes: Atom[]): void {
  if (graph.constant(name) === undefined) graph.setConstant(name, tensor, axes);
}

/** `name` when it is an initializer only `node` uses, else a new name. */
function ownName(graph: AxisGraph, edits: Edits, node: Node, name: string, base: string): string {
  if (edits.constants.has(name)) return name;
  const users = graph.consumers(name);
  if (graph.graph.initializers.has(name) && users.length === 1 && users[0] === node) return name;
  let fresh = base;
  for (let count = 2; graph.constant(fresh) !== undefined || graph.axes(fresh) !== null; count++) {
    fresh = `${base}_${count}`;
  }
  return fresh;
}

function floatTensor(name: string, dims: readonly number[], values: Float32Array, dataType: number): Tensor {
  const array = dataType === DataType.FLOAT16 ? float32ToFloat16Bits(values) : values;
  return rawTensor(name, dataType, dims, new Uint8Array(array.buffer, array.byteOffset, array.byteLength).slice());
}
