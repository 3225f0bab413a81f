import { constantValue, getInt, getInts, indexGraph, removeDeadNodesAndInitializers } from '../onnx/graph.js';
import type { GraphIndex } from '../onnx/graph.js';
import type { Graph, Node } from '../onnx/model.js';
import { computedData, elementCount, readNumbers } from '../onnx/tensor.js';
import { floatBytes } from './floats.js';

/** A constant that is cut and joined from weights. */
interface Arranged {
  dataType: number;
  dims: number[];
  read: () => Uint8Array;
  /** Nodes that do it, and the weights at its start. */
  nodes: Node[];
  weights: string[];
}

/** Operators whose gates exporters bring into ONNX's order with nodes of their own. */
const recurrent = new Set(['LSTM', 'GRU', 'RNN']);

/**
 * Computes the weights of recurrent operators that a graph cuts and joins from other constants (Slice, Concat,
 * Unsqueeze: how PyTorch's newer exporter orders gates), in place: as weights of their own under the name of the
 * value they were, they can be quantized. Left alone where anything else reads a part of it.
 */
export function foldArrangedWeights(graph: Graph): void {
  if (!graph.nodes.some(({ opType }) => recurrent.has(opType))) return;
  const index = indexGraph(graph);
  let folded = false;
  for (const { opType, domain, inputs } of graph.nodes) {
    if (domain !== '' || !recurrent.has(opType)) continue;
    for (const name of [inputs[1] ?? '', inputs[2] ?? '']) {
      const made = graph.initializers.has(name) ? null : arrange(graph, index, name);
      if (made === null || !isPrivate(index, name, made)) continue;
      const { dataType, dims, read } = made;
      const data = computedData(elementCount(dims) * floatBytes(dataType)!, read);
      graph.initializers.set(name, { name, dataType, dims, data });
      const gone = new Set(made.nodes);
      graph.nodes = graph.nodes.filter((node) => !gone.has(node));
      folded = true;
    }
  }
  if (folded) removeDeadNodesAndInitializers(graph);
}

/** Whether all that leads to a value leads nowhere else: folding it stores nothing twice. */
function isPrivate(index: GraphIndex, name: string, { nodes, weights }: Arranged): boolean {
  const own = new Set(nodes);
  const inner = [...weights, ...nodes.flatMap((node) => node.outputs)].filter((value) => value !== name);
  return inner.every(
    (value) =>
      !index.outputs.has(value) &&
      (index.consumers.get(value) ?? []).every(({ node, captured }) => own.has(node) && !captured),
  );
}

function arrange(graph: Graph, index: GraphIndex, name: string): Arranged | null {
  const tensor = graph.initializers.get(name);
  if (tensor !== undefined) {
    if (floatBytes(tensor.dataType) === null || graph.inputs.some((input) => input.name === name)) return null;
    const { dataType, dims, data } = tensor;
    return { dataType, dims: [...dims], read: () => data.read(), nodes: [], weights: [name] };
  }
  const node = index.producer.get(name);
  if (node === undefined || node.domain !== '' || index.outputs.has(name)) return null;
  const numbers = (input: number): number[] | null => {
    const constant = constantValue(graph, index, node.inputs[input] ?? '');
    return constant === null ? null : readNumbers(constant);
  };
  if (node.opType === 'Concat') {
    const parts = node.inputs.map((input) => arrange(graph, index, input));
    return parts.every((part) => part !== null) ? join(node, parts) : null;
  }
  if (node.opType !== 'Slice' && node.opType !== 'Unsqueeze') return null;
  const whole = arrange(graph, index, node.inputs[0] ?? '');
  if (whole === null) return null;
  const axes = (input: number): readonly number[] | null =>
    node.attributes.has('axes') ? getInts(node, 'axes', []) : numbers(input);
  if (node.opType === 'Unsqueeze') {
    const added = axes(1);
    return added === null ? null : unsqueeze(node, whole, added);
  }
  const [starts, ends, steps] = [numbers(1), numbers(2), node.inputs.length > 4 ? numbers(4) : [1]];
  const cut = node.inputs.length > 3 ? axes(3) : starts?.map((_, axis) => axis);
  // Gates are cut along one axis, one after the other.
  if (starts?.length !== 1 || ends?.length !== 1 || cut?.length !== 1 || steps?.length !== 1 || steps[0] !== 1) {
    return null;
  }
  return slice(node, whole, cut[0]!, starts[0]!, ends[0]!);
}

function unsqueeze(node: Node, whole: Arranged, added: readonly number[]): Arranged {
  const rank = whole.dims.length + added.length;
  const ones = new Set(added.map((axis) => (axis < 0 ? axis + rank : axis)));
  const rest = [...whole.dims];
  const dims = Array.from({ length: rank }, (_, axis) => (ones.has(axis) ? 1 : rest.shift()!));
  return { ...whole, dims, nodes: [...whole.nodes, node] };
}

function slice(node: Node, whole: Arranged, along: number, start: number, end: number): Arranged | null {
  const { dims, dataType } = whole;
  const axis = along < 0 ? along + dims.length : along;
  const depth = dims[axis] ?? 0;
  const [first, last] = [start, end].map((at) => Math.min(Math.max(at < 0 ? at + depth : at, 0), depth)) as [
    number,
    number,
  ];
  if (last <= first) return null;
  const inner = elementCount(dims.slice(axis + 1)) * floatBytes(dataType)!;
  const outer = elementCount(dims.slice(0, axis));
  const read = (): Uint8Array => {
    const bytes = whole.read();
    const length = (last - first) * inner;
    const result = new Uint8Array(outer * length);
    for (let row = 0; row < outer; row++) {
      const from = (row * depth + first) * inner;
      result.set(bytes.subarray(from, from + length), row * length);
    }
    return result;
  };
  return {
    ...whole,
    dims: dims.map((dim, at) => (at === axis ? last - first : dim)),
    read,
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
  const depth = parts.reduce((sum, part) => sum + part.dims[axis]!, 0);
  const inner = elementCount(dims.slice(axis + 1)) * floatBytes(dataType)!;
  const outer = elementCount(dims.slice(0, axis));
  const read = (): Uint8Array => {
    const result = new Uint8Array(outer * depth * inner);
    let offset = 0;
    for (const part of parts) {
      const bytes = part.read();
      const length = part.dims[axis]! * inner;
      for (let row = 0; row < outer; row++) {
        result.set(bytes.subarray(row * length, (row + 1) * length), row * depth * inner + offset);
      }
      offset += length;
    }
    return result;
  };
  return {
    dataType,
    dims: dims.map((dim, at) => (at === axis ? depth : dim)),
    read,
    nodes: [...parts.flatMap((part) => part.nodes), node],
    weights: parts.flatMap((part) => part.weights),
  };
}
