import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { answerOutputs, Comparison } from '../../../src/quality/compare.js';
import {
  addSignal,
  bandRank,
  damageFromSqnr,
  emptySignalSums,
  klFromLogits,
  sqnrDb,
} from '../../../src/quality/metrics.js';

const rows = (values: number[], dims: number[]) => ({
  dtype: 'float32' as const,
  dims,
  data: Float32Array.from(values),
});

describe('metrics', () => {
  it('gives 20 dB for noise of a tenth of the signal amplitude', () => {
    const sums = emptySignalSums();
    addSignal(sums, [1, -1, 1, -1], [1.1, -1.1, 0.9, -0.9]);
    expect(sqnrDb(sums)).toBeCloseTo(20, 6);
  });

  it('matches the textbook KL of two known distributions', () => {
    const p = [Math.log(0.7), Math.log(0.3)];
    const q = [Math.log(0.5), Math.log(0.5)];
    expect(klFromLogits(p, q, 0, 2)).toBeCloseTo(0.7 * Math.log(1.4) + 0.3 * Math.log(0.6), 12);
  });

  it('KL is never negative and does not care about a shift of the logits', () => {
    const logits = fc.array(fc.float({ min: -20, max: 20, noNaN: true }), { minLength: 5, maxLength: 5 });
    fc.assert(
      fc.property(logits, logits, fc.float({ min: -50, max: 50, noNaN: true }), (p, q, shift) => {
        const kl = klFromLogits(p, q, 0, 5);
        expect(kl).toBeGreaterThanOrEqual(0);
        expect(
          klFromLogits(
            p,
            q.map((v) => v + shift),
            0,
            5,
          ),
        ).toBeCloseTo(kl, 6);
      }),
    );
  });

  it('counts a non-finite result as damage', () => {
    const sums = emptySignalSums();
    addSignal(sums, [1, 2, 3], [1, NaN, 3]);
    expect(sqnrDb(sums)).toBeLessThan(6);
  });

  it('orders the bands from harmless to severe', () => {
    const bands = [130, 35, 25, 16, 10, 3].map((db) => bandRank(damageFromSqnr(db).band));
    expect(bands).toEqual([0, 1, 2, 3, 4, 5]);
  });
});

describe('comparison', () => {
  it('looks at answers, not at the cache handed back', () => {
    expect(
      answerOutputs([
        { name: 'logits', dtype: 'float32' },
        { name: 'present.0.key', dtype: 'float32' },
      ]),
    ).toEqual(['logits']);
  });

  it('counts changed answers and ignores the cache', () => {
    const comparison = new Comparison('samples');
    comparison.add(
      { logits: rows([3, 0, 0, 3], [2, 2]), 'present.0.key': rows([1, 1], [2, 1]) },
      { logits: rows([3, 0, 3, 0], [2, 2]), 'present.0.key': rows([9, 9], [2, 1]) },
      2,
    );
    const quality = comparison.quality();
    expect(quality.top1Agreement).toBe(0.5);
    expect(quality.damage.band).toBe('severe');
    expect(quality.samples).toBe(2);
  });

  it('gives no agreement for an output that is no distribution', () => {
    const comparison = new Comparison('random');
    const map = rows([1, 2, 3, 4], [1, 1, 2, 2]);
    comparison.add({ features: map }, { features: map }, 1);
    expect(comparison.quality()).toMatchObject({ top1Agreement: null, klNats: null, damage: { band: 'none' } });
  });
});
