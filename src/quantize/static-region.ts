import { constantValue, getInt, getInts, indexGraph, type GraphIndex } from '../onnx/graph.js';
import type { Graph, Node } from '../onnx/model.js';
import { readNumbers } from '../onnx/tensor.js';
import type { WeightSite } from './sites.js';

/** Operators onnxruntime's CPU provider computes on 8-bit values when Q/DQ pairs surround them. */
const integerOperators = new Set(['Add', 'Mul', 'Concat', 'Sigmoid', 'LeakyRelu', 'AveragePool', 'GlobalAveragePool']);

/** Operators that only move values: their output must keep the scale of their input. */
const movingOperators = new Set(['MaxPool', 'Reshape', 'Flatten', 'Transpose', 'Squeeze', 'Unsqueeze']);

/** Which activations of a graph are held in 8 bits. */
export interface StaticRegion {
  values: Set<string>;
  /** Value → the value whose range it must share. */
  sameRange: Map<string, string>;
}

/**
 * The activations to quantize around Conv, Gemm and MatMul nodes with static int8 weights: their inputs, the
 * outputs of Conv (after Relu or Clip, which the 8-bit range replaces), and on through operators that have an
 * 8-bit kernel, so that between two such nodes nothing is widened. Other operators stay float: a Q/DQ pair
 * around one that does not fuse would only add work.
 */
export function staticRegion(graph: Graph, nodes: ReadonlySet<Node>): StaticRegion {
  const index = indexGraph(graph);
  const values = new Set<string>();
  const sameRange = new Map<string, string>();
  for (const node of nodes) {
    values.add(node.inputs[0]!);
    if (node.opType === 'Conv') values.add(activationOutput(graph, index, node));
  }
  // Nodes are in topological order, so one pass carries the region through.
  for (const node of graph.nodes) {
    if (node.domain !== '') continue;
    if (movingOperators.has(node.opType)) {
      const output = node.outputs[0]!;
      if (!values.has(node.inputs[0]!) || node.outputs.length > 1) continue;
      values.add(output);
      sameRange.set(output, node.inputs[0]!);
    } else if (integerOperators.has(node.opType) && node.inputs.every((input) => values.has(input))) {
      values.add(activationOutput(graph, index, node));
    }
  }
  return { values, sameRange };
}

/** The value a node's result is held in: behind a Relu or a constant Clip when that is its only reader. */
export function activationOutput(graph: Graph, index: GraphIndex, node: Node): string {
  const output = node.outputs[0]!;
  const consumers = index.consumers.get(output) ?? [];
  const [only] = consumers;
  if (only === undefined || consumers.length > 1 || only.captured || index.outputs.has(output)) return output;
  const { node: next } = only;
  if (next.domain !== '') return output;
  const clips =
    next.opType === 'Clip' &&
    next.inputs.slice(1).every((name) => name === '' || constantValue(graph, index, name) !== null);
  return next.opType === 'Relu' || clips ? next.outputs[0]! : output;
}

/**
 * Rewrites ReduceMean over all spatial axes of a Conv's result as GlobalAveragePool, which has an 8-bit kernel
 * (exporters write `x.mean([2, 3])` that way). Only where the axes are known constants and kept as size 1.
 */
export function poolSpatialMeans(graph: Graph, sites: readonly WeightSite[]): void {
  const index = indexGraph(graph);
  const ranks = convolutionRanks(graph, sites);
  for (const node of graph.nodes) {
    if (node.opType !== 'ReduceMean' || node.domain !== '' || getInt(node, 'keepdims', 1) === 0) continue;
    const rank = ranks.get(node.inputs[0]!);
    const axes = reducedAxes(graph, index, node);
    if (rank === undefined || axes === null) continue;
    const spatial = new Set(axes.map((axis) => (axis < 0 ? axis + rank : axis)));
    if (spatial.size !== rank - 2 || [...spatial].some((axis) => axis < 2)) continue;
    node.opType = 'GlobalAveragePool';
    node.inputs.length = 1;
    node.attributes.clear();
  }
}

/** Ranks of the values that Conv results flow to through operators that keep the rank. */
function convolutionRanks(graph: Graph, sites: readonly WeightSite[]): Map<string, number> {
  const ranks = new Map<string, number>();
  for (const { tensor, uses } of sites) {
    for (const { node, role } of uses) if (role === 'conv') ranks.set(node.outputs[0]!, tensor.dims.length);
  }
  const oneInput = new Set(['Relu', 'Clip', 'Sigmoid', 'LeakyRelu', 'MaxPool', 'AveragePool']);
  const allInputs = new Set(['Add', 'Mul', 'Concat']);
  for (const node of graph.nodes) {
    if (node.domain !== '' || !(oneInput.has(node.opType) || allInputs.has(node.opType))) continue;
    const rank = ranks.get(node.inputs[0]!);
    if (rank === undefined) continue;
    const same = oneInput.has(node.opType) || node.inputs.every((input) => ranks.get(input) === rank);
    if (same) ranks.set(node.outputs[0]!, rank);
  }
  return ranks;
}

function reducedAxes(graph: Graph, index: GraphIndex, node: Node): readonly number[] | null {
  const listed = getInts(node, 'axes', null);
  if (listed !== null) return listed;
  const tensor = node.inputs[1] === undefined ? null : constantValue(graph, index, node.inputs[1]);
  return tensor === null ? null : readNumbers(tensor);
}
