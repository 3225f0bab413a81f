import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { SnugError } from '../contract/errors.js';
import { castArray } from './arrays.js';
import type { Rows } from './dataset.js';
import { readFailure } from './npy.js';
import { inputDtype } from './synthetic.js';
import type { RuntimeArray, RuntimeValue } from './types.js';

const extensions = new Set(['.png', '.jpg', '.jpeg', '.webp', '.gif', '.tif', '.tiff', '.avif']);
/** Decoded at the same time; the library uses a thread each. */
const together = 8;
/** A picture of more pixels is refused before it is decoded (a small file may hold a huge one). */
const maxPixels = 1e8;

/** Mean and deviation of each channel on the 0 to 1 scale, as torchvision's models were trained with. */
const imageNet = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

export const normalizations = ['imagenet', 'unit', 'signed', 'bytes'] as const;
/**
 * What becomes of the bytes of a pixel: `unit` divides by 255, `signed` goes from −1 to 1, `imagenet` subtracts
 * the mean and divides by the deviation of ImageNet after `unit`, `bytes` keeps 0 to 255.
 */
export type Normalization = (typeof normalizations)[number];

export const resizings = ['crop', 'stretch', 'pad'] as const;
/** How an image of another shape becomes the model's: the middle is cut out, it is stretched, or bars are added. */
export type Resizing = (typeof resizings)[number];

export interface ImageOptions {
  normalization?: Normalization;
  resizing?: Resizing;
}

interface Layout {
  channels: 1 | 3;
  height: number;
  width: number;
  channelsFirst: boolean;
}

/** Images of a folder as samples; `files` are their paths below the folder, in the order of the samples. */
export interface ImageRows extends Rows {
  readonly files: readonly string[];
}

/**
 * All images below a folder, sorted by path, as samples for an image input [batch, C, H, W] or [batch, H, W, C]
 * with 1 or 3 channels. Each is turned upright, resized, converted to the number of channels and normalized when
 * it is read; only those of one batch are in memory.
 *
 * @param dims sizes of symbolic heights and widths
 * @throws SnugError E_DATA_FORMAT for a folder without images, and when reading one that cannot be decoded;
 *   E_DATA_SHAPE when the input is no image; E_DIMENSION when its size is not known
 */
export async function imageFolder(
  folder: string,
  input: RuntimeValue,
  dims: Readonly<Record<string, number>>,
  options: ImageOptions = {},
): Promise<ImageRows> {
  const layout = imageLayout(input, dims);
  const files = await imageFiles(folder);
  if (files.length === 0) {
    throw new SnugError('E_DATA_FORMAT', `${path.basename(folder)} holds no images.`, {
      action: `Give a folder with ${[...extensions].join(', ')} files, or one .npy array.`,
      params: { path: folder },
    });
  }
  const { channels, height, width, channelsFirst } = layout;
  const normalization = options.normalization ?? defaultNormalization(input, channels);
  const resizing = options.resizing ?? 'crop';
  const dtype = inputDtype(input);
  const one = channels * height * width;
  return {
    dtype,
    rows: files.length,
    rowDims: channelsFirst ? [channels, height, width] : [height, width, channels],
    files,
    async read(start, count) {
      const values = new Float32Array(count * one);
      for (let first = 0; first < count; first += together) {
        const group = files.slice(start + first, start + Math.min(first + together, count));
        await Promise.all(
          group.map(async (file, i) => {
            const pixels = await decode(path.join(folder, file), file, layout, resizing);
            place(pixels, values.subarray((first + i) * one, (first + i + 1) * one), layout, normalization);
          }),
        );
      }
      return castArray(values, 'float32', dtype) satisfies RuntimeArray;
    },
    close: () => Promise.resolve(),
  };
}

/** What is taken when nobody says otherwise: bytes for an input of bytes, ImageNet's statistics for colour. */
export function defaultNormalization(input: RuntimeValue, channels: number): Normalization {
  if (!input.dtype.startsWith('float')) return 'bytes';
  return channels === 3 ? 'imagenet' : 'unit';
}

function imageLayout(input: RuntimeValue, dims: Readonly<Record<string, number>>): Layout {
  const [, ...axes] = input.dims;
  const isChannels = (dim: number | string | undefined): dim is 1 | 3 => dim === 1 || dim === 3;
  const [first, , last] = axes;
  const channelsFirst = isChannels(first);
  const channels = channelsFirst ? first : last;
  if (axes.length !== 3 || !isChannels(channels)) {
    throw new SnugError('E_DATA_SHAPE', `The input "${input.name}" is no image of one or three channels.`, {
      action: 'Give the data as a .npy array with the shape of the input.',
      params: { input: input.name },
    });
  }
  const size = (dim: number | string | undefined, what: string): number => {
    const known = typeof dim === 'number' ? dim : dims[dim ?? ''];
    if (known !== undefined && known > 0) return known;
    throw new SnugError('E_DIMENSION', `The ${what} of the images that the model takes is not known.`, {
      action: `Give it, for example --dim ${dim === undefined || dim === '' ? what : dim}=224.`,
      params: { input: input.name, dimension: String(dim ?? '') },
    });
  };
  const [height, width] = channelsFirst ? [axes[1], axes[2]] : [axes[0], axes[1]];
  return { channels, height: size(height, 'height'), width: size(width, 'width'), channelsFirst };
}

async function imageFiles(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true, recursive: true }).catch((cause: unknown) => {
    throw readFailure(folder, cause);
  });
  return entries
    .filter(
      (entry) =>
        entry.isFile() && !entry.name.startsWith('.') && extensions.has(path.extname(entry.name).toLowerCase()),
    )
    .map((entry) => path.relative(folder, path.join(entry.parentPath, entry.name)).split(path.sep).join('/'))
    .sort((a, b) => (a < b ? -1 : 1));
}

async function decode(file: string, name: string, layout: Layout, resizing: Resizing): Promise<Uint8Array> {
  // Loaded with the first image: a tenth of a second that nothing else needs.
  const { default: sharp } = await import('sharp');
  try {
    const upright = sharp(file, { limitInputPixels: maxPixels, failOn: 'error' }).rotate();
    return await upright
      .flatten({ background: '#000' })
      .toColourspace(layout.channels === 1 ? 'b-w' : 'srgb')
      .resize(layout.width, layout.height, {
        fit: resizing === 'crop' ? 'cover' : resizing === 'pad' ? 'contain' : 'fill',
        background: '#000',
      })
      .raw()
      .toBuffer();
  } catch (thrown) {
    throw new SnugError('E_DATA_FORMAT', `The image ${name} cannot be read.`, {
      action: 'Remove or replace it, then start again.',
      params: { path: name },
      details: String(thrown),
    });
  }
}

/** Interleaved bytes → numbers in the order of the input. */
function place(pixels: Uint8Array, values: Float32Array, layout: Layout, normalization: Normalization): void {
  const { channels, height, width, channelsFirst } = layout;
  const area = height * width;
  for (let channel = 0; channel < channels; channel += 1) {
    const [scale, shift] = affine(normalization, channel);
    for (let i = 0; i < area; i += 1) {
      const value = (pixels[i * channels + channel] ?? 0) * scale + shift;
      values[channelsFirst ? channel * area + i : i * channels + channel] = value;
    }
  }
}

/** Factor and summand that bring a byte into the scale of the model. */
function affine(normalization: Normalization, channel: number): [number, number] {
  switch (normalization) {
    case 'bytes':
      return [1, 0];
    case 'unit':
      return [1 / 255, 0];
    case 'signed':
      return [2 / 255, -1];
    case 'imagenet': {
      const mean = imageNet.mean[channel] ?? 0;
      const std = imageNet.std[channel] ?? 1;
      return [1 / 255 / std, -mean / std];
    }
  }
}
