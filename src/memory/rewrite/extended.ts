import type { Node } from '../../onnx/model.js';
import { getInts, getString, intAttribute } from '../../onnx/attribute.js';
import { is, type GraphEditor } from './editor.js';
import { fuseDynamicQuantization, fuseIntegerProducts } from './integer.js';

const microsoft = 'com.microsoft';

const activations = [
  'Relu',
  'Sigmoid',
  'Tanh',
  'LeakyRelu',
  'Elu',
  'HardSigmoid',
  'Softplus',
  'Softsign',
  'Selu',
  'ThresholdedRelu',
];

/** Gemm followed by an activation runs as one node. */
function fuseGemmActivation(editor: GraphEditor): void {
  for (const node of editor.ordered()) {
    if (!is(node, 'Gemm')) continue;
    const next = editor.onlyConsumer(node.outputs[0]);
    if (!is(next, ...activations)) continue;
    editor.remove(node, next);
    editor.add({ ...node, opType: 'FusedGemm', domain: microsoft, name: `fused ${node.name}`, outputs: next.outputs });
  }
}

const convActivations = ['Relu', 'Sigmoid', 'Tanh', 'LeakyRelu', 'Clip', 'HardSigmoid'];

/** Conv followed by an activation (level `extended`, float only). */
function fuseConvActivation(editor: GraphEditor): void {
  for (const node of editor.ordered()) {
    if (!is(node, 'Conv')) continue;
    const next = editor.onlyConsumer(node.outputs[0]);
    if (!is(next, ...convActivations)) continue;
    if (is(next, 'Clip') && !next.inputs.slice(1).every((input) => input === '' || editor.isConstant(input))) continue;
    editor.remove(node, next);
    editor.add({
      ...node,
      opType: 'FusedConv',
      domain: microsoft,
      name: `fused ${node.name}`,
      outputs: next.outputs,
      attributes: new Map([
        ...node.attributes,
        ['activation', { type: 'string', value: new TextEncoder().encode(next.opType) }],
      ]),
    });
  }
}

/** x * 0.5 * (1 + erf(x / sqrt 2)) becomes Gelu. */
function fuseGelu(editor: GraphEditor): void {
  for (const node of editor.ordered()) {
    if (!is(node, 'Div', 'Mul') || !editor.isConstant(node.inputs[1])) continue;
    const erf = editor.onlyConsumer(node.outputs[0]);
    if (!is(erf, 'Erf')) continue;
    const add = editor.onlyConsumer(erf.outputs[0]);
    if (!is(add, 'Add')) continue;
    const source = node.inputs[0] ?? '';
    const chain = [node, erf, add];
    let last = editor.onlyConsumer(add.outputs[0]);
    let halved = false;
    let scaled = false;
    while (is(last, 'Mul') && !(halved && scaled)) {
      const other = last.inputs.find((input) => input !== chain.at(-1)?.outputs[0]) ?? '';
      const halfOf = editor.producer(other);
      if (editor.isConstant(other)) halved = true;
      else if (other === source) scaled = true;
      else if (is(halfOf, 'Mul') && halfOf.inputs.includes(source)) {
        halved = scaled = true;
        chain.push(halfOf);
      } else break;
      chain.push(last);
      if (halved && scaled) break;
      last = editor.onlyConsumer(last.outputs[0]);
    }
    const end = chain.at(-1);
    if (!(halved && scaled) || !end) continue;
    editor.remove(...chain);
    editor.add({
      ...end,
      opType: 'Gelu',
      domain: microsoft,
      name: `${end.name}/GeluFusion`,
      inputs: [source],
      attributes: new Map(),
    });
  }
}

/** Mean, deviation, square, mean, root, scale (and shift) become LayerNormalization. */
function fuseLayerNorm(editor: GraphEditor): void {
  for (const mean of editor.ordered()) {
    if (!is(mean, 'ReduceMean')) continue;
    const source = mean.inputs[0] ?? '';
    const sub = editor.consumers(mean.outputs[0]).find((node) => is(node, 'Sub') && node.inputs[0] === source);
    if (!sub) continue;
    const pow = editor.consumers(sub.outputs[0]).find((node) => is(node, 'Pow', 'Mul') && node !== sub);
    const variance = editor.onlyConsumer(pow?.outputs[0]);
    const add = is(variance, 'ReduceMean') ? editor.onlyConsumer(variance.outputs[0]) : undefined;
    const root = is(add, 'Add') ? editor.onlyConsumer(add.outputs[0]) : undefined;
    const div = is(root, 'Sqrt') ? editor.onlyConsumer(root.outputs[0]) : undefined;
    const scale = is(div, 'Div') ? editor.onlyConsumer(div.outputs[0]) : undefined;
    if (!pow || !variance || !add || !root || !div || !is(scale, 'Mul')) continue;
    const weight = scale.inputs.find((input) => editor.isConstant(input));
    if (weight === undefined) continue;
    const shift = editor.onlyConsumer(scale.outputs[0]);
    const bias = is(shift, 'Add') ? shift.inputs.find((input) => editor.isConstant(input)) : undefined;
    const last = bias === undefined || !shift ? scale : shift;
    editor.remove(mean, sub, pow, variance, add, root, div, scale, last);
    const inputs = bias === undefined ? [source, weight] : [source, weight, bias];
    editor.add({
      ...last,
      opType: 'LayerNormalization',
      name: `${last.name}/LayerNormFusion/`,
      inputs,
      attributes: new Map(),
    });
  }
}

/** Square, mean, root, scale become SimplifiedLayerNormalization (RMS norm). */
function fuseRmsNorm(editor: GraphEditor): void {
  for (const pow of editor.ordered()) {
    if (!is(pow, 'Pow') || editor.numbers(pow.inputs[1])?.[0] !== 2) continue;
    const source = pow.inputs[0] ?? '';
    const mean = editor.onlyConsumer(pow.outputs[0]);
    const add = is(mean, 'ReduceMean') ? editor.onlyConsumer(mean.outputs[0]) : undefined;
    const root = is(add, 'Add') ? editor.onlyConsumer(add.outputs[0]) : undefined;
    const div = is(root, 'Sqrt') ? editor.onlyConsumer(root.outputs[0]) : undefined;
    const scale = is(div, 'Div') && div.inputs[0] === source ? editor.onlyConsumer(div.outputs[0]) : undefined;
    const weight = is(scale, 'Mul') ? scale.inputs.find((input) => editor.isConstant(input)) : undefined;
    if (!scale || weight === undefined || editor.dims(weight)?.length !== 1) continue;
    editor.remove(pow, mean, add, root, div, scale);
    editor.add({
      ...scale,
      opType: 'SimplifiedLayerNormalization',
      name: `${scale.name}/SimplifiedLayerNormFusion/`,
      inputs: [source, weight],
      attributes: new Map([['axis', intAttribute(-1)]]),
    });
  }
}

/** Neighbouring slices or gathers that cut a whole axis apart become one Split. */
function fuseSlicesToSplit(editor: GraphEditor): void {
  const done = new Set<string>();
  for (const node of editor.ordered()) {
    const source = node.inputs[0] ?? '';
    if (!is(node, 'Slice') || done.has(source)) continue;
    done.add(source);
    const users = editor.consumers(source);
    if (users.length < 2 || !users.every((user) => is(user, 'Slice'))) continue;
    const parts = users.map((user) => ({
      user,
      start: editor.numbers(user.inputs[1]),
      end: editor.numbers(user.inputs[2]),
      axis: editor.numbers(user.inputs[3])?.[0],
      step: user.inputs[4] ? editor.numbers(user.inputs[4])?.[0] : 1,
    }));
    const rank = editor.dims(source)?.length ?? 0;
    const axis = parts[0]?.axis;
    if (axis === undefined || parts.some((part) => part.axis !== axis || part.step !== 1 || part.start?.length !== 1))
      continue;
    const size = editor.dims(source)?.[axis < 0 ? axis + rank : axis];
    parts.sort((a, b) => (a.start?.[0] ?? 0) - (b.start?.[0] ?? 0));
    let reached = 0;
    const sizes = parts.map(({ start, end }) => {
      const from = start?.[0];
      const to = Math.min(end?.[0] ?? -1, typeof size === 'number' ? size : -1);
      if (from !== reached) reached = NaN;
      const length = to - (from ?? NaN);
      reached += length;
      return length;
    });
    if (reached !== size) continue;
    editor.remove(...users);
    const last = parts.at(-1)?.user ?? node;
    editor.add({
      ...last,
      opType: 'Split',
      name: `${last.name}/GatherSliceToSplitFusion/`,
      inputs: [source, editor.integers(`${source}/splits`, sizes)],
      outputs: parts.map(({ user }) => user.outputs[0] ?? ''),
      attributes: new Map([['axis', intAttribute(axis)]]),
    });
  }
}

/** A transpose of the last two axes before a product becomes an attribute of it. */
function fuseMatMulTranspose(editor: GraphEditor): void {
  for (const node of editor.ordered()) {
    if (!is(node, 'MatMul', `${microsoft}:FusedMatMul`)) continue;
    const inputs = [...node.inputs];
    const flags: [string, ReturnType<typeof intAttribute>][] = [];
    const gone: Node[] = [];
    for (const [index, flag] of [
      [0, 'transA'],
      [1, 'transB'],
    ] as const) {
      const transpose = editor.producer(inputs[index]);
      if (!is(transpose, 'Transpose')) continue;
      const order = getInts(transpose, 'perm', undefined);
      const rank = editor.dims(transpose.inputs[0])?.length ?? 0;
      const wanted = Array.from({ length: rank }, (_, axis) => (axis < rank - 2 ? axis : 2 * rank - 3 - axis));
      if (rank < 2 || (order ?? wanted).join() !== wanted.join()) continue;
      inputs[index] = transpose.inputs[0] ?? '';
      flags.push([flag, intAttribute(1)]);
      if (editor.onlyConsumer(transpose.outputs[0]) === node) gone.push(transpose);
    }
    if (flags.length === 0) continue;
    editor.remove(node, ...gone);
    const name = `${node.name}/MatmulTransposeFusion/`;
    editor.add({
      ...node,
      opType: 'FusedMatMul',
      domain: microsoft,
      name,
      inputs,
      attributes: new Map([...node.attributes, ...flags]),
    });
  }
}

/** Add of a bias before Gelu runs with it. */
function fuseBiasGelu(editor: GraphEditor): void {
  for (const node of editor.ordered()) {
    if (!is(node, 'Add')) continue;
    const bias = node.inputs.findIndex((input) => editor.isConstant(input) && editor.dims(input)?.length === 1);
    const gelu = editor.onlyConsumer(node.outputs[0]);
    const last = (value: string | undefined) => editor.dims(value)?.at(-1);
    if (bias < 0 || !is(gelu, 'Gelu', `${microsoft}:Gelu`) || last(node.inputs[0]) !== last(node.inputs[1])) continue;
    if (getString(gelu, 'approximate', 'none') === 'tanh') continue;
    editor.remove(node, gelu);
    const inputs = [node.inputs[1 - bias] ?? '', node.inputs[bias] ?? ''];
    editor.add({ ...gelu, opType: 'BiasGelu', domain: microsoft, name: 'BiasGelu', inputs, attributes: new Map() });
  }
}

/** Residual sum (and bias) before LayerNormalization, when nobody else needs the sum. */
function fuseSkipLayerNorm(editor: GraphEditor): void {
  for (const norm of editor.ordered()) {
    if (!is(norm, 'LayerNormalization')) continue;
    const rank = editor.dims(norm.inputs[0])?.length;
    const add = editor.producer(norm.inputs[0]);
    if (rank !== 3 || !is(add, 'Add') || editor.onlyConsumer(add.outputs[0]) !== norm) continue;
    const same = (a: string | undefined, b: string | undefined) => editor.dims(a)?.join() === editor.dims(b)?.join();
    if (!same(add.inputs[0], add.inputs[1])) continue;
    let [input = '', skip = ''] = add.inputs;
    let bias: string | null = null;
    const gone = [norm, add];
    for (const which of [0, 1] as const) {
      const inner = editor.producer(which === 0 ? input : skip);
      if (bias !== null || !is(inner, 'Add') || editor.onlyConsumer(inner.outputs[0]) !== add) continue;
      const at = inner.inputs.findIndex((value) => editor.isConstant(value) && editor.dims(value)?.length === 1);
      if (at < 0) continue;
      bias = inner.inputs[at] ?? null;
      gone.push(inner);
      if (which === 0) input = inner.inputs[1 - at] ?? '';
      else skip = inner.inputs[1 - at] ?? '';
    }
    editor.remove(...gone);
    const rest = bias === null ? norm.inputs.slice(1) : [norm.inputs[1] ?? '', norm.inputs[2] ?? '', bias];
    editor.add({
      ...norm,
      opType: 'SkipLayerNormalization',
      domain: microsoft,
      name: 'SkipLayerNormalization',
      inputs: [input, skip, ...rest],
    });
  }
}

/** x * sigmoid(a x) becomes QuickGelu. */
function fuseQuickGelu(editor: GraphEditor): void {
  for (const sigmoid of editor.ordered()) {
    if (!is(sigmoid, 'Sigmoid')) continue;
    const mul = editor.onlyConsumer(sigmoid.outputs[0]);
    if (!is(mul, 'Mul')) continue;
    const source = mul.inputs.find((input) => input !== sigmoid.outputs[0]) ?? '';
    const scaled = editor.producer(sigmoid.inputs[0]);
    const direct = sigmoid.inputs[0] === source;
    const viaScale =
      is(scaled, 'Mul') && scaled.inputs.includes(source) && scaled.inputs.some((input) => editor.isConstant(input));
    if (!direct && !viaScale) continue;
    editor.remove(sigmoid, mul, direct ? undefined : scaled);
    editor.add({
      ...mul,
      opType: 'QuickGelu',
      domain: microsoft,
      name: `${mul.name}/QuickGeluFusion/`,
      inputs: [source],
      attributes: new Map(),
    });
  }
}

/** A constant factor around a product becomes its alpha. */
function fuseMatMulScale(editor: GraphEditor): void {
  const scaleOf = (node: Node | undefined): string | null => {
    if (!is(node, 'Mul', 'Div')) return null;
    const at = node.inputs.findIndex((input) => editor.isConstant(input) && (editor.numbers(input)?.length ?? 0) === 1);
    if (at < 0 || (is(node, 'Div') && at === 0)) return null;
    return node.inputs[1 - at] ?? null;
  };
  for (const node of editor.ordered()) {
    if (!is(node, 'MatMul', `${microsoft}:FusedMatMul`)) continue;
    const gone: Node[] = [node];
    const inputs = node.inputs.map((input) => {
      const before = editor.producer(input);
      const value = scaleOf(before);
      if (value === null || !before || editor.onlyConsumer(input) !== node) return input;
      gone.push(before);
      return value;
    });
    let outputs = node.outputs;
    const after = editor.onlyConsumer(node.outputs[0]);
    if (after && scaleOf(after) !== null) {
      gone.push(after);
      outputs = after.outputs;
    }
    if (gone.length === 1) continue;
    editor.remove(...gone);
    editor.add({
      ...node,
      opType: 'FusedMatMul',
      domain: microsoft,
      name: `${node.name}/MatMulScaleFusion/`,
      inputs,
      outputs,
    });
  }
}

/** The float rewrites of the runtime's level `extended`, in its order. */
export function applyExtended(editor: GraphEditor): void {
  fuseGemmActivation(editor);
  fuseIntegerProducts(editor);
  fuseDynamicQuantization(editor);
  fuseConvActivation(editor);
  fuseGelu(editor);
  fuseLayerNorm(editor);
  fuseRmsNorm(editor);
  fuseSlicesToSplit(editor);
  fuseMatMulTranspose(editor);
  fuseBiasGelu(editor);
  fuseSkipLayerNorm(editor);
  fuseQuickGelu(editor);
  fuseMatMulScale(editor);
}
