import { describe, expect, it } from 'vitest';
import { problemOf, type SweepRow } from '../../bench/sweep/check.js';

const row = (change: Partial<SweepRow> = {}): SweepRow => ({
  ...{ model: 'm', format: 'int4', provider: 'webgpu', outcome: 'failed', db: 20, bytesBefore: 2, bytesAfter: 1 },
  ...{ placement: {}, fallbacks: [], kept: {}, problem: '' },
  ...change,
});
const original = (fallbacks: readonly string[] | null): Parameters<typeof problemOf>[1] => ({
  answers: {},
  fallbacks: { webgpu: fallbacks },
});

describe('what the sweep calls a problem', () => {
  it('operators that only the quantized model leaves to the CPU, where the original is known to run', () => {
    const moved = row({ fallbacks: ['Gather', 'Gather'] });
    expect(problemOf(moved, original([]))).toBe('quantizing sends Gather to the CPU');
    expect(problemOf(moved, original(null))).toBeNull();
    expect(problemOf(row(), original(['Gather']))).toBeNull();
  });

  it('answers below the floor of the format, and weights kept without a reason', () => {
    expect(problemOf(row({ db: 2 }), original([]))).toBe('answers keep 2.0 dB only');
    expect(problemOf(row({ db: null }), original([]))).toBe('answers keep no dB only');
    expect(problemOf(row({ kept: { 'int8: NO REASON': 1 } }), original([]))).toMatch(/without a reason/);
  });
});
