import { describe, expect, it } from 'vitest';
import type { Candidate, Dtype } from '../../../src/contract/types.js';
import { nearlySame } from '../../../src/fit/nearly-same.js';

const candidate = (formats: readonly [Dtype, bytes: number][], peakBytes: number, plan = {}): Candidate =>
  ({
    plan: {
      pruneRatio: 0,
      batch: 1,
      weights: formats.map(([dtype, bytesBefore], at) => ({ name: `w${at}`, dtype, bytesBefore })),
      ...plan,
    },
    estimate: { peakBytes },
  }) as unknown as Candidate;

const base = candidate(
  [
    ['int4', 995],
    ['int8', 5],
  ],
  1000,
);

describe('two candidates', () => {
  it('are nearly the same where the formats of a sliver differ and the peaks hardly do', () => {
    expect(
      nearlySame(
        candidate(
          [
            ['int4', 995],
            ['int4', 5],
          ],
          997,
        ),
        base,
      ),
    ).toBe(true);
    expect(nearlySame(base, base)).toBe(true);
  });

  it.each([
    [
      'formats of more than a sliver',
      candidate(
        [
          ['int8', 995],
          ['int8', 5],
        ],
        1000,
      ),
    ],
    [
      'the peak',
      candidate(
        [
          ['int4', 995],
          ['int4', 5],
        ],
        990,
      ),
    ],
    [
      'the widths',
      candidate(
        [
          ['int4', 995],
          ['int8', 5],
        ],
        1000,
        { pruneRatio: 0.1 },
      ),
    ],
    [
      'the batch',
      candidate(
        [
          ['int4', 995],
          ['int8', 5],
        ],
        1000,
        { batch: 2 },
      ),
    ],
    ['which weights there are', candidate([['int4', 995]], 1000)],
  ])('are not where %s differ', (_, other) => expect(nearlySame(other, base)).toBe(false));

  it('are told apart by the size of blocks', () => {
    const blocks = { weights: [{ name: 'w0', dtype: 'int4', bytesBefore: 1000, blockSize: 16 }] };
    const wide = { weights: [{ name: 'w0', dtype: 'int4', bytesBefore: 1000, blockSize: 32 }] };
    expect(nearlySame(candidate([], 1000, blocks), candidate([], 1000, wide))).toBe(false);
  });
});
