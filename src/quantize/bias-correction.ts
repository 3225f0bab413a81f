import { getInt } from '../onnx/graph.js';
import { elementCount } from '../onnx/tensor.js';
import type { Tensor } from '../onnx/model.js';
import type { ChannelCodes } from './channels.js';
import { heldFinite, readFloatRange } from './floats.js';
import { channelAxis } from './axes.js';
import type { WeightUse } from './sites.js';

const panelValues = 2 ** 22;

/**
 * What rounding of a Conv, Gemm or MatMul weight takes from its results on average, `(W − Ŵ) · mean`, one for each
 * output channel; added to the bias it is made up for (Nagel et al., "Data-Free Quantization Through Weight
 * Equalization and Bias Correction", ICCV 2019, there with means from BatchNormalization). Borders that a convolution
 * pads with zeros are taken as any other place.
 * @param mean of each channel of the activation, over samples
 */
export function meanRounding(
  use: WeightUse,
  tensor: Tensor,
  { codes, scales }: ChannelCodes,
  mean: Float64Array,
): Float32Array {
  const axis = channelAxis(use);
  const outputs = tensor.dims[axis]!;
  const sums = new Float64Array(outputs);
  const total = elementCount(tensor.dims);
  const perOutput = total / outputs;
  const kernel = use.role === 'conv' ? elementCount(tensor.dims.slice(2)) : 1;
  const groups = use.role === 'conv' ? getInt(use.node, 'group', 1) : 1;
  for (let first = 0; first < total; first += panelValues) {
    const count = Math.min(panelValues, total - first);
    const values = heldFinite(readFloatRange(tensor, first, count));
    for (let i = 0; i < count; i++) {
      const at = first + i;
      const output = axis === 0 ? Math.floor(at / perOutput) : at % outputs;
      const own = axis === 0 ? Math.floor((at % perOutput) / kernel) : Math.floor(at / outputs);
      const skipped = Math.floor((output * groups) / outputs) * (perOutput / kernel);
      sums[output]! += (values[i]! - codes[at]! * scales[output]!) * mean[skipped + own]!;
    }
  }
  return Float32Array.from(sums);
}
