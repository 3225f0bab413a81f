import { DataType, type Node } from '../../onnx/model.js';
import { is, type GraphEditor } from './editor.js';

const microsoft = 'com.microsoft';

/** The one Mul that turns a cast integer product back into floats, with the scale it multiplies by. */
function rescaled(editor: GraphEditor, product: Node): { cast: Node; mul: Node; scales: Node } | null {
  const cast = editor.onlyConsumer(product.outputs[0]);
  const mul = is(cast, 'Cast') ? editor.onlyConsumer(cast.outputs[0]) : undefined;
  if (!cast || !is(mul, 'Mul')) return null;
  const scales = editor.producer(mul.inputs.find((input) => input !== cast.outputs[0]));
  return is(scales, 'Mul') && editor.onlyConsumer(scales.outputs[0]) === mul ? { cast, mul, scales } : null;
}

/** MatMulInteger, Cast, Mul (and the Add of a bias) become MatMulIntegerToFloat. */
export function fuseIntegerProducts(editor: GraphEditor): void {
  for (const product of editor.ordered()) {
    if (!is(product, 'MatMulInteger')) continue;
    const found = rescaled(editor, product);
    if (!found) continue;
    const { cast, mul, scales } = found;
    const add = editor.onlyConsumer(mul.outputs[0]);
    const bias = is(add, 'Add')
      ? add.inputs.find((input) => editor.isConstant(input) && editor.dims(input)?.length === 1)
      : undefined;
    const last = bias !== undefined && add ? add : mul;
    const weightScale = scales.inputs.find((input) => editor.isConstant(input)) ?? scales.inputs[1] ?? '';
    const inputScale = scales.inputs.find((input) => input !== weightScale) ?? '';
    const [a = '', b = '', aZero = '', bZero = ''] = product.inputs;
    editor.remove(product, cast, mul, scales, last);
    editor.add({
      ...product,
      opType: 'MatMulIntegerToFloat',
      domain: microsoft,
      inputs: [a, b, inputScale, weightScale, aZero, bZero, ...(bias === undefined ? [] : [bias])],
      outputs: last.outputs,
    });
  }
}

/** A quantization only one integer product reads becomes part of it (DynamicQuantizeMatMul). */
export function fuseDynamicQuantization(editor: GraphEditor): void {
  for (const product of editor.ordered()) {
    if (!is(product, `${microsoft}:MatMulIntegerToFloat`)) continue;
    const quantize = editor.producer(product.inputs[0]);
    if (!is(quantize, 'DynamicQuantizeLinear')) continue;
    const alone = quantize.outputs.every((output) => editor.onlyConsumer(output) === product);
    if (!alone || editor.dataType(quantize.inputs[0]) !== DataType.FLOAT) continue;
    const [, weight = '', , scale = '', , zero = '', bias = ''] = product.inputs;
    editor.remove(quantize, product);
    const inputs = [quantize.inputs[0] ?? '', weight, scale, zero, bias];
    editor.add({ ...product, opType: 'DynamicQuantizeMatMul', inputs });
  }
}
