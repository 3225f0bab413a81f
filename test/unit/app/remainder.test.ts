import { describe, expect, it } from 'vitest';
import { intsAttribute } from '../../../src/onnx/graph.js';
import { remainders } from '../../../src/app/remainder.js';
import { quantizableWeights, quantizeModel } from '../../../src/quantize/index.js';
import { buildModel, node, weight } from '../../engine/quantize/build.js';
import { gaussian } from '../../engine/quantize/numbers.js';

const model = buildModel({
  inputs: { x: ['n', 3, 8, 8] },
  outputs: ['y'],
  nodes: [
    node('Conv', ['x', 'thin', 'bias'], 'c', { kernel_shape: intsAttribute([3, 3]) }),
    node('Conv', ['c', 'wide'], 'd', { kernel_shape: intsAttribute([3, 3]) }),
    node('Add', ['d', 'offset'], 'y'),
  ],
  weights: [
    weight('thin', [32, 3, 3, 3], gaussian(864, 1)),
    weight('bias', [32], gaussian(32, 2)),
    weight('wide', [48, 32, 3, 3], gaussian(48 * 288, 3)),
    weight('offset', [1, 48, 1, 1], gaussian(48, 4)),
  ],
  opset: 21,
});

describe('what keeps a quantized model from being smaller', () => {
  it('names wider formats by their reason and vectors, the most bytes first, and nothing that has what was asked', () => {
    const formats = new Map(quantizableWeights(model, 'cpu').map(({ name }) => [name, 'int4' as const]));
    const { model: quantized, weights } = quantizeModel(model, formats, { provider: 'cpu' });
    const found = remainders(model, quantized, weights, 'int4');
    const thin = weights.find(({ name }) => name === 'thin')!;
    expect(found.map(({ reason }) => reason)).toEqual([
      'int8: not int4: Conv: too few input channels for blocks of 16',
      expect.stringMatching(/^fp32: Add: /),
      expect.stringMatching(/^vectors/),
    ]);
    expect(found.map(({ bytes }) => bytes)).toEqual([thin.bytesAfter, 48 * 4, 32 * 4]);
    expect(found.every((each) => each.weights === 1)).toBe(true);
  });

  it('does not name as wider what has as many bits', () => {
    const formats = new Map(quantizableWeights(model, 'cpu').map(({ name }) => [name, 'nf4' as const]));
    const { model: quantized, weights } = quantizeModel(model, formats, { provider: 'cpu' });
    expect(weights.find(({ name }) => name === 'wide')).toMatchObject({
      dtype: 'int4',
      reason: expect.stringMatching(/^not nf4/) as string,
    });
    const found = remainders(model, quantized, weights, 'nf4').map(({ reason }) => reason);
    expect(found.some((reason) => reason.startsWith('int8: '))).toBe(true);
    expect(found.some((reason) => reason.startsWith('int4: '))).toBe(false);
  });
});
