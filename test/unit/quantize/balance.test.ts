import { describe, expect, it } from 'vitest';
import fc from 'fast-check';
import { Balancer, meanShares } from '../../../src/quantize/balance.js';
import { dequantizeChannels, quantizeChannels } from '../../../src/quantize/channels.js';
import { dequantizeMatrix, quantizeMatrix } from '../../../src/quantize/block-matrix.js';
import { float32Tensor } from '../../../src/onnx/tensor.js';
import { buildModel, node } from '../../engine/quantize/build.js';

const share = 0.47;

/** Expected error of a row with inputs of that share: Σδ² + share · (Σδ)². */
function expected(exact: ArrayLike<number>, held: ArrayLike<number>): number {
  let [sum, squares] = [0, 0];
  for (let i = 0; i < exact.length; i++) {
    const error = exact[i]! - held[i]!;
    sum += error;
    squares += error * error;
  }
  return squares + share * sum * sum;
}

const row = fc.array(fc.double({ min: -1, max: 1, noNaN: true }), { minLength: 8, maxLength: 96 });

describe('balancing rounding errors of a row', () => {
  it('never raises the expected error, whatever the steps and their signs', () => {
    fc.assert(
      fc.property(row, fc.double({ min: 0.01, max: 0.3, noNaN: true }), (values, size) => {
        const steps = values.map((_, i) => (i % 3 === 0 ? -size : size * (1 + (i % 5) / 4)));
        const codes = values.map((value, i) => Math.max(-8, Math.min(7, Math.round(value / steps[i]!))));
        const held = (): number[] => codes.map((code, i) => code * steps[i]!);
        const before = expected(values, held());
        new Balancer(share).balance(values.length, {
          exact: (i) => values[i]!,
          step: (i) => steps[i]!,
          code: (i) => codes[i]!,
          move: (i, by) => {
            const moved = codes[i]! + by;
            if (moved < -8 || moved > 7) return false;
            codes[i] = moved;
            return true;
          },
        });
        expect(expected(values, held())).toBeLessThanOrEqual(before * (1 + 1e-9) + 1e-12);
      }),
    );
  });

  it('lowers the error of channels and blocks whose inputs are positive', () => {
    const [rows, columns] = [24, 160];
    // Deterministic and uneven, so that every row has a sum to take away.
    const values = Float32Array.from({ length: rows * columns }, (_, i) => Math.sin(i * i * 0.37) * (1 + (i % 7)));
    const tensor = float32Tensor('w', [rows, columns], values);
    const total = (held: Float32Array): number => {
      let sum = 0;
      for (let r = 0; r < rows; r++) {
        const [from, to] = [r * columns, (r + 1) * columns];
        sum += expected(values.subarray(from, to), held.subarray(from, to));
      }
      return sum;
    };
    const channels = [0, share].map((each) =>
      total(dequantizeChannels(quantizeChannels(tensor, 0, { share: each }), tensor, 0)),
    );
    expect(channels[1]).toBeLessThan(channels[0]! * 0.8);
    const matrix = { tensor, rows, columns, order: 'row-major' } as const;
    for (const zeroPoints of [false, true]) {
      const format = { bits: 4, blockSize: 32, zeroPoints } as const;
      const blocks = [0, share].map((each) => total(dequantizeMatrix(quantizeMatrix(matrix, format, null, each))));
      expect(blocks[1]).toBeLessThan(blocks[0]! * 0.85);
    }
  });
});

describe('shares of means', () => {
  it('follows positive values through what moves them and ends where they may be negative', () => {
    const { graph } = buildModel({
      inputs: { x: ['n', 4, 8, 8] },
      outputs: ['both'],
      nodes: [
        node('Relu', ['x'], 'positive'),
        node('MaxPool', ['positive'], 'moved'),
        node('GlobalAveragePool', ['moved'], 'pooled'),
        node('Conv', ['moved', 'w'], 'mixed'),
        node('Concat', ['moved', 'mixed'], 'both'),
        node('LayerNormalization', ['positive', 'g'], 'normalized'),
      ],
      weights: [],
    });
    const shares = meanShares(graph);
    expect(shares.get('moved')).toBe(shares.get('positive'));
    expect(shares.get('pooled')!).toBeGreaterThan(shares.get('moved')!);
    for (const value of ['x', 'mixed', 'both', 'normalized']) expect(shares.has(value)).toBe(false);
  });
});
