import { indexGraph } from '../onnx/graph.js';
import type { Model } from '../onnx/model.js';
import type { ActivationRanges } from '../quantize/index.js';

/** Operators whose results are never negative, so that calibration will find 0 as their lower end. */
const nonNegative = new Set(['Relu', 'Sigmoid', 'HardSigmoid', 'Softmax', 'Softplus', 'Abs', 'Sqrt', 'Exp']);

/** Operators that keep the sign of their first input. */
const keepsSign = new Set(
  'MaxPool AveragePool GlobalAveragePool GlobalMaxPool Reshape Flatten Transpose Squeeze Unsqueeze Identity Dropout Resize'.split(
    ' ',
  ),
);

/**
 * Stand-in ranges for sizing an int8-static plan before calibration. Only one thing about a range changes the
 * size: whether it starts at 0, because the runtime then drops a Relu in front of the quantization. Graph inputs
 * are taken as images (0…1).
 */
export function planningRanges(model: Model): ActivationRanges {
  const index = indexGraph(model.graph);
  const inputs = new Set(model.graph.inputs.map((input) => input.name));
  const startsAtZero = (value: string): boolean => {
    let name = value;
    for (let steps = 0; steps < 8; steps++) {
      if (inputs.has(name)) return true;
      const node = index.producer.get(name);
      if (!node) return false;
      if (nonNegative.has(node.opType)) return true;
      if (!keepsSign.has(node.opType)) return false;
      name = node.inputs[0];
    }
    return false;
  };
  return { get: (value) => ({ low: startsAtZero(value) ? 0 : -1, high: 1 }) };
}
