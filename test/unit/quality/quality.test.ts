import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { float32ToFloat16Bits } from '../../../src/onnx/half.js';
import { answerOutputs, Comparison } from '../../../src/quality/compare.js';
import { checkLabels, labelledOutput } from '../../../src/quality/labels.js';
import {
  addSignal,
  bandRank,
  damageFromSqnr,
  emptySignalSums,
  klFromLogits,
  sqnrDb,
} from '../../../src/quality/metrics.js';
import type { RuntimeTensor } from '../../../src/runtime/types.js';

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

  it('keeps damage a number, which JSON can hold, where an answer is none', () => {
    const text = { dtype: 'int64' as const, dims: [1, 2], data: BigInt64Array.of(0n, 0n) };
    for (const expected of [
      [3, -1, 3, -1],
      [1, 0, 1, 0],
    ]) {
      for (const actual of [
        [NaN, NaN, NaN, NaN],
        [-Infinity, Infinity, -3e38, 3e38],
      ]) {
        const comparison = new Comparison('samples');
        const feeds = { input_ids: text };
        comparison.add({ logits: rows(expected, [1, 2, 2]) }, { logits: rows(actual, [1, 2, 2]) }, 1, { feeds });
        const quality = comparison.quality();
        expect(JSON.parse(JSON.stringify(quality))).toEqual(quality);
        expect(quality).toMatchObject({ top1Agreement: 0, damage: { band: 'severe' } });
        expect(quality.klNats).toBeGreaterThan(10);
        // Probabilities say nothing of tokens that follow: only logits do.
        if (expected[1] === -1) expect(quality.perplexity?.after).toBeGreaterThan(1e6);
      }
    }
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

  it('reads answers in half precision, beside float32 too', () => {
    const half = (values: number[]): RuntimeTensor => ({
      ...{ dtype: 'float16', dims: [2, 2] },
      data: float32ToFloat16Bits(Float32Array.from(values)),
    });
    for (const result of [half([3, 0, 3, 0]), rows([3, 0, 3, 0], [2, 2])]) {
      const comparison = new Comparison('samples');
      comparison.add({ y: half([3, 0, 0, 3]) }, { y: result }, 2);
      expect(comparison.quality()).toMatchObject({ top1Agreement: 0.5, damage: { band: 'severe' } });
      expect(comparison.quality().klNats).toBeGreaterThan(1);
    }
  });

  it('gives no agreement for an output that is no distribution', () => {
    const comparison = new Comparison('random');
    const map = rows([1, 2, 3, 4], [1, 1, 2, 2]);
    comparison.add({ features: map }, { features: map }, 1);
    expect(comparison.quality()).toMatchObject({ top1Agreement: null, klNats: null, damage: { band: 'none' } });
  });
});

describe('what is known to be right', () => {
  it('says of each output what it lost', () => {
    const comparison = new Comparison('samples');
    const same = rows([1, 2, 3, 4], [2, 2]);
    comparison.add({ a: same, b: rows([1, 2, 4, 3], [2, 2]) }, { a: same, b: rows([1, 2, 3, 4], [2, 2]) }, 2);
    const { outputs = [], top1Agreement } = comparison.quality();
    expect(outputs.map(({ value, top1Agreement: top1 }) => [value, top1])).toEqual([
      ['a', 1],
      ['b', 0.5],
    ]);
    expect(outputs[0]).toMatchObject({ sqnrDb: 200, cosine: 1, damage: { band: 'none' } });
    expect(outputs[1]!.sqnrDb).toBeCloseTo(10 * Math.log10(30 / 2), 9);
    expect(top1Agreement).toBe(0.75);
  });

  it('counts right answers where labels are given', () => {
    const comparison = new Comparison('samples');
    const labels = BigInt64Array.of(1n, 0n, 0n, 1n);
    const before = rows([0, 1, 1, 0, 1, 0, 1, 0], [4, 2]);
    const after = rows([0, 1, 0, 1, 0, 1, 1, 0], [4, 2]);
    comparison.add({ y: before }, { y: after }, 4, { labels });
    expect(comparison.quality().accuracy).toEqual({ before: 0.75, after: 0.25, samples: 4 });
    const without = new Comparison('samples');
    without.add({ y: before }, { y: after }, 4);
    expect(without.quality().accuracy).toBeUndefined();
  });

  it('counts the labels of every batch, on the first output that has classes', () => {
    const comparison = new Comparison('samples');
    const classes = rows([0, 1, 1, 0], [2, 2]);
    const changed = rows([1, 0, 1, 0], [2, 2]);
    for (let batch = 0; batch < 2; batch++) {
      const others = { features: rows([1, 2, 3, 4], [2, 2]), second: classes };
      const labels = BigInt64Array.of(1n, 0n);
      comparison.add({ ...others, y: classes }, { ...others, y: classes }, 2, { labels });
      comparison.add({ ...others, second: changed }, { ...others, second: changed }, 2);
    }
    expect(comparison.quality().accuracy).toEqual({ before: 1, after: 1, samples: 4 });
    const first = new Comparison('samples');
    for (let batch = 0; batch < 2; batch++) {
      first.add({ y: classes, z: changed }, { y: changed, z: classes }, 2, { labels: [1, 0] });
    }
    expect(first.quality().accuracy).toEqual({ before: 1, after: 0.5, samples: 4 });
  });

  it('refuses labels that are none of the classes, and says when no output has classes', () => {
    const shapes = [
      { name: 'features', dims: ['batch', 16] },
      { name: 'y', dims: [null, 10] },
    ];
    expect(labelledOutput(shapes)).toBe(shapes[1]);
    expect(() => labelledOutput(shapes.slice(0, 1))).toThrow(/can be held against labels \(it has: features\)/u);
    expect(() => checkLabels(BigInt64Array.of(0n, 9n), 10)).not.toThrow();
    for (const wrong of [-1, 10, 100]) expect(() => checkLabels([0, wrong], 10)).toThrow(/none of the model's 10/u);
  });

  it('tells the perplexity of tokens that follow, of given text only', () => {
    const ids = { dtype: 'int64' as const, dims: [1, 3], data: BigInt64Array.of(0n, 1n, 0n) };
    // Half, then three quarters of the probability on the token that follows.
    const [even, sure] = [
      [0, 0],
      [Math.log(3), 0],
    ];
    const logits = rows([...even, ...sure, 5, -1], [1, 3, 2]);
    const flat = rows([0, 0, 0, 0, -1, 0], [1, 3, 2]);
    for (const source of ['samples', 'random'] as const) {
      const comparison = new Comparison(source);
      comparison.add({ logits }, { logits: flat }, 1, { feeds: { input_ids: ids } });
      const { perplexity } = comparison.quality();
      if (source === 'random') expect(perplexity).toBeUndefined();
      else {
        expect(perplexity?.tokens).toBe(2);
        expect(perplexity?.before).toBeCloseTo(1 / Math.sqrt(0.5 * 0.75), 6);
        expect(perplexity?.after).toBeCloseTo(2, 6);
      }
    }
  });
});
