import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp, { type Sharp } from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openDataset } from '../../../src/runtime/dataset.js';
import type { RuntimeValue } from '../../../src/runtime/types.js';

const colour: RuntimeValue = { name: 'pixels', dtype: 'float32', dims: ['batch', 3, 4, 6] };
const grey: RuntimeValue = { name: 'pixels', dtype: 'float32', dims: ['batch', 1, 4, 6] };
const failing = (code: string, part: string): unknown =>
  expect.objectContaining({ code, message: expect.stringContaining(part) });

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'snug-images-'));
});
afterAll(() => rm(folder, { recursive: true }));

const fill = (r: number, g: number, b: number, width = 6, height = 4) =>
  sharp({ create: { width, height, channels: 3, background: { r, g, b } } });

async function folderOf(name: string, files: Record<string, Sharp>): Promise<string> {
  const target = path.join(folder, name);
  for (const [file, image] of Object.entries(files)) {
    await mkdir(path.dirname(path.join(target, file)), { recursive: true });
    await writeFile(path.join(target, file), await image.toFormat(path.extname(file).slice(1) as 'png').toBuffer());
  }
  return target;
}

describe('a folder of images', () => {
  it('is read in the order of the paths, channels first, normalized as ImageNet is', async () => {
    const target = await folderOf('order', {
      'b/0.png': fill(255, 0, 0),
      'a/10.png': fill(0, 255, 0),
      'a/2.png': fill(0, 0, 255),
    });
    await writeFile(path.join(target, 'notes.txt'), 'no image');
    const data = await openDataset(target, [colour]);
    expect(data.samples).toBe(3);
    expect(data.sampleNames).toEqual(['a/10.png', 'a/2.png', 'b/0.png']);
    const { pixels } = await data.feeds(1, 2);
    expect(pixels?.dims).toEqual([2, 3, 4, 6]);
    const at = (sample: number, channel: number): number => Number(pixels?.data[(sample * 3 + channel) * 24 + 7]);
    expect([at(0, 0), at(0, 1), at(0, 2)]).toEqual([
      expect.closeTo(-0.485 / 0.229, 4),
      expect.closeTo(-0.456 / 0.224, 4),
      expect.closeTo((1 - 0.406) / 0.225, 4),
    ]);
    expect(at(1, 0)).toBeCloseTo((1 - 0.485) / 0.229, 4);
    await data.close();
  });

  it.each([
    ['unit', [0, 1]],
    ['signed', [-1, 1]],
    ['bytes', [0, 255]],
  ] as const)('gives black and white as %s', async (normalization, [black, white]) => {
    const target = await folderOf('scale', { '0.png': fill(0, 0, 0), '1.png': fill(255, 255, 255) });
    const data = await openDataset(target, [colour], { images: { normalization } });
    const { pixels } = await data.feeds(0, 2);
    expect(pixels?.data[0]).toBeCloseTo(black, 5);
    expect(pixels?.data.at(-1)).toBeCloseTo(white, 5);
  });

  it('turns colour into one channel, and grey, 16 bits and transparency into three', async () => {
    const half = sharp(Buffer.alloc(24, 128), { raw: { width: 6, height: 4, channels: 1 } });
    const deep = sharp(new Uint16Array(72).fill(0x8080), { raw: { width: 6, height: 4, channels: 3 } });
    const clear = sharp({
      create: { width: 6, height: 4, channels: 4, background: { r: 255, g: 255, b: 255, alpha: 0 } },
    });
    const target = await folderOf('kinds', {
      '0.png': half.toColourspace('b-w'),
      '1.png': deep.toColourspace('rgb16'),
      '2.png': clear,
      '3.png': fill(10, 200, 30),
    });
    const data = await openDataset(target, [colour], { images: { normalization: 'bytes' } });
    const { pixels } = await data.feeds(0, 4);
    expect([...(pixels?.data as Float32Array).subarray(0, 72)].every((value) => Math.abs(value - 128) <= 1)).toBe(true);
    expect([...(pixels?.data as Float32Array).subarray(72, 144)].every((value) => Math.abs(value - 128) <= 1)).toBe(
      true,
    );
    expect(pixels?.data[144]).toBe(0);
    const one = await openDataset(target, [grey]);
    const single = await one.feeds(0, 4);
    expect(single.pixels?.dims).toEqual([4, 1, 4, 6]);
    expect(single.pixels?.data[0]).toBeCloseTo(128 / 255, 2);
  });

  it('cuts, stretches or pads another shape', async () => {
    const left = fill(255, 255, 255, 12, 4).composite([
      { input: await fill(0, 0, 0, 3, 4).png().toBuffer(), left: 0, top: 0 },
    ]);
    const target = await folderOf('shape', { '0.png': left });
    const corner = async (resizing: 'crop' | 'stretch' | 'pad'): Promise<number[]> => {
      const data = await openDataset(target, [colour], { images: { normalization: 'bytes', resizing } });
      const { pixels } = await data.feeds(0, 1);
      // First pixel of the first row, and of the second.
      return [Number(pixels?.data[0]), Number(pixels?.data[6])].map((value) => Math.round(value / 255));
    };
    expect(await corner('crop')).toEqual([1, 1]);
    expect(await corner('stretch')).toEqual([0, 0]);
    const wide = await openDataset(target, [{ ...colour, dims: ['n', 3, 6, 6] }], {
      images: { normalization: 'bytes', resizing: 'pad' },
    });
    const { pixels } = await wide.feeds(0, 1);
    expect(pixels?.data[5]).toBe(0);
    expect(Number(pixels?.data[2 * 6 + 5])).toBeGreaterThan(200);
  });

  it('feeds bytes, channels last, and turns an image upright', async () => {
    const turned = fill(255, 255, 255, 4, 6).withMetadata({ orientation: 6 });
    const target = await folderOf('last', { '0.jpg': turned });
    const data = await openDataset(target, [{ name: 'pixels', dtype: 'uint8', dims: ['n', 4, 6, 3] }]);
    const { pixels } = await data.feeds(0, 1);
    expect(pixels?.dims).toEqual([1, 4, 6, 3]);
    expect(pixels?.data).toBeInstanceOf(Uint8Array);
    expect(pixels?.data[0]).toBe(255);
  });

  it('takes the size of the images from the dimensions given', async () => {
    const target = await folderOf('size', { '0.png': fill(1, 2, 3) });
    const open: RuntimeValue = { name: 'pixels', dtype: 'float32', dims: ['n', 3, 'height', 'width'] };
    await expect(openDataset(target, [open])).rejects.toEqual(failing('E_DIMENSION', 'height'));
    const data = await openDataset(target, [open], { dims: { height: 8, width: 5 } });
    expect((await data.feeds(0, 1)).pixels?.dims).toEqual([1, 3, 8, 5]);
  });

  it('says what cannot be used', async () => {
    const empty = path.join(folder, 'empty');
    await mkdir(empty);
    await expect(openDataset(empty, [colour])).rejects.toEqual(failing('E_DATA_FORMAT', 'no images'));
    const target = await folderOf('broken', { '0.png': fill(1, 2, 3) });
    await writeFile(path.join(target, '1.png'), 'torn');
    const data = await openDataset(target, [colour]);
    await data.feeds(0, 1);
    await expect(data.feeds(1, 1)).rejects.toEqual(failing('E_DATA_FORMAT', '1.png'));
    await expect(openDataset(target, [{ ...colour, dims: ['n', 12, 4, 6] }])).rejects.toEqual(
      failing('E_DATA_SHAPE', 'no image'),
    );
  });
});
