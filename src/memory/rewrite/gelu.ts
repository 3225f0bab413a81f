import { getString } from '../../onnx/attribute.js';
import type { Node } from '../../onnx/model.js';
import { is, type GraphEditor } from './editor.js';

const microsoft = 'com.microsoft';

/** x * 0.5 * (1 + erf(x / sqrt 2)) becomes Gelu. */
export function fuseGelu(editor: GraphEditor): void {
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

/** Add of a bias before Gelu runs with it. */
export function fuseBiasGelu(editor: GraphEditor): void {
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

/** Everything between `value` and one source, through products, sums and powers nobody else reads; null if mixed. */
function polynomialOf(editor: GraphEditor, value: string): { source: string; nodes: Node[] } | null {
  const nodes: Node[] = [];
  const sources = new Set<string>();
  const open = [value];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const node = editor.producer(next);
    if (editor.isConstant(next)) continue;
    if (nodes.length < 6 && is(node, 'Mul', 'Add', 'Pow') && editor.onlyConsumer(next)) {
      nodes.push(node);
      open.push(...node.inputs);
    } else sources.add(next);
  }
  const [source] = sources;
  return sources.size === 1 && source !== undefined && nodes.length >= 3 ? { source, nodes } : null;
}

/** x / 2 (1 + tanh(sqrt(2 / π) (x + 0.044715 x³))) becomes FastGelu. */
export function fuseFastGelu(editor: GraphEditor): void {
  for (const tanh of editor.ordered()) {
    if (!is(tanh, 'Tanh')) continue;
    const inner = polynomialOf(editor, tanh.inputs[0] ?? '');
    const add = editor.onlyConsumer(tanh.outputs[0]);
    if (!inner || !is(add, 'Add') || !add.inputs.some((input) => editor.numbers(input)?.[0] === 1)) continue;
    const gone = [...inner.nodes, tanh, add];
    let halved = false;
    let scaled = false;
    let last = add;
    while (!(halved && scaled)) {
      const mul = editor.onlyConsumer(last.outputs[0]);
      if (!is(mul, 'Mul')) break;
      const other = mul.inputs.find((input) => input !== last.outputs[0]) ?? '';
      const half = editor.producer(other);
      if (editor.isConstant(other)) halved = true;
      else if (other === inner.source) scaled = true;
      else if (is(half, 'Mul') && half.inputs.includes(inner.source) && editor.onlyConsumer(other) === mul) {
        halved = scaled = true;
        gone.push(half);
      } else break;
      gone.push(mul);
      last = mul;
    }
    if (!halved || !scaled) continue;
    editor.remove(...gone);
    const gelu = { ...last, opType: 'FastGelu', domain: microsoft, name: 'GPT2Gelu', attributes: new Map() };
    editor.add({ ...gelu, inputs: [inner.source] });
  }
}

/** x * sigmoid(a x) becomes QuickGelu. */
export function fuseQuickGelu(editor: GraphEditor): void {
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
