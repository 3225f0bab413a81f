import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { float16BitsToFloat32, float32ToFloat16Bits, float32Tensor } from '../../../src/onnx/tensor.js';
import { BlockSearch, roundToHalf, type CodeBits } from '../../../src/quantize/block-search.js';
import { dequantizeMatrix, quantizeMatrix } from '../../../src/quantize/block-matrix.js';
import type { WeightMatrix } from '../../../src/quantize/matrix.js';
import { gaussian, sqnr } from '../../engine/quantize/numbers.js';

/** onnxruntime's default symmetric rule: signed absmax / −8, no search. */
function roundToNearest(values: Float32Array, blockSize: number, bits: CodeBits): Float32Array {
  const half = 2 ** (bits - 1);
  const result = new Float32Array(values.length);
  for (let start = 0; start < values.length; start += blockSize) {
    const block = values.subarray(start, start + blockSize);
    const signed = block.reduce((best, value) => (Math.abs(value) > Math.abs(best) ? value : best), 0);
    const scale = signed / -half || 1;
    block.forEach((value, i) => {
      result[start + i] = Math.max(-half, Math.min(half - 1, Math.round(value / scale))) * scale;
    });
  }
  return result;
}

describe('block search', () => {
  it("finds codes that leave no more error in a block than onnxruntime's rule of the same kind, symmetric or with zero points", () => {
    const heavy = gaussian(4096 * 32, 21).map((value, i) => value * Math.abs(value) ** (i % 3));
    for (const zeroPoints of [false, true]) {
      const search = new BlockSearch(4, 32, zeroPoints);
      let [ours, theirs] = [0, 0];
      for (let start = 0; start < heavy.length; start += 32) {
        const block = heavy.subarray(start, start + 32);
        const [low, high] = [Math.min(0, ...block), Math.max(0, ...block)];
        const scale = zeroPoints ? (high - low) / 15 : (-low >= high ? low : high) / -8;
        const zero = zeroPoints ? Math.round(-low / scale) : 8;
        search.run(heavy, start, 32, null);
        let [error, rule, power, product, codes] = [0, 0, 0, 0, 0];
        block.forEach((value, i) => {
          const code = Math.max(0, Math.min(15, Math.round(value / scale) + zero));
          rule += (value - (code - zero) * scale) ** 2;
          const own = search.codes[i]! - search.zeroPoint;
          error += (value - own * search.scale) ** 2;
          power += value ** 2;
          product += value * own;
          codes += own ** 2;
        });
        // With their least-squares scale; the one written keeps the block's gain, for a little more error.
        expect(power - product ** 2 / codes).toBeLessThanOrEqual(rule * (1 + 1e-5));
        expect((search.scale * product) / power).toBeCloseTo(1, 6);
        ours += error;
        theirs += rule;
      }
      expect(10 * Math.log10(theirs / ours)).toBeGreaterThan(0.1);
    }
  });

  it('rounds scales to float16 as the conversion of tensors does', () => {
    fc.assert(
      fc.property(fc.double({ min: -7e4, max: 7e4, noNaN: true }), fc.integer({ min: -30, max: 0 }), (value, power) => {
        const scale = Math.fround(value * 2 ** power);
        const bits = float32ToFloat16Bits(Float32Array.of(Math.max(-65504, Math.min(65504, scale))));
        expect(roundToHalf(scale) + 0).toBe(float16BitsToFloat32(bits)[0]! + 0);
      }),
    );
  });

  it('leaves blocks of any magnitude the same relative error', () => {
    const values = gaussian(32, 12);
    const errors = [1e-30, 1e-8, 1, 1e8, 1e30].map((factor) => {
      const scaled = values.map((value) => value * factor);
      const search = new BlockSearch(4, 32, true);
      search.run(scaled, 0, 32, null);
      return sqnr(
        scaled.map((v) => v / factor),
        Array.from(search.codes, (code) => ((code - search.zeroPoint) * search.scale) / factor),
      );
    });
    for (const error of errors) expect(error).toBeCloseTo(errors[2]!, 1);
    expect(errors[2]).toBeGreaterThan(18);
  });

  it('beats plain rounding by the measured margin on Gaussian weights (int4, blocks of 32)', () => {
    const values = gaussian(2 ** 16, 1);
    const plain = sqnr(values, roundToNearest(values, 32, 4));
    const matrix: WeightMatrix = {
      tensor: float32Tensor('w', [64, 1024], values),
      rows: 64,
      columns: 1024,
      order: 'row-major',
    };
    const found = (zeroPoints: boolean): number =>
      sqnr(values, dequantizeMatrix(quantizeMatrix(matrix, { bits: 4, blockSize: 32, zeroPoints })));
    expect(found(false)).toBeGreaterThan(plain + 0.4);
    expect(found(true)).toBeGreaterThan(found(false) + 0.3);
  });

  it('stays within half a step of every value that is not clipped, for any block', () => {
    fc.assert(
      fc.property(
        fc.array(fc.float({ min: -8, max: 8, noNaN: true }), { minLength: 1, maxLength: 32 }),
        fc.boolean(),
        (list, asymmetric) => {
          const values = Float32Array.from(list);
          const search = new BlockSearch(4, 32, asymmetric);
          search.run(values, 0, values.length, null);
          const energy = values.reduce((sum, value) => sum + value * value, 0);
          let error = 0;
          values.forEach((value, i) => {
            const code = search.codes[i]!;
            expect(code).toBeLessThanOrEqual(15);
            error += (value - (code - search.zeroPoint) * search.scale) ** 2;
          });
          // A least-squares scale never leaves more than it found.
          expect(error).toBeLessThanOrEqual(energy * (1 + 1e-5));
          for (let i = values.length; i < 32; i++) expect(search.codes[i]).toBe(search.zeroPoint);
        },
      ),
    );
  });

  it('represents a constant block, a zero block and a single outlier exactly', () => {
    const search = new BlockSearch(4, 16, false);
    for (const [list, expected] of [
      [new Array(16).fill(0.25), 0.25],
      [new Array(16).fill(-3), -3],
    ] as const) {
      search.run(Float32Array.from(list), 0, 16, null);
      expect((search.codes[3]! - 8) * search.scale).toBeCloseTo(expected, 6);
    }
    search.run(new Float32Array(16), 0, 16, null);
    expect(search.scale).toBe(0);
    expect([...search.codes]).toEqual(new Array(16).fill(8));
    const spike = new Float32Array(16);
    spike[5] = 1e-30;
    search.run(spike, 0, 16, null);
    expect((search.codes[5]! - 8) * search.scale).toBeCloseTo(1e-30, 35);
  });

  it('spends its error where the importance is low', () => {
    const values = gaussian(32, 7);
    const importance = new Float32Array(32).fill(1e-3);
    importance.fill(1, 0, 4);
    const weighted = (search: BlockSearch): number =>
      values.reduce(
        (sum, v, i) => sum + importance[i]! * (v - (search.codes[i]! - search.zeroPoint) * search.scale) ** 2,
        0,
      );
    const blind = new BlockSearch(4, 32, true);
    blind.run(values, 0, 32, null);
    const aware = new BlockSearch(4, 32, true);
    aware.run(values, 0, 32, importance);
    expect(weighted(aware)).toBeLessThanOrEqual(weighted(blind) * 1.0001);
  });
});

describe('block matrices', () => {
  it('gives the same codes for a weight and its stored transpose, K tails included', () => {
    const [rows, columns] = [7, 83];
    const values = gaussian(rows * columns, 3);
    const transposed = new Float32Array(values.length);
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < columns; c++) transposed[c * rows + r] = values[r * columns + c]!;
    }
    for (const bits of [4, 8] as const) {
      for (const zeroPoints of [false, true]) {
        const format = { bits, blockSize: 32, zeroPoints };
        const a = quantizeMatrix(
          { tensor: float32Tensor('a', [rows, columns], values), rows, columns, order: 'row-major' },
          format,
        );
        const b = quantizeMatrix(
          { tensor: float32Tensor('b', [columns, rows], transposed), rows, columns, order: 'column-major' },
          format,
        );
        expect(b.codes).toEqual(a.codes);
        expect(b.scales).toEqual(a.scales);
        expect(b.zeroPoints).toEqual(a.zeroPoints);
        expect(a.codes.length).toBe(rows * 3 * ((32 * bits) / 8));
        expect(sqnr(values, dequantizeMatrix(a))).toBeGreaterThan(bits === 4 ? 18 : 42);
      }
    }
  });
});

describe('plain rounding', () => {
  it('covers each block from end to end and takes the nearest code, worse than the search', () => {
    const values = Float32Array.from({ length: 32 }, (_, i) => Math.sin(i * 1.7) * (1 + (i % 5)) + 0.3);
    const errorOf = (nearest: boolean, asymmetric: boolean): number => {
      const search = new BlockSearch(4, 32, asymmetric, false, nearest);
      search.run(values, 0, 32, null);
      const reached = values.map((_, i) => (search.codes[i]! - search.zeroPoint) * search.scale);
      if (nearest && asymmetric) {
        expect([...search.codes].sort((a, b) => a - b)).toEqual(expect.arrayContaining([0, 15]));
        const widest = Math.max(...values.map((value, i) => Math.abs(value - reached[i]!)));
        expect(widest).toBeLessThanOrEqual(Math.abs(search.scale) * 1.001);
      }
      if (nearest && !asymmetric) {
        const extreme = values.reduce((most, value) => (Math.abs(value) > Math.abs(most) ? value : most), 0);
        expect(search.scale).toBe(Math.fround(-extreme / 8));
      }
      return values.reduce((sum, value, i) => sum + (value - reached[i]!) ** 2, 0);
    };
    for (const asymmetric of [false, true])
      expect(errorOf(true, asymmetric)).toBeGreaterThan(errorOf(false, asymmetric));
  });
});
