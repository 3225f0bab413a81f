import { getInt, intAttribute, intsAttribute } from '../../onnx/attribute.js';
import { DataType, type Node } from '../../onnx/model.js';
import { bodiesOf } from '../../onnx/topology.js';
import { operatorKey } from '../inplace.js';
import { is, type GraphEditor } from './editor.js';

/** Operators whose CPU kernels take float16 as it is (onnxruntime 1.30 on x64, tried one by one). */
const halfKernels: ReadonlySet<string> = new Set(
  (
    'Cast Shape Size Slice Split Expand GatherElements GatherND ScatterND Clip LayerNormalization RMSNormalization ' +
    'Flatten Identity Reshape Transpose Squeeze Unsqueeze Concat Gather SimplifiedLayerNormalization Constant ' +
    'com.microsoft:SkipLayerNormalization com.microsoft:SkipSimplifiedLayerNormalization ' +
    'com.microsoft:RotaryEmbedding com.microsoft:MatMulNBits com.microsoft:GatherBlockQuantized ' +
    'com.microsoft:GroupQueryAttention DequantizeLinear QuantizeLinear'
  ).split(' '),
);

const inserted = 'InsertedPrecisionFreeCast_';

/** Functions without a float16 kernel run as the operators they are defined by (ONNX operator specifications). */
function inlineFunctions(editor: GraphEditor): void {
  for (const node of editor.ordered()) {
    const [x = ''] = node.inputs;
    const [y = ''] = node.outputs;
    if (editor.dataType(x) !== DataType.FLOAT16) continue;
    const dims = editor.dims(x) ?? [];
    const axis = getInt(node, 'axis', -1);
    const scalar = (name: string) => editor.placeholder(`${y}/${name}`, DataType.FLOAT16, []);
    const add = (opType: string, inputs: string[], output: string, size = dims, attributes = new Map()): string => {
      editor.describe(output, DataType.FLOAT16, size);
      editor.add({ ...node, opType, domain: '', name: `${y}/${opType}`, inputs, outputs: [output], attributes });
      return output;
    };
    if (is(node, 'Softmax')) {
      const reduced = dims.map((size, at) => (at === (axis < 0 ? axis + dims.length : axis) ? 1 : size));
      const axes = new Map([
        ['axes', intsAttribute([axis])],
        ['keepdims', intAttribute(1)],
      ]);
      editor.remove(node);
      const lowered = add('Sub', [x, add('ReduceMax', [x], `${y}/max`, reduced, axes)], `${y}/lowered`);
      const raised = add('Exp', [lowered], `${y}/raised`);
      add('Div', [raised, add('ReduceSum', [raised], `${y}/sum`, reduced, axes)], y);
    } else if (is(node, 'Gelu')) {
      editor.remove(node);
      const scaled = add('Div', [x, add('Sqrt', [scalar('two')], `${y}/root`, [])], `${y}/scaled`);
      const factor = add('Sum', [add('Erf', [scaled], `${y}/erf`), scalar('one')], `${y}/factor`);
      add('Mul', [add('Mul', [scalar('half'), x], `${y}/halved`), factor], y);
    }
  }
}

/** Nodes that have to run in float32 for lack of a kernel, or because all around them do. */
function nodesToWiden(editor: GraphEditor): Set<Node> {
  const isHalf = (value: string) => editor.dataType(value) === DataType.FLOAT16;
  const widened = new Set<Node>();
  for (const node of editor.nodes()) {
    if (node.inputs.some(isHalf) && !halfKernels.has(operatorKey(node)) && bodiesOf(node).length === 0)
      widened.add(node);
  }
  for (const node of editor.nodes()) {
    if (widened.has(node) || bodiesOf(node).length > 0 || /^(Shape|Size|Cast)$/.test(node.opType)) continue;
    const producers = node.inputs.filter(isHalf).flatMap((input) => editor.producer(input) ?? []);
    const outputs = node.outputs.filter(isHalf);
    if (!node.inputs.some((input) => editor.producer(input)) || !node.inputs.some(isHalf) || outputs.length === 0)
      continue;
    const users = outputs.flatMap((output) => editor.consumers(output));
    if (node.outputs.some((output) => editor.outputs.has(output))) continue;
    if ([...producers, ...users].every((other) => widened.has(other))) widened.add(node);
  }
  return widened;
}

function addCast(editor: GraphEditor, from: string, to: string, dataType: number): void {
  editor.describe(to, dataType, editor.dims(from) ?? editor.dims(to) ?? []);
  const half = dataType === DataType.FLOAT16 ? to : from;
  const attributes = new Map([['to', intAttribute(dataType)]]);
  editor.add({ name: `${inserted}${half}`, opType: 'Cast', domain: '', inputs: [from], outputs: [to], attributes });
}

/** Surrounds nodes that run in float32 with casts. */
function surround(editor: GraphEditor, widened: ReadonlySet<Node>): void {
  const known = new Map<string, string>();
  for (const node of editor.ordered()) {
    if (!widened.has(node)) continue;
    const inputs = node.inputs.map((input) => {
      if (editor.dataType(input) !== DataType.FLOAT16) return input;
      const wide = known.get(input) ?? `${input}/float32`;
      if (!known.has(input)) addCast(editor, input, wide, DataType.FLOAT);
      known.set(input, wide);
      return wide;
    });
    const narrow = node.outputs.filter((output) => editor.dataType(output) === DataType.FLOAT16);
    const outputs = node.outputs.map((output) => (narrow.includes(output) ? `${output}/made` : output));
    for (const output of narrow) editor.describe(`${output}/made`, DataType.FLOAT, editor.dims(output) ?? []);
    editor.update(node, { inputs, outputs });
    for (const output of narrow) addCast(editor, `${output}/made`, output, DataType.FLOAT16);
  }
}

/** Whether a cast written by the model's author may lose digits. */
function isLossy(from: number, to: number, node: Node): boolean {
  return !node.name.startsWith(inserted) && !(from === DataType.FLOAT16 && to === DataType.FLOAT);
}

/** Casts that are undone by the next one go, unless the model asks for both and digits are lost between them. */
function removeCastPairs(editor: GraphEditor): void {
  for (const node of editor.nodes()) {
    if (!is(node, 'Cast') || !editor.has(node)) continue;
    const [from = ''] = node.inputs;
    const [to = ''] = node.outputs;
    const [narrow, wide] = [editor.dataType(from), editor.dataType(to)];
    const users = editor.consumers(to);
    const casts = users.filter((user) => is(user, 'Cast'));
    const back = (user: Node) =>
      editor.dataType(user.outputs[0]) === narrow && !editor.outputs.has(user.outputs[0] ?? '');
    const bothAsked = casts.some(
      (user) => isLossy(narrow, wide, node) && isLossy(editor.dataType(user.outputs[0]), wide, user),
    );
    if (bothAsked) continue;
    for (const user of casts.filter(back)) {
      editor.remove(user);
      editor.redirect(user.outputs[0] ?? '', from);
    }
    if (users.length > 0 && users.length === casts.length && !editor.outputs.has(to)) {
      for (const user of editor.consumers(to)) editor.update(user, { inputs: [from] });
      editor.remove(node);
    }
  }
}

/**
 * What the runtime does to float16 before it fuses operators for the CPU: functions without a kernel are taken apart,
 * operators without a kernel run in float32 between casts, and casts that meet cancel out.
 */
export function insertCasts(editor: GraphEditor): void {
  const any = editor.nodes().some((node) => node.inputs.some((input) => editor.dataType(input) === DataType.FLOAT16));
  if (!any) return;
  inlineFunctions(editor);
  surround(editor, nodesToWiden(editor));
  removeCastPairs(editor);
}

/** Constants that one node reads in float32 are widened once and for all; shared ones are cast in every run. */
export function foldCasts(editor: GraphEditor): void {
  for (const node of editor.nodes()) {
    const [from = ''] = node.inputs;
    const [to = ''] = node.outputs;
    const tensor = editor.initializers.get(from);
    if (!is(node, 'Cast') || tensor?.dataType !== DataType.FLOAT16 || !editor.onlyConsumer(to)) continue;
    editor.remove(node);
    editor.placeholder(to, DataType.FLOAT, tensor.dims);
  }
}
