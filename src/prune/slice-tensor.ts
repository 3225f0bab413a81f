import { SnugError } from '../contract/errors.js';
import type { Tensor } from '../onnx/model.js';
import { computedData, dataTypeBits } from '../onnx/tensor.js';

/**
 * The tensor with only the listed indices left along each axis (null = all). Bytes are gathered when they are read,
 * so a sliced model costs no memory until it is written.
 * @throws SnugError E_NOT_SUPPORTED for elements smaller than a byte and strings.
 */
export function sliceTensor(tensor: Tensor, kept: readonly (readonly number[] | null)[]): Tensor {
  const bits = dataTypeBits(tensor.dataType) ?? 0;
  if (bits < 8) {
    throw new SnugError('E_NOT_SUPPORTED', `The weight "${tensor.name}" is packed and cannot be pruned.`, {
      action: 'Prune the model before quantizing it.',
      params: { weight: tensor.name },
    });
  }
  const dims = tensor.dims.map((dim, axis) => kept[axis]?.length ?? dim);
  const byteLength = dims.reduce((product, dim) => product * dim, bits / 8);
  const produce = (): Uint8Array => gather(tensor.data.read(), tensor.dims, kept, bits / 8, byteLength);
  return { ...tensor, dims, data: computedData(byteLength, produce, tensor.data) };
}

function gather(
  source: Uint8Array,
  dims: readonly number[],
  kept: readonly (readonly number[] | null)[],
  elementBytes: number,
  byteLength: number,
): Uint8Array {
  const target = new Uint8Array(byteLength);
  // Axes behind the last sliced one are contiguous and copied as one run.
  let last = dims.length - 1;
  while (last >= 0 && (kept[last] ?? null) === null) last--;
  const run = dims.slice(last + 1).reduce((product, dim) => product * dim, elementBytes);
  const strides: number[] = [];
  let stride = run;
  for (let axis = last; axis >= 0; axis--) {
    strides[axis] = stride;
    stride *= dims[axis]!;
  }
  let at = 0;
  const copy = (axis: number, offset: number): void => {
    if (axis > last) {
      target.set(source.subarray(offset, offset + run), at);
      at += run;
      return;
    }
    const indices = kept[axis] ?? null;
    const count = indices?.length ?? dims[axis]!;
    for (let i = 0; i < count; i++) copy(axis + 1, offset + (indices === null ? i : indices[i]!) * strides[axis]!);
  };
  copy(0, 0);
  return target;
}
