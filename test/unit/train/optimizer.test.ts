import { describe, expect, it } from 'vitest';
import { clipFactor, gradientNorm, updateParameter, zeroBits } from '../../../src/runtime/optimizer.js';
import type { OptimizedParameter } from '../../../src/runtime/optimizer.js';
import type { OptimizerSettings } from '../../../src/runtime/training-types.js';
import { mergeAdapter } from '../../../src/train/adapters.js';
import { randomNumbers, shuffled } from '../../../src/train/random.js';
import { learningRate } from '../../../src/train/schedule.js';

const adamw: OptimizerSettings = {
  kind: 'adamw',
  momentum: 0.9,
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  weightDecay: 0.1,
  clipNorm: null,
};

const parameter = (value: number[], dims = [value.length, 1]): OptimizedParameter => ({
  dims,
  value: Float32Array.from(value),
  moment1: new Float32Array(value.length),
  moment2: new Float32Array(value.length),
  zeros: null,
});

describe('optimizers', () => {
  it('follow AdamW by hand', () => {
    const p = parameter([1]);
    // First update: both means are corrected to the gradient itself, so the step is the rate, against its sign.
    updateParameter(p, Float32Array.of(0.5), adamw, 0.01, 1, 1);
    expect(p.value[0]).toBeCloseTo(1 * (1 - 0.01 * 0.1) - 0.01, 6);
    updateParameter(p, Float32Array.of(-1), adamw, 0.01, 2, 1);
    const mean = (0.9 * 0.05 + 0.1 * -1) / (1 - 0.9 ** 2);
    const square = (0.999 * 0.00025 + 0.001) / (1 - 0.999 ** 2);
    expect(p.value[0]).toBeCloseTo(0.989 * 0.999 - (0.01 * mean) / Math.sqrt(square), 5);
  });

  it('follow gradient descent with momentum by hand, without decay of vectors', () => {
    const sgd = { ...adamw, kind: 'sgd' as const };
    const [matrix, vector] = [parameter([2]), parameter([2], [1])];
    for (const p of [matrix, vector]) for (const g of [1, 1]) updateParameter(p, Float32Array.of(g), sgd, 0.1, 1, 0.5);
    expect(vector.value[0]).toBeCloseTo(2 - 0.1 * 0.5 - 0.1 * (0.9 * 0.5 + 0.5), 6);
    const first = 0.5 + 0.1 * 2;
    const after = 2 - 0.1 * first;
    expect(matrix.value[0]).toBeCloseTo(after - 0.1 * (0.9 * first + 0.5 + 0.1 * after), 6);
  });

  it('keep zeros that were there', () => {
    const value = Float32Array.from({ length: 40 }, (_, i) => (i % 3 === 0 ? 0 : 1));
    const p = { ...parameter([...value], [40, 1]), zeros: zeroBits(value, [40, 1]) };
    updateParameter(p, new Float32Array(40).fill(1), adamw, 0.1, 1, 1);
    expect([...p.value].map((x) => x === 0)).toEqual([...value].map((x) => x === 0));
    expect(zeroBits(value, [40])).toBeNull();
    expect(
      zeroBits(
        Float32Array.from({ length: 40 }, (_, i) => i),
        [40, 1],
      ),
    ).toBeNull();
  });

  it('clip by the length of all gradients together', () => {
    const norm = gradientNorm([Float32Array.of(3), Float32Array.of(0, 4)]);
    expect(norm).toBe(5);
    expect(clipFactor(norm, 1)).toBeCloseTo(0.2);
    expect(clipFactor(norm, 6)).toBe(1);
    expect(clipFactor(norm, null)).toBe(1);
  });
});

describe('schedules', () => {
  it('rise, hold and fall', () => {
    const at = (update: number, schedule: 'constant' | 'linear' | 'cosine'): number =>
      learningRate(update, { rate: 1, schedule, warmUp: 4, total: 24 });
    expect([0, 1, 2, 3].map((update) => at(update, 'cosine'))).toEqual([0.2, 0.4, 0.6, 0.8]);
    expect(at(20, 'constant')).toBe(1);
    expect(at(14, 'linear')).toBeCloseTo(0.5);
    expect(at(4, 'cosine')).toBe(1);
    expect(at(14, 'cosine')).toBeCloseTo(0.5);
    expect(at(24, 'cosine')).toBeCloseTo(0);
  });
});

describe('order', () => {
  it('is a permutation that depends on the seed alone', () => {
    const values = Array.from({ length: 100 }, (_, i) => i);
    const order = shuffled(values, 5);
    expect([...order].sort((a, b) => a - b)).toEqual(values);
    expect(shuffled(values, 5)).toEqual(order);
    expect(shuffled(values, 6)).not.toEqual(order);
  });
});

describe('adapters', () => {
  it('merge in the orientation of the weight', () => {
    const random = randomNumbers(1);
    const numbers = (length: number): Float32Array => Float32Array.from({ length }, random);
    const [inputs, outputs, rank, alpha] = [3, 4, 2, 6];
    const [weight, down, up] = [numbers(12), numbers(inputs * rank), numbers(rank * outputs)];
    const adapter = { weight: 'w', rank, alpha };
    const plain = mergeAdapter(weight, { inputs, outputs, transposed: false }, down, up, adapter);
    const turned = mergeAdapter(weight, { inputs, outputs, transposed: true }, down, up, adapter);
    for (let i = 0; i < inputs; i++) {
      for (let o = 0; o < outputs; o++) {
        const change = (alpha / rank) * (down[i * rank]! * up[o]! + down[i * rank + 1]! * up[outputs + o]!);
        expect(plain[i * outputs + o]).toBeCloseTo(weight[i * outputs + o]! + change, 5);
        expect(turned[o * inputs + i]).toBeCloseTo(weight[o * inputs + i]! + change, 5);
      }
    }
  });
});
