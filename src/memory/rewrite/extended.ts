import type { Provider } from '../../contract/types.js';
import type { Node } from '../../onnx/model.js';
import { getInt, getInts, intAttribute } from '../../onnx/attribute.js';
import { is, type GraphEditor } from './editor.js';
import { fuseBiasGelu, fuseFastGelu, fuseGelu, fuseQuickGelu } from './gelu.js';
import { fuseLayerNorm, fuseRmsNorm, fuseSkipLayerNorm } from './normalization.js';
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

/** Gathers that pick every index of an axis become one Split, with a Squeeze each when they picked by a scalar. */
function fuseGathersToSplit(editor: GraphEditor): void {
  const done = new Set<string>();
  for (const node of editor.ordered()) {
    const source = node.inputs[0] ?? '';
    if (!is(node, 'Gather') || done.has(source)) continue;
    done.add(source);
    const users = editor.consumers(source);
    const sizes = editor.dims(source);
    if (!sizes || users.length < 2 || is(editor.producer(source), 'Shape')) continue;
    const positive = (value: number, size: number) => (value < 0 ? value + size : value);
    const axis = positive(getInt(node, 'axis', 0), sizes.length);
    const scalar = editor.dims(node.inputs[1])?.length === 0;
    const picked = users.map((user) => {
      const index = user.inputs[0] === source && is(user, 'Gather') ? editor.numbers(user.inputs[1]) : undefined;
      const same = positive(getInt(user, 'axis', 0), sizes.length) === axis;
      if (!same || index?.length !== 1 || (editor.dims(user.inputs[1])?.length === 0) !== scalar) return -1;
      return positive(index[0] ?? -1, users.length);
    });
    if (sizes[axis] !== users.length || [...picked].sort((a, b) => a - b).some((index, at) => index !== at)) continue;
    const outputs = users.map((_, index) => users[picked.indexOf(index)]?.outputs[0] ?? '');
    const last = users.at(-1) ?? node;
    const one = sizes.map((size, at) => (at === axis ? 1 : size));
    const parts = scalar ? outputs.map((output) => `${output}/split`) : outputs;
    for (const part of parts) editor.describe(part, editor.dataType(source), one);
    editor.remove(...users);
    editor.add({
      ...last,
      opType: 'Split',
      name: `${last.name}/GatherSliceToSplitFusion`,
      inputs: [source, editor.integers(`${source}/splits`, Array<number>(users.length).fill(1))],
      outputs: parts,
      attributes: new Map([['axis', intAttribute(axis)]]),
    });
    if (!scalar) continue;
    const axes = editor.integers(`${source}/squeezed`, [axis]);
    outputs.forEach((output, index) => {
      const inputs = [parts[index] ?? '', axes];
      editor.add({ ...last, opType: 'Squeeze', name: 'Squeeze', inputs, outputs: [output], attributes: new Map() });
    });
  }
}

/** The same cast of what stands before a transpose that goes. */
function castBefore(editor: GraphEditor, cast: Node, source: string): string {
  const output = `${cast.outputs[0] ?? ''}/untransposed`;
  editor.describe(output, editor.dataType(cast.outputs[0]), editor.dims(source) ?? []);
  editor.add({ ...cast, name: `${cast.name}/MatmulTransposeFusion/`, inputs: [source], outputs: [output] });
  return output;
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
      const made = editor.producer(inputs[index]);
      const cast = is(made, 'Cast') && editor.onlyConsumer(made.outputs[0]) === node ? made : undefined;
      const transpose = cast ? editor.producer(cast.inputs[0]) : made;
      if (!is(transpose, 'Transpose')) continue;
      const order = getInts(transpose, 'perm', undefined);
      const rank = editor.dims(transpose.inputs[0])?.length ?? 0;
      const wanted = Array.from({ length: rank }, (_, axis) => (axis < rank - 2 ? axis : 2 * rank - 3 - axis));
      if (rank < 2 || (order ?? wanted).join() !== wanted.join()) continue;
      const [source = ''] = transpose.inputs;
      inputs[index] = cast ? castBefore(editor, cast, source) : source;
      flags.push([flag, intAttribute(1)]);
      if (cast) gone.push(cast);
      if (editor.onlyConsumer(transpose.outputs[0]) === (cast ?? node)) gone.push(transpose);
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

/**
 * The float rewrites of the runtime's level `extended`, in its order. Some are only done for the CPU and CUDA: on
 * WebGPU the nodes stay apart.
 */
export function applyExtended(editor: GraphEditor, provider: Provider, disabled: ReadonlySet<string>): void {
  const webgpu = provider === 'webgpu';
  if (!webgpu) {
    fuseGemmActivation(editor);
    fuseIntegerProducts(editor);
    fuseDynamicQuantization(editor);
  }
  fuseConvActivation(editor);
  fuseGelu(editor);
  fuseLayerNorm(editor);
  if (!webgpu) {
    fuseRmsNorm(editor);
    fuseSlicesToSplit(editor);
    fuseGathersToSplit(editor);
    fuseMatMulTranspose(editor);
  }
  if (!disabled.has('BiasGeluFusion')) fuseBiasGelu(editor);
  fuseSkipLayerNorm(editor);
  fuseFastGelu(editor);
  fuseQuickGelu(editor);
  if (!webgpu) fuseMatMulScale(editor);
}
