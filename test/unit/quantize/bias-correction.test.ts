import { describe, expect, it } from 'vitest';
import { intAttribute, makeNode } from '../../../src/onnx/graph.js';
import { elementCount, float32Tensor } from '../../../src/onnx/tensor.js';
import { meanRounding } from '../../../src/quantize/bias-correction.js';
import { dequantizeChannels, quantizeChannels } from '../../../src/quantize/channels.js';
import type { WeightRole, WeightUse } from '../../../src/quantize/sites.js';
import { buildModel } from '../../engine/quantize/build.js';
import { gaussian } from '../../engine/quantize/numbers.js';

function useOf(role: WeightRole, opType: string, attributes: Readonly<Record<string, number | undefined>>): WeightUse {
  const node = makeNode(
    opType,
    ['x', 'w'],
    ['y'],
    Object.fromEntries(Object.entries(attributes).map(([name, value]) => [name, intAttribute(value ?? 0)])),
  );
  const { graph } = buildModel({ inputs: { x: ['n'] }, outputs: ['y'], nodes: [node], weights: [] });
  return { graph, node, input: 1, role, transpose: null };
}

describe('what rounding takes from results on average', () => {
  it.each([
    { role: 'conv', opType: 'Conv', dims: [6, 4, 3, 3], attributes: { group: 1 }, axis: 0, inputs: 4 },
    { role: 'conv', opType: 'Conv', dims: [8, 1, 3, 3], attributes: { group: 8 }, axis: 0, inputs: 8 },
    { role: 'conv', opType: 'Conv', dims: [6, 2, 5], attributes: { group: 2 }, axis: 0, inputs: 4 },
    { role: 'gemm', opType: 'Gemm', dims: [5, 7], attributes: { transB: 1 }, axis: 0, inputs: 7 },
    { role: 'matmul', opType: 'MatMul', dims: [7, 5], attributes: {}, axis: 1, inputs: 7 },
  ] as const)('$opType $dims', ({ role, opType, dims, attributes, axis, inputs }) => {
    const values = gaussian(elementCount(dims), 3);
    const tensor = float32Tensor('w', [...dims], values);
    const codes = quantizeChannels(tensor, axis);
    const held = dequantizeChannels(codes, tensor, axis);
    const mean = Float64Array.from({ length: inputs }, (_, c) => 1 + c * c);
    const outputs = dims[axis];
    const wanted = new Float64Array(outputs);
    const perGroup = outputs / ('group' in attributes ? (attributes.group ?? 1) : 1);
    const depth = axis === 0 ? dims[1] : dims[0];
    const kernel = axis === 0 ? elementCount(dims.slice(2)) : 1;
    for (let output = 0; output < outputs; output++) {
      for (let c = 0; c < depth; c++) {
        for (let k = 0; k < kernel; k++) {
          const at = axis === 0 ? (output * depth + c) * kernel + k : c * outputs + output;
          wanted[output]! += (values[at]! - held[at]!) * mean[Math.floor(output / perGroup) * depth + c]!;
        }
      }
    }
    const found = meanRounding(useOf(role, opType, attributes), tensor, codes, mean);
    found.forEach((value, output) => expect(value).toBeCloseTo(wanted[output]!, 4));
    expect(wanted.some((value) => Math.abs(value) > 1e-3)).toBe(true);
  });
});
