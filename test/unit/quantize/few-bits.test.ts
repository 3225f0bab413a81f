import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { float32Tensor } from '../../../src/onnx/tensor.js';
import { dequantizeMatrix, quantizeMatrix } from '../../../src/quantize/block-matrix.js';
import { BlockSearch } from '../../../src/quantize/block-search.js';
import type { WeightMatrix } from '../../../src/quantize/matrix.js';
import { normalLevels } from '../../../src/onnx/normal-levels.js';
import { dequantizeNormalFloat, quantizeNormalFloat } from '../../../src/quantize/normal-float.js';
import { sampleMatrix, blockSqnr } from '../../../src/quantize/sample.js';
import { gaussian, sqnr } from '../../engine/quantize/numbers.js';

const rowMajor = (values: Float32Array, rows: number): WeightMatrix => {
  const columns = values.length / rows;
  return { tensor: float32Tensor('w', [rows, columns], values), rows, columns, order: 'row-major' };
};

/** Least error of a block over a fine grid of scales of both signs, codes −2^(bits−1) … 2^(bits−1) − 1. */
function bestOfGrid(block: Float32Array, bits: 2 | 4): number {
  const most = Math.max(...block.map(Math.abs));
  const half = 2 ** (bits - 1);
  let least = Infinity;
  for (let step = 1; step <= 400; step++) {
    for (const sign of [-1, 1]) {
      const scale = (sign * most * step * 2) / (400 * half);
      let error = 0;
      for (const value of block) {
        error += (value - Math.max(-half, Math.min(half - 1, Math.round(value / scale))) * scale) ** 2;
      }
      least = Math.min(least, error);
    }
  }
  return least;
}

describe('symmetric codes', () => {
  for (const [bits, blockSize, most] of [
    [2, 64, 0.01],
    [4, 32, 0.02],
  ] as const) {
    it(`of ${bits} bits are within ${most} dB of the best scale there is, on average`, () => {
      const values = gaussian(64 * 64, 3);
      const search = new BlockSearch(bits, blockSize, false);
      let [ours, best] = [0, 0];
      for (let start = 0; start < values.length; start += blockSize) {
        const block = values.subarray(start, start + blockSize);
        search.run(values, start, blockSize, null);
        let [power, product, codes] = [0, 0, 0];
        block.forEach((value, i) => {
          const code = search.codes[i]! - search.zeroPoint;
          power += value ** 2;
          product += value * code;
          codes += code ** 2;
        });
        // What the codes leave with their least-squares scale: the one written keeps the block's gain.
        ours += power - product ** 2 / codes;
        best += bestOfGrid(block, bits);
      }
      expect(10 * Math.log10(ours / best)).toBeLessThan(most);
    });
  }
});

describe('2-bit codes', () => {
  it('come back from their bytes, zero points and partial blocks included', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 5 }),
        fc.integer({ min: 1, max: 150 }),
        fc.boolean(),
        (rows, columns, zeroPoints) => {
          // Values that 2-bit codes of scale 0.5 hit exactly, both ends in every block.
          const values = Float32Array.from({ length: rows * columns }, (_, i) => (((i % columns) % 4) - 2) * 0.5);
          const result = quantizeMatrix(rowMajor(values, rows), { bits: 2, blockSize: 32, zeroPoints });
          expect(result.codes.length).toBe(rows * Math.ceil(columns / 32) * 8);
          if (columns % 32 >= 4 || columns % 32 === 0)
            expect(sqnr(values, dequantizeMatrix(result))).toBeGreaterThan(100);
        },
      ),
      { numRuns: 50 },
    );
  });
});

describe('NF4', () => {
  it('keeps its own levels exactly, blocks running on from row to row, odd numbers of weights', () => {
    for (const [rows, columns] of [
      [3, 37],
      [65, 33],
      [1, 64],
    ] as const) {
      const values = Float32Array.from({ length: rows * columns }, (_, i) => normalLevels[(i * 7) % 16]! * 0.37);
      const result = quantizeNormalFloat(rowMajor(values, rows), false);
      expect(result.codes.length).toBe(Math.ceil((rows * columns) / 2));
      expect(result.scales.length).toBe(Math.ceil((rows * columns) / 64));
      expect(sqnr(values, dequantizeNormalFloat(result))).toBeGreaterThan(100);
    }
  });

  it('reads a column-major weight as its transpose', () => {
    const [rows, columns] = [20, 48];
    const values = gaussian(rows * columns, 5);
    const turned = Float32Array.from(values, (_, i) => values[(i % rows) * columns + Math.floor(i / rows)]!);
    const tensor = float32Tensor('w', [columns, rows], turned);
    const result = quantizeNormalFloat({ tensor, rows, columns, order: 'column-major' }, true);
    expect(result).toEqual(quantizeNormalFloat(rowMajor(values, rows), true));
  });

  it('beats integer codes of as many bytes on normal weights, without and with zero points', () => {
    const matrix = rowMajor(gaussian(64 * 256, 9), 64);
    const found = sqnr(gaussian(64 * 256, 9), dequantizeNormalFloat(quantizeNormalFloat(matrix, false)));
    const sample = sampleMatrix(matrix);
    expect(found - blockSqnr(sample, { bits: 4, zeroPoints: false }, 64)).toBeGreaterThan(0.5);
    expect(found - blockSqnr(sample, { bits: 4, zeroPoints: true }, 64)).toBeGreaterThan(0.2);
  });
});
