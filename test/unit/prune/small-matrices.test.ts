import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { symmetricEigen } from '../../../src/prune/small-matrices.js';

describe('symmetricEigen', () => {
  it('takes a symmetric matrix apart into orthonormal vectors by falling value', () => {
    const entry = fc.double({ min: -10, max: 10, noNaN: true });
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 9 }), fc.array(entry, { minLength: 81, maxLength: 81 }), (n, entries) => {
        const a = Float64Array.from({ length: n * n }, (_, at) => {
          const [row, column] = [Math.floor(at / n), at % n];
          return entries[Math.min(row, column) * 9 + Math.max(row, column)]!;
        });
        const { values, vectors } = symmetricEigen(a, n);
        for (let i = 0; i < n; i++) {
          if (i > 0) expect(values[i]!).toBeLessThanOrEqual(values[i - 1]!);
          for (let j = 0; j < n; j++) {
            let [dot, image] = [0, 0];
            for (let k = 0; k < n; k++) {
              dot += vectors[k * n + i]! * vectors[k * n + j]!;
              image += a[j * n + k]! * vectors[k * n + i]!;
            }
            expect(dot).toBeCloseTo(i === j ? 1 : 0, 9);
            expect(image).toBeCloseTo(values[i]! * vectors[j * n + i]!, 7);
          }
        }
      }),
      { numRuns: 60 },
    );
  });
});
