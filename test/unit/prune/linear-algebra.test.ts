import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { cholesky, inverseFromCholesky, solveCholesky, withRidge } from '../../../src/prune/linear-algebra.js';
import { closeTo, multiply, randomMatrix, spd, transpose } from './matrices.js';

describe('Cholesky', () => {
  it('factors, solves and inverts random positive definite matrices', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 24 }), fc.integer({ min: 1, max: 5 }), fc.integer(), (n, m, seed) => {
        const a = spd(n, seed);
        const factor = cholesky(a, n)!;
        closeTo(multiply(factor, transpose(factor, n, n), n, n, n), a, 1e-9);
        const x = randomMatrix(n, m, seed + 1);
        const b = multiply(a, x, n, n, m);
        solveCholesky(factor, n, b, m);
        closeTo(b, x, 1e-7);
        const identity = multiply(a, inverseFromCholesky(factor, n), n, n, n);
        closeTo(identity, withRidge(new Float64Array(n * n), n, 1), 1e-7);
      }),
    );
  });

  it('refuses a matrix that is not positive definite', () => {
    expect(cholesky(Float64Array.of(1, 2, 2, 1), 2)).toBeNull();
    expect(cholesky(Float64Array.of(NaN), 1)).toBeNull();
  });
});
