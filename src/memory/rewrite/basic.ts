import type { Node, Tensor } from '../../onnx/model.js';
import { elementCount, float32Tensor, rawTensor } from '../../onnx/tensor.js';
import { DataType } from '../../onnx/model.js';
import { operatorKey } from '../inplace.js';
import { getInt } from '../../onnx/attribute.js';
import { is, type GraphEditor } from './editor.js';
import { fuseReshapes } from './reshape.js';

/** Nodes that hand their input through: inference-time Dropout, Identity, Cast to the same type. */
function eliminatePassThrough(editor: GraphEditor): void {
  for (const { outputs } of editor.ordered()) {
    const [from] = outputs;
    // Asked for again: in a chain, the one before may have given it another input.
    const node = editor.producer(from);
    const [to] = node?.inputs ?? [];
    if (!node || from === undefined || to === undefined) continue;
    const idle = is(node, 'Identity', 'Dropout') || (is(node, 'Cast') && getInt(node, 'to', 0) === editor.dataType(to));
    const maskUsed = node.outputs.slice(1).some((output) => editor.consumers(output).length > 0);
    if (!idle || maskUsed || editor.outputs.has(from)) continue;
    editor.remove(node);
    editor.redirect(from, to);
  }
}

/** `1 / x * y` becomes `y / x`. */
function fuseDivMul(editor: GraphEditor): void {
  for (const node of editor.ordered()) {
    if (!is(node, 'Div') || editor.numbers(node.inputs[0])?.join() !== '1') continue;
    const [out] = node.outputs;
    const mul = editor.onlyConsumer(out);
    if (!is(mul, 'Mul')) continue;
    const other = mul.inputs[0] === out ? mul.inputs[1] : mul.inputs[0];
    editor.remove(mul);
    editor.update(node, { inputs: [other ?? '', node.inputs[1] ?? ''], outputs: mul.outputs });
  }
}

function attributeKey(node: Node): string | null {
  const parts: string[] = [];
  for (const [name, attribute] of node.attributes) {
    if (attribute.type === 'tensor' || attribute.type === 'graph' || attribute.type === 'opaque') return null;
    parts.push(`${name}=${String(attribute.value)}`);
  }
  return parts.sort().join(';');
}

/** Constants of at most this many elements that are equal become one; weights are not looked at, so they never do. */
const sharedElements = 8;

/** Equal small constants are kept once, whoever reads them (the runtime's ConstantSharing). */
function shareConstants(editor: GraphEditor): void {
  const known = new Map<string, string>();
  for (const [name, tensor] of editor.initializers) {
    const plain = tensor.dataType === DataType.INT64 || tensor.dims.length === 0 || editor.written.has(name);
    if (!plain || elementCount(tensor.dims) > sharedElements || editor.outputs.has(name)) continue;
    const numbers = editor.numbers(name);
    if (!numbers) continue;
    const key = `${tensor.dataType}:${tensor.dims.join()}:${numbers.join()}`;
    const first = known.get(key);
    if (first === undefined) known.set(key, name);
    else editor.redirect(name, first);
  }
}

/** Constants with the same few elements count as one value. */
function constantKey(editor: GraphEditor, value: string): string {
  const tensor = editor.initializers.get(value);
  const numbers = tensor && tensor.data.byteLength <= 64 ? editor.numbers(value) : undefined;
  return tensor && numbers ? `#${tensor.dataType}:${tensor.dims.join()}:${numbers.join()}` : value;
}

/** Not merged: random numbers, and dequantizers, of which every reader has its own. */
const neverMerged = /Random|Bernoulli|Multinomial|^DequantizeLinear$/;

/** Equal nodes with equal inputs are computed once. */
function eliminateCommon(editor: GraphEditor): void {
  const seen = new Map<string, Node>();
  const sameAs = new Map<string, string>();
  const canonical = (value: string) => sameAs.get(value) ?? value;
  for (const node of editor.ordered()) {
    const attributes = attributeKey(node);
    if (attributes === null || neverMerged.test(node.opType)) continue;
    const inputs = node.inputs.map((input) => constantKey(editor, canonical(input)));
    const key = [operatorKey(node), attributes, node.outputs.length, ...inputs].join('|');
    const first = seen.get(key);
    if (first === undefined) seen.set(key, node);
    else if (!node.outputs.some((output) => editor.outputs.has(output))) {
      node.outputs.forEach((output, index) => sameAs.set(output, first.outputs[index] ?? output));
      editor.remove(node);
    }
  }
  for (const [from, to] of sameAs) editor.redirect(from, to);
}

/** Not folded: dequantization keeps small weights small, the others are no functions of their inputs. */
const neverFolded = /DequantizeLinear|Random|Bernoulli|Multinomial|If|Loop|Scan/;

function foldedTensor(editor: GraphEditor, name: string, constants: Map<string, FoldedData>): Tensor | null {
  const dataType = editor.dataType(name);
  const dims = editor.dims(name);
  const known = constants.get(name);
  if (!dims || dims.some((dim) => typeof dim !== 'number') || dataType === 0) return null;
  if (known && dataType === DataType.INT64) {
    const values = BigInt64Array.from(known.values, (value) => BigInt(Math.trunc(value)));
    return rawTensor(name, dataType, dims as number[], new Uint8Array(values.buffer));
  }
  if (known && dataType === DataType.FLOAT)
    return float32Tensor(name, dims as number[], Float32Array.from(known.values));
  return null;
}

interface FoldedData {
  readonly values: readonly number[];
  readonly constant: boolean;
}

/** Computes once what depends on constants only, and shapes that are fixed. */
function foldConstants(editor: GraphEditor, constants: Map<string, FoldedData>): void {
  for (const node of editor.ordered()) {
    if (neverFolded.test(node.opType) || node.outputs.some((output) => editor.outputs.has(output))) continue;
    const inputs = node.inputs.filter((input) => input !== '');
    const fixedShape = is(node, 'Shape', 'Size') && editor.dims(inputs[0])?.every((dim) => typeof dim === 'number');
    if (!fixedShape && !inputs.every((input) => editor.isConstant(input))) continue;
    const dims = node.outputs.map((output) => editor.dims(output));
    if (dims.some((sizes) => !sizes?.every((dim) => typeof dim === 'number'))) continue;
    editor.remove(node);
    node.outputs.forEach((output, index) => {
      const tensor = foldedTensor(editor, output, constants);
      if (tensor) editor.initializers.set(output, tensor);
      else editor.placeholder(output, editor.dataType(output), (dims[index] ?? []) as number[]);
    });
  }
}

/**
 * A product plus a bias becomes Gemm; a product of more than two dimensions is flattened for it when all
 * leading sizes are fixed.
 */
function fuseMatMulAdd(editor: GraphEditor): void {
  for (const node of editor.ordered()) {
    if (!is(node, 'MatMul')) continue;
    const [input = '', weight = ''] = node.inputs;
    const [out] = node.outputs;
    const add = editor.onlyConsumer(out);
    const left = editor.dims(input);
    const right = editor.dims(weight);
    const columns = right?.[1];
    if (!is(add, 'Add') || !left || left.length < 2 || right?.length !== 2 || typeof columns !== 'number') continue;
    const bias = add.inputs[0] === out ? add.inputs[1] : add.inputs[0];
    const sizes = editor.dims(bias);
    if (bias === undefined || !sizes || sizes.length > 2 || (sizes.at(-1) !== columns && sizes.at(-1) !== 1)) continue;
    const gemm = { ...add, opType: 'Gemm', name: `${node.name}/MatMulAddFusion`, attributes: new Map() };
    if (left.length === 2) {
      editor.remove(node, add);
      editor.add({ ...gemm, inputs: [input, weight, bias] });
      continue;
    }
    const fixed = left.filter((dim) => typeof dim === 'number');
    if (fixed.length !== left.length || sizes.length !== 1) continue;
    editor.remove(node, add);
    const [inner = 1] = fixed.slice(-1);
    const rows = fixed.slice(0, -1).reduce((product, size) => product * size, 1);
    const type = editor.dataType(input);
    const name = gemm.outputs[0] ?? '';
    const reshape = (from: string, to: string, dims: number[]) => {
      editor.describe(to, type, dims);
      const target = editor.integers(`${to}/shape`, dims);
      editor.add({ ...gemm, opType: 'Reshape', name: to, inputs: [from, target], outputs: [to] });
    };
    reshape(input, `${name}/flat`, [rows, inner]);
    editor.describe(`${name}/product`, type, [rows, columns]);
    editor.add({ ...gemm, inputs: [`${name}/flat`, weight, bias], outputs: [`${name}/product`] });
    reshape(`${name}/product`, name, [...fixed.slice(0, -1), columns]);
  }
}

/** Batch normalization after a convolution melts into its weight and bias. */
function fuseConvBatchNorm(editor: GraphEditor): void {
  for (const conv of editor.ordered()) {
    if (!is(conv, 'Conv')) continue;
    const norm = editor.onlyConsumer(conv.outputs[0]);
    if (!is(norm, 'BatchNormalization') || norm.outputs.slice(1).some((output) => output !== '')) continue;
    const [input = '', weight = '', bias = ''] = conv.inputs;
    const constants = [weight, ...(bias === '' ? [] : [bias]), ...norm.inputs.slice(1)];
    const sizes = editor.initializers.get(weight)?.dims;
    if (!sizes || !constants.every((value) => editor.isConstant(value))) continue;
    const type = editor.dataType(weight);
    const inputs = [
      input,
      editor.placeholder(`${weight}/${norm.name}`, type, [...sizes]),
      editor.placeholder(`${weight}/${norm.name}/bias`, type, [sizes[0] ?? 1]),
    ];
    editor.remove(norm);
    editor.update(conv, { inputs, outputs: norm.outputs.slice(0, 1) });
  }
}

/** The rewrites of the runtime's level `basic` that change what is held in memory. */
export function applyBasic(editor: GraphEditor, constants: Map<string, FoldedData>): void {
  eliminatePassThrough(editor);
  fuseConvBatchNorm(editor);
  fuseDivMul(editor);
  shareConstants(editor);
  foldConstants(editor, constants);
  eliminateCommon(editor);
  fuseMatMulAdd(editor);
  // Each round lets sizes through that were computed before; few chains are longer than this.
  for (let round = 0; round < 4 && fuseReshapes(editor); round += 1) editor.reinfer();
}
