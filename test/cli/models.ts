import { makeNode } from '../../src/onnx/graph.js';
import type { Model } from '../../src/onnx/model.js';
import { DataType } from '../../src/onnx/model.js';
import { newModel } from '../../src/onnx/new-model.js';
import { float32Tensor } from '../../src/onnx/tensor.js';

/** `layers` square MatMuls with Relu between them on a `[batch, width]` input. */
export function matMulChain(layers: number, width: number): Model {
  const weights = Array.from({ length: layers }, (_, layer) => {
    const values = Float32Array.from({ length: width * width }, (_, i) => Math.sin(i * 0.7 + layer) / Math.sqrt(width));
    return float32Tensor(`w${layer}`, [width, width], values);
  });
  const nodes = weights.flatMap((w, layer) => [
    makeNode('MatMul', [layer === 0 ? 'x' : `r${layer - 1}`, w.name], [`m${layer}`], undefined, {
      name: `matmul${layer}`,
    }),
    makeNode('Relu', [`m${layer}`], [layer === layers - 1 ? 'y' : `r${layer}`], undefined, { name: `relu${layer}` }),
  ]);
  return newModel({
    name: 'chain',
    opset: 17,
    nodes,
    weights,
    inputs: [{ name: 'x', dataType: DataType.FLOAT, dims: ['batch', width] }],
    outputs: [{ name: 'y', dataType: DataType.FLOAT, dims: ['batch', width] }],
    producerName: 'snug-test',
  });
}
