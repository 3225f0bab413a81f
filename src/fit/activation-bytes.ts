import { cloneModel } from '../onnx/graph.js';
import { DataType, type Model } from '../onnx/model.js';
import { defaultBindings, inferShapes } from '../onnx/shape.js';
import { tensorByteLength } from '../onnx/tensor.js';
import { hoistConstants } from '../quantize/index.js';

/**
 * Bytes of each activation for one sample, as far as shapes are known.
 * @param dims of the samples
 */
export function activationBytes(model: Model, dims: Record<string, number>): number[] {
  const clone = cloneModel(model);
  hoistConstants(clone);
  const { shapes } = inferShapes(clone, defaultBindings(clone, 1, dims).dims);
  return [...shapes].flatMap(([name, { dataType, dims: sizes }]) =>
    clone.graph.initializers.has(name) || dataType === DataType.STRING ? [] : [tensorByteLength(dataType, sizes)],
  );
}
