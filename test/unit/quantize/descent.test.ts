import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { float32Tensor } from '../../../src/onnx/tensor.js';
import { axpyMemory } from '../../../src/quantize/axpy.js';
import { dequantizeMatrix, quantizeMatrix, type BlockFormat } from '../../../src/quantize/block-matrix.js';
import { descend } from '../../../src/quantize/descent.js';
import type { WeightMatrix } from '../../../src/quantize/matrix.js';
import { gaussian } from '../../engine/quantize/numbers.js';

/** Second moments of correlated inputs with a few strong channels, over `samples` draws. */
function momentsOf(columns: number, samples: number, seed: number): Float32Array {
  const mixing = gaussian(columns * 8, seed);
  const draws = gaussian(samples * (columns + 8), seed + 1);
  const values = new Float32Array(columns * columns);
  const x = new Float64Array(columns);
  for (let sample = 0; sample < samples; sample++) {
    const base = sample * (columns + 8);
    for (let k = 0; k < columns; k++) {
      let sum = 0.4 * draws[base + 8 + k]!;
      for (let r = 0; r < 8; r++) sum += 0.4 * mixing[k * 8 + r]! * draws[base + r]!;
      x[k] = sum * (k % 17 === 0 ? 5 : 1);
    }
    for (let i = 0; i < columns; i++) {
      for (let j = 0; j < columns; j++) values[i * columns + j]! += (x[i]! * x[j]!) / samples;
    }
  }
  return values;
}

/** ‖X(W − Ŵ)ᵀ‖² per sample. */
function loss(exact: Float32Array, approximate: Float32Array, columns: number, moments: Float32Array): number {
  let total = 0;
  for (let row = 0; row < exact.length / columns; row++) {
    for (let i = 0; i < columns; i++) {
      const error = exact[row * columns + i]! - approximate[row * columns + i]!;
      for (let j = 0; j < columns; j++) {
        total += error * moments[i * columns + j]! * (exact[row * columns + j]! - approximate[row * columns + j]!);
      }
    }
  }
  return total;
}

function matrixOf(values: Float32Array, rows: number, columns: number): WeightMatrix {
  return { tensor: float32Tensor('w', [rows, columns], values), rows, columns, order: 'row-major' };
}

const int4 = (zeroPoints: boolean, blockSize = 32): BlockFormat => ({ bits: 4, blockSize, zeroPoints });

describe('coordinate descent over codes', () => {
  it('adds a multiple of one row to another as a loop does', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 8 }), fc.float({ min: -4, max: 4, noNaN: true }), (sixteens, factor) => {
        const floats = sixteens * 16;
        const { values, axpy } = axpyMemory(2 * floats + 16);
        const numbers = gaussian(2 * floats + 16, 5);
        values.set(numbers);
        axpy(floats * 4, 0, floats, factor);
        for (let i = 0; i < floats; i++) {
          expect(values[i]).toBe(numbers[i]);
          expect(values[floats + i]).toBe(
            Math.fround(numbers[floats + i]! + Math.fround(numbers[i]! * Math.fround(factor))),
          );
        }
        // What lies behind is not touched.
        expect(values[2 * floats]).toBe(numbers[2 * floats]);
      }),
    );
  });

  it.each([false, true])(
    'loses less than half of what the search alone loses in products (zero points: %s)',
    async (zeros) => {
      const [rows, columns] = [24, 144];
      const moments = momentsOf(columns, 600, 3);
      const values = gaussian(rows * columns, 9);
      const matrix = matrixOf(values, rows, columns);
      const importance = Float32Array.from({ length: columns }, (_, k) => moments[k * columns + k]!);
      const searched = loss(
        values,
        dequantizeMatrix(quantizeMatrix(matrix, int4(zeros), importance)),
        columns,
        moments,
      );
      const descended = await descend(matrix, int4(zeros), { columns, values: moments });
      expect(loss(values, dequantizeMatrix(descended), columns, moments)).toBeLessThan(searched / 2);
    },
  );

  it('never loses more from one pass to the next', async () => {
    const columns = 64;
    const moments = momentsOf(columns, 200, 4);
    const values = gaussian(8 * columns, 2);
    const matrix = matrixOf(values, 8, columns);
    const after = async (passes: number): Promise<number> =>
      loss(
        values,
        dequantizeMatrix(await descend(matrix, int4(false), { columns, values: moments }, { passes, damping: 0 })),
        columns,
        moments,
      );
    expect(await after(2)).toBeLessThanOrEqual((await after(0)) * 1.0001);
    expect(await after(4)).toBeLessThanOrEqual((await after(2)) * 1.0001);
  });

  it('gives both storage orders the same codes, with rows that do not divide into blocks', async () => {
    const [rows, columns] = [5, 70];
    const moments = momentsOf(columns, 100, 6);
    const values = gaussian(rows * columns, 7);
    const turned = Float32Array.from(
      { length: rows * columns },
      (_, i) => values[(i % rows) * columns + Math.floor(i / rows)]!,
    );
    const stored: WeightMatrix = {
      tensor: float32Tensor('w', [columns, rows], turned),
      rows,
      columns,
      order: 'column-major',
    };
    const upright = await descend(matrixOf(values, rows, columns), int4(true, 16), { columns, values: moments });
    expect(await descend(stored, int4(true, 16), { columns, values: moments })).toEqual(upright);
  });

  it('keeps inputs that are never anything but zero, and rows of zeros, finite', async () => {
    const columns = 32;
    const values = gaussian(2 * columns, 8).fill(0, columns);
    const result = await descend(matrixOf(values, 2, columns), int4(true), {
      columns,
      values: new Float32Array(columns * columns),
    });
    const back = dequantizeMatrix(result);
    expect(back.every(Number.isFinite)).toBe(true);
    expect(back.subarray(columns).every((value) => value === 0)).toBe(true);
    expect(loss(values, back, columns, momentsOf(columns, 50, 1))).toBeLessThan(
      loss(values, back.fill(0), columns, momentsOf(columns, 50, 1)) / 10,
    );
  });

  it('stops in the middle of a matrix when told to', async () => {
    const [rows, columns] = [4096, 256];
    const moments = { columns, values: momentsOf(columns, 20, 3) };
    const stop = new AbortController();
    const descent = descend(
      matrixOf(gaussian(rows * columns, 4), rows, columns),
      int4(false),
      moments,
      undefined,
      stop.signal,
    );
    setImmediate(() => stop.abort());
    await expect(descent).rejects.toThrow(/abort/i);
  });
});
