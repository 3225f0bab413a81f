import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { greedyObs } from '../../../src/prune/greedy-obs.js';
import {
  addMoments,
  emptyMoments,
  normalizeMoments,
  relativeError,
  ridgedCholesky,
  solveRepair,
  type Moments,
} from '../../../src/prune/least-squares.js';
import { cholesky, inverseFromCholesky, solveCholesky } from '../../../src/prune/linear-algebra.js';
import { closeTo, multiply, pick, randomMatrix, spd, transpose } from './matrices.js';

const all = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
const without = (n: number, gone: readonly number[]): number[] => all(n).filter((i) => !gone.includes(i));

function inverse(a: Float64Array, n: number): Float64Array {
  return inverseFromCholesky(cholesky(a, n)!, n);
}

/** tr(Wᵀ G W) restricted to what is lost: the exact least loss of removing `gone`. */
function exactLoss(g: Float64Array, w: Float64Array, n: number, o: number, gone: readonly number[]): number {
  const h = inverse(g, n);
  const block = pick(h, n, gone, gone);
  const rows = pick(w, o, gone, all(o));
  const solved = Float64Array.from(rows);
  solveCholesky(cholesky(block, gone.length)!, gone.length, solved, o);
  return rows.reduce((sum, value, at) => sum + value * solved[at]!, 0);
}

function moments(a: Float64Array, y: Float64Array, rows: number, inputs: number, outputs: number): Moments {
  const at = transpose(a, rows, inputs);
  const ones = new Float64Array(rows).fill(1);
  const result = emptyMoments(inputs, outputs);
  addMoments(result, {
    rows,
    gram: multiply(at, a, inputs, rows, inputs),
    cross: multiply(at, y, inputs, rows, outputs),
    inputSum: multiply(ones, a, 1, rows, inputs),
    outputSum: multiply(ones, y, 1, rows, outputs),
    outputSquares: multiply(
      ones,
      y.map((value) => value * value),
      1,
      rows,
      outputs,
    ),
  });
  return result;
}

const sizes = fc.record({ n: fc.integer({ min: 3, max: 12 }), o: fc.integer({ min: 1, max: 4 }), seed: fc.integer() });

describe('least squares on the kept columns', () => {
  it('equals the OBS form W − H⁻¹[:,R] (H⁻¹[R,R])⁻¹ W_R', () => {
    fc.assert(
      fc.property(sizes, ({ n, o, seed }) => {
        const g = spd(n, seed);
        const w = randomMatrix(n, o, seed + 1);
        const gone = [0, n - 1];
        const kept = without(n, gone);
        const centred = {
          inputs: n,
          outputs: o,
          gram: g,
          cross: multiply(g, w, n, n, o),
          inputMean: new Float64Array(n),
          outputMean: new Float64Array(o),
          targetEnergy: 1,
        };
        const repaired = solveRepair(centred, kept, w, 0).weights;
        const h = inverse(g, n);
        const right = pick(w, o, gone, all(o));
        solveCholesky(cholesky(pick(h, n, gone, gone), 2)!, 2, right, o);
        const shift = multiply(pick(h, n, all(n), gone), right, n, 2, o);
        const obs = w.map((value, at) => value - shift[at]!);
        closeTo(repaired, pick(obs, o, kept, all(o)), 1e-7);
      }),
    );
  });

  it('with an intercept equals adding a column of ones', () => {
    const [rows, n, o] = [60, 5, 2];
    const a = randomMatrix(rows, n, 1).map((value) => value + 0.7);
    const y = randomMatrix(rows, o, 2);
    const kept = [0, 2, 3];
    const fit = solveRepair(normalizeMoments(moments(a, y, rows, n, o), true), kept, new Float64Array(n * o), 0);
    const extended = Float64Array.from(all(rows).flatMap((row) => [...kept.map((c) => a[row * n + c]!), 1]));
    const plain = normalizeMoments(moments(extended, y, rows, 4, o), false);
    const reference = solveRepair(plain, all(4), new Float64Array(4 * o), 0).weights;
    closeTo(fit.weights, reference.subarray(0, 3 * o), 1e-9);
    closeTo(fit.bias, reference.subarray(3 * o), 1e-9);
  });

  it('measures the error the rows themselves show', () => {
    fc.assert(
      fc.property(fc.integer(), fc.boolean(), (seed, withBias) => {
        const [rows, n, o] = [20, 4, 3];
        const a = randomMatrix(rows, n, seed);
        const y = randomMatrix(rows, o, seed + 1);
        const sums = moments(a, y, rows, n, o);
        const kept = [1, 3];
        const fit = solveRepair(normalizeMoments(sums, withBias), kept, randomMatrix(n, o, seed + 2), 0.1);
        const predicted = multiply(pick(a, n, all(rows), kept), fit.weights, rows, 2, o);
        let [error, energy] = [0, 0];
        for (let row = 0; row < rows; row++) {
          for (let c = 0; c < o; c++) {
            const mean = withBias ? sums.outputSum[c]! / rows : 0;
            error += (predicted[row * o + c]! + fit.bias[c]! - y[row * o + c]!) ** 2;
            energy += (y[row * o + c]! - mean) ** 2;
          }
        }
        expect(relativeError(sums, kept, fit, withBias)).toBeCloseTo(error / energy, 8);
      }),
    );
  });

  it('a huge ridge leaves the old weights, whatever the data say', () => {
    const [rows, n, o] = [10, 4, 2];
    const sums = moments(randomMatrix(rows, n, 3), randomMatrix(rows, o, 4), rows, n, o);
    const old = randomMatrix(n, o, 5);
    const fit = solveRepair(normalizeMoments(sums, false), [0, 2], old, 1e12);
    closeTo(fit.weights, pick(old, o, [0, 2], all(o)), 1e-6);
  });

  it('stays finite with fewer rows than columns', () => {
    const [rows, n, o] = [3, 8, 2];
    const sums = moments(randomMatrix(rows, n, 6), randomMatrix(rows, o, 7), rows, n, o);
    const fit = solveRepair(normalizeMoments(sums, true), all(n), randomMatrix(n, o, 8), 0);
    expect([...fit.weights, ...fit.bias].every(Number.isFinite)).toBe(true);
  });
});

describe('greedy OBS', () => {
  const consumer = (n: number, o: number, seed: number, size: number) => {
    const gram = spd(n * size, seed);
    const weights = randomMatrix(n * size, o, seed + 1);
    const rows = all(n).map((unit) => all(size).map((k) => unit * size + k));
    return { gram, weights, rows, inputs: n * size, outputs: o };
  };

  it('adds up to the exact loss of the removed set, and takes the cheapest unit first', () => {
    fc.assert(
      fc.property(sizes, fc.integer({ min: 1, max: 3 }), ({ n, o, seed }, size) => {
        const { gram, weights, rows, inputs, outputs } = consumer(n, o, seed, size);
        const count = n - 1;
        const layer = { inverse: inverse(gram, inputs), weights: weights.slice(), inputs, outputs, rows, scale: 1 };
        const trace = greedyObs([layer], n, count);
        expect(new Set(trace.order).size).toBe(count);
        const cheapest = Math.min(...all(n).map((unit) => exactLoss(gram, weights, inputs, outputs, rows[unit]!)));
        expect(trace.losses[0]).toBeCloseTo(cheapest, 6);
        trace.losses.forEach((loss, at) => {
          const gone = trace.order.slice(0, at + 1).flatMap((unit) => rows[unit]!);
          const exact = exactLoss(gram, weights, inputs, outputs, gone);
          expect(Math.abs(loss - exact)).toBeLessThan(1e-6 * Math.max(1, exact));
        });
      }),
      { numRuns: 40 },
    );
  });

  it('stays exact when downdates are gathered and applied together', () => {
    const { gram, weights, rows, inputs, outputs } = consumer(90, 3, 42, 2);
    const layer = { inverse: inverse(gram, inputs), weights: weights.slice(), inputs, outputs, rows, scale: 1 };
    const { order, losses } = greedyObs([layer], 90, 70);
    for (const count of [31, 33, 70]) {
      const gone = order.slice(0, count).flatMap((unit) => rows[unit]!);
      const exact = exactLoss(gram, weights, inputs, outputs, gone);
      expect(Math.abs(losses[count - 1]! / exact - 1)).toBeLessThan(1e-8);
    }
  });

  it('keeps one of two identical units instead of removing both', () => {
    // Units 0 and 1 always fire together, unit 2 is weak: magnitude would drop 2 and then 0 or 1.
    const gram = Float64Array.of(1, 0.999999, 0, 0.999999, 1, 0, 0, 0, 1);
    const layer = {
      inverse: inverse(gram, 3),
      weights: Float64Array.of(1, 1, 0.5),
      inputs: 3,
      outputs: 1,
      rows: [[0], [1], [2]],
      scale: 1,
    };
    const { order, losses } = greedyObs([layer], 3, 2);
    expect(order[0]).not.toBe(2);
    expect(losses[0]).toBeLessThan(1e-5);
    expect(order[1]).toBe(2);
  });
});

describe('samples that make no sense', () => {
  it('columns that never vary are survived, even when rounding makes their variance negative', () => {
    const sums = moments(new Float64Array(40).fill(0.7), randomMatrix(20, 1, 3), 20, 2, 1);
    for (const at of [0, 3]) sums.gram[at]! *= 1 - 1e-9;
    const fit = solveRepair(normalizeMoments(sums, true), [0], Float64Array.of(1, 1), 1e-4);
    expect([...fit.weights, ...fit.bias].every(Number.isFinite)).toBe(true);
  });

  it('are named instead of looping', () => {
    expect(() => ridgedCholesky(Float64Array.of(NaN), 1, 1e-3)).toThrow(/not finite/);
    const layer = { inverse: Float64Array.of(NaN, 0, 0, NaN), weights: new Float64Array(2), inputs: 2, outputs: 1 };
    expect(() => greedyObs([{ ...layer, rows: [[0, 1]], scale: 1 }], 1, 1)).toThrow(/not finite/);
  });
});
