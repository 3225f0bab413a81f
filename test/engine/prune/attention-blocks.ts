import { floatAttribute, intAttribute, intsAttribute } from '../../../src/onnx/graph.js';
import type { GraphBuilder } from './random-graph.js';

/** Widths of one attention layer over a stream of `model` values. */
export interface AttentionSizes {
  model: number;
  heads: number;
  /** Key/value heads (equal to `heads` where every head has its own). */
  groups: number;
  /** Width of queries and keys in a head; values may differ where projections are separate. */
  width: number;
  value: number;
}

export const linear = (g: GraphBuilder, x: string, from: number, to: number, bias = g.random() < 0.5): string => {
  const made = g.op('MatMul', [x, g.weight([from, to], 1.5 / Math.sqrt(from))])[0]!;
  return bias ? g.op('Add', [g.bias(to), made])[0]! : made;
};

const one = (g: GraphBuilder, operator: string, inputs: string[], attributes = {}): string =>
  g.op(operator, inputs, attributes)[0]!;

/** Element `at` of the value's shape, as a list of one. */
export function sizeOf(g: GraphBuilder, x: string, at: number): string {
  const size = one(g, 'Gather', [one(g, 'Shape', [x]), g.integer(at)], { axis: intAttribute(0) });
  return one(g, 'Unsqueeze', [size, g.ints([0])]);
}

export const joinSizes = (g: GraphBuilder, parts: (string | number)[]): string =>
  one(
    g,
    'Concat',
    parts.map((part) => (typeof part === 'number' ? g.ints([part]) : part)),
    { axis: intAttribute(0) },
  );

/** [batch, positions, heads·width] to [batch, heads, positions, width] with a target that is constant or computed. */
function toHeads(g: GraphBuilder, x: string, heads: number, width: number): string {
  const target =
    g.random() < 0.5 ? joinSizes(g, [sizeOf(g, x, 0), sizeOf(g, x, 1), heads, width]) : g.ints([0, 0, heads, width]);
  return one(g, 'Transpose', [one(g, 'Reshape', [x, target])], { perm: intsAttribute([0, 2, 1, 3]) });
}

/** Back to [batch, positions, heads·width]; the width is written down, inferred or multiplied while running. */
function fromHeads(g: GraphBuilder, x: string, all: number): string {
  const turned = one(g, 'Transpose', [x], { perm: intsAttribute([0, 2, 1, 3]) });
  const target = g.pick([
    () => g.ints([0, 0, all]),
    () => g.ints([0, 0, -1]),
    () => joinSizes(g, [sizeOf(g, turned, 0), sizeOf(g, turned, 1), all]),
    () =>
      joinSizes(g, [
        sizeOf(g, turned, 0),
        sizeOf(g, turned, 1),
        one(g, 'Mul', [sizeOf(g, turned, 2), sizeOf(g, turned, 3)]),
      ]),
  ])();
  return one(g, 'Reshape', [turned, target]);
}

/** Query, key and value as [batch, heads, positions, width], projected apart or together and cut in some way. */
function project(g: GraphBuilder, x: string, sizes: AttentionSizes): [string, string, string] {
  const { model, heads, groups, width, value } = sizes;
  if (groups !== heads || value !== width || g.random() < 0.25) {
    if (value === width && g.random() < 0.4) {
      const packed = linear(g, x, model, (heads + 2 * groups) * width);
      const cut = g.op(
        'Split',
        [packed, g.ints([heads, groups, groups].map((count) => count * width))],
        { axis: intAttribute(2) },
        3,
      );
      return [heads, groups, groups].map((count, at) => toHeads(g, cut[at]!, count, width)) as [string, string, string];
    }
    return [
      toHeads(g, linear(g, x, model, heads * width), heads, width),
      toHeads(g, linear(g, x, model, groups * width), groups, width),
      toHeads(g, linear(g, x, model, groups * value), groups, value),
    ];
  }
  const all = heads * width;
  const packed = linear(g, x, model, 3 * all);
  const kind = g.pick(['split', 'slice', 'gather', 'per head']);
  if (kind === 'split') {
    const parts = g.op('Split', [packed], { axis: intAttribute(-1) }, 3);
    return parts.map((part) => toHeads(g, part, heads, width)) as [string, string, string];
  }
  if (kind === 'slice') {
    const part = (at: number): string =>
      one(g, 'Slice', [packed, g.ints([at * all]), g.ints([at === 2 ? 2 ** 31 : (at + 1) * all]), g.ints([2])]);
    return [0, 1, 2].map((at) => toHeads(g, part(at), heads, width)) as [string, string, string];
  }
  if (kind === 'gather') {
    const five = one(g, 'Reshape', [packed, g.ints([0, 0, 3, heads, width])]);
    const turned = one(g, 'Transpose', [five], { perm: intsAttribute([2, 0, 3, 1, 4]) });
    return [0, 1, 2].map((at) => one(g, 'Gather', [turned, g.integer(at)], { axis: intAttribute(0) })) as [
      string,
      string,
      string,
    ];
  }
  const split = one(g, 'Reshape', [packed, g.ints([0, 0, heads, 3 * width])]);
  const parts = g.op('Split', [split, g.ints([width, width, width])], { axis: intAttribute(3) }, 3);
  return parts.map((part) => one(g, 'Transpose', [part], { perm: intsAttribute([0, 2, 1, 3]) })) as [
    string,
    string,
    string,
  ];
}

/** Rotary embedding written out: halves turned (bounds written down or computed) or neighbours turned. */
function rotate(g: GraphBuilder, x: string, width: number, positions: number): string {
  const [cosine, sine] = [g.weight([1, 1, positions, width], 1), g.weight([1, 1, positions, width], 1)];
  let turned: string;
  if (g.random() < 0.6) {
    const half = g.random() < 0.5 ? g.ints([width / 2]) : one(g, 'Div', [sizeOf(g, x, 3), g.ints([2])]);
    const first = one(g, 'Slice', [x, g.ints([0]), half, g.ints([3]), g.ints([1])]);
    const second = one(g, 'Slice', [x, half, g.ints([2 ** 40]), g.ints([-1]), g.ints([1])]);
    turned = one(g, 'Concat', [one(g, 'Neg', [second]), first], { axis: intAttribute(-1) });
  } else {
    const part = (at: number): string =>
      one(g, 'Unsqueeze', [
        one(g, 'Slice', [x, g.ints([at]), g.ints([2 ** 40]), g.ints([3]), g.ints([2])]),
        g.ints([-1]),
      ]);
    const pairs = one(g, 'Concat', [one(g, 'Neg', [part(1)]), part(0)], { axis: intAttribute(-1) });
    turned = one(g, 'Reshape', [pairs, g.random() < 0.5 ? g.ints([0, 0, 0, width]) : one(g, 'Shape', [x])]);
  }
  return one(g, 'Add', [one(g, 'Mul', [x, cosine]), one(g, 'Mul', [turned, sine])]);
}

/** Every key/value head once per query head that shares it. */
function repeatHeads(g: GraphBuilder, x: string, { heads, groups }: AttentionSizes, width: number): string {
  if (heads === groups) return x;
  const repeats = heads / groups;
  const [batch, positions] = [sizeOf(g, x, 0), sizeOf(g, x, 2)];
  const apart = one(g, 'Unsqueeze', [x, g.ints([2])]);
  const computed = joinSizes(g, [batch, groups, repeats, positions, width]);
  const target = g.pick([
    () => computed,
    () => {
      const ones = one(g, 'ConstantOfShape', [g.ints([5])], {});
      const minus = one(g, 'Cast', [one(g, 'Sub', [ones, g.scalar(1)])], { to: intAttribute(7) });
      return one(g, 'Where', [
        one(g, 'Equal', [computed, minus]),
        one(g, 'Cast', [ones], { to: intAttribute(7) }),
        computed,
      ]);
    },
    () => g.ints([1, 1, repeats, 1, 1]),
  ])();
  const repeated = one(g, 'Expand', [apart, target]);
  return one(g, 'Reshape', [
    repeated,
    g.random() < 0.5 ? joinSizes(g, [batch, heads, positions, width]) : g.ints([0, heads, -1, width]),
  ]);
}

/** softmax(q kᵀ · scale) v, with the scale written down, computed from a shape, or on both sides. */
function attend(g: GraphBuilder, q: string, k: string, v: string, { heads, width }: AttentionSizes): string {
  const keys = one(g, 'Transpose', [k], { perm: intsAttribute([0, 1, 3, 2]) });
  const fromShape = (): string => {
    const last = one(g, 'Slice', [one(g, 'Shape', [q]), g.ints([-1]), g.ints([2 ** 40])]);
    return one(g, 'Sqrt', [one(g, 'Cast', [last], { to: intAttribute(1) })]);
  };
  const kind = g.pick(['constant', 'computed', 'both sides', 'folded batch']);
  let scores: string;
  if (kind === 'constant') scores = one(g, 'Div', [one(g, 'MatMul', [q, keys]), g.scalar(Math.sqrt(width))]);
  else if (kind === 'computed') scores = one(g, 'Div', [one(g, 'MatMul', [q, keys]), fromShape()]);
  else if (kind === 'both sides') {
    const scale = one(g, 'Sqrt', [one(g, 'Div', [g.scalar(1), fromShape()])]);
    scores = one(g, 'MatMul', [one(g, 'Mul', [q, scale]), one(g, 'Mul', [scale, keys])]);
  } else {
    const [batch, positions] = [sizeOf(g, q, 0), sizeOf(g, q, 2)];
    const folded = one(g, 'Mul', [batch, g.ints([heads])]);
    const flat = (x: string): string => one(g, 'Reshape', [x, joinSizes(g, [folded, positions, width])]);
    const turned = one(g, 'Transpose', [flat(k)], { perm: intsAttribute([0, 2, 1]) });
    const product = one(g, 'MatMul', [flat(q), turned]);
    scores = one(g, 'Reshape', [product, joinSizes(g, [batch, heads, positions, positions])]);
  }
  if (g.random() < 0.3) scores = one(g, 'Add', [scores, g.weight([1, heads, 1, 1], 1)]);
  return one(g, 'MatMul', [one(g, 'Softmax', [scores], { axis: intAttribute(-1) }), v]);
}

/** Multi-head or grouped-query attention from primitive operators, in one of the ways exporters write it. */
export function attention(g: GraphBuilder, x: string, sizes: AttentionSizes, positions: number): string {
  let [q, k, v] = project(g, x, sizes);
  if (g.random() < 0.4) [q, k] = [rotate(g, q, sizes.width, positions), rotate(g, k, sizes.width, positions)];
  if (g.random() < 0.2) q = rmsNorm(g, q, sizes.width);
  [k, v] = [repeatHeads(g, k, sizes, sizes.width), repeatHeads(g, v, sizes, sizes.value)];
  const mixed = fromHeads(g, attend(g, q, k, v, sizes), sizes.heads * sizes.value);
  return linear(g, mixed, sizes.heads * sizes.value, sizes.model);
}

/** Root mean square norm, fused or from primitive operators. */
export function rmsNorm(g: GraphBuilder, x: string, width: number): string {
  const gamma = g.weight([width], 0.4, 1);
  if (g.random() < 0.4) {
    return one(g, 'SimplifiedLayerNormalization', [x, gamma], {
      axis: intAttribute(-1),
      epsilon: floatAttribute(1e-3),
    });
  }
  const squares = one(g, 'Pow', [x, g.scalar(2)]);
  const mean = one(g, 'ReduceMean', [squares], { axes: intsAttribute([-1]), keepdims: intAttribute(1) });
  const inverse = one(g, 'Reciprocal', [one(g, 'Sqrt', [one(g, 'Add', [mean, g.scalar(1e-3)])])]);
  return one(g, 'Mul', [one(g, 'Mul', [x, inverse]), gamma]);
}

/** Hidden layer of a transformer block: plain, gated, or gated with one projection for both halves. */
export function hiddenLayer(g: GraphBuilder, x: string, model: number, hidden: number): string {
  const kind = g.pick(['plain', 'gated', 'fused', 'fused slices']);
  if (kind === 'plain') return linear(g, g.activation(linear(g, x, model, hidden)), hidden, model);
  const [gate, up] = halves(g, x, kind, model, hidden);
  const silu = one(g, 'Mul', [gate, one(g, 'Sigmoid', [gate])]);
  return linear(g, one(g, 'Mul', [silu, up]), hidden, model);
}

/** A gate and what it gates, from two projections or cut out of one. */
function halves(g: GraphBuilder, x: string, kind: string, model: number, hidden: number): [string, string] {
  if (kind === 'gated') return [linear(g, x, model, hidden), linear(g, x, model, hidden)];
  const both = linear(g, x, model, 2 * hidden);
  if (kind === 'fused') return g.op('Split', [both], { axis: intAttribute(-1) }, 2) as [string, string];
  return [
    one(g, 'Slice', [both, g.ints([0]), g.ints([hidden]), g.ints([-1]), g.ints([1])]),
    one(g, 'Slice', [both, g.ints([-hidden]), g.ints([2 ** 40]), g.ints([-1]), g.ints([1])]),
  ];
}
