import { getInt, intAttribute, makeNode } from '../onnx/graph.js';
import { DataType, type Node, type Tensor } from '../onnx/model.js';
import { float32Tensor, int64Tensor, rawTensor } from '../onnx/tensor.js';
import { leavesOf, rootOf, type Atom } from './axis-atoms.js';
import type { AxisGraph, Mend } from './axis-graph.js';

/**
 * Sizes that a graph carries as tensors: Reshape targets, Expand shapes, and the arithmetic (Shape, Gather, Concat,
 * Mul …) that computes them. Everything that was the same number for every input keeps the number the original
 * model computed, so that scales like 1/√width do not move; where such a tensor decides the size of an axis that
 * shrinks, the new size is written in its place.
 */

/** Operators that hand elements of a size tensor through unchanged, or compare and choose them one by one. */
const pickers = new Set(
  'Gather Slice Concat Cast Identity Squeeze Unsqueeze Reshape Split Equal Greater Less Not Where'.split(' '),
);

/**
 * States that element i of the node's size input decides `axes[i]`, and mends it when widths change.
 * @param reshape the elements are a Reshape target: 0 copies, −1 is inferred.
 */
export function sizeInput(graph: AxisGraph, node: Node, index: number, axes: readonly Atom[], reshape = false): Mend {
  const name = node.inputs[index]!;
  const elements = graph.elements(name);
  const constant = graph.constant(name) !== undefined;
  if (elements?.length !== axes.length) {
    for (const axis of axes) graph.atoms.block(axis, 'size computed while running');
    return (same) => same;
  }
  graph.sizeInputs.add(node, index);
  let inferred = reshape ? elements.indexOf(-1) : -1;
  elements.forEach((element, at) => {
    if (typeof element === 'number') return;
    // A batch folded with heads: the runtime can work out one such axis, no more.
    if (reshape && inferred < 0 && leavesOf(axes[at]!).filter((leaf) => leaf.size > 1).length > 1) inferred = at;
    else graph.atoms.block(axes[at]!, 'size computed while running');
  });
  return (current, context) => {
    const stale = graph.sizeInputs.sources(name).some(context.changed);
    if (!stale && !axes.some(context.changed)) return current;
    const wanted = elements.map((element, at): number | null => {
      if (at === inferred) return -1;
      if (typeof element !== 'number') return null;
      return element > 0 && element === axes[at]!.size ? context.size(axes[at]!) : element;
    });
    if (constant && wanted.every((size, at) => size === elements[at])) return current;
    if (reshape) fillReshape(graph, current, wanted, axes);
    const inputs = [...current.inputs];
    const values = wanted.map((size) => size ?? 0);
    const add = (suffix: string, numbers: readonly number[]): string =>
      context.constant(`${name}${suffix}`, (fresh) => int64Tensor(fresh, [numbers.length], numbers));
    if (!wanted.includes(null)) {
      inputs[index] = add('_pruned', values);
      return { ...current, inputs };
    }
    const kept = context.fresh(`${name}_open`);
    const whole = context.fresh(`${name}_pruned`);
    inputs[index] = whole;
    return [
      makeNode(
        'Mul',
        [
          name,
          add(
            '_mask',
            wanted.map((size) => Number(size === null)),
          ),
        ],
        [kept],
        {},
        { name: kept },
      ),
      makeNode('Add', [kept, add('_sizes', values)], [whole], {}, { name: whole }),
      { ...current, inputs },
    ];
  };
}

/** Says the open sizes of a Reshape target by −1 (one of them) and 0 (axes that stay where they are), if that does. */
function fillReshape(graph: AxisGraph, node: Node, wanted: (number | null)[], axes: readonly Atom[]): void {
  const open = wanted.flatMap((size, at) => (size === null ? [at] : []));
  if (getInt(node, 'allowzero', 0) === 0) {
    const input = graph.axes(node.inputs[0]) ?? [];
    const copied = open.filter((at) => input[at] !== undefined && rootOf(input[at]) === rootOf(axes[at]!));
    const rest = open.length - copied.length + (wanted.includes(-1) ? 1 : 0);
    if (rest <= 1 && open.length > 1) for (const at of copied) wanted[at] = 0;
  }
  const left = wanted.flatMap((size, at) => (size === null ? [at] : []));
  if (left.length === 1 && !wanted.includes(-1)) wanted[left[0]!] = -1;
}

/** Size tensors whose elements are mended, and the axes whose sizes went into them. */
export class SizeInputs {
  readonly #mended = new Map<Node, Set<number>>();
  readonly #sources = new Map<string, Atom[]>();
  /** Node inputs to replace by the original numbers when one of `sources` changes. */
  readonly frozen: { node: Node; input: number; tensor: (name: string) => Tensor; sources: Atom[] }[] = [];

  add(node: Node, index: number): void {
    const known = this.#mended.get(node) ?? new Set();
    this.#mended.set(node, known.add(index));
  }

  isMended(node: Node, index: number): boolean {
    return this.#mended.get(node)?.has(index) ?? false;
  }

  sources(name: string): Atom[] {
    return this.#sources.get(name) ?? [];
  }

  /**
   * Follows every size read by Shape or Size to where it is used, after all operators had their say. Axes whose
   * size would leak into results are blocked.
   */
  follow(graph: AxisGraph): void {
    for (const node of graph.graph.nodes) {
      if (node.domain === '' && (node.opType === 'Shape' || node.opType === 'Size')) this.#read(graph, node);
      else this.#use(graph, node);
    }
    for (const output of graph.graph.outputs) this.#leak(graph, output.name);
  }

  #read(graph: AxisGraph, node: Node): void {
    const axes = graph.axes(node.inputs[0]);
    const name = node.outputs[0]!;
    if (axes === null) return;
    if (node.opType === 'Size') {
      for (const axis of axes) graph.atoms.block(axis, 'size read while running');
      return;
    }
    const start = getInt(node, 'start', 0);
    const read = axes.slice(start, getInt(node, 'end', axes.length));
    const elements = graph.elements(name);
    const used = usedElements(graph, name, read.length);
    const fixed = read.filter((axis, at) => {
      if (!used.has(at)) return false;
      if (typeof elements?.[at] === 'number') return true;
      // An open size changes with any class that is part of it (batch × heads).
      graph.atoms.block(axis, 'size read while running');
      return false;
    });
    this.#sources.set(name, fixed);
  }

  #use(graph: AxisGraph, node: Node): void {
    const output = node.outputs[0] ?? '';
    const result = graph.elements(output);
    node.inputs.forEach((name, input) => {
      const sources = this.#sources.get(name);
      if (sources === undefined || sources.length === 0 || this.isMended(node, input)) return;
      const elements = graph.elements(name);
      if (pickers.has(node.opType) && node.domain === '' && result !== null) {
        if (result.some((element) => typeof element === 'number')) {
          this.#sources.set(output, [...new Set([...(this.#sources.get(output) ?? []), ...sources])]);
        }
      } else if (elements === null) {
        this.#leak(graph, name);
      } else if (elements.every((element) => typeof element === 'number')) {
        const tensor = frozenTensor(graph, name, elements);
        if (tensor === null) this.#leak(graph, name);
        else this.frozen.push({ node, input, tensor, sources });
      } else if (elements.some((element) => typeof element === 'number')) {
        this.#leak(graph, name);
      }
    });
    for (const consumer of graph.captured(node)) this.#leak(graph, consumer);
  }

  #leak(graph: AxisGraph, name: string): void {
    for (const axis of this.#sources.get(name) ?? []) graph.atoms.block(axis, 'size read while running');
  }
}

/** Elements of a list of sizes that somebody takes out of it. */
function usedElements(graph: AxisGraph, name: string, length: number): Set<number> {
  const all = Array.from({ length }, (_, at) => at);
  const isOutput = graph.graph.outputs.some((output) => output.name === name);
  if (isOutput) return new Set(all);
  return new Set(
    graph.consumers(name).flatMap((node) => {
      const indices = node.opType === 'Gather' && node.inputs[0] === name ? graph.elements(node.inputs[1]) : null;
      if (indices !== null && !indices.includes(null)) return indices.map((at) => (at! < 0 ? at! + length : at!));
      const [from, to] = [graph.elements(node.inputs[1]), graph.elements(node.inputs[2])];
      const step = (node.inputs[4] ?? '') === '' ? 1 : graph.elements(node.inputs[4])?.[0];
      const bounds = [from?.[0], to?.[0]];
      if (node.opType !== 'Slice' || step !== 1 || bounds.some((bound) => typeof bound !== 'number')) return all;
      return all.slice(...(bounds as number[]));
    }),
  );
}

/** The numbers a size tensor had, as a constant of its type and shape; null for types sizes do not come in. */
function frozenTensor(graph: AxisGraph, name: string, values: readonly number[]): ((name: string) => Tensor) | null {
  const dims = graph.axes(name)?.map((axis) => axis.size);
  if (dims === undefined) return null;
  switch (graph.dataType(name)) {
    case DataType.INT64:
      return (fresh) => int64Tensor(fresh, dims, values);
    case DataType.FLOAT:
      return (fresh) => float32Tensor(fresh, dims, Float32Array.from(values));
    case DataType.INT32:
      return (fresh) => rawTensor(fresh, DataType.INT32, dims, new Uint8Array(Int32Array.from(values).buffer));
    case DataType.BOOL:
      return (fresh) => rawTensor(fresh, DataType.BOOL, dims, Uint8Array.from(values));
    default:
      return null;
  }
}

/** A list of integers of the type (INT32 or INT64) its operator was given before. */
export function integers(name: string, dataType: number | undefined, values: readonly number[]): Tensor {
  if (dataType !== DataType.INT32) return int64Tensor(name, [values.length], values);
  return rawTensor(name, DataType.INT32, [values.length], new Uint8Array(Int32Array.from(values).buffer));
}

/** Mends an integer attribute that counts an axis. */
export function countAttribute(name: string, axis: Atom): Mend {
  return (node, context) =>
    context.changed(axis)
      ? { ...node, attributes: new Map(node.attributes).set(name, intAttribute(context.size(axis))) }
      : node;
}
