import { getInt, getInts, intsAttribute } from '../onnx/graph.js';
import type { Node } from '../onnx/model.js';
import type { Atom } from './axis-atoms.js';
import { passBatchAndChannels, samePerAxis, wrap, type AxisGraph, type AxisRule } from './axis-graph.js';
import { integers, sizeInput } from './sizes.js';

const transpose: AxisRule = (graph, node) => {
  const [input, output] = ends(graph, node);
  if (input === null || output === null) return false;
  const perm = getInts(node, 'perm', undefined) ?? input.map((_, axis) => input.length - 1 - axis);
  perm.forEach((from, to) => graph.atoms.unite(input[from]!, output[to]!));
  return true;
};

const concat: AxisRule = (graph, node) => {
  const output = graph.axes(node.outputs[0]);
  const inputs = node.inputs.map((name) => graph.axes(name));
  if (output === null || inputs.includes(null)) return false;
  join(graph, output, inputs as Atom[][], wrap(getInt(node, 'axis', 0), output.length));
  return true;
};

const split: AxisRule = (graph, node) => {
  const input = graph.axes(node.inputs[0]);
  const outputs = node.outputs.map((name) => graph.axes(name));
  if (input === null || outputs.includes(null)) return false;
  const sizes = node.inputs[1] ?? '';
  const elements = sizes === '' ? [] : graph.elements(sizes);
  if (elements === null || elements.includes(null)) return false;
  const parts = outputs as Atom[][];
  const along = wrap(getInt(node, 'axis', 0), input.length);
  join(graph, input, parts, along);
  if (sizes !== '') graph.sizeInputs.add(node, 1);
  graph.mends.set(node, (current, context) => {
    if (!context.changed(input[along]!)) return current;
    const values = parts.map((part) => context.size(part[along]!));
    const attributes = new Map(current.attributes);
    if (graph.opset(node) < 13) return { ...current, attributes: attributes.set('split', intsAttribute(values)) };
    attributes.delete('num_outputs');
    const list = context.constant(`${node.outputs[0]!}_sizes`, (name) => integers(name, undefined, values));
    return { ...current, attributes, inputs: [current.inputs[0]!, list] };
  });
  return true;
};

/** States that `whole` is `parts` end to end along one axis and the same along the others. */
function join(graph: AxisGraph, whole: readonly Atom[], parts: readonly Atom[][], along: number): void {
  whole.forEach((atom, axis) => {
    if (axis === along) graph.atoms.unite(atom, graph.atoms.concat(nonEmpty(parts.map((part) => part[axis]!))));
    else for (const part of parts) graph.atoms.unite(part[axis]!, atom);
  });
}

const gather: AxisRule = (graph, node) => {
  const [input, output] = ends(graph, node);
  const indices = graph.axes(node.inputs[1]);
  if (input === null || output === null || indices === null) return false;
  const along = wrap(getInt(node, 'axis', 0), input.length);
  graph.atoms.block(input[along]!, 'looked-up axis');
  const result = [...input.slice(0, along), ...indices, ...input.slice(along + 1)];
  return samePerAxis(graph, result, output);
};

const pad: AxisRule = (graph, node) => {
  const [input, output] = ends(graph, node);
  const listed = graph.elements(node.inputs[1]);
  const pads = getInts(node, 'pads', undefined) ?? listed;
  if (input === null || output === null || pads?.length !== 2 * input.length || (node.inputs[3] ?? '') !== '') {
    return false;
  }
  input.forEach((atom, axis) => {
    if (pads[axis] === 0 && pads[axis + input.length] === 0) {
      graph.atoms.unite(atom, output[axis]!);
    } else {
      graph.atoms.block(atom, 'padded axis');
      graph.atoms.block(output[axis]!, 'padded axis');
    }
  });
  return true;
};

const resize: AxisRule = (graph, node) => {
  const [input, output] = ends(graph, node);
  if (input === null || output === null || input.length < 3 || node.attributes.has('axes')) return false;
  if (input[1]!.size !== output[1]!.size || input[0]!.size !== output[0]!.size) return false;
  if (!passBatchAndChannels(graph, input, output, 'resized axis')) return false;
  if ((node.inputs[3] ?? '') !== '') {
    const mend = sizeInput(graph, node, 3, output);
    graph.mends.set(node, mend);
  }
  return true;
};

/** One axis of a Slice: which bounds of the node cut it, and what lies before the piece. */
interface Cut {
  position: number;
  axis: number;
  /** Null where nothing does. */
  before: Atom | null;
  /** Every n-th element is taken. */
  step: number;
}

const slice: AxisRule = (graph, node) => {
  const [input, output] = ends(graph, node);
  if (input === null || output === null || input.length !== output.length) return false;
  const list = (index: number, name: string): readonly (number | null)[] | null =>
    getInts(node, name, undefined) ?? ((node.inputs[index] ?? '') === '' ? null : graph.elements(node.inputs[index]));
  const [starts, ends_] = [list(1, 'starts'), list(2, 'ends')];
  const count = starts?.length ?? ends_?.length ?? 0;
  const positions = Array.from({ length: count }, (_, at) => at);
  const axes = (node.inputs[3] ?? '') !== '' || node.attributes.has('axes') ? list(3, 'axes') : positions;
  const steps = (node.inputs[4] ?? '') !== '' ? list(4, 'steps') : positions.map(() => 1);
  if (axes === null || axes.includes(null) || count === 0) return false;
  const known = starts?.includes(null) === false && ends_?.includes(null) === false && steps?.includes(null) === false;
  const cuts: Cut[] = [];
  input.forEach((atom, axis) => {
    const out = output[axis]!;
    const position = axes.findIndex((one) => wrap(one!, input.length) === axis);
    if (position < 0) {
      graph.atoms.unite(atom, out);
      return;
    }
    const [start, step] = [starts?.[position] ?? null, steps?.[position] ?? null];
    const before = known ? cutAxis(graph, atom, out, start!, step!) : undefined;
    if (before === undefined) for (const one of [atom, out]) graph.atoms.block(one, 'sliced axis');
    else cuts.push({ position, axis, before, step: step! });
  });
  if (!known || cuts.length === 0) return true;
  for (const index of [1, 2]) if (node.inputs[index] !== undefined) graph.sizeInputs.add(node, index);
  mendSlice(graph, node, { cuts, input, output, starts: starts as number[], ends: ends_ as number[] });
  return true;
};

/** Unites an axis with its piece; what lies before the piece (null = nothing), undefined when it cannot be told. */
function cutAxis(graph: AxisGraph, atom: Atom, out: Atom, from: number, step: number): Atom | null | undefined {
  const { atoms } = graph;
  const start = Math.min(Math.max(from < 0 ? from + atom.size : from, 0), atom.size);
  if (step === 1) {
    const rest = atom.size - start - out.size;
    if (rest < 0 || out.size === 0) return undefined;
    if (out.size === atom.size) {
      atoms.unite(atom, out);
      return null;
    }
    const before = start > 0 ? atoms.fresh(start) : null;
    const pieces = [...(before === null ? [] : [before]), out, ...(rest > 0 ? [atoms.fresh(rest)] : [])];
    atoms.unite(atom, atoms.concat(pieces));
    return before;
  }
  if (step < 2 || start >= step || out.size * step !== atom.size) return undefined;
  const phase = atoms.fresh(step);
  atoms.block(phase, 'every n-th element');
  atoms.unite(atom, atoms.product([out, phase]));
  return null;
}

function mendSlice(
  graph: AxisGraph,
  node: Node,
  slice: { cuts: Cut[]; input: Atom[]; output: Atom[]; starts: number[]; ends: number[] },
): void {
  graph.mends.set(node, (current, context) => {
    const stale = [1, 2].some((at) => graph.sizeInputs.sources(current.inputs[at] ?? '').some(context.changed));
    if (!stale && !slice.cuts.some(({ axis }) => context.changed(slice.input[axis]!))) return current;
    const [starts, ends_] = [[...slice.starts], [...slice.ends]];
    for (const { position, axis, before, step } of slice.cuts) {
      const atom = slice.input[axis]!;
      if (!context.changed(atom)) continue;
      // Every n-th element: the first one stays, the end is the end of the axis.
      if (step > 1) {
        ends_[position] = context.size(atom);
      } else {
        starts[position] = before === null ? 0 : context.size(before);
        ends_[position] = starts[position] + context.size(slice.output[axis]!);
      }
    }
    if (current.attributes.has('starts')) {
      const attributes = new Map(current.attributes);
      attributes.set('starts', intsAttribute(starts)).set('ends', intsAttribute(ends_));
      return { ...current, attributes };
    }
    const type = graph.dataType(current.inputs[1]!);
    const inputs = [...current.inputs];
    inputs[1] = context.constant(`${node.outputs[0]!}_starts`, (name) => integers(name, type, starts));
    inputs[2] = context.constant(`${node.outputs[0]!}_ends`, (name) => integers(name, type, ends_));
    return { ...current, inputs };
  });
}

function ends(graph: AxisGraph, node: Node): [Atom[] | null, Atom[] | null] {
  return [graph.axes(node.inputs[0]), graph.axes(node.outputs[0])];
}

function nonEmpty(parts: Atom[]): Atom[] {
  return parts.filter((part) => part.size > 0);
}

/** Operators that move elements or take pieces of axes. */
export const layoutRules: Readonly<Record<string, AxisRule>> = {
  Transpose: transpose,
  Concat: concat,
  Split: split,
  Slice: slice,
  Gather: gather,
  Pad: pad,
  Resize: resize,
  Upsample: resize,
  // What they read is followed to its uses once all operators have been seen.
  Shape: () => true,
  Size: () => true,
};
