import { describe, expect, it } from 'vitest';
import { intAttribute as i, stringAttribute as s } from '../../../src/onnx/attribute.js';
import { DataType, type Attribute } from '../../../src/onnx/model.js';
import { rawTensor } from '../../../src/onnx/tensor.js';
import { gradientError, type TestGraph } from './support.js';

const gates = { RNN: 1, GRU: 3, LSTM: 4 } as const;

interface Layer {
  steps?: number;
  batch?: number | string;
  bias?: boolean;
  initial?: boolean;
  direction?: 'forward' | 'reverse' | 'bidirectional';
  lengths?: number[];
  attributes?: Record<string, Attribute>;
  /** Output the loss is taken of. */
  output?: 0 | 1 | 2;
}

/** A recurrent layer of 3 inputs and 4 hidden values. */
function layer(op: keyof typeof gates, options: Layer = {}): TestGraph {
  const { steps = 5, batch = 'batch', bias = true, initial = true, direction = 'forward', output = 0 } = options;
  const [d, h] = [direction === 'bidirectional' ? 2 : 1, 4];
  const rows = gates[op] * h;
  const isLong = options.lengths !== undefined;
  const names = ['x', 'w', 'r', bias ? 'b' : '', isLong ? 'lengths' : '', initial ? 'h0' : '', initial ? 'c0' : ''];
  const outputs = ['', '', ''].map((_, index) => (index === output ? 'y' : ''));
  return {
    values: (x) => x * 0.7,
    wanted: {
      x: [steps, batch, 3],
      w: [d, rows, 3],
      r: [d, rows, h],
      ...(bias ? { b: [d, 2 * rows] } : {}),
      ...(initial ? { h0: [d, batch, h], ...(op === 'LSTM' ? { c0: [d, batch, h] } : {}) } : {}),
    },
    ...(options.lengths
      ? {
          tensors: [
            rawTensor(
              'lengths',
              DataType.INT32,
              [options.lengths.length],
              new Uint8Array(Int32Array.from(options.lengths).buffer),
            ),
          ],
        }
      : {}),
    nodes: [
      {
        op,
        in: names.slice(0, op === 'LSTM' ? 7 : 6),
        out: outputs.slice(0, output + 1),
        attributes: { hidden_size: i(h), direction: s(direction), ...options.attributes },
      },
    ],
  };
}

const cases: Record<string, TestGraph> = {
  RNN: layer('RNN'),
  'RNN, last state, reverse': layer('RNN', { output: 1, direction: 'reverse', bias: false, initial: false }),
  'RNN, ReLU': layer('RNN', {
    attributes: { activations: { type: 'strings', value: [new TextEncoder().encode('Softplus')] } },
  }),
  'RNN, both ways': layer('RNN', { direction: 'bidirectional' }),
  GRU: layer('GRU'),
  'GRU, reset after the product': layer('GRU', { attributes: { linear_before_reset: i(1) } }),
  'GRU without state or bias': layer('GRU', { initial: false, bias: false, direction: 'bidirectional' }),
  'GRU without state, reset after the product': layer('GRU', {
    initial: false,
    attributes: { linear_before_reset: i(1) },
  }),
  'GRU, reverse, last state': layer('GRU', { direction: 'reverse', output: 1 }),
  'GRU of different lengths': layer('GRU', { batch: 3, lengths: [5, 2, 1], direction: 'bidirectional' }),
  LSTM: layer('LSTM'),
  'LSTM, both ways': layer('LSTM', { direction: 'bidirectional' }),
  'LSTM without state or bias': layer('LSTM', { initial: false, bias: false }),
  'LSTM, last state': layer('LSTM', { output: 1, direction: 'bidirectional' }),
  'LSTM, last cell': layer('LSTM', { output: 2 }),
  'LSTM of different lengths': layer('LSTM', { batch: 3, lengths: [3, 5, 2], direction: 'bidirectional' }),
  'LSTM of different lengths, last state': layer('LSTM', {
    batch: 3,
    lengths: [3, 5, 2],
    output: 1,
    direction: 'reverse',
  }),
  'LSTM, one step': layer('LSTM', { steps: 1 }),
};

describe('recurrent layers against differences along random directions', () => {
  for (const [name, graph] of Object.entries(cases)) {
    it(name, async () => {
      expect(await gradientError(graph, 1)).toBeLessThan(2e-3);
    });
  }

  it('are refused where they cannot be written out', async () => {
    const refused = { code: 'E_NOT_SUPPORTED' };
    await expect(gradientError(layer('LSTM', { attributes: { input_forget: i(1) } }), 1)).rejects.toMatchObject(
      refused,
    );
    const long = layer('RNN', { steps: 600, initial: false });
    await expect(gradientError(long, 1)).rejects.toThrow(/600 steps/);
  });
});
