import {
  bodiesOf,
  cloneModel,
  constantValue,
  dropInitializerInputs,
  getInts,
  indexGraph,
  walkGraphs,
} from '../onnx/graph.js';
import type { Graph, Model, Node, Tensor } from '../onnx/model.js';
import { defaultBindings, inferShapes, type ShapeResult } from '../onnx/shape.js';
import { elementCount } from '../onnx/tensor.js';
import { dropAliases } from './aliases.js';
import { foldArrangedWeights, type KnownNumbers } from './arranged.js';
import { unpackAttention } from './attention.js';
import { floatBytes } from './floats.js';

/** What an operator does with a weight; decides which encodings exist for it. */
export type WeightRole =
  | 'matmul'
  /** The left matrix of a MatMul or Gemm. */
  | 'matmul-left'
  /** Matrices stacked along leading dimensions, on either side of a MatMul. */
  | 'matmul-stack'
  | 'gemm'
  | 'conv'
  | 'conv-transpose'
  | 'gather'
  | 'lstm'
  | 'other';

/** One place where a weight enters an operator. */
export interface WeightUse {
  graph: Graph;
  node: Node;
  /** Index of the input. */
  input: number;
  role: WeightRole;
  /** A constant 2-D Transpose between the weight and the operator, which quantization absorbs; else null. */
  transpose: Node | null;
}

/** A float weight with everything that reads it. */
export interface WeightSite {
  /** Unique in the model: the tensor's name, qualified by its graph where a subgraph repeats it. */
  name: string;
  tensor: Tensor;
  /** Graph that holds the initializer. */
  owner: Graph;
  uses: WeightUse[];
  /** Set when the weight cannot be replaced whatever reads it. */
  fixed: string | null;
}

/** By operator and input. */
const roles: Record<string, readonly (WeightRole | undefined)[]> = {
  MatMul: ['matmul-left', 'matmul'],
  Gemm: ['matmul-left', 'gemm'],
  Conv: [undefined, 'conv'],
  ConvTranspose: [undefined, 'conv-transpose'],
  Gather: ['gather'],
  LSTM: [undefined, 'lstm', 'lstm'],
  GRU: [undefined, 'lstm', 'lstm'],
  RNN: [undefined, 'lstm', 'lstm'],
};

function roleOf(node: Node, input: number, { dims }: Tensor): WeightRole {
  const known = node.domain === '' || node.domain === 'ai.onnx' ? roles[node.opType]?.[input] : undefined;
  if (known === undefined) return 'other';
  if (node.opType !== 'MatMul' || dims.length === 2) return known;
  return dims.length > 2 ? 'matmul-stack' : 'other';
}

/** A weight is listed from this many elements on, or when it has two or more dimensions. */
const listedElements = 1024;

interface Scope {
  graph: Graph;
  sites: Map<string, WeightSite>;
  /** Value → constant Transpose that makes it from a weight of an enclosing scope. */
  transposed: Map<string, { site: WeightSite; node: Node }>;
  outer: Scope | null;
}

/**
 * Every float weight of a model, subgraphs included, with its uses. Initializers only: constants inside
 * Constant nodes must have been hoisted before. A use from a nested graph counts as a use of the outer weight.
 */
export function collectSites(model: Model): WeightSite[] {
  const found: WeightSite[] = [];
  const taken = new Set<string>();
  const walk = (graph: Graph, outer: Scope | null): void => {
    const scope: Scope = { graph, sites: new Map(), transposed: new Map(), outer };
    const inputs = new Set(graph.inputs.map((input) => input.name));
    for (const tensor of graph.initializers.values()) {
      if (floatBytes(tensor.dataType) === null || !isListed(tensor)) continue;
      let name = tensor.name;
      for (let copy = 2; taken.has(name); copy++) name = `${tensor.name} (${graph.name} ${copy})`;
      taken.add(name);
      const fixed = inputs.has(tensor.name) ? 'the caller may replace it (it is also a graph input)' : null;
      const site: WeightSite = { name, tensor, owner: graph, uses: [], fixed };
      scope.sites.set(tensor.name, site);
      found.push(site);
    }
    for (const node of graph.nodes) {
      node.inputs.forEach((value, input) => addUse(scope, graph, node, value, input));
      for (const body of bodiesOf(node)) walk(body, scope);
    }
    for (const output of graph.outputs) {
      const site = lookup(scope, output.name)?.site;
      if (site !== undefined) site.fixed = 'it is itself an output of the graph';
    }
  };
  walk(model.graph, null);
  return found;
}

function lookup(scope: Scope, value: string): { site: WeightSite; transpose: Node | null } | null {
  for (let at: Scope | null = scope; at !== null; at = at.outer) {
    const site = at.sites.get(value);
    if (site !== undefined) return { site, transpose: null };
    const transposed = at.transposed.get(value);
    if (transposed !== undefined) return { site: transposed.site, transpose: transposed.node };
  }
  return null;
}

function addUse(scope: Scope, graph: Graph, node: Node, value: string, input: number): void {
  if (value === '') return;
  const hit = lookup(scope, value);
  if (hit === null) return;
  const { site, transpose } = hit;
  if (transpose === null && isMatrixTranspose(node, site.tensor)) {
    // Counted through the nodes that read the transposed weight; a graph output of it pins the weight.
    scope.transposed.set(node.outputs[0]!, { site, node });
    return;
  }
  const role = roleOf(node, input, site.tensor);
  // A product of two constants keeps its left one: the node is rewritten for the right one.
  const both = role === 'matmul-left' && lookup(scope, node.inputs[1] ?? '') !== null;
  site.uses.push({ graph, node, input, role: both ? 'other' : role, transpose });
}

function isMatrixTranspose(node: Node, tensor: Tensor): boolean {
  if (node.opType !== 'Transpose' || node.domain !== '' || tensor.dims.length !== 2) return false;
  return getInts(node, 'perm', [1, 0])[0] === 1;
}

/**
 * Whether weights are on the list of inputs because everything was: up to IR version 3 all initializers had to be
 * there, as constants, and exporters long went on to list them. Where only some are, a caller may mean to set those.
 */
function listsAllAsInputs({ irVersion, graph }: Model): boolean {
  if (irVersion < 4) return true;
  const inputs = new Set(graph.inputs.map(({ name }) => name));
  return [...graph.initializers.values()].every(
    (tensor) => inputs.has(tensor.name) || floatBytes(tensor.dataType) === null || !isListed(tensor),
  );
}

/**
 * Turns Constant nodes that hold a weight (same bounds as {@link collectSites}) into initializers of their
 * graph, in place, so that every weight has one form; also what a graph makes of weights ({@link foldArrangedWeights})
 * or holds inside a fused operator ({@link unpackAttention}), weights of other names ({@link dropAliases}), and those that an old exporter listed as inputs like everything else.
 */
export function hoistConstants(model: Model): void {
  if (listsAllAsInputs(model)) dropInitializerInputs(model);
  const shapes = lazyShapes(model);
  const numbers: KnownNumbers = (value) => {
    const symbols = shapes().constants.get(value)?.symbols ?? [null];
    return symbols.every((symbol) => typeof symbol === 'number') ? symbols : null;
  };
  unpackAttention(model.graph, model.opsets.get('') ?? 0, (value) => shapes().symbols.get(value) ?? null);
  walkGraphs(model.graph, (graph) => {
    const index = indexGraph(graph);
    const outputs = index.outputs;
    graph.nodes = graph.nodes.filter((node) => {
      const name = node.outputs[0];
      if (node.opType !== 'Constant' || node.domain !== '' || name === undefined || outputs.has(name)) return true;
      const tensor = constantValue(graph, index, name);
      if (tensor === null || floatBytes(tensor.dataType) === null || !isListed(tensor)) return true;
      graph.initializers.set(name, { ...tensor, name });
      return false;
    });
    dropAliases(graph);
    foldArrangedWeights(graph, graph === model.graph ? numbers : undefined);
  });
}

/** Shapes of a model, inferred when first asked for. */
function lazyShapes(model: Model): () => ShapeResult {
  let shapes: ShapeResult | null = null;
  return () => (shapes ??= inferShapes(model, defaultBindings(model, 1).dims));
}

function isListed(tensor: Tensor): boolean {
  return tensor.dims.length >= 2 || elementCount(tensor.dims) >= listedElements;
}

/** Nodes of the main graph that compute with a float weight, in the order of the graph. */
export function weightReaders(model: Model): { weight: string; node: Node }[] {
  const clone = cloneModel(model);
  hoistConstants(clone);
  const order = new Map(clone.graph.nodes.map((node, at) => [node, at]));
  return collectSites(clone)
    .flatMap(({ name, uses }) =>
      uses.filter(({ graph }) => graph === clone.graph).map(({ node }) => ({ weight: name, node })),
    )
    .sort((a, b) => order.get(a.node)! - order.get(b.node)!);
}
