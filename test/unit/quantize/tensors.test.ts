import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { elementCount, float32Tensor } from '../../../src/onnx/tensor.js';
import { dequantizeAxisBlocks, quantizeAxisBlocks } from '../../../src/quantize/block-axis.js';
import { dequantizeChannels, quantizeChannels } from '../../../src/quantize/channels.js';
import { calibratedRange, expectedError } from '../../../src/quantize/calibrators.js';
import { ActivationHistogram } from '../../../src/quantize/histogram.js';
import { activationScale } from '../../../src/quantize/static.js';
import { gaussian, sqnr } from '../../engine/quantize/numbers.js';

describe('int8 with a scale for each channel', () => {
  it('keeps every channel near its own precision, whatever the axis', () => {
    const dims = [6, 10, 3, 3];
    const values = gaussian(elementCount(dims), 1);
    for (const axis of [0, 1, null]) {
      // Channels of very different size: one scale for all would lose the small ones.
      const inner = axis === null ? 1 : elementCount(dims.slice(axis + 1));
      const scaled = values.map((value, i) =>
        axis === null ? value : value * 10 ** -(Math.floor(i / inner) % dims[axis]!),
      );
      const tensor = float32Tensor('w', dims, scaled);
      const decoded = dequantizeChannels(quantizeChannels(tensor, axis), tensor, axis);
      for (let channel = 0; channel < (axis === null ? 1 : dims[axis]!); channel++) {
        const mine = (_: number, i: number): boolean =>
          axis === null || Math.floor(i / inner) % dims[axis]! === channel;
        expect(sqnr([...scaled].filter(mine), [...decoded].filter(mine))).toBeGreaterThan(38);
      }
    }
  });

  it('gives zero channels scale 1 and respects floors exactly', () => {
    const tensor = float32Tensor('w', [3, 4], Float32Array.of(0, 0, 0, 0, 1e-9, -1e-9, 0, 1e-9, 1, -1, 0.5, 1));
    const { codes, scales } = quantizeChannels(tensor, 0, { floors: Float64Array.of(0, 1e-6, 1e-6) });
    expect(scales[0]).toBe(1);
    expect(scales[1]).toBeCloseTo(1e-6, 12);
    expect(scales[2]).toBeCloseTo(1 / 127, 4);
    expect([...codes.slice(0, 8)]).toEqual(new Array(8).fill(0));
  });
});

describe('int4 in blocks along axis 1', () => {
  it('decodes to nearly the same for partial blocks and odd sizes', () => {
    for (const dims of [
      [3, 35, 3],
      [5, 16, 1, 1],
      [2, 40, 2, 2],
    ]) {
      const values = gaussian(elementCount(dims), dims[1]!);
      const blocks = quantizeAxisBlocks(float32Tensor('w', dims, values), 1, 16);
      expect(blocks.codes.length).toBe(Math.ceil(values.length / 2));
      expect(blocks.scales.length).toBe((values.length / dims[1]!) * Math.ceil(dims[1]! / 16));
      expect(sqnr(values, dequantizeAxisBlocks(blocks, dims, 1, 16))).toBeGreaterThan(19);
    }
  });
});

describe('activation ranges', () => {
  it('always contain zero, exactly representable, and cover the range within one step', () => {
    const finite = fc.float({ min: -1e4, max: 1e4, noNaN: true });
    fc.assert(
      fc.property(finite, finite, (a, b) => {
        const range = { low: Math.min(a, b), high: Math.max(a, b) };
        const { scale, zeroPoint } = activationScale(range);
        expect(Number.isInteger(zeroPoint) && zeroPoint >= 0 && zeroPoint <= 255).toBe(true);
        expect(scale).toBeGreaterThan(0);
        if (range.high - range.low > 1e-30) {
          expect((255 - zeroPoint) * scale).toBeGreaterThanOrEqual(range.high - scale);
          expect(-zeroPoint * scale).toBeLessThanOrEqual(range.low + scale);
        }
      }),
    );
  });

  it('are exact for flat data and clip rare outliers', () => {
    const flat = new ActivationHistogram();
    flat.add(Float32Array.from({ length: 10_000 }, (_, i) => i / 10_000));
    expect(calibratedRange(flat)!.low).toBeCloseTo(0, 12);
    expect(calibratedRange(flat)!.high).toBeCloseTo(0.9999, 3);
    const spiky = new ActivationHistogram();
    spiky.add(gaussian(100_000, 2));
    spiky.add(Float32Array.of(30));
    const { high } = calibratedRange(spiky)!;
    expect(spiky.high).toBe(30);
    expect(high).toBeLessThan(30);
    expect(high).toBeGreaterThan(4);
    // A value that the results hardly depend on is clipped sooner, one they depend on is kept.
    const weighty = new ActivationHistogram();
    weighty.add(gaussian(100_000, 2));
    weighty.add(Float32Array.of(30), 1, () => 1000);
    expect(calibratedRange(weighty)!.high).toBeGreaterThan(25);
  });

  it('do not depend on the order of batches, and survive zeros, growth and values that are not finite', () => {
    const parts = [new Float32Array(50), gaussian(500, 3), gaussian(500, 4).map((value) => value * 100)];
    const forward = new ActivationHistogram();
    const backward = new ActivationHistogram();
    for (const part of parts) forward.add(part);
    for (const part of [...parts].reverse()) backward.add(part);
    forward.add(Float32Array.of(NaN, Infinity, -Infinity));
    expect(calibratedRange(forward)!.high).toBeCloseTo(calibratedRange(backward)!.high, 3);
    expect(calibratedRange(new ActivationHistogram())).toBeNull();
  });

  it('differ by calibrator as they should, and the best is never worse than any', () => {
    const seen = new ActivationHistogram();
    seen.add(gaussian(200_000, 5).map((value) => value + (value > 4 ? 8 : 0)));
    const kinds = ['min-max', 'percentile', 'entropy', 'mse', 'best'] as const;
    const ranges = Object.fromEntries(kinds.map((kind) => [kind, calibratedRange(seen, kind)!]));
    const errors = kinds.map((kind) => expectedError(seen, ranges[kind]!));
    expect(ranges['min-max']).toEqual({ low: seen.low, high: seen.high });
    expect(ranges.percentile!.high).toBeGreaterThan(ranges.entropy!.high);
    expect(ranges.entropy!.high).toBeGreaterThan(2.5);
    expect(ranges.entropy!.high).toBeLessThan(6);
    expect(Math.min(...errors)).toBe(errors[4]);
    expect(errors[4]).toBeLessThan(errors[0]!);
  });

  it('lie within what was seen, zero included, for any values', () => {
    fc.assert(
      fc.property(fc.float32Array({ minLength: 1, maxLength: 200, noNaN: true, min: -1e6, max: 1e6 }), (values) => {
        const seen = new ActivationHistogram();
        seen.add(values);
        for (const kind of ['min-max', 'percentile', 'entropy', 'mse', 'best'] as const) {
          const { low, high } = calibratedRange(seen, kind)!;
          expect(low).toBeLessThanOrEqual(0);
          expect(high).toBeGreaterThanOrEqual(0);
          expect(low).toBeGreaterThanOrEqual(Math.min(0, seen.low));
          expect(high).toBeLessThanOrEqual(Math.max(0, seen.high));
        }
      }),
      { numRuns: 30 },
    );
  });
});
