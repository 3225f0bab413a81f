import { getInt, getInts, intAttribute } from '../../onnx/attribute.js';
import { DataType, type Node } from '../../onnx/model.js';
import { dataTypeBits } from '../../onnx/tensor.js';
import { is, type GraphEditor } from './editor.js';

const microsoft = 'com.microsoft';

/** Operators that quantization may move across. */
const movers = ['Reshape', 'Transpose', 'Squeeze', 'Unsqueeze', 'Slice', 'MaxPool'];
/** Operators that run on the codes as they are. */
const codeMovers = [...movers, ...'Expand Flatten Gather GatherElements Tile Resize ReduceMax ReduceMin'.split(' ')];

function dequantizer(editor: GraphEditor, value: string | undefined): Node | undefined {
  const node = editor.producer(value);
  return is(node, 'DequantizeLinear') ? node : undefined;
}

function quantizer(editor: GraphEditor, value: string | undefined): Node | undefined {
  const node = editor.onlyConsumer(value);
  return is(node, 'QuantizeLinear') ? node : undefined;
}

/** A Relu before a quantization that starts at zero does nothing. */
function dropQuantizedRelu(editor: GraphEditor): void {
  for (const relu of editor.ordered()) {
    const quantize = is(relu, 'Relu') ? quantizer(editor, relu.outputs[0]) : undefined;
    if (!quantize) continue;
    const lowest = editor.dataType(quantize.outputs[0]) === DataType.INT8 ? -128 : 0;
    if (editor.numbers(quantize.inputs[2])?.[0] !== lowest) continue;
    editor.remove(relu);
    editor.update(quantize, { inputs: [relu.inputs[0] ?? '', ...quantize.inputs.slice(1)] });
  }
}

/** Every reader gets its own DequantizeLinear, so that each can be fused on its own. */
export function duplicateDequantizers(editor: GraphEditor): void {
  for (const node of editor.ordered()) {
    if (!is(node, 'DequantizeLinear') || editor.isConstant(node.inputs[0])) continue;
    const [output = ''] = node.outputs;
    for (const [index, reader] of editor.consumers(output).slice(1).entries()) {
      const copy = `${output}/duplicated${index}`;
      editor.describe(copy, editor.dataType(output), editor.dims(output) ?? []);
      editor.add({ ...node, name: `${node.name}/duplicated`, outputs: [copy] });
      editor.update(reader, { inputs: reader.inputs.map((input) => (input === output ? copy : input)) });
    }
  }
}

/** Quantizes before elements are moved instead of after. */
function quantizeEarlier(editor: GraphEditor): void {
  for (const quantize of editor.ordered()) {
    if (!is(quantize, 'QuantizeLinear')) continue;
    let front = quantize;
    for (;;) {
      const mover = editor.producer(front.inputs[0]);
      if (!is(mover, ...movers) || editor.onlyConsumer(mover.outputs[0]) !== front) break;
      const [source = ''] = mover.inputs;
      if (dequantizer(editor, source)) break;
      if (editor.producer(source) && editor.onlyConsumer(source) !== mover) break;
      const [codes = ''] = front.outputs;
      const early = `${source}/early`;
      editor.describe(early, editor.dataType(codes), editor.dims(source) ?? []);
      editor.remove(front);
      editor.update(mover, { inputs: [early, ...mover.inputs.slice(1)], outputs: [codes] });
      front = editor.add({ ...front, inputs: [source, ...front.inputs.slice(1)], outputs: [early] });
    }
  }
}

/** The rewrites around quantization of level `basic`. */
export function prepareQuantized(editor: GraphEditor): void {
  dropQuantizedRelu(editor);
  quantizeEarlier(editor);
}

/** Replaces dequantizers, float operator and quantizer by one integer operator. */
function replace(editor: GraphEditor, node: Node, gone: (Node | undefined)[], change: Partial<Node>): void {
  const readers = gone.filter((other) => is(other, 'DequantizeLinear'));
  editor.remove(node, ...gone.filter((other) => !is(other, 'DequantizeLinear')));
  editor.add({ ...node, ...change });
  for (const reader of readers) {
    if (editor.consumers(reader?.outputs[0]).length === 0) editor.remove(reader);
  }
}

const triple = (node: Node | undefined) => [node?.inputs[0] ?? '', node?.inputs[1] ?? '', node?.inputs[2] ?? ''];

function fuseConv(editor: GraphEditor, node: Node): void {
  const [x, w, b] = node.inputs.map((input) => dequantizer(editor, input));
  const quantize = quantizer(editor, node.outputs[0]);
  if (!x || !w || !quantize || (node.inputs[2] && !b)) return;
  replace(editor, node, [x, w, b, quantize], {
    opType: 'QLinearConv',
    inputs: [...triple(x), ...triple(w), ...triple(quantize).slice(1), ...(b ? [b.inputs[0] ?? ''] : [])],
    outputs: quantize.outputs,
  });
}

function fuseProduct(editor: GraphEditor, node: Node): void {
  const [a, b] = node.inputs.map((input) => dequantizer(editor, input));
  if (!a && b) return fuseBlockProduct(editor, node, b);
  if (!a || !b || !isByte(editor, a) || !isByte(editor, b)) return;
  const quantize = quantizer(editor, node.outputs[0]);
  if (quantize) {
    replace(editor, node, [a, b, quantize], {
      opType: 'QLinearMatMul',
      inputs: [...triple(a), ...triple(b), ...triple(quantize).slice(1)],
      outputs: quantize.outputs,
    });
    return;
  }
  const [codes = '', scale = '', zero = ''] = triple(a);
  const [weight = '', weightScale = '', weightZero = ''] = triple(b);
  replace(editor, node, [a, b], {
    opType: 'MatMulIntegerToFloat',
    domain: microsoft,
    inputs: [codes, weight, scale, weightScale, zero, weightZero],
  });
}

function isByte(editor: GraphEditor, dequantize: Node): boolean {
  return dataTypeBits(editor.dataType(dequantize.inputs[0])) === 8;
}

/** A constant matrix unpacked for one product becomes MatMulNBits with int8 activations. */
function fuseBlockProduct(editor: GraphEditor, node: Node, unpack: Node): void {
  const [codes = '', scales = ''] = unpack.inputs;
  const dims = editor.initializers.get(codes)?.dims;
  const bits = dataTypeBits(editor.dataType(codes)) ?? 0;
  const alone = editor.onlyConsumer(unpack.outputs[0]) === node;
  if (!dims || dims.length !== 2 || !alone || bits > 8 || node.inputs[1] !== unpack.outputs[0]) return;
  if (is(node, 'Gemm') && (getInt(node, 'transB', 0) !== 0 || getInt(node, 'transA', 0) !== 0)) return;
  const [rows = 1, columns = 1] = dims;
  const given = getInt(unpack, 'block_size', 0);
  if (given > 256 || (given > 0 && getInt(unpack, 'axis', 1) !== 0)) return;
  const block = given > 0 ? given : 32;
  const blocks = Math.ceil(rows / block);
  const packed = editor.placeholder(`${codes}/blocks`, DataType.UINT8, [columns, blocks, (block * bits) / 8]);
  const spread = editor.placeholder(`${scales}/blocks`, DataType.FLOAT, [columns * blocks]);
  const bias = is(node, 'Gemm') && node.inputs[2] ? ['', '', node.inputs[2]] : [];
  replace(editor, node, [unpack], {
    opType: 'MatMulNBits',
    domain: microsoft,
    inputs: [node.inputs[0] ?? '', packed, spread, ...bias],
    attributes: new Map([
      ['K', intAttribute(rows)],
      ['N', intAttribute(columns)],
      ['bits', intAttribute(bits)],
      ['block_size', intAttribute(block)],
      ['accuracy_level', intAttribute(4)],
    ]),
  });
}

function fuseGemm(editor: GraphEditor, node: Node): void {
  const [a, b, c] = node.inputs.map((input) => dequantizer(editor, input));
  if (!a && b) return fuseBlockProduct(editor, node, b);
  if (!a || !b || (node.inputs[2] && !c) || !isByte(editor, a) || !isByte(editor, b)) return;
  const quantize = quantizer(editor, node.outputs[0]);
  const output = quantize ? triple(quantize).slice(1) : [];
  replace(editor, node, [a, b, c, quantize], {
    opType: 'QGemm',
    domain: microsoft,
    inputs: [...triple(a), ...triple(b), c?.inputs[0] ?? '', ...output],
    outputs: quantize?.outputs ?? node.outputs,
  });
}

function fuseBinary(editor: GraphEditor, node: Node): void {
  const [a, b] = node.inputs.map((input) => dequantizer(editor, input));
  const quantize = quantizer(editor, node.outputs[0]);
  if (!a || !b || !quantize) return;
  replace(editor, node, [a, b, quantize], {
    opType: `QLinear${node.opType}`,
    domain: microsoft,
    inputs: [...triple(a), ...triple(b), ...triple(quantize).slice(1)],
    outputs: quantize.outputs,
  });
}

function fuseUnary(editor: GraphEditor, node: Node): void {
  const x = dequantizer(editor, node.inputs[0]);
  const quantize = quantizer(editor, node.outputs[0]);
  if (!x || !quantize) return;
  const opType = node.opType === 'ReduceMean' ? 'QLinearGlobalAveragePool' : `QLinear${node.opType}`;
  replace(editor, node, [x, quantize], {
    opType,
    domain: microsoft,
    inputs: [...triple(x), ...triple(quantize).slice(1)],
    outputs: quantize.outputs,
  });
}

/** Concat of values with a DequantizeLinear each. */
function fuseConcat(editor: GraphEditor, node: Node): void {
  const parts = node.inputs.map((input) => dequantizer(editor, input));
  const quantize = quantizer(editor, node.outputs[0]);
  if (!quantize || parts.includes(undefined)) return;
  replace(editor, node, [...parts, quantize], {
    opType: 'QLinearConcat',
    domain: microsoft,
    inputs: [...triple(quantize).slice(1), ...parts.flatMap(triple)],
    outputs: quantize.outputs,
  });
}

/** The mean over all pixels of an image, which has an integer kernel of its own. */
function isImageMean(editor: GraphEditor, node: Node): boolean {
  const axes = editor.numbers(node.inputs[1]) ?? getInts(node, 'axes', []);
  const sorted = axes.map((axis) => (axis < 0 ? axis + 4 : axis)).sort();
  return editor.dims(node.inputs[0])?.length === 4 && sorted.join() === '2,3' && getInt(node, 'keepdims', 1) === 1;
}

/** Whether scale and zero point are the same constants or equal ones. */
function sameCoding(editor: GraphEditor, one: Node, other: Node): boolean {
  return [1, 2].every((index) => {
    const [a, b] = [one.inputs[index] ?? '', other.inputs[index] ?? ''];
    const numbers = editor.numbers(a);
    return a === b || (numbers !== undefined && numbers.join() === editor.numbers(b)?.join());
  });
}

function fuseMover(editor: GraphEditor, node: Node): void {
  const x = dequantizer(editor, node.inputs[0]);
  const quantize = quantizer(editor, node.outputs[0]);
  if (!x || !quantize || !sameCoding(editor, x, quantize)) return;
  replace(editor, node, [x, quantize], {
    inputs: [x.inputs[0] ?? '', ...node.inputs.slice(1)],
    outputs: quantize.outputs,
  });
}

/** Float operators between dequantizers and quantizers become integer ones (level `extended`, CPU). */
export function fuseQuantized(editor: GraphEditor): void {
  for (const node of editor.ordered()) {
    if (is(node, 'Conv')) fuseConv(editor, node);
    else if (is(node, 'MatMul')) fuseProduct(editor, node);
    else if (is(node, 'Gemm')) fuseGemm(editor, node);
    else if (is(node, 'Add', 'Mul')) fuseBinary(editor, node);
    else if (is(node, 'Sigmoid', 'LeakyRelu', 'Softmax', 'GlobalAveragePool', 'AveragePool')) fuseUnary(editor, node);
    else if (is(node, 'ReduceMean') && isImageMean(editor, node)) fuseUnary(editor, node);
    else if (is(node, 'Concat')) fuseConcat(editor, node);
    else if (is(node, ...codeMovers)) fuseMover(editor, node);
  }
}
