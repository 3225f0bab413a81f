import { getInt, getString } from '../onnx/graph.js';
import type { Node } from '../onnx/model.js';
import type { Atom } from './axis-atoms.js';
import { type AxisGraph, type AxisRule } from './axis-graph.js';
import { countAttribute } from './sizes.js';

/**
 * Convolution of any grouping. Input channels are (group, input of the group), output channels (group, output of the
 * group): a depthwise convolution is the case of one input per group.
 */
function convolution(transposed: boolean): AxisRule {
  return (graph, node) => {
    const [x, w, y] = [graph.axes(node.inputs[0]), graph.axes(node.inputs[1]), graph.axes(node.outputs[0])];
    if (x === null || w === null || y === null || w.length < 3 || x.length !== w.length) return false;
    const { atoms } = graph;
    const group = getInt(node, 'group', 1);
    if (x[1]!.size % group !== 0 || y[1]!.size % group !== 0) return false;
    atoms.unite(x[0]!, y[0]!);
    for (const axes of [x, w, y]) for (const axis of axes.slice(2)) atoms.block(axis, 'spatial axis');
    const bias = node.inputs[2] === undefined || node.inputs[2] === '' ? null : graph.axes(node.inputs[2]);
    if (bias !== null) atoms.unite(bias[0]!, y[1]!);
    const [inputAxis, outputAxis] = transposed ? [0, 1] : [1, 0];
    if (group === 1) {
      atoms.unite(x[1]!, w[inputAxis]!);
      atoms.unite(w[outputAxis]!, y[1]!);
      const [input, output] = [w[inputAxis]!, w[outputAxis]!];
      graph.use(node, [1, 0, 1], { input, output, inputAxis, outputAxis, grouped: false });
      return true;
    }
    const groups = atoms.fresh(group);
    const made = atoms.fresh(y[1]!.size / group);
    const taken = atoms.fresh(x[1]!.size / group);
    atoms.unite(x[1]!, atoms.product([groups, taken]));
    atoms.unite(y[1]!, atoms.product([groups, made]));
    atoms.unite(w[0]!, atoms.product([groups, transposed ? taken : made]));
    atoms.unite(w[1]!, transposed ? made : taken);
    if (taken.size > 1) graph.mark(groups, 'groups');
    graph.mends.set(node, countAttribute('group', groups));
    if (taken.size > 1) {
      // Only the position within a group is summed away.
      graph.use(node, [1, 0, 1], { input: taken, output: made, inputAxis, outputAxis, grouped: true }, taken);
    }
    return true;
  };
}

/** Activations that hand zeros (and anything else) through one element at a time. */
const fusedActivations = new Set('Relu LeakyRelu Sigmoid Tanh HardSigmoid Clip HardSwish Elu Gelu'.split(' '));

function fused(rule: AxisRule): AxisRule {
  return (graph, node) => {
    const activation = getString(node, 'activation', '');
    if (activation !== '' && !fusedActivations.has(activation)) return false;
    const [added, output] = [node.inputs[3] ?? '', graph.axes(node.outputs[0])];
    if (added !== '') {
      const axes = graph.axes(added);
      if (axes === null || axes.length !== output?.length) return false;
      axes.forEach((atom, axis) => graph.atoms.unite(atom, output[axis]!));
    }
    return rule(graph, node);
  };
}

const gemm: AxisRule = (graph, node) => {
  const [a, b, y] = [graph.axes(node.inputs[0]), graph.axes(node.inputs[1]), graph.axes(node.outputs[0])];
  if (a?.length !== 2 || b?.length !== 2 || y?.length !== 2) return false;
  const { atoms } = graph;
  const contracted = getInt(node, 'transA', 0) ? 0 : 1;
  const inputAxis = getInt(node, 'transB', 0) ? 1 : 0;
  const [input, output] = [b[inputAxis]!, b[1 - inputAxis]!];
  atoms.unite(a[contracted]!, input);
  atoms.unite(a[1 - contracted]!, y[0]!);
  atoms.unite(output, y[1]!);
  if (node.inputs[2] !== undefined && node.inputs[2] !== '') {
    const c = graph.axes(node.inputs[2]);
    if (c === null) return false;
    c.forEach((atom, axis) => {
      if (atom.size > 1) atoms.unite(atom, y[axis + 2 - c.length]!);
    });
  }
  graph.use(node, [1, 0, contracted], { input, output, inputAxis, outputAxis: 1 - inputAxis, grouped: false });
  return true;
};

const matMul: AxisRule = (graph, node) => {
  const [a, b, y] = [graph.axes(node.inputs[0]), graph.axes(node.inputs[1]), graph.axes(node.outputs[0])];
  if (a === null || b === null || y === null || a.length < 2 || b.length < 2) return false;
  if (getInt(node, 'transBatchA', 0) + getInt(node, 'transBatchB', 0) > 0) return false;
  const [turnedA, turnedB] = [getInt(node, 'transA', 0), getInt(node, 'transB', 0)];
  const { atoms } = graph;
  const [rowsA, innerA] = turnedA ? [a.length - 1, a.length - 2] : [a.length - 2, a.length - 1];
  const [innerB, columnsB] = turnedB ? [b.length - 1, b.length - 2] : [b.length - 2, b.length - 1];
  atoms.unite(a[innerA]!, b[innerB]!);
  atoms.unite(a[rowsA]!, y[y.length - 2]!);
  atoms.unite(b[columnsB]!, y[y.length - 1]!);
  const batchRank = y.length - 2;
  for (const axes of [a, b]) {
    const own = axes.length - 2;
    for (let axis = 0; axis < own; axis++) {
      const out = y[axis + batchRank - own]!;
      if (axes[axis]!.size === out.size) atoms.unite(axes[axis]!, out);
      else if (axes[axis]!.size !== 1) return false;
    }
  }
  const [weightLeft, weightRight] = [constantWeight(graph, node, 0), constantWeight(graph, node, 1)];
  // FusedMatMul scales and turns its operands: exact to slice, not to refit.
  const plain = node.domain === '' && turnedA + turnedB === 0;
  if (weightRight && !weightLeft) {
    graph.use(node, [1, 0, innerA], {
      input: b[innerB]!,
      output: b[columnsB]!,
      inputAxis: innerB,
      outputAxis: columnsB,
      grouped: !plain || b.length > 2,
    });
  } else if (weightLeft && !weightRight) {
    graph.use(node, [0, 1, innerB], {
      input: a[innerA]!,
      output: a[rowsA]!,
      inputAxis: innerA,
      outputAxis: rowsA,
      grouped: !plain || a.length > 2,
    });
  } else if (weightLeft || graph.fromConstants(node.inputs[0]!) || graph.fromConstants(node.inputs[1]!)) {
    for (const axis of [...a, ...b]) atoms.block(axis, 'weights computed while running');
  } else {
    // Two activations: attention, where batch axes are heads.
    graph.sink(node, 0, innerA);
    graph.mark(a[innerA], 'query-key width');
    graph.mark(b[columnsB], 'value width');
    for (const axis of y.slice(0, -2)) graph.mark(axis, 'heads');
  }
  return true;
};

function constantWeight(graph: AxisGraph, node: Node, index: number): boolean {
  return graph.constantBehind(node.inputs[index]) !== undefined;
}

/** Axes by letter. A letter that only inputs have is summed away. */
const einsum: AxisRule = (graph, node) => {
  const [left = '', right] = getString(node, 'equation', '').replace(/\s+/g, '').split('->');
  const terms = left.split(',');
  const [inputs, output] = [node.inputs.map((name) => graph.axes(name)), graph.axes(node.outputs[0])];
  if (right === undefined || output === null || inputs.includes(null) || left.includes('.')) return false;
  if ([...terms, right].some((term) => new Set(term).size !== term.length)) return false;
  const letters = new Map<string, Atom>();
  const axesOf = [...(inputs as Atom[][]), output];
  for (const [at, term] of [...terms, right].entries()) {
    if (term.length !== axesOf[at]?.length) return false;
    for (const [axis, letter] of [...term].entries()) {
      const atom = axesOf[at][axis]!;
      const known = letters.get(letter);
      if (known === undefined) letters.set(letter, atom);
      else if (known.size === atom.size) graph.atoms.unite(known, atom);
      else return false;
    }
  }
  const weight = node.inputs.findIndex((_, at) => constantWeight(graph, node, at));
  const summed = [...letters.keys()].filter((letter) => !right.includes(letter));
  for (const letter of summed) {
    const owner = terms.findIndex((term, at) => at !== weight && term.includes(letter));
    const axis = terms[owner]?.indexOf(letter) ?? 0;
    if (owner < 0 || (weight < 0 && graph.fromConstants(node.inputs[owner]!))) {
      graph.atoms.block(letters.get(letter)!, 'weights computed while running');
    } else if (weight < 0 || !terms[weight]!.includes(letter)) {
      graph.sink(node, owner, axis);
      graph.mark(letters.get(letter), 'query-key width');
    } else {
      for (const made of [...terms[weight]!].filter((other) => right.includes(other))) {
        graph.use(node, [weight, owner, axis], {
          input: letters.get(letter)!,
          output: letters.get(made)!,
          inputAxis: terms[weight]!.indexOf(letter),
          outputAxis: terms[weight]!.indexOf(made),
          grouped: true,
        });
      }
    }
  }
  // Letters that all have stay apart for every index: heads, when two activations meet.
  if (weight < 0 && terms.length === 2) {
    for (const [letter, atom] of letters)
      if ([...terms, right].every((term) => term.includes(letter))) graph.mark(atom, 'heads');
    for (const letter of right) if (!terms[0]!.includes(letter)) graph.mark(letters.get(letter), 'value width');
  }
  return true;
};

/** Conv, ConvTranspose, Gemm, MatMul, Einsum: one axis is summed away, another is made. */
export const contractionRules: Readonly<Record<string, AxisRule>> = {
  Conv: convolution(false),
  ConvTranspose: convolution(true),
  Gemm: gemm,
  MatMul: matMul,
  Einsum: einsum,
  'com.microsoft:FusedConv': fused(convolution(false)),
  'com.microsoft:FusedGemm': fused(gemm),
  'com.microsoft:FusedMatMul': matMul,
  'com.microsoft:TransposeMatMul': matMul,
};
