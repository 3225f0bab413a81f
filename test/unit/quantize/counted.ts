import type { Tensor, TensorData } from '../../../src/onnx/model.js';

/** The same tensor, whose bytes are counted as they are read. */
export function counted(tensor: Tensor): { tensor: Tensor; read: () => number } {
  let bytes = 0;
  const { data } = tensor;
  const counting: TensorData = {
    ...data,
    read: () => ((bytes += data.byteLength), data.read()),
    readRange: (offset, length) => ((bytes += length), data.readRange(offset, length)),
  };
  return { tensor: { ...tensor, data: counting }, read: () => bytes };
}
