import { DataType } from '../onnx/model.js';
import { elementCount } from '../onnx/tensor.js';
import { quantizeChannels } from './channels.js';
import { scaleBytes, type Editor } from './editor.js';
import type { WeightSite, WeightUse } from './sites.js';

/** Where com.microsoft.DynamicQuantizeLSTM has the scale of its input and of its recurrent weight; zero points follow. */
const scaleInputs: Readonly<Record<number, number>> = { 1: 8, 2: 10 };

/**
 * Turns LSTM nodes into com.microsoft.DynamicQuantizeLSTM (onnxruntime ContribOperators.md): 8-bit weights
 * `[directions, inputs, 4 · hidden]`, the transpose of LSTM's, with one scale for each column; what they multiply is
 * quantized while running. It knows neither `layout` nor opset 1's `output_sequence`. Both weights of a node must be
 * encoded this way.
 */
export function encodeLstm(editor: Editor, { tensor, owner }: WeightSite, uses: readonly WeightUse[]): void {
  const [directions, gates, inputs] = tensor.dims as [number, number, number];
  const parts = editor.lazyParts<'codes' | 'scales'>(() => {
    const { codes, scales } = quantizeChannels(tensor, 1);
    const turned = new Int8Array(codes.length);
    for (let direction = 0, from = 0; direction < directions; direction++) {
      for (let gate = 0; gate < gates; gate++) {
        for (let i = 0; i < inputs; i++, from++) turned[(direction * inputs + i) * gates + gate] = codes[from]!;
      }
    }
    const repeated = Float32Array.from({ length: directions * gates }, (_, at) => scales[at % gates]!);
    return { codes: editor.integerCodes(turned), scales: scaleBytes(repeated, DataType.FLOAT) };
  });
  const base = `${tensor.name}_i8`;
  const columns = [directions, gates];
  const { dataType, zeroPoint } = editor.integerType;
  const codes = editor.add(
    owner,
    base,
    dataType,
    [directions, inputs, gates],
    parts.data('codes', elementCount(tensor.dims)),
  );
  const scaleData = parts.data('scales', directions * gates * 4);
  const scales = editor.add(owner, `${base}_scales`, DataType.FLOAT, columns, scaleData);
  const zeroPoints = new Uint8Array(directions * gates).fill(zeroPoint);
  const zeros = editor.addBytes(owner, `${base}_zeros`, dataType, columns, zeroPoints);
  for (const { node, input } of uses) {
    node.opType = 'DynamicQuantizeLSTM';
    node.domain = 'com.microsoft';
    for (const unknown of ['layout', 'output_sequence']) node.attributes.delete(unknown);
    while (node.inputs.length < 12) node.inputs.push('');
    const at = scaleInputs[input]!;
    [node.inputs[input], node.inputs[at], node.inputs[at + 1]] = [codes, scales, zeros];
  }
  editor.require('com.microsoft', 1);
}

/** The name of the other weight of the LSTM that a weight is used in. */
export function otherWeight({ node, input }: WeightUse): string {
  return node.inputs[3 - input] ?? '';
}
