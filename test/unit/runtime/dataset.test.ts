import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { zipSync } from 'fflate';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { castArray } from '../../../src/runtime/arrays.js';
import { openDataset } from '../../../src/runtime/dataset.js';
import { NpyArray, npyHeader, openSource } from '../../../src/runtime/npy.js';
import { NpyWriter } from '../../../src/runtime/npy-writer.js';
import { syntheticFeeds } from '../../../src/runtime/synthetic.js';
import type { RuntimeDtype, RuntimeValue } from '../../../src/runtime/types.js';
import { npyBytes, writeNpy } from './helpers.js';

const image: RuntimeValue = { name: 'input', dtype: 'float32', dims: ['batch', 1, 2, 2] };
const ids: RuntimeValue = { name: 'input_ids', dtype: 'int64', dims: ['batch', 'sequence'] };
const mask: RuntimeValue = { name: 'attention_mask', dtype: 'int64', dims: ['batch', 'total_sequence'] };
const positions: RuntimeValue = { name: 'position_ids', dtype: 'int64', dims: ['batch', 'sequence'] };
const past: RuntimeValue = { name: 'past_key_values.0.key', dtype: 'float32', dims: ['batch', 6, 'past_sequence', 32] };

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'snug-data-'));
});
afterAll(() => rm(folder, { recursive: true }));

const file = (name: string): string => path.join(folder, name);
const failing = (code: string, part = ''): unknown =>
  expect.objectContaining({ code, message: expect.stringContaining(part) });

describe('.npy arrays', () => {
  it('come back in any slices as they were written', async () => {
    const dtypes: RuntimeDtype[] = ['float32', 'float64', 'float16', 'int64', 'int32', 'uint8', 'bool'];
    let round = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...dtypes),
        fc.array(fc.nat(200), { minLength: 1, maxLength: 12 }),
        fc.integer({ min: 1, max: 3 }),
        async (dtype, values, step) => {
          const name = file(`round-${round++}.npy`);
          const data = castArray(Float64Array.from(values), 'float64', dtype);
          const writer = await NpyWriter.create(name, dtype, []);
          for (let i = 0; i < values.length; i += step) {
            await writer.append(data.slice(i, i + step), Math.min(step, values.length - i));
          }
          await writer.finish();
          const array = await NpyArray.open(await openSource(name), name);
          expect(array.dims).toEqual([values.length]);
          for (let i = 0; i < values.length; i += 1) expect((await array.read(i, 1))[0]).toEqual(data[i]);
          await array.close();
        },
      ),
      { numRuns: 40 },
    );
  });

  it('are hidden until finished and never left half', async () => {
    const writer = await NpyWriter.create(file('half.npy'), 'float32', [2]);
    await writer.append(new Float32Array(2), 1);
    await expect(readFile(file('half.npy'))).rejects.toThrow();
    await writer.abort();
    await writeFile(file('there.npy'), 'x');
    await expect(NpyWriter.create(file('there.npy'), 'float32', [])).rejects.toEqual(failing('E_EXISTS'));
    await expect(NpyWriter.create(file('no/where.npy'), 'float32', [])).rejects.toEqual(failing('E_NOT_FOUND'));
  });

  it.each([
    ['garbage', Buffer.from('not an array at all'), 'not a .npy'],
    ['an empty file', Buffer.alloc(0), 'not a .npy'],
    ['a file cut short', npyBytes('float32', [4, 1, 2, 2], new Float32Array(16)).subarray(0, 230), 'ends early'],
    ['Fortran order', replaced("'fortran_order': False", "'fortran_order': True "), 'Fortran'],
    ['big-endian numbers', replaced("'<f4'", "'>f4'"), '>f4'],
    ['a negative shape', replaced('(4, 1, 2, 2)', '(-4,1, 2, 2)'), 'damaged'],
    ['an impossible shape', Buffer.from(npyHeader('float32', [99_999_999, 99_999_999])), 'impossible'],
  ])('refuse %s', async (_what, bytes, part) => {
    await writeFile(file('bad.npy'), bytes);
    await expect(openDataset(file('bad.npy'), [image])).rejects.toEqual(failing('E_DATA_FORMAT', part));
  });
});

function replaced(from: string, to: string): Buffer {
  const text = npyBytes('float32', [4, 1, 2, 2], new Float32Array(16)).toString('latin1');
  expect(text).toContain(from);
  return Buffer.from(text.replace(from, to), 'latin1');
}

describe('openDataset', () => {
  it('feeds slices of an array, cast to the number type of the input', async () => {
    await writeNpy(
      file('images.npy'),
      'uint8',
      [3, 1, 2, 2],
      Uint8Array.from({ length: 12 }, (_, i) => i),
    );
    const data = await openDataset(file('images.npy'), [image]);
    expect(data.samples).toBe(3);
    const feeds = await data.feeds(1, 2);
    expect(feeds.input).toEqual({
      dtype: 'float32',
      dims: [2, 1, 2, 2],
      data: Float32Array.of(4, 5, 6, 7, 8, 9, 10, 11),
    });
    await expect(data.feeds(2, 2)).rejects.toEqual(failing('E_USAGE'));
    await data.close();
  });

  it('fills in masks, positions and an empty past', async () => {
    await writeNpy(file('ids.npy'), 'int32', [2, 3], Int32Array.of(1, 2, 3, 4, 5, 6));
    const data = await openDataset(file('ids.npy'), [ids, mask, positions, past]);
    expect(data.dims).toEqual({ sequence: 3 });
    const feeds = await data.feeds(0, 2);
    expect(feeds.input_ids?.data).toEqual(BigInt64Array.of(1n, 2n, 3n, 4n, 5n, 6n));
    expect(feeds.attention_mask).toEqual({ dtype: 'int64', dims: [2, 3], data: new BigInt64Array(6).fill(1n) });
    expect(feeds.position_ids?.data).toEqual(BigInt64Array.of(0n, 1n, 2n, 0n, 1n, 2n));
    expect(feeds['past_key_values.0.key']).toEqual({
      dtype: 'float32',
      dims: [2, 6, 0, 32],
      data: new Float32Array(0),
    });
    await data.close();
  });

  it('knows when the model takes a fixed number of samples', async () => {
    const data = await openDataset(file('images.npy'), [{ ...image, dims: [1, 1, 2, 2] }]);
    expect(data.fixedBatch).toBe(1);
    await data.close();
  });

  it('reads archives by the names of the inputs', async () => {
    const entries = {
      'a.npy': npyBytes('float32', [2, 1], Float32Array.of(1, 2)),
      'b.npy': npyBytes('int64', [2], BigInt64Array.of(3n, 4n)),
    };
    await writeFile(file('both.npz'), zipSync(entries));
    const inputs = [
      { name: 'a', dtype: 'float32', dims: ['n', 1] },
      { name: 'b', dtype: 'int64', dims: ['n'] },
    ];
    const data = await openDataset(file('both.npz'), inputs);
    expect((await data.feeds(1, 1)).b?.data).toEqual(BigInt64Array.of(4n));
    await data.close();
    const other = openDataset(file('both.npz'), [...inputs, { name: 'c', dtype: 'float32', dims: ['n'] }]);
    await expect(other).rejects.toEqual(failing('E_DATA_SHAPE', 'c (it has: a, b)'));
    await writeFile(file('torn.npz'), 'PK no archive');
    await expect(openDataset(file('torn.npz'), inputs)).rejects.toEqual(failing('E_DATA_FORMAT'));
  });

  it('unpacks compressed and stored archives piece by piece', async () => {
    const random = Float32Array.from({ length: 3 * 2 ** 20 }, (_, i) => Math.fround(Math.sin(i * 12.9898) * 43758.5));
    const rows = random.length / 4;
    const bytes = npyBytes('float32', [rows, 1, 2, 2], random);
    const extra = npyBytes('float32', [1], Float32Array.of(1));
    for (const level of [0, 1] as const) {
      await writeFile(file('large.npz'), zipSync({ 'other.npy': extra, 'input.npy': bytes }, { level }));
      const data = await openDataset(file('large.npz'), [image]);
      expect(data.samples).toBe(rows);
      const all = (await data.feeds(0, rows)).input?.data;
      // Element by element takes the matcher a minute.
      expect(Buffer.from(all?.buffer as ArrayBuffer).equals(Buffer.from(random.buffer))).toBe(true);
      await data.close();
      const cut = (await readFile(file('large.npz'))).subarray(0, 7e6);
      await writeFile(file('cut.npz'), cut);
      await expect(openDataset(file('cut.npz'), [image])).rejects.toEqual(failing('E_DATA_FORMAT'));
    }
  });

  it('names both shapes when they do not match', async () => {
    const wanted = { ...image, dims: ['batch', 3, 2, 2] };
    await expect(openDataset(file('images.npy'), [wanted])).rejects.toEqual(failing('E_DATA_SHAPE', '[3, 1, 2, 2]'));
    await expect(openDataset(file('images.npy'), [wanted])).rejects.toEqual(
      failing('E_DATA_SHAPE', '[batch, 3, 2, 2]'),
    );
    const two = [image, { ...image, name: 'second' }];
    await expect(openDataset(file('images.npy'), two)).rejects.toEqual(failing('E_DATA_SHAPE', 'input, second'));
    await expect(openDataset(file('none.npy'), [image])).rejects.toEqual(failing('E_NOT_FOUND'));
    await expect(openDataset(folder, [image])).rejects.toEqual(failing('E_DATA_FORMAT', 'no images'));
  });

  it('does not turn fractions into ids', async () => {
    await writeNpy(file('fractions.npy'), 'float32', [1, 2], Float32Array.of(1, 1.5));
    const data = await openDataset(file('fractions.npy'), [ids]);
    await expect(data.feeds(0, 1)).rejects.toEqual(failing('E_DATA_FORMAT', '1.5'));
    await data.close();
  });

  it('wants a tokenizer for text', async () => {
    await writeFile(file('text.txt'), 'hello');
    await expect(openDataset(file('text.txt'), [ids])).rejects.toEqual(failing('E_DATA_FORMAT', 'tokenizer.json'));
    await expect(openDataset(file('text.txt'), [image])).rejects.toEqual(failing('E_DATA_SHAPE', 'no token ids'));
  });
});

describe('syntheticFeeds', () => {
  it.each(['x', 'attention_mask'])('says that an input is too large for any computer (%s)', (name) => {
    const inputs = [{ name, dtype: 'float32', dims: [2 ** 40, 2 ** 20] }];
    expect(() => syntheticFeeds(inputs, {}, 1)).toThrow(expect.objectContaining({ code: 'E_OUT_OF_MEMORY' }));
  });

  it('depends on the seed only', () => {
    const inputs = [image, ids, mask, past];
    const dims = { batch: 2, sequence: 5 };
    expect(syntheticFeeds(inputs, dims, 1)).toEqual(syntheticFeeds(inputs, dims, 1));
    expect(syntheticFeeds(inputs, dims, 1)).not.toEqual(syntheticFeeds(inputs, dims, 2));
    const feeds = syntheticFeeds(inputs, dims, 1);
    expect(feeds.attention_mask?.dims).toEqual([2, 5]);
    expect(feeds['past_key_values.0.key']?.dims).toEqual([2, 6, 0, 32]);
  });

  it('has the stated mean and deviation', () => {
    const { input } = syntheticFeeds([{ ...image, dims: ['batch', 1, 64, 64] }], { batch: 8 }, 3);
    const values = Array.from(input?.data as Float32Array);
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
    expect(mean).toBeCloseTo(0.5, 1);
    expect(Math.sqrt(variance)).toBeCloseTo(0.5, 1);
  });

  it('counts the past in the total', () => {
    const feeds = syntheticFeeds([ids, mask, positions, past], { batch: 1, sequence: 2, past_sequence: 3 }, 1);
    expect(feeds.attention_mask?.dims).toEqual([1, 5]);
    expect(feeds.position_ids?.data).toEqual(BigInt64Array.of(3n, 4n));
  });

  it('asks for sizes it cannot know', () => {
    const odd = { ...image, dims: ['batch', 1, 'height', 'width'] };
    expect(() => syntheticFeeds([odd], {}, 1)).toThrow(expect.objectContaining({ code: 'E_DIMENSION' }));
    expect(syntheticFeeds([odd], { height: 2, width: 3 }, 1).input?.dims).toEqual([1, 1, 2, 3]);
  });
});

it('writes headers numpy can align', () => {
  const header = npyHeader('float32', [597, 1, 8, 8]);
  expect(header.length % 64).toBe(0);
  expect(header.at(-1)).toBe(0x0a);
});

describe('an input whose shape the model does not say', () => {
  const any: RuntimeValue = { name: 'x', dtype: 'float32', dims: [], anyShape: true };

  it('takes the shape of the data', async () => {
    await writeNpy(file('any.npy'), 'float32', [3, 8], new Float32Array(24));
    const dataset = await openDataset(file('any.npy'), [any]);
    expect((await dataset.feeds(1, 2)).x?.dims).toEqual([2, 8]);
    await dataset.close();
  });

  it('is not made up: data of their own are asked for', () => {
    expect(() => syntheticFeeds([any], {}, 1)).toThrow(failing('E_DIMENSION', 'what shape the input "x" has') as Error);
  });
});
