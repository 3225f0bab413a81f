import { describe, expect, it } from 'vitest';
import type { Model, Tensor } from '../../../src/onnx/model.js';
import { readFloat32 } from '../../../src/onnx/tensor.js';
import { sliceTensor } from '../../../src/prune/slice-tensor.js';
import { holdsInfinities } from '../../../src/quantize/finite.js';
import { estimateSqnr, quantizableWeights, quantizeModel } from '../../../src/quantize/index.js';
import { buildModel, node, weight } from '../../engine/quantize/build.js';
import { gaussian } from '../../engine/quantize/numbers.js';
import { counted } from './counted.js';

const product = (tensor: Tensor): Model =>
  buildModel({
    inputs: { x: ['n', tensor.dims[0]!] },
    outputs: ['y'],
    nodes: [node('MatMul', ['x', tensor.name], 'y')],
    weights: [tensor],
  });

/** A matrix of normal values with some changed. */
function spoiled(dims: [number, number], changed: Record<number, number>): Tensor {
  const values = gaussian(dims[0] * dims[1], 1);
  for (const [at, value] of Object.entries(changed)) values[Number(at)] = value;
  return weight('w', dims, values);
}

describe('holdsInfinities', () => {
  it('offers no numbers of few bits to weights that hold infinities, and rates them with numbers', () => {
    for (const value of [-Infinity, Infinity, NaN]) {
      const model = product(spoiled([512, 512], { 5000: value }));
      const [info] = quantizableWeights(model, 'cpu');
      for (const { dtype, allowed, reason } of info!.options) {
        if (dtype === 'fp32' || dtype === 'fp16') continue;
        expect(allowed, dtype).toBe(false);
        if (dtype === 'int8' || dtype === 'int4') expect(reason).toContain('infinite');
        expect(Number.isFinite(estimateSqnr(model, 'w', dtype)), dtype).toBe(true);
      }
    }
  });

  it('reads a weight once, whatever parts of it are planned', () => {
    const source = counted(spoiled([128, 96], {}));
    const plan = (columns: number): void => {
      const kept = [null, Array.from({ length: columns }, (_, i) => i)];
      const asked = new Map([['w', 'int4' as const]]);
      const { weights } = quantizeModel(product(sliceTensor(source.tensor, kept)), asked, { provider: 'cpu' });
      expect(weights[0]!.dtype).toBe('int4');
    };
    for (const columns of [32, 48, 64, 80]) plan(columns);
    expect(source.read()).toBe(128 * 96 * 4);
    expect(holdsInfinities(sliceTensor(spoiled([16, 4], { 7: NaN }), [[0, 1, 2], null]))).toBe(true);
  });

  it('keeps what samples of a large weight miss from spoiling the values around', () => {
    const columns = 1024;
    const ranges = { get: () => ({ low: -1, high: 1 }) };
    const tensor = spoiled([columns, columns], { 5000: -Infinity, 80_001: NaN, 400_004: Infinity });
    expect(holdsInfinities(tensor)).toBe(false);
    for (const [dtype, rounding] of [
      ['int4', 'search'],
      ['int4', 'nearest'],
      ['int8-dynamic', 'search'],
      ['int8-static', 'search'],
    ] as const) {
      const { model } = quantizeModel(product(tensor), new Map([['w', dtype]]), { provider: 'cpu', rounding, ranges });
      const scales = [...model.graph.initializers.values()].filter(({ name }) => name.includes('scale'));
      expect(scales.length).toBeGreaterThan(0);
      for (const each of scales) {
        expect(Math.max(...readFloat32(each).map(Math.abs)), `${dtype} ${each.name}`).toBeLessThan(2);
      }
    }
  });
});
