import { describe, expect, it } from 'vitest';
import { intAttribute } from '../../../src/onnx/graph.js';
import type { Model, Node } from '../../../src/onnx/model.js';
import { decodeWeight, quantizeModel } from '../../../src/quantize/index.js';
import { buildModel, node, weight } from '../../engine/quantize/build.js';
import { gaussian, sqnr } from '../../engine/quantize/numbers.js';

const [inputs, outputs] = [64, 32];
const values = gaussian(inputs * outputs, 1);

function decoded(multiplies: Node, after: Node): Float32Array | null {
  const positive = gaussian(outputs, 3).map((x) => 5 + Math.abs(x));
  const model: Model = buildModel({
    inputs: { x: ['n', inputs] },
    outputs: ['y'],
    nodes: [multiplies, after],
    weights: [
      weight('w', multiplies.opType === 'Gemm' ? [outputs, inputs] : [inputs, outputs], values),
      weight('bias', [outputs], gaussian(outputs, 2)),
      ...['scale', 'shift', 'mean', 'variance'].map((name) => weight(name, [outputs], positive)),
    ],
  });
  const { model: quantized } = quantizeModel(model, new Map([['w', 'int4']]), { provider: 'cpu' });
  return decodeWeight(model, quantized, 'w');
}

const gemm = (): Node => node('Gemm', ['x', 'w'], 'a', { transB: intAttribute(1) });

describe('decodeWeight', () => {
  it('finds the weight whose bias is added after it', () => {
    for (const multiplies of [gemm(), node('MatMul', ['x', 'w'], 'a')]) {
      expect(sqnr(values, decoded(multiplies, node('Add', ['bias', 'a'], 'y'))!)).toBeGreaterThan(10);
    }
  });

  it('does not take a weight with a BatchNormalization folded in for the original', () => {
    const after = node('BatchNormalization', ['a', 'scale', 'shift', 'mean', 'variance'], 'y');
    expect(decoded(gemm(), after)).toBeNull();
  });
});
