import fc from 'fast-check';
import { expect, test } from 'vitest';
import { SampleOrder, type SampleOrderOptions } from '../../../src/train/sample-order.js';

const options = fc.record({
  samples: fc.integer({ min: 2, max: 60 }),
  seed: fc.integer({ min: 0, max: 2 ** 31 }),
  batch: fc.integer({ min: 1, max: 70 }),
  validation: fc.constantFrom(0, 0.1, 0.5, 0.9),
});
const epoch = (order: SampleOrder, index: number): number[] =>
  Array.from({ length: order.stepsPerEpoch }, (_, i) => order.ofStep(index * order.stepsPerEpoch + i)).flat();
const sorted = (values: readonly number[]): number[] => [...values].sort((a, b) => a - b);

test('every epoch trains once on each sample that is not held out, the same way from the same seed', () => {
  fc.assert(
    fc.property(options, (given: SampleOrderOptions) => {
      const order = new SampleOrder(given);
      const all = Array.from({ length: given.samples }, (_, i) => i);
      expect(sorted([...order.training, ...order.held])).toEqual(all);
      expect(order.training.length).toBeGreaterThan(0);
      const second = epoch(order, 1);
      expect(sorted(second)).toEqual(sorted(order.training));
      // As after a resume: the first epoch is never asked for.
      expect(epoch(new SampleOrder(given), 1)).toEqual(second);
      expect(order.epochOf(order.stepsPerEpoch)).toBe(1);
    }),
  );
});

test('samples named for judging are never trained on', () => {
  const order = new SampleOrder({ samples: 6, seed: 1, batch: 4, validation: 0.5, held: [2, 5] });
  expect(order.held).toEqual([2, 5]);
  expect(sorted(epoch(order, 0))).toEqual([0, 1, 3, 4]);
});
