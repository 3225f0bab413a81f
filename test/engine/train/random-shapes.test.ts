import { describe, expect, it } from 'vitest';
import { intAttribute as i, intsAttribute as is } from '../../../src/onnx/attribute.js';
import { randomNumbers } from '../../../src/train/random.js';
import { gradientError, type TestGraph } from './support.js';

const tolerance = 3e-3;

/** Whole numbers from a seed. */
function picker(seed: number): { pick: (low: number, high: number) => number; some: <T>(values: readonly T[]) => T } {
  const random = randomNumbers(seed);
  const pick = (low: number, high: number): number => low + Math.floor(random() * (high - low + 1));
  return { pick, some: (values) => values[pick(0, values.length - 1)]! };
}

type Make = (seed: number) => TestGraph;

/** Values far from each other: where two are close, a maximum has no derivative that differences could show. */
function farApart(): (x: number) => number {
  let count = 0;
  return () => ((count++ * 37) % 101) / 10;
}

/** A convolution or its transpose with everything at random. */
const convolution =
  (transposed: boolean): Make =>
  (seed) => {
    const { pick, some } = picker(seed);
    const axes = pick(1, 2);
    const group = some([1, 1, 2, 3]);
    const [inner, outer] = [pick(1, 2), pick(1, 2)];
    const kernel = Array.from({ length: axes }, () => pick(1, 3));
    const dilations = kernel.map(() => pick(1, 2));
    const strides = kernel.map(() => pick(1, 3));
    const pads = [...kernel, ...kernel].map((k) => pick(0, k - 1));
    const size = kernel.map((k, a) => dilations[a]! * (k - 1) + 1 + pick(2, 5));
    const channels = transposed ? [group * inner, outer] : [group * outer, inner];
    return {
      wanted: {
        x: ['batch', group * inner, ...size],
        w: [...channels, ...kernel],
        b: [group * outer],
      },
      nodes: [
        {
          op: transposed ? 'ConvTranspose' : 'Conv',
          in: ['x', 'w', 'b'],
          out: ['y'],
          attributes: { group: i(group), dilations: is(dilations), strides: is(strides), pads: is(pads) },
        },
      ],
    };
  };

const pooling =
  (op: 'MaxPool' | 'AveragePool'): Make =>
  (seed) => {
    const { pick } = picker(seed);
    const kernel = Array.from({ length: 2 }, () => pick(2, 3));
    // Rounding up is only well defined where no window begins in the padding.
    const roundsUp = op === 'MaxPool' && pick(0, 1) === 1;
    const pads = [...kernel, ...kernel].map((k) => (roundsUp ? 0 : pick(0, k - 1)));
    return {
      values: op === 'MaxPool' ? farApart() : (x) => x,
      wanted: { x: ['batch', pick(1, 3), pick(5, 8), pick(5, 8)] },
      nodes: [
        {
          op,
          in: ['x'],
          out: ['y'],
          attributes: {
            kernel_shape: is(kernel),
            strides: is(kernel.map((k) => pick(1, roundsUp ? k : 3))),
            pads: is(pads),
            ceil_mode: i(roundsUp ? 1 : 0),
            ...(op === 'AveragePool' ? { count_include_pad: i(pick(0, 1)) } : {}),
          },
        },
      ],
    };
  };

/** Shapes that broadcast: axes of 1 and missing leading axes on either side. */
const broadcast =
  (op: string): Make =>
  (seed) => {
    const { pick } = picker(seed);
    const whole: (number | string)[] = ['batch', pick(1, 4), pick(2, 4), pick(1, 3)];
    const part = (): (number | string)[] => whole.slice(pick(0, 3)).map((size) => (pick(0, 2) === 0 ? 1 : size));
    return {
      wanted: { a: part(), b: part() },
      nodes: [{ op, in: ['a', 'b'], out: ['y'] }],
      values: (x, name) => (op === 'Div' && name === 'b' ? Math.abs(x) + 0.5 : x),
    };
  };

const product: Make = (seed) => {
  const { pick, some } = picker(seed);
  const lead: (number | string)[] = ['batch', pick(1, 3)];
  const [m, k, n] = [pick(1, 4), pick(1, 5), pick(1, 4)];
  const part = (): (number | string)[] => lead.slice(pick(0, 2)).map((size) => some([1, size]));
  return {
    wanted: { a: [...part(), m, k], b: [...part(), k, n] },
    nodes: [{ op: 'MatMul', in: ['a', 'b'], out: ['y'] }],
  };
};

const normalization: Make = (seed) => {
  const { pick } = picker(seed);
  const dims: (number | string)[] = ['batch', pick(1, 4), pick(2, 4), pick(3, 6)];
  const axis = pick(1, 3);
  return {
    wanted: { x: dims, g: dims.slice(axis), b: dims.slice(axis) },
    nodes: [{ op: 'LayerNormalization', in: ['x', 'g', 'b'], out: ['y'], attributes: { axis: i(axis) } }],
  };
};

const sliced: Make = (seed) => {
  const { pick, some } = picker(seed);
  const [rows, columns] = [pick(4, 9), pick(4, 9)];
  const vector = (values: number[]): { dims: number[]; values: number[] } => ({ dims: [2], values });
  const steps = [some([1, 2, 3]), some([-1, 1, -2])];
  const ends = [pick(3, 20), steps[1]! < 0 ? -100 : 100];
  return {
    wanted: { x: ['batch', rows, columns] },
    ints: {
      starts: vector([pick(0, 2), steps[1]! < 0 ? -1 : pick(-3, 1)]),
      ends: vector(ends),
      axes: vector([1, -1]),
      steps: vector(steps),
    },
    nodes: [{ op: 'Slice', in: ['x', 'starts', 'ends', 'axes', 'steps'], out: ['y'] }],
  };
};

const reduced =
  (op: string): Make =>
  (seed) => {
    const { pick } = picker(seed);
    const axes = [0, 1, 2].filter(() => pick(0, 1) === 1);
    const chosen = axes.length > 0 ? axes : [pick(0, 2)];
    return {
      values: op === 'ReduceMax' ? farApart() : (x) => x,
      wanted: { x: ['batch', pick(1, 4), pick(1, 5)] },
      ints: { axes: { dims: [chosen.length], values: chosen.map((axis) => axis - (pick(0, 1) === 1 ? 3 : 0)) } },
      nodes: [{ op, in: ['x', 'axes'], out: ['y'], attributes: { keepdims: i(pick(0, 1)) } }],
    };
  };

const makers: Record<string, Make> = {
  Conv: convolution(false),
  ConvTranspose: convolution(true),
  MaxPool: pooling('MaxPool'),
  AveragePool: pooling('AveragePool'),
  Add: broadcast('Add'),
  Mul: broadcast('Mul'),
  Div: broadcast('Div'),
  MatMul: product,
  LayerNormalization: normalization,
  Slice: sliced,
  ReduceSum: reduced('ReduceSum'),
  ReduceMean: reduced('ReduceMean'),
  ReduceMax: reduced('ReduceMax'),
};

describe('gradient rules on random shapes', () => {
  for (const [name, make] of Object.entries(makers)) {
    it(name, async () => {
      for (let seed = 1; seed <= 12; seed++) {
        const graph = make(seed);
        expect(await gradientError(graph, seed), JSON.stringify(graph)).toBeLessThan(tolerance);
      }
    });
  }
});
