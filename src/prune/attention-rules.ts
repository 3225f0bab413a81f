import { floatAttribute, getFloat, getInt, getInts, intAttribute, intsAttribute } from '../onnx/graph.js';
import type { Node } from '../onnx/model.js';
import type { Atom } from './axis-atoms.js';
import { samePerAxis, type AxisGraph, type AxisRule, type MendContext } from './axis-graph.js';

/** The axes one attention operator works with. */
interface HeadAxes {
  /** Heads of keys and values. */
  groups: Atom;
  /** Query heads per key/value head. */
  repeats: Atom;
  /** Query and key width of a head. */
  width: Atom;
  /** Value width of a head. */
  value: Atom;
}

function headAxes(graph: AxisGraph, heads: number, kvHeads: number, width: number, value: number): HeadAxes | null {
  const sizes = [heads / kvHeads, width, value];
  if (!sizes.every((size) => Number.isInteger(size) && size > 0)) return null;
  const { atoms } = graph;
  const axes = {
    groups: atoms.fresh(kvHeads),
    repeats: atoms.fresh(heads / kvHeads),
    width: atoms.fresh(width),
    value: atoms.fresh(value),
  };
  graph.mark(atoms.product([axes.groups, axes.repeats]), 'heads');
  graph.mark(axes.repeats, 'head repeats');
  graph.mark(axes.width, 'query-key width');
  graph.mark(axes.value, 'value width');
  return axes;
}

/** A fused operator ties both widths (one head size) or cannot change them. */
function oneHeadSize(graph: AxisGraph, axes: HeadAxes, reason: string | null): void {
  graph.atoms.unite(axes.width, axes.value);
  if (reason !== null) graph.atoms.block(axes.width, reason);
}

const given = (node: Node, index: number): boolean => (node.inputs[index] ?? '') !== '';

/** Unites the axes of an optional input or output with what they must be; undefined parts are left alone. */
function expect(graph: AxisGraph, name: string | undefined, wanted: readonly (Atom | undefined)[]): boolean {
  if (name === undefined || name === '') return true;
  const axes = graph.axes(name);
  if (axes?.length !== wanted.length) return false;
  wanted.forEach((atom, at) => {
    if (atom === undefined) return;
    // Masks may have one entry for all heads.
    if (axes[at]!.size !== 1 || atom.size === 1) graph.atoms.unite(axes[at]!, atom);
  });
  return true;
}

/** Scores are divided by the root of the original head width, whatever is left of it. */
function keepScale(node: Node, axes: HeadAxes, context: MendContext): Node['attributes'] {
  const attributes = new Map(node.attributes);
  if (context.changed(axes.width) && getFloat(node, 'scale', 0) === 0) {
    attributes.set('scale', floatAttribute(1 / Math.sqrt(axes.width.size)));
  }
  return attributes;
}

const headCount = (axes: HeadAxes, context: MendContext): number =>
  context.size(axes.groups) * context.size(axes.repeats);

function mendHeads(graph: AxisGraph, node: Node, axes: HeadAxes, names: { heads: string; kvHeads?: string }): void {
  graph.mends.set(node, (current, context) => {
    if (![axes.groups, axes.repeats, axes.width].some(context.changed)) return current;
    const attributes = keepScale(current, axes, context);
    if (attributes.has(names.heads)) attributes.set(names.heads, intAttribute(headCount(axes, context)));
    if (names.kvHeads !== undefined && attributes.has(names.kvHeads)) {
      attributes.set(names.kvHeads, intAttribute(context.size(axes.groups)));
    }
    return { ...current, attributes };
  });
}

/** com.microsoft.Attention: projections inside, weight columns are (query | key | value) × heads × width. */
const attention: AxisRule = (graph, node) => {
  const [x, w, y] = [graph.axes(node.inputs[0]), graph.axes(node.inputs[1]), graph.axes(node.outputs[0])];
  const heads = getInt(node, 'num_heads', 0);
  if (x?.length !== 3 || w?.length !== 2 || y?.length !== 3 || heads < 1 || getInt(node, 'do_rotary', 0) !== 0)
    return false;
  const third = w[1]!.size / 3;
  const [queries = third, keys = third, values = third] = getInts(node, 'qkv_hidden_sizes', undefined) ?? [];
  const axes = headAxes(graph, heads, heads, queries / heads, values / heads);
  if (axes === null || queries !== keys) return false;
  const { atoms } = graph;
  const [query, value] = [atoms.product([axes.groups, axes.width]), atoms.product([axes.groups, axes.value])];
  const columns = atoms.concat([query, query, value]);
  atoms.unite(w[1]!, columns);
  atoms.unite(x[2]!, w[0]!);
  atoms.unite(y[2]!, value);
  atoms.unite(x[0]!, y[0]!);
  for (const axis of [x[1]!, y[1]!]) atoms.block(axis, 'attention positions');
  if (given(node, 3)) graph.blockValue(node.inputs[3]!, 'attention mask');
  const cache = [undefined, x[0], axes.groups, undefined, axes.width];
  if (given(node, 4) || (node.outputs[1] ?? '') !== '') oneHeadSize(graph, axes, null);
  if (!expect(graph, node.inputs[2], [columns]) || !expect(graph, node.inputs[4], cache)) return false;
  if (
    !expect(graph, node.outputs[1], cache) ||
    !expect(graph, node.inputs[5], [undefined, axes.groups, undefined, undefined])
  ) {
    return false;
  }
  graph.use(node, [1, 0, 2], { input: w[0]!, output: w[1]!, inputAxis: 0, outputAxis: 1, grouped: true });
  // Queries and keys meet inside: leaving a unit out is leaving its weights out.
  graph.sink(node, 1, 1);
  if (given(node, 2)) graph.sink(node, 2, 0);
  graph.mends.set(node, (current, context) => {
    if (![axes.groups, axes.width, axes.value].some(context.changed)) return current;
    const attributes = keepScale(current, axes, context);
    const count = context.size(axes.groups);
    attributes.set('num_heads', intAttribute(count));
    const [q, v] = [count * context.size(axes.width), count * context.size(axes.value)];
    attributes.set('qkv_hidden_sizes', intsAttribute([q, q, v]));
    return { ...current, attributes };
  });
  return true;
};

/** com.microsoft.MultiHeadAttention with separate (batch, positions, heads × width) query, key and value. */
const multiHeadAttention: AxisRule = (graph, node) => {
  const [q, k, v] = [0, 1, 2].map((at) => graph.axes(node.inputs[at]));
  const y = graph.axes(node.outputs[0]);
  const heads = getInt(node, 'num_heads', 0);
  if (q?.length !== 3 || k?.length !== 3 || v?.length !== 3 || y?.length !== 3 || heads < 1) return false;
  if (given(node, 8) || given(node, 9)) return false;
  const axes = headAxes(graph, heads, heads, q[2]!.size / heads, v[2]!.size / heads);
  if (axes === null) return false;
  const { atoms } = graph;
  const [query, value] = [atoms.product([axes.groups, axes.width]), atoms.product([axes.groups, axes.value])];
  atoms.unite(q[2]!, query);
  atoms.unite(k[2]!, query);
  atoms.unite(v[2]!, value);
  atoms.unite(y[2]!, value);
  for (const one of [k, v, y]) atoms.unite(one[0]!, q[0]!);
  for (const one of [q, k, v, y]) atoms.block(one[1]!, 'attention positions');
  const bias = atoms.concat([query, query, value]);
  if (given(node, 4)) graph.blockValue(node.inputs[4]!, 'attention mask');
  const keyCache = [q[0], axes.groups, undefined, axes.width];
  const valueCache = [q[0], axes.groups, undefined, axes.value];
  const fits =
    expect(graph, node.inputs[3], [bias]) &&
    expect(graph, node.inputs[5], [undefined, axes.groups, undefined, undefined]) &&
    expect(graph, node.inputs[6], keyCache) &&
    expect(graph, node.inputs[7], valueCache) &&
    expect(graph, node.outputs[1], keyCache) &&
    expect(graph, node.outputs[2], valueCache);
  if (!fits) return false;
  graph.sink(node, 0, 2);
  if (given(node, 3)) graph.sink(node, 3, 0);
  mendHeads(graph, node, axes, { heads: 'num_heads' });
  return true;
};

/** com.microsoft.GroupQueryAttention: query heads are (key/value head, repeat); its kernels fix the head width. */
const groupQueryAttention: AxisRule = (graph, node) => {
  const [q, y] = [graph.axes(node.inputs[0]), graph.axes(node.outputs[0])];
  const heads = getInt(node, 'num_heads', 0);
  const kvHeads = getInt(node, 'kv_num_heads', heads);
  if (q?.length !== 3 || y?.length !== 3 || heads < 1 || kvHeads < 1) return false;
  const packed = !given(node, 1);
  const width = q[2]!.size / (packed ? heads + 2 * kvHeads : heads);
  const axes = headAxes(graph, heads, kvHeads, width, width);
  if (axes === null) return false;
  oneHeadSize(graph, axes, 'head width of a fused attention');
  const { atoms } = graph;
  const query = atoms.product([axes.groups, axes.repeats, axes.width]);
  const key = atoms.product([axes.groups, axes.width]);
  atoms.unite(q[2]!, packed ? atoms.concat([query, key, key]) : query);
  atoms.unite(y[2]!, query);
  atoms.unite(y[0]!, q[0]!);
  for (const one of [q, y]) atoms.block(one[1]!, 'attention positions');
  const cache = [q[0], axes.groups, undefined, axes.width];
  const fits =
    expect(graph, node.inputs[1], [q[0], undefined, key]) &&
    expect(graph, node.inputs[2], [q[0], undefined, key]) &&
    [node.inputs[3], node.inputs[4], node.outputs[1], node.outputs[2]].every((name) => expect(graph, name, cache)) &&
    expect(graph, node.inputs[10], [undefined, atoms.product([axes.groups, axes.repeats]), undefined, undefined]) &&
    expect(graph, node.inputs[11], [atoms.product([axes.groups, axes.repeats])]) &&
    !given(node, 12) &&
    !given(node, 13);
  if (!fits) return false;
  for (const name of node.inputs.slice(5, 10)) if (name !== '') graph.blockValue(name, 'attention positions');
  mendHeads(graph, node, axes, { heads: 'num_heads', kvHeads: 'kv_num_heads' });
  return true;
};

/** ai.onnx Attention (opset 23): inputs with heads as an axis of their own, or folded into the width. */
const standardAttention: AxisRule = (graph, node) => {
  const [q, k, v] = [0, 1, 2].map((at) => graph.axes(node.inputs[at]));
  const y = graph.axes(node.outputs[0]);
  if (!q || !k || !v || !y || [k, v, y].some((one) => one.length !== q.length)) return false;
  const folded = q.length === 3;
  const heads = folded ? getInt(node, 'q_num_heads', 0) : q[1]!.size;
  const kvHeads = folded ? getInt(node, 'kv_num_heads', 0) : k[1]!.size;
  const perHead = (one: Atom[], count: number) => one.at(-1)!.size / (folded ? count : 1);
  const axes =
    heads < 1 || kvHeads < 1 ? null : headAxes(graph, heads, kvHeads, perHead(q, heads), perHead(v, kvHeads));
  if (axes === null) return false;
  const { atoms } = graph;
  const queryHeads = atoms.product([axes.groups, axes.repeats]);
  const layout = (count: Atom, width: Atom): (Atom | undefined)[] =>
    folded ? [q[0], undefined, atoms.product([count, width])] : [q[0], count, undefined, width];
  const keyCache = [q[0], axes.groups, undefined, axes.width];
  const valueCache = [q[0], axes.groups, undefined, axes.value];
  const fits =
    expect(graph, node.inputs[0], layout(queryHeads, axes.width)) &&
    expect(graph, node.inputs[1], layout(axes.groups, axes.width)) &&
    expect(graph, node.inputs[2], layout(axes.groups, axes.value)) &&
    expect(graph, node.outputs[0], layout(queryHeads, axes.value)) &&
    expect(graph, node.inputs[4], keyCache) &&
    expect(graph, node.inputs[5], valueCache) &&
    expect(graph, node.outputs[1], keyCache) &&
    expect(graph, node.outputs[2], valueCache) &&
    !given(node, 6) &&
    (node.outputs[3] ?? '') === '';
  if (!fits) return false;
  for (const one of [q, k, v, y]) atoms.block(one.at(-2)!, 'attention positions');
  const mask = given(node, 3) ? graph.axes(node.inputs[3]) : [];
  if (mask === null) return false;
  mask.forEach((axis, at) => {
    const fromEnd = mask.length - at;
    if (fromEnd === 3 && axis.size > 1) atoms.unite(axis, queryHeads);
    else atoms.block(axis, 'attention mask');
  });
  graph.sink(node, 0, q.length - 1, axes.width);
  mendHeads(graph, node, axes, { heads: 'q_num_heads', kvHeads: 'kv_num_heads' });
  return true;
};

/** Rotary embedding turns pairs of a head's width: halves, or neighbours when interleaved; tables have one entry a pair. */
function rotary(tables: readonly [number, number]): AxisRule {
  return (graph, node) => {
    const [x, y] = [graph.axes(node.inputs[0]), graph.axes(node.outputs[0])];
    const cosine = graph.axes(node.inputs[tables[0]]);
    if (x === null || cosine === null || getInt(node, 'rotary_embedding_dim', 0) !== 0) return false;
    const pairs = cosine.at(-1)!;
    const width = pairs.size * 2;
    const count = x.at(-1)!.size / width;
    if (!Number.isInteger(count) || (x.length === 4 && count !== 1)) return false;
    const { atoms } = graph;
    const two = atoms.fresh(2);
    atoms.block(two, 'pairs of a rotary embedding');
    const heads = atoms.fresh(count);
    const turned = getInt(node, 'interleaved', 0) === 0 ? [two, pairs] : [pairs, two];
    atoms.unite(x.at(-1)!, atoms.product([heads, ...turned]));
    for (const at of tables) {
      const table = graph.axes(node.inputs[at])!;
      atoms.unite(table.at(-1)!, pairs);
      for (const axis of table.slice(0, -1)) atoms.block(axis, 'positions of a rotary embedding');
    }
    graph.mends.set(node, (current, context) =>
      getInt(current, 'num_heads', 0) > 0 && x.length === 3 && context.changed(heads)
        ? { ...current, attributes: new Map(current.attributes).set('num_heads', intAttribute(context.size(heads))) }
        : current,
    );
    return samePerAxis(graph, x, y);
  };
}

/** Attention and rotary embedding as single operators. */
export const attentionRules: Readonly<Record<string, AxisRule>> = {
  Attention: standardAttention,
  RotaryEmbedding: rotary([1, 2]),
  'com.microsoft:Attention': attention,
  'com.microsoft:MultiHeadAttention': multiHeadAttention,
  'com.microsoft:GroupQueryAttention': groupQueryAttention,
  'com.microsoft:RotaryEmbedding': rotary([2, 3]),
};
