import { describe, expect, it } from 'vitest';
import { float32Tensor } from '../../../src/onnx/tensor.js';
import { BlockSearch } from '../../../src/quantize/block-search.js';
import { packBlock, packZeroPoints, quantizeMatrix, type BlockFormat } from '../../../src/quantize/block-matrix.js';
import type { WeightMatrix } from '../../../src/quantize/matrix.js';
import { gaussian } from '../../engine/quantize/numbers.js';

/** Block by block, value by value. */
function oneByOne(values: Float32Array, rows: number, columns: number, format: BlockFormat): typeof result {
  const { bits, blockSize, zeroPoints } = format;
  const blocks = Math.ceil(columns / blockSize);
  const result = {
    ...{ format, rows, columns, codes: new Uint8Array((rows * blocks * blockSize * bits) / 8) },
    scales: new Float32Array(rows * blocks),
    zeroPoints: zeroPoints ? new Uint8Array(rows * Math.ceil((blocks * bits) / 8)) : null,
  };
  const search = new BlockSearch(bits, blockSize, zeroPoints, format.halfScales, true);
  const unpacked: number[] = [];
  for (let row = 0; row < rows; row++) {
    for (let block = 0; block < blocks; block++) {
      const start = block * blockSize;
      search.run(values, row * columns + start, Math.min(blockSize, columns - start), null);
      result.scales[row * blocks + block] = search.scale;
      packBlock(result, row * blocks + block, search.codes);
      unpacked.push(search.zeroPoint);
    }
  }
  packZeroPoints(result, unpacked);
  return result;
}

describe('plain rounding of whole matrices', () => {
  // Rows that fill no group of four, rows longer than a tile, blocks that end early, more rows than a tile.
  const shapes = [
    ...[
      [1, 1],
      [5, 83],
      [64, 96],
      [3, 40_000],
      [4, 32_768],
      [9000, 17],
      [6, 300],
    ],
  ] as const as readonly (readonly [number, number])[];

  for (const [rows, columns] of shapes) {
    it(`writes the codes of one block after the other, ${rows} × ${columns}`, () => {
      const plain = gaussian(rows * columns, rows + columns);
      // A block of nothing but zeros.
      plain.fill(0, 0, Math.min(32, columns));
      const transposed = new Float32Array(plain.length);
      for (let r = 0; r < rows; r++) {
        for (let c = 0; c < columns; c++) transposed[c * rows + r] = plain[r * columns + c]!;
      }
      const orders: WeightMatrix[] = [
        { tensor: float32Tensor('a', [rows, columns], plain), rows, columns, order: 'row-major' },
        { tensor: float32Tensor('b', [columns, rows], transposed), rows, columns, order: 'column-major' },
      ];
      for (const [bits, blockSize] of [
        [4, 32],
        [4, 16],
        [8, 128],
        [2, 64],
      ] as const) {
        for (const zeroPoints of [false, true]) {
          const format = { bits, blockSize, zeroPoints, nearest: true, halfScales: bits === 4 };
          const expected = oneByOne(plain, rows, columns, format);
          const results = orders.map((matrix) => quantizeMatrix(matrix, format));
          for (const result of results) {
            expect(Buffer.compare(bytesOf(result.scales), bytesOf(expected.scales))).toBe(0);
            expect(result.zeroPoints).toEqual(expected.zeroPoints);
          }
          expect(Buffer.compare(results[0]!.codes, results[1]!.codes)).toBe(0);
          // A float32 product may fall on the other side of a halfway point than a float64 one.
          const off = results[0]!.codes.filter((byte, i) => byte !== expected.codes[i]).length;
          expect(off / expected.codes.length).toBeLessThan(1e-4);
        }
      }
    });
  }

  it('takes the code nearest to every value', () => {
    const [rows, columns] = [37, 256];
    const values = gaussian(rows * columns, 5);
    const matrix: WeightMatrix = {
      ...{ tensor: float32Tensor('w', [rows, columns], values), rows, columns },
      order: 'row-major',
    };
    const { codes, scales } = quantizeMatrix(matrix, { bits: 4, blockSize: 32, zeroPoints: false, nearest: true });
    values.forEach((value, i) => {
      const code = (codes[i >> 1]! >> (4 * (i % 2))) & 15;
      const steps = value / scales[i >> 5]!;
      expect(Math.abs(Math.max(-8, Math.min(7, steps)) - (code - 8))).toBeLessThanOrEqual(0.5 + 1e-5);
    });
  });
});

const bytesOf = ({ buffer, byteOffset, byteLength }: Float32Array): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength);
