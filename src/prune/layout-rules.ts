import { getInt, getInts } from '../onnx/graph.js';
import type { Node } from '../onnx/model.js';
import { readNumbers } from '../onnx/tensor.js';
import type { Atom } from './axis-atoms.js';
import { passBatchAndChannels, wrap, type AxisGraph } from './axis-graph.js';

type LayoutRule = (graph: AxisGraph, node: Node) => boolean;

/** Operators that move elements without computing. False when not handled. */
export function applyLayout(graph: AxisGraph, node: Node): boolean {
  return rules[node.opType]?.(graph, node) ?? false;
}

const rules: Readonly<Record<string, LayoutRule | undefined>> = {
  Transpose: (graph, node) => {
    const [input, output] = ends(graph, node);
    if (input === null || output === null) return false;
    const perm = getInts(node, 'perm', undefined) ?? input.map((_, axis) => input.length - 1 - axis);
    perm.forEach((from, to) => graph.atoms.unite(input[from]!, output[to]!));
    return true;
  },
  Flatten: regroup,
  Squeeze: regroup,
  Unsqueeze: regroup,
  Reshape: (graph, node) => {
    if (!regroup(graph, node)) return false;
    const shape = graph.constant(node.inputs[1]);
    // A constant target is rewritten together with the widths; a computed one only where it says -1.
    if (shape === undefined) blockComputedTarget(graph, node);
    return true;
  },
  Concat: (graph, node) => {
    const output = graph.axes(node.outputs[0]);
    const inputs = node.inputs.map((name) => graph.axes(name));
    if (output === null || inputs.includes(null)) return false;
    const parts = inputs as Atom[][];
    const along = wrap(getInt(node, 'axis', 0), output.length);
    output.forEach((atom, axis) => {
      if (axis === along) graph.atoms.unite(atom, graph.atoms.concat(nonEmpty(parts.map((part) => part[axis]!))));
      else for (const part of parts) graph.atoms.unite(part[axis]!, atom);
    });
    return true;
  },
  Split: (graph, node) => {
    const input = graph.axes(node.inputs[0]);
    const outputs = node.outputs.map((name) => graph.axes(name));
    if (input === null || outputs.includes(null)) return false;
    const sizesInput = node.inputs[1];
    if (sizesInput !== undefined && sizesInput !== '' && graph.constant(sizesInput) === undefined) return false;
    const parts = outputs as Atom[][];
    const along = wrap(getInt(node, 'axis', 0), input.length);
    input.forEach((atom, axis) => {
      if (axis === along) graph.atoms.unite(atom, graph.atoms.concat(nonEmpty(parts.map((part) => part[axis]!))));
      else for (const part of parts) graph.atoms.unite(part[axis]!, atom);
    });
    return true;
  },
  Slice: slice,
  Gather: (graph, node) => {
    const [input, output] = ends(graph, node);
    const indices = graph.axes(node.inputs[1]);
    if (input === null || output === null || indices === null) return false;
    const along = wrap(getInt(node, 'axis', 0), input.length);
    graph.atoms.block(input[along]!, 'looked-up axis');
    const result = [...input.slice(0, along), ...indices, ...input.slice(along + 1)];
    if (result.length !== output.length) return false;
    result.forEach((atom, axis) => graph.atoms.unite(atom, output[axis]!));
    return true;
  },
  Pad: (graph, node) => {
    const [input, output] = ends(graph, node);
    const listed = graph.constant(node.inputs[1]);
    const pads = getInts(node, 'pads', undefined) ?? (listed === undefined ? undefined : readNumbers(listed));
    if (input === null || output === null || pads?.length !== 2 * input.length) return false;
    input.forEach((atom, axis) => {
      if (pads[axis] === 0 && pads[axis + input.length] === 0) {
        graph.atoms.unite(atom, output[axis]!);
      } else {
        graph.atoms.block(atom, 'padded axis');
        graph.atoms.block(output[axis]!, 'padded axis');
      }
    });
    return true;
  },
  Resize: (graph, node) => {
    const [input, output] = ends(graph, node);
    const sizes = node.inputs[3];
    if (input === null || output === null || input.length < 3 || node.attributes.has('axes')) return false;
    if (sizes !== undefined && sizes !== '') return false;
    if (input[1]!.size !== output[1]!.size) return false;
    return passBatchAndChannels(graph, input, output, 'resized axis');
  },
  Shape: (graph, node) => {
    const input = graph.axes(node.inputs[0]);
    const read = input === null ? null : readAxes(graph, node, input.length);
    if (input === null || read === null) return false;
    for (const axis of read) graph.atoms.block(input[axis]!, 'size read while running');
    return true;
  },
};

function ends(graph: AxisGraph, node: Node): [Atom[] | null, Atom[] | null] {
  return [graph.axes(node.inputs[0]), graph.axes(node.outputs[0])];
}

function nonEmpty(parts: Atom[]): Atom[] {
  return parts.filter((part) => part.size > 0);
}

function regroup(graph: AxisGraph, node: Node): boolean {
  const [input, output] = ends(graph, node);
  if (input === null || output === null) return false;
  graph.atoms.uniteRowMajor(input, output);
  return true;
}

function slice(graph: AxisGraph, node: Node): boolean {
  const [input, output] = ends(graph, node);
  if (input === null || output === null || input.length !== output.length) return false;
  const list = (index: number, name: string): number[] | undefined => {
    const attribute = getInts(node, name, undefined);
    const tensor = graph.constant(node.inputs[index]);
    return attribute === undefined ? (tensor === undefined ? undefined : readNumbers(tensor)) : [...attribute];
  };
  const starts = list(1, 'starts');
  const cut = new Map<number, number>();
  const axes = list(3, 'axes') ?? starts?.map((_, at) => at);
  const steps = list(4, 'steps') ?? starts?.map(() => 1);
  starts?.forEach((start, at) => {
    const axis = wrap(axes?.[at] ?? -1, input.length);
    const { size } = input[axis] ?? { size: 0 };
    if (steps?.[at] === 1) cut.set(axis, Math.min(Math.max(start < 0 ? start + size : start, 0), size));
  });
  input.forEach((atom, axis) => {
    const out = output[axis]!;
    if (atom.size === out.size && cut.get(axis) !== undefined && cut.get(axis)! > 0) {
      graph.atoms.block(atom, 'sliced axis');
      graph.atoms.block(out, 'sliced axis');
    } else if (atom.size === out.size && isWhole(steps)) {
      graph.atoms.unite(atom, out);
    } else {
      const start = cut.get(axis);
      // Bounds are constants of the graph that are not rewritten: the pieces keep their sizes.
      if (start !== undefined && out.size > 0) {
        const rest = atom.size - start - out.size;
        const pieces = [graph.atoms.fresh(start), out, graph.atoms.fresh(rest)].filter((piece) => piece.size > 0);
        graph.atoms.unite(atom, graph.atoms.concat(pieces));
      }
      graph.atoms.block(atom, 'sliced axis');
      graph.atoms.block(out, 'sliced axis');
    }
  });
  return true;
}

function isWhole(steps: readonly number[] | undefined): boolean {
  return steps?.every((step) => step === 1) ?? false;
}

/** Axes of a Shape's input whose sizes are read; null when that cannot be told. */
function readAxes(graph: AxisGraph, node: Node, rank: number): Set<number> | null {
  const start = wrap(getInt(node, 'start', 0), rank);
  const end = wrap(getInt(node, 'end', rank), rank);
  const read = new Set<number>();
  for (const user of graph.consumers(node.outputs[0] ?? '')) {
    const index = user.opType === 'Gather' ? graph.constant(user.inputs[1]) : undefined;
    if (index !== undefined && user.inputs[0] === node.outputs[0]) {
      for (const at of readNumbers(index)) read.add(start + wrap(at, end - start));
    } else {
      for (let axis = start; axis < end; axis++) read.add(axis);
    }
  }
  if (graph.graph.outputs.some((output) => output.name === node.outputs[0])) return null;
  return read;
}

/** For a Reshape whose target is computed: output axes keep their size unless the target says -1 there. */
function blockComputedTarget(graph: AxisGraph, node: Node): void {
  const output = graph.axes(node.outputs[0])!;
  const concat = graph.producer(node.inputs[1] ?? '');
  const pieces = concat?.opType === 'Concat' ? concat.inputs : [];
  const single = pieces.every((name) => graph.axes(name)?.every((axis) => axis.size === 1));
  output.forEach((axis, at) => {
    const piece = single && pieces.length === output.length ? graph.constant(pieces[at]) : undefined;
    if (piece === undefined || readNumbers(piece)[0] !== -1)
      graph.atoms.block(axis, 'reshape target computed while running');
  });
}
