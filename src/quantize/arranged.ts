import { constantValue, getInt, getInts, indexGraph, removeDeadNodesAndInitializers } from '../onnx/graph.js';
import type { GraphIndex } from '../onnx/graph.js';
import { DataType, type Graph, type Node, type Tensor, type TensorData } from '../onnx/model.js';
import { elementCount, readFloat32, readNumbers } from '../onnx/tensor.js';
import { cutData, joinedData, keptData } from './arranged-data.js';
import { combine, isArithmetic, norm, permuted, type Computed } from './constant-arithmetic.js';
import { floatBytes } from './floats.js';

/** A constant that a graph makes of weights. */
interface Arranged {
  dataType: number;
  dims: number[];
  data: TensorData;
  /** Whether its bytes are computed all together. */
  together: boolean;
  /** Says what is computed, of which data: the same for the same. */
  key: string;
  /** Nodes that do it, and the constants at its start. */
  nodes: Node[];
  weights: Tensor[];
}

/** The numbers of a small value that are the same whatever the model is fed; null where they are not known. */
export type KnownNumbers = (value: string) => readonly number[] | null;

interface Scope {
  graph: Graph;
  index: GraphIndex;
  known: KnownNumbers;
}

/** Inputs of operators where a weight may be made of constants. */
const weightInputs: Readonly<Record<string, readonly number[]>> = {
  LSTM: [1, 2],
  GRU: [1, 2],
  RNN: [1, 2],
  MatMul: [0, 1],
  Gemm: [0, 1],
  Conv: [1],
  ConvTranspose: [1],
  Gather: [0],
};

/** Constants below this size may be read elsewhere, too: kept twice they cost nothing worth sparing. */
const smallElements = 1024;

/**
 * Computes weights that a graph makes of other constants, in place: as weights of their own under the name of the
 * value they were, they can be quantized. Cut and joined ones (how PyTorch's newer exporter orders the gates of
 * recurrent layers and parts the projections of attention), and those it scales (weight normalization). Left alone
 * where anything else reads a part of it, or where it would take more room than what it is made of. A matrix that is
 * transposed and nothing more stays as it is: quantization absorbs the Transpose.
 * @param known numbers of values that follow from shapes alone: PyTorch's older exporter cuts where those say.
 */
export function foldArrangedWeights(graph: Graph, known: KnownNumbers = () => null): void {
  const index = indexGraph(graph);
  const folded = new Map<string, Arranged>();
  for (const { opType, domain, inputs } of graph.nodes) {
    if (domain !== '') continue;
    for (const input of weightInputs[opType] ?? []) {
      const name = inputs[input] ?? '';
      if (folded.has(name) || graph.initializers.has(name)) continue;
      const made = arrange({ graph, index, known }, name);
      if (made === null || made.nodes.length === 0 || isPlainTranspose(made) || grows(made)) continue;
      folded.set(name, made);
    }
  }
  keepPrivate(index, folded);
  if (folded.size === 0) return;
  const gone = new Set<Node>();
  for (const [name, made] of folded) {
    graph.initializers.set(name, { name, dataType: made.dataType, dims: made.dims, data: knownData(made) });
    for (const node of made.nodes) gone.add(node);
  }
  graph.nodes = graph.nodes.filter((node) => !gone.has(node));
  removeDeadNodesAndInitializers(graph);
}

/** Data that were made, by the largest they are made of. */
const madeData = new WeakMap<TensorData, Map<string, TensorData>>();

/** The data that were made in the same way before, so that what is remembered of them serves every copy of a model. */
function knownData({ key, data, weights }: Arranged): TensorData {
  const source = weights.map((tensor) => tensor.data).reduce((a, b) => (b.byteLength > a.byteLength ? b : a));
  let known = madeData.get(source);
  if (known === undefined) madeData.set(source, (known = new Map()));
  const before = known.get(key);
  if (before === undefined) known.set(key, data);
  return before ?? data;
}

const numbersOfData = new WeakMap<TensorData, number>();
let lastNumber = 0;

/** A name for data that no others have. */
function keyOf(data: TensorData): string {
  let number = numbersOfData.get(data);
  if (number === undefined) numbersOfData.set(data, (number = ++lastNumber));
  return `#${number}`;
}

const isPlainTranspose = ({ nodes, dims }: Arranged): boolean =>
  nodes.length === 1 && nodes[0]!.opType === 'Transpose' && dims.length === 2;

const grows = ({ dims, weights }: Arranged): boolean =>
  elementCount(dims) > [...new Set(weights)].reduce((sum, tensor) => sum + elementCount(tensor.dims), 0);

/** Drops what something outside reads a part of, until all that leads to those left leads nowhere else: nothing is then stored twice. */
function keepPrivate(index: GraphIndex, folded: Map<string, Arranged>): void {
  for (let before = -1; before !== folded.size;) {
    before = folded.size;
    const own = new Set([...folded.values()].flatMap(({ nodes }) => nodes));
    const isInner = (value: string): boolean =>
      !index.outputs.has(value) &&
      (folded.has(value) ||
        (index.consumers.get(value) ?? []).every(({ node, captured }) => own.has(node) && !captured));
    for (const [name, { nodes, weights }] of folded) {
      const large = weights.filter(({ dims }) => elementCount(dims) >= smallElements).map((tensor) => tensor.name);
      if (![...large, ...nodes.flatMap((node) => node.outputs)].every(isInner)) folded.delete(name);
    }
  }
}

function arrange(scope: Scope, name: string): Arranged | null {
  const { graph, index } = scope;
  const tensor = constantValue(graph, index, name);
  if (tensor !== null) {
    if (floatBytes(tensor.dataType) === null || graph.inputs.some((input) => input.name === name)) return null;
    const { dataType, dims, data } = tensor;
    const stored = graph.initializers.has(name);
    // A number that an attribute holds gets other data each time it is asked for.
    const key = stored ? keyOf(data) : `[${dims.join()}]: ${readNumbers(tensor).join()}`;
    const weights = [stored ? tensor : { ...tensor, name }];
    return { dataType, dims: [...dims], data, together: false, key, nodes: [], weights };
  }
  const node = index.producer.get(name);
  if (node === undefined || node.domain !== '' || index.outputs.has(name)) return null;
  const numbers = (input: number): readonly number[] | null => {
    const value = node.inputs[input] ?? '';
    const constant = constantValue(graph, index, value);
    return constant === null ? scope.known(value) : readNumbers(constant);
  };
  const all = (): Arranged[] | null => {
    const parts = node.inputs.map((input) => arrange(scope, input));
    return parts.every((part) => part !== null) ? parts : null;
  };
  const axes = (input: number): readonly number[] | null =>
    node.attributes.has('axes') ? getInts(node, 'axes', []) : numbers(input);
  if (node.opType === 'Concat') {
    const parts = all();
    return parts === null ? null : join(node, parts);
  }
  if (isArithmetic(node.opType)) {
    const parts = all();
    return parts?.length === 2 ? computed(node, parts, ([a, b]) => combine(node.opType, a!, b!)) : null;
  }
  if (!single.has(node.opType)) return null;
  const whole = arrange(scope, node.inputs[0] ?? '');
  if (whole === null) return null;
  switch (node.opType) {
    case 'Identity':
      return { ...whole, nodes: [...whole.nodes, node] };
    case 'Transpose': {
      const perm = getInts(
        node,
        'perm',
        whole.dims.map((_, axis) => whole.dims.length - 1 - axis),
      );
      return computed(node, [whole], ([part]) => permuted(part!, perm), perm);
    }
    case 'ReduceL2': {
      const over = axes(1);
      if (over === null || over.length === 0) return null;
      return computed(node, [whole], ([part]) => norm(part!, over, getInt(node, 'keepdims', 1) === 1), over);
    }
    case 'Unsqueeze': {
      const added = axes(1);
      return added === null ? null : unsqueeze(node, whole, added);
    }
    case 'Split':
      return split(node, whole, name, node.attributes.has('split') ? getInts(node, 'split', []) : numbers(1));
  }
  const [starts, ends, steps] = [numbers(1), numbers(2), node.inputs.length > 4 ? numbers(4) : [1]];
  const cut = node.inputs.length > 3 ? axes(3) : starts?.map((_, axis) => axis);
  // Gates and projections are cut along one axis, one after the other.
  if (starts?.length !== 1 || ends?.length !== 1 || cut?.length !== 1 || steps?.length !== 1 || steps[0] !== 1) {
    return null;
  }
  return slice(node, whole, cut[0]!, starts[0]!, ends[0]!);
}

/** Operators of one constant. */
const single = new Set(['Identity', 'Transpose', 'ReduceL2', 'Unsqueeze', 'Split', 'Slice']);

/** What a node computes of float32 constants. */
function computed(
  node: Node,
  parts: readonly Arranged[],
  compute: (parts: Computed[]) => Computed | null,
  how: readonly number[] = [],
): Arranged | null {
  if (parts.some(({ dataType }) => dataType !== DataType.FLOAT)) return null;
  const made = compute(
    parts.map(({ dims, data }) => ({
      dims,
      read: () => readFloat32({ name: '', dataType: DataType.FLOAT, dims, data }),
    })),
  );
  if (made === null) return null;
  const sources = parts.map(({ data }) => data);
  const inputs = parts.map(({ key, dims }) => `${key} [${dims.join()}]`);
  return {
    dataType: DataType.FLOAT,
    dims: made.dims,
    data: keptData(elementCount(made.dims) * 4, sources, () => new Uint8Array(made.read().buffer)),
    together: true,
    key: `${node.opType} ${how.join()} (${inputs.join(', ')})`,
    ...origins(node, parts),
  };
}

/** Nodes and weights of what a node makes of parts. */
const origins = (node: Node, parts: readonly Arranged[]): Pick<Arranged, 'nodes' | 'weights'> => ({
  nodes: [...parts.flatMap((part) => part.nodes), node],
  weights: parts.flatMap((part) => part.weights),
});

/** The part of a Split that has this name. */
function split(node: Node, whole: Arranged, name: string, asked: readonly number[] | null): Arranged | null {
  const { dims } = whole;
  const axis = getInt(node, 'axis', 0);
  const equal = !node.attributes.has('split') && (node.inputs[1] ?? '') === '';
  const sizes = equal ? equalSizes(dims[axis < 0 ? axis + dims.length : axis] ?? 0, node.outputs.length) : asked;
  if (sizes?.length !== node.outputs.length) return null;
  const at = node.outputs.indexOf(name);
  const start = sizes.slice(0, at).reduce((sum, size) => sum + size, 0);
  return slice(node, whole, axis, start, start + sizes[at]!);
}

/** Sizes of a Split that says none: all alike, the last one what is left (ONNX Split, opset 18). */
function equalSizes(depth: number, parts: number): number[] {
  const size = Math.ceil(depth / parts);
  return Array.from({ length: parts }, (_, at) => Math.max(0, Math.min(size, depth - at * size)));
}

function unsqueeze(node: Node, whole: Arranged, added: readonly number[]): Arranged {
  const rank = whole.dims.length + added.length;
  const ones = new Set(added.map((axis) => (axis < 0 ? axis + rank : axis)));
  const rest = [...whole.dims];
  const dims = Array.from({ length: rank }, (_, axis) => (ones.has(axis) ? 1 : rest.shift()!));
  return { ...whole, dims, nodes: [...whole.nodes, node] };
}

function slice(node: Node, whole: Arranged, along: number, start: number, end: number): Arranged | null {
  const { dims, dataType, data } = whole;
  const axis = along < 0 ? along + dims.length : along;
  const depth = dims[axis] ?? 0;
  const [first, last] = [start, end].map((at) => Math.min(Math.max(at < 0 ? at + depth : at, 0), depth)) as [
    number,
    number,
  ];
  if (last <= first) return null;
  const inner = elementCount(dims.slice(axis + 1)) * floatBytes(dataType)!;
  return {
    ...whole,
    key: `Slice ${axis} ${first} ${last} (${whole.key})`,
    dims: dims.map((dim, at) => (at === axis ? last - first : dim)),
    data: cutData(data, depth * inner, first * inner, (last - first) * inner),
    nodes: [...whole.nodes, node],
  };
}

function join(node: Node, parts: readonly Arranged[]): Arranged | null {
  const { dims, dataType } = parts[0]!;
  const along = getInt(node, 'axis', 0);
  const axis = along < 0 ? along + dims.length : along;
  const alike = parts.every(
    (part) =>
      part.dataType === dataType &&
      part.dims.length === dims.length &&
      part.dims.every((dim, at) => at === axis || dim === dims[at]),
  );
  if (!alike || axis >= dims.length) return null;
  const inner = elementCount(dims.slice(axis + 1)) * floatBytes(dataType)!;
  const sources = parts.map(({ data }) => data);
  const joined = joinedData(
    sources,
    parts.map((part) => part.dims[axis]! * inner),
  );
  const together = parts.some((part) => part.together);
  return {
    dataType,
    key: `Concat ${axis} (${parts.map(({ key }) => key).join(', ')})`,
    dims: dims.map((dim, at) => (at === axis ? parts.reduce((sum, part) => sum + part.dims[axis]!, 0) : dim)),
    data: together ? keptData(joined.byteLength, sources, () => joined.read()) : joined,
    together,
    ...origins(node, parts),
  };
}
