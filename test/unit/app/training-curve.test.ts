import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { curveOf } from '../../../src/app/training-curve.js';
import type { TrainStep } from '../../../src/train/train.js';

const stepsOf = (losses: readonly number[]): TrainStep[] =>
  losses.map((loss, i) => ({ step: i + 1, epoch: 0, loss, rate: 0.1, gradientNorm: 1 }));

describe('the curve of a training', () => {
  it('keeps every update while there are few', () => {
    expect(curveOf(stepsOf([3, 2, 1]), [{ step: 0, loss: 4, accuracy: null }])).toEqual({
      training: [
        { step: 1, loss: 3 },
        { step: 2, loss: 2 },
        { step: 3, loss: 1 },
      ],
      heldOut: [{ step: 0, loss: 4, accuracy: null }],
    });
  });

  it('joins neighbours into their mean, and keeps the newest evaluation', () => {
    const evaluations = Array.from({ length: 7 }, (_, i) => ({ step: i, loss: i, accuracy: i / 10 }));
    const { training, heldOut } = curveOf(stepsOf([1, 3, 5, 7, 9]), evaluations, 3);
    expect(training).toEqual([
      { step: 2, loss: 2 },
      { step: 4, loss: 6 },
      { step: 5, loss: 9 },
    ]);
    expect(heldOut.map(({ step }) => step)).toEqual([0, 3, 6]);
  });

  it('never has more points than asked for, ends with the last update and loses no loss', () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: 0, max: 100, noNaN: true }), { minLength: 1, maxLength: 400 }),
        fc.integer({ min: 1, max: 50 }),
        (losses, most) => {
          const { training } = curveOf(stepsOf(losses), [], most);
          expect(training.length).toBeLessThanOrEqual(most);
          expect(training.at(-1)?.step).toBe(losses.length);
          const size = Math.ceil(losses.length / most);
          const sum = training.reduce((all, { loss, step }) => all + loss * (step % size || size), 0);
          expect(sum).toBeCloseTo(
            losses.reduce((a, b) => a + b, 0),
            6,
          );
        },
      ),
    );
  });
});
