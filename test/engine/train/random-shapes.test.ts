import { describe, expect, it } from 'vitest';
import { intAttribute as i, intsAttribute as is, stringAttribute as s } from '../../../src/onnx/attribute.js';
import { DataType } from '../../../src/onnx/model.js';
import { rawTensor } from '../../../src/onnx/tensor.js';
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

const resized: Make = (seed) => {
  const { pick, some } = picker(seed);
  const mode = some(['nearest', 'linear', 'cubic']);
  const size = [pick(2, 6), pick(2, 6)];
  const coordinates = some(['half_pixel', 'asymmetric', 'align_corners', 'pytorch_half_pixel']);
  return {
    wanted: { x: [2, pick(1, 3), ...size] },
    ints: { sizes: { dims: [2], values: size.map(() => pick(1, 9)) } },
    nodes: [
      {
        op: 'Resize',
        in: ['x', '', '', 'sizes'],
        out: ['y'],
        attributes: { axes: is([2, 3]), mode: s(mode), coordinate_transformation_mode: s(coordinates) },
      },
    ],
  };
};

const recurrent =
  (op: 'RNN' | 'GRU' | 'LSTM'): Make =>
  (seed) => {
    const { pick, some } = picker(seed);
    // A single step from nothing does not use the recurrent weight.
    const [inner, hidden, steps] = [pick(1, 4), pick(1, 5), pick(2, 6)];
    const direction = some(['forward', 'reverse', 'bidirectional']);
    const directions = direction === 'bidirectional' ? 2 : 1;
    const rows = { RNN: 1, GRU: 3, LSTM: 4 }[op] * hidden;
    return {
      values: (x) => x * 0.6,
      wanted: {
        x: [steps, 'batch', inner],
        w: [directions, rows, inner],
        r: [directions, rows, hidden],
        b: [directions, 2 * rows],
      },
      nodes: [
        {
          op,
          in: ['x', 'w', 'r', 'b'],
          out: ['y'],
          attributes: {
            hidden_size: i(hidden),
            direction: s(direction),
            ...(op === 'GRU' ? { linear_before_reset: i(pick(0, 1)) } : {}),
          },
        },
      ],
    };
  };

/** A product with a matrix of codes in blocks, whose last may reach beyond the columns. */
const blocks: Make = (seed) => {
  const { pick, some } = picker(seed);
  const [rows, columns, blockSize] = [pick(1, 9), pick(5, 50), some([16, 32])];
  const count = Math.ceil(columns / blockSize);
  const codes = Uint8Array.from({ length: (rows * count * blockSize) / 2 }, () => pick(0, 255));
  return {
    values: (x, name) => (name === 'scales' ? x / 8 : x),
    wanted: { x: ['batch', pick(1, 3), columns], scales: [rows, count] },
    tensors: [rawTensor('codes', DataType.UINT8, [rows, count, blockSize / 2], codes)],
    nodes: [
      {
        op: 'MatMulNBits',
        domain: 'com.microsoft',
        in: ['x', 'codes', 'scales'],
        out: ['y'],
        attributes: { K: i(columns), N: i(rows), bits: i(4), block_size: i(blockSize) },
      },
    ],
  };
};

const attention: Make = (seed) => {
  const { pick, some } = picker(seed);
  const [heads, head, inner] = [pick(1, 3), pick(1, 4), pick(1, 5)];
  const width = 3 * heads * head;
  return {
    values: (x) => x * 0.7,
    wanted: { x: ['batch', pick(1, 5), inner], w: [inner, width], b: [width] },
    nodes: [
      {
        op: 'Attention',
        domain: 'com.microsoft',
        in: ['x', 'w', 'b'],
        out: ['y'],
        attributes: { num_heads: i(heads), unidirectional: i(some([0, 1])) },
      },
    ],
  };
};

const einsum: Make = (seed) => {
  const { pick, some } = picker(seed);
  const sizes: Record<string, number | string> = { b: 'batch', i: pick(1, 4), j: pick(1, 4), k: pick(1, 4) };
  const [a, c, y] = some([
    ['bij', 'jk', 'bik'],
    ['bij', 'bkj', 'bik'],
    ['ij', 'jk', 'k'],
    ['bi', 'kj', 'bjk'],
    ['bijk', 'ij', 'bk'],
  ]) as [string, string, string];
  const dims = (letters: string): (number | string)[] => [...letters].map((letter) => sizes[letter]!);
  return {
    wanted: { a: dims(a), c: dims(c) },
    nodes: [{ op: 'Einsum', in: ['a', 'c'], out: ['y'], attributes: { equation: s(`${a},${c}->${y}`) } }],
  };
};

const padded: Make = (seed) => {
  const { pick, some } = picker(seed);
  const size = [pick(3, 6), pick(3, 6)];
  return {
    wanted: { x: ['batch', ...size] },
    ints: { pads: { dims: [6], values: [0, pick(0, 2), pick(0, 2), 0, pick(0, 2), pick(0, 2)] } },
    nodes: [
      { op: 'Pad', in: ['x', 'pads'], out: ['y'], attributes: { mode: s(some(['constant', 'reflect', 'edge'])) } },
    ],
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
  Resize: resized,
  RNN: recurrent('RNN'),
  GRU: recurrent('GRU'),
  LSTM: recurrent('LSTM'),
  MatMulNBits: blocks,
  Attention: attention,
  Einsum: einsum,
  Pad: padded,
};

/** Written out in many nodes: fewer shapes take as long. */
const longer = new Set(['RNN', 'GRU', 'LSTM', 'Attention']);

describe('gradient rules on random shapes', () => {
  for (const [name, make] of Object.entries(makers)) {
    it(name, async () => {
      for (let seed = 1; seed <= (longer.has(name) ? 4 : 12); seed++) {
        const graph = make(seed);
        expect(await gradientError(graph, seed), JSON.stringify(graph)).toBeLessThan(tolerance);
      }
    });
  }
});
