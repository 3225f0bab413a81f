import { DataType, type Tensor, type TensorData } from '../onnx/model.js';
import { assertRange, elementCount } from '../onnx/tensor.js';
import { readFloatRange } from './floats.js';

/**
 * A FLOAT tensor whose element `i` is that of `tensor` times `factors[⌊i / inner⌋ mod factors.length]`; computed
 * when read, range by range, so that its bytes are as much at hand as those it is made of. Any float type goes in.
 */
export function scaledTensor(tensor: Tensor, factors: ArrayLike<number>, inner: number): Tensor {
  const byteLength = elementCount(tensor.dims) * 4;
  const readRange = (offset: number, length: number): Uint8Array => {
    assertRange(byteLength, offset, length);
    const first = Math.floor(offset / 4);
    const count = Math.ceil((offset + length) / 4) - first;
    const values = readFloatRange(tensor, first, count).slice();
    for (let start = 0; start < count;) {
      const run = Math.floor((first + start) / inner);
      const end = Math.min(count, (run + 1) * inner - first);
      const factor = factors[run % factors.length]!;
      for (; start < end; start++) values[start]! *= factor;
    }
    return new Uint8Array(values.buffer, offset - first * 4, length);
  };
  const { origin } = tensor.data;
  const data: TensorData = { byteLength, origin, read: () => readRange(0, byteLength), readRange };
  return { ...tensor, dataType: DataType.FLOAT, data };
}
