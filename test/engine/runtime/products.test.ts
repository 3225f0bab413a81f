import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Tensor } from 'onnxruntime-node';
import { afterAll, describe, expect, it } from 'vitest';
import { ProductSums } from '../../../src/runtime/products.js';
import { gaussian } from '../quantize/numbers.js';

const folder = mkdtempSync(path.join(tmpdir(), 'snug-products-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('sums of products', () => {
  // One panel, several, and a last one that is not full.
  it.each([24, 512, 1100])('are those of all rows, with %i columns', async (columns) => {
    const sums = new ProductSums();
    const exact = new Float64Array(columns * columns);
    for (const [run, rows] of [3, 1, 5].entries()) {
      const data = gaussian(rows * columns, 7 + run);
      const dims = run === 0 ? [rows, 1, columns] : [rows, columns];
      expect(await sums.add({ x: new Tensor('float32', data, dims) }, [{ output: 'x', columns }])).toEqual([rows]);
      for (let row = 0; row < rows; row++) {
        for (let i = 0; i < columns; i++) {
          for (let j = 0; j < columns; j++)
            exact[i * columns + j]! += data[row * columns + i]! * data[row * columns + j]!;
        }
      }
    }
    const file = path.join(folder, `${columns}.bin`);
    sums.store('x', file);
    const found = new Float32Array(Uint8Array.from(readFileSync(file)).buffer);
    expect(found.length).toBe(exact.length);
    let worst = 0;
    found.forEach((value, at) => (worst = Math.max(worst, Math.abs(value - exact[at]!))));
    expect(worst).toBeLessThan(1e-4);
  });

  it('refuse values that are no whole rows', async () => {
    const values = { x: new Tensor('float32', new Float32Array(10), [10]) };
    await expect(new ProductSums().add(values, [{ output: 'x', columns: 3 }])).rejects.toMatchObject({
      code: 'E_BAD_REQUEST',
    });
  });
});
