import { SnugError } from '../contract/errors.js';
import type { Model } from '../onnx/model.js';

/** Operators whose weights are integers: pruning them would need their scales rebuilt. */
const quantizedOperators = new Set(
  `DequantizeLinear QLinearConv QLinearMatMul MatMulInteger ConvInteger MatMulNBits MatMulBnb4 DynamicQuantizeMatMul
  DynamicQuantizeLSTM MatMulIntegerToFloat GatherBlockQuantized QGemm QAttention QLinearAdd`.split(/\s+/),
);

/** @throws SnugError E_NOT_SUPPORTED when weights are already quantized. */
export function refuseQuantized(model: Model): void {
  const node = model.graph.nodes.find((candidate) => quantizedOperators.has(candidate.opType));
  if (node === undefined) return;
  throw new SnugError('E_NOT_SUPPORTED', `This model's weights are already quantized (${node.opType}).`, {
    action: 'Prune the original model first, then quantize the result.',
    params: { operator: node.opType },
  });
}
