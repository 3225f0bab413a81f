import { expect, it } from 'vitest';
import { harmsOthers, isCloser, type Verdict } from '../../../src/fit/recover-judge.js';

const answer = (sqnrDb: number, klNats: number | null = null): Verdict['main'] => ({
  ...{ sqnrDb, klNats, damage: { band: 'small', sqnrDb } },
});
const verdict = (main: number, ...others: number[]): Verdict => ({
  main: answer(main),
  others: others.map((each) => answer(each)),
});

it('keeps a training that brings its answer closer by more than chance', () => {
  expect(isCloser(verdict(11), verdict(10))).toBe(true);
  expect(isCloser(verdict(10.2), verdict(10))).toBe(false);
  expect(isCloser({ main: answer(5, 0.1), others: [] }, { main: answer(10, 0.2), others: [] })).toBe(true);
});

it('keeps none that brings another answer further away, unless that is chance or next to nothing', () => {
  expect(harmsOthers(verdict(20, 9.2), verdict(10, 11.4))).toBe(true);
  expect(harmsOthers(verdict(20, 15, 9.2), verdict(10, 10, 11.4))).toBe(true);
  expect(harmsOthers(verdict(20, 11.3), verdict(10, 11.4))).toBe(false);
  expect(harmsOthers(verdict(20, 45), verdict(10, 200))).toBe(false);
  expect(harmsOthers(verdict(20, 33), verdict(10, 200))).toBe(true);
});
