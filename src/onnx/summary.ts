import path from 'node:path';
import type { ModelSummary, ValueSummary } from '../contract/types.js';
import { operatorName, visitAllNodes } from './check.js';
import { feedInputs, getTensor, walkGraphs } from './graph.js';
import { DataType } from './model.js';
import type { Model, Tensor, ValueInfo } from './model.js';
import { batchDimension, bindingName } from './shape-bindings.js';
import { dataTypeName, elementCount } from './tensor.js';

const summarizeValue = (value: ValueInfo): ValueSummary => ({
  name: value.name,
  dtype: value.dataType === 0 ? 'other' : dataTypeName(value.dataType),
  dims: value.dims ?? [],
  ...(value.dims === null ? { anyShape: true } : {}),
});

/** 64-bit and 32-bit integers, booleans and strings are shapes, axes and ids, not weights. */
const notWeights = new Set<number>([DataType.INT64, DataType.UINT64, DataType.BOOL, DataType.STRING]);

/** Values used as something else than a weight: quantization scales and zero points. */
const quantizationInputs = new Map<string, readonly number[]>([
  ['DequantizeLinear', [1, 2]],
  ['QuantizeLinear', [1, 2]],
  ['MatMulInteger', [2, 3]],
  ['ConvInteger', [2, 3]],
  ['DynamicQuantizeMatMul', [2, 3]],
  ['MatMulIntegerToFloat', [2, 3, 4, 5]],
  ['QLinearMatMul', [1, 2, 4, 5, 6, 7]],
  ['QLinearConv', [1, 2, 4, 5, 6, 7]],
  ['MatMulNBits', [2, 3, 4]],
  ['MatMulBnb4', [2]],
  ['DynamicQuantizeLSTM', [8, 9, 10, 11]],
  ['GatherBlockQuantized', [2, 3]],
]);

interface WeightCount {
  parameters: number;
  weightBytes: number;
}

/**
 * Counts weights: initializers and Constant nodes of floating point or quantized types. Scales and zero points
 * take bytes but are no parameters; packed 4-bit blobs count as the codes they hold.
 */
function countWeights(model: Model): WeightCount {
  const count: WeightCount = { parameters: 0, weightBytes: 0 };
  walkGraphs(model.graph, (graph) => {
    const auxiliary = new Set<string>();
    const packed = new Map<string, number>();
    const dequantized = new Set<string>();
    for (const node of graph.nodes) {
      for (const index of quantizationInputs.get(node.opType) ?? []) auxiliary.add(node.inputs[index] ?? '');
      if (node.opType === 'DequantizeLinear') dequantized.add(node.inputs[0] ?? '');
      const bits = node.attributes.get('bits');
      if (node.opType === 'MatMulNBits' || node.opType === 'GatherBlockQuantized') {
        const blob = node.inputs[node.opType === 'MatMulNBits' ? 1 : 0] ?? '';
        packed.set(blob, 8 / (bits?.type === 'int' && bits.value > 0 ? bits.value : 4));
      } else if (node.opType === 'MatMulBnb4') packed.set(node.inputs[1] ?? '', 2);
    }
    for (const { opType, inputs, outputs } of graph.nodes) {
      // Scales stored in two bytes and widened where they are used.
      if (opType === 'Cast' && auxiliary.has(outputs[0] ?? '')) auxiliary.add(inputs[0] ?? '');
    }
    const add = (name: string, tensor: Tensor): void => {
      count.weightBytes += tensor.data.byteLength;
      // An int32 tensor is a weight only where it is dequantized: the bias of a quantized layer.
      if (notWeights.has(tensor.dataType) || auxiliary.has(name)) return;
      if (tensor.dataType === DataType.INT32 && !dequantized.has(name)) return;
      const codes = tensor.dataType === DataType.UINT8 ? (packed.get(name) ?? 1) : 1;
      count.parameters += elementCount(tensor.dims) * codes;
    };
    for (const [name, tensor] of graph.initializers) add(name, tensor);
    for (const node of graph.nodes) {
      if (node.opType !== 'Constant') continue;
      const tensor = getTensor(node, 'value');
      if (tensor && elementCount(tensor.dims) > 1) add(node.outputs[0] ?? '', tensor);
    }
  });
  return count;
}

/** A guess in words, from the shapes and names at the model's ends. */
function guessKind(inputs: readonly ValueInfo[], outputs: readonly ValueInfo[]): string {
  if (inputs.some((input) => /past_key_values|past_key|\bpast\b/.test(input.name))) return 'text decoder with KV cache';
  const image = inputs.find((input) => input.dims?.length === 4 && input.dataType !== DataType.INT64);
  if (image) {
    if (outputs.length > 1) return 'image network';
    if (outputs[0]?.dims?.length === 2) return 'image classifier';
    return outputs[0]?.dims?.length === 4 ? 'image to image network' : 'image network';
  }
  if (inputs.some((input) => input.name === 'input_ids' && input.dataType === DataType.INT64)) {
    return outputs[0]?.name === 'logits' && outputs[0].dims?.length === 3 ? 'text decoder' : 'text encoder';
  }
  return 'network';
}

/**
 * What is in the model, for a person and for `snug inspect`. Reads no weights.
 * `parameters` counts weight elements (see {@link ModelSummary}); `weightBytes` is their stored size, shapes and
 * other constants included.
 */
export function summarizeModel(model: Model): ModelSummary {
  const inputs = feedInputs(model.graph);
  const { outputs } = model.graph;
  const operators = new Map<string, number>();
  visitAllNodes(model, (node) => {
    const name = operatorName(node);
    operators.set(name, (operators.get(name) ?? 0) + 1);
  });
  const dimensions = new Set<string>();
  for (const input of inputs) {
    (input.dims ?? []).forEach((_, axis) => {
      const name = bindingName(input, axis);
      if (name !== null) dimensions.add(name);
    });
  }
  const warnings: string[] = [];
  if (model.graph.sparseInitializers.length > 0) {
    warnings.push(`${model.graph.sparseInitializers.length} sparse weights are kept as they are.`);
  }
  for (const input of inputs) {
    if (input.dims === null) warnings.push(`The rank of input "${input.name}" is not known.`);
    else if (input.dims.includes(null)) warnings.push(`Input "${input.name}" has a dimension without a name.`);
  }
  const source = model.source;
  const externalBytes = source?.externalFiles.reduce((sum, file) => sum + file.bytes, 0) ?? 0;
  return {
    name: source ? path.basename(source.path) : model.graph.name || 'model',
    path: source?.path ?? '',
    fileBytes: (source?.fileBytes ?? 0) + externalBytes,
    inputs: inputs.map(summarizeValue),
    outputs: outputs.map(summarizeValue),
    opset: Object.fromEntries([...model.opsets].map(([domain, version]) => [domain || 'ai.onnx', version])),
    irVersion: model.irVersion,
    producer: [model.producerName, model.producerVersion].filter((text) => text !== '').join(' '),
    ...countWeights(model),
    operators: Object.fromEntries([...operators].sort(([a], [b]) => (a < b ? -1 : 1))),
    dimensions: [...dimensions],
    batchDimension: batchDimension(model),
    kind: guessKind(inputs, outputs),
    externalFiles: source ? source.externalFiles.map((file) => ({ ...file })) : [],
    warnings,
  };
}
