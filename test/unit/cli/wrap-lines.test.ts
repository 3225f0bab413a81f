import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { signedPercent, wrapLines } from '../../../src/cli/format.js';

describe('lines for a terminal', () => {
  it('go on under the last column of a table, and further in than text', () => {
    expect(wrapLines('name   4 kB  kept in eight bits because', 24)).toBe(
      'name   4 kB  kept in\n             eight bits\n             because',
    );
    expect(wrapLines('· one two three four', 12)).toBe('· one two\n  three four');
    expect(wrapLines('short\n/a/very/long/path/of/a/file', 12)).toBe('short\n/a/very/long/path/of/a/file');
  });

  it('hold the same words in the same order, none too long that could be broken', () => {
    fc.assert(
      fc.property(
        fc.array(fc.stringMatching(/^[a-z]{1,9}$/u), { minLength: 1, maxLength: 30 }),
        fc.integer({ min: 20, max: 60 }),
        (words, columns) => {
          const lines = wrapLines(words.join(' '), columns);
          expect(lines.split(/\s+/u).filter(Boolean)).toEqual(words);
          for (const line of lines.split('\n')) expect(line.length).toBeLessThanOrEqual(columns);
        },
      ),
    );
  });
});

it('a share that rounds to nothing has no sign', () => {
  expect([signedPercent(-0.0003), signedPercent(0.012), signedPercent(-0.012)]).toEqual(['0.0 %', '+1.2 %', '−1.2 %']);
});
