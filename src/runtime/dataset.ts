import { stat } from 'node:fs/promises';
import path from 'node:path';
import { SnugError } from '../contract/errors.js';
import { readNpz } from './archive.js';
import { castArray } from './arrays.js';
import type { Dataset } from './dataset-types.js';
import { imageFolder, type ImageOptions } from './images.js';
import { NpyArray, openSource, readFailure } from './npy.js';
import { concreteDims, defaultSequence, filledTensor, inputDtype, roleOf, type Dims } from './synthetic.js';
import { textWindows } from './text.js';
import type { Feeds, RuntimeArray, RuntimeDtype, RuntimeValue } from './types.js';

export interface DatasetOptions {
  /** Sizes of symbolic axes that the data does not fix. */
  dims?: Record<string, number>;
  /** Where `tokenizer.json` lies, for text. */
  modelDirectory?: string;
  /** Tokens in one sample of text; 128 when left out. */
  sequence?: number;
  /** How images become numbers. */
  images?: ImageOptions;
}

/** Samples of one input: rows of an array in a file or in memory. */
export interface Rows {
  readonly dtype: RuntimeDtype;
  readonly rows: number;
  /** Axes of one row. */
  readonly rowDims: readonly number[];
  read(start: number, count: number): Promise<RuntimeArray>;
  close(): Promise<void>;
}

/**
 * Opens a data set for the inputs of a model: a `.npy` array or a folder of images for the one input that needs
 * data, a `.npz` archive with arrays named like the inputs, or a text file for a model with a tokenizer. The
 * first axis counts samples. Masks, positions and the like are filled in.
 *
 * @throws SnugError E_NOT_FOUND, E_DATA_FORMAT, E_DATA_SHAPE, E_DIMENSION, E_NOT_SUPPORTED
 */
export async function openDataset(
  file: string,
  inputs: readonly RuntimeValue[],
  options: DatasetOptions = {},
): Promise<Dataset> {
  const info = await stat(file).catch((cause: unknown) => {
    throw readFailure(file, cause);
  });
  const extension = path.extname(file).toLowerCase();
  const sources = new Map<string, Rows>();
  let sampleNames: readonly string[] | undefined;
  try {
    if (info.isDirectory()) {
      const input = onlyDataInput(inputs, file);
      const images = await imageFolder(file, input, options.dims ?? {}, options.images);
      sources.set(input.name, images);
      sampleNames = images.files;
    } else if (extension === '.npy') {
      const { name } = onlyDataInput(inputs, file);
      sources.set(name, await NpyArray.open(await openSource(file), path.basename(file)));
    } else if (extension === '.npz') {
      for (const [name, rows] of await readArchive(file, inputs)) sources.set(name, rows);
    } else if (['.txt', '.md', '.text'].includes(extension)) {
      const { name } = textInput(inputs, file);
      const sequence = options.sequence ?? options.dims?.sequence ?? defaultSequence;
      sources.set(name, await textWindows(file, options.modelDirectory ?? path.dirname(file), sequence));
    } else {
      throw formatError(
        file,
        'is of no kind that can be read.',
        'Give a .npy, .npz or .txt file, or a folder of images.',
      );
    }
    const dataset = new ArrayDataset(path.basename(file), inputs, sources, options.dims ?? {});
    if (sampleNames !== undefined) dataset.sampleNames = sampleNames;
    return dataset;
  } catch (error) {
    for (const rows of sources.values()) await rows.close();
    throw error;
  }
}

function formatError(file: string, what: string, action: string): SnugError {
  return new SnugError('E_DATA_FORMAT', `${path.basename(file)} ${what}`, { action, params: { path: file } });
}

function onlyDataInput(inputs: readonly RuntimeValue[], file: string): RuntimeValue {
  const wanted = inputs.filter((input) => roleOf(input) === 'data');
  const [only] = wanted.length > 0 ? wanted : inputs;
  if (only && wanted.length <= 1) return only;
  const names = wanted.map((input) => input.name).join(', ');
  throw new SnugError('E_DATA_SHAPE', `The model needs data for several inputs (${names}), one array is not enough.`, {
    action: 'Save one .npz file with an array for each of them (numpy.savez).',
    params: { path: file, inputs: names },
  });
}

function textInput(inputs: readonly RuntimeValue[], file: string): RuntimeValue {
  const input =
    inputs.find((value) => value.name.toLowerCase().endsWith('input_ids')) ??
    inputs.find((value) => roleOf(value) === 'data' && (value.dtype === 'int64' || value.dtype === 'int32'));
  if (input) return input;
  throw new SnugError('E_DATA_SHAPE', 'The model takes no token ids, so text cannot be fed to it.', {
    action: 'Give the data as a .npy array with the shape of the input.',
    params: { path: file },
  });
}

async function readArchive(file: string, inputs: readonly RuntimeValue[]): Promise<Map<string, Rows>> {
  const { arrays, present } = await readNpz(file, new Set(inputs.map((input) => input.name)));
  const missing = inputs.filter((input) => roleOf(input) === 'data' && !arrays.has(input.name));
  if (missing.length === 0 && arrays.size > 0) return arrays;
  for (const array of arrays.values()) await array.close();
  const wanted = (missing.length > 0 ? missing : inputs).map((input) => input.name).join(', ');
  throw new SnugError('E_DATA_SHAPE', `The archive has no array for: ${wanted} (it has: ${present.join(', ')}).`, {
    action: 'Name the arrays like the inputs of the model (numpy.savez with keyword arguments).',
    params: { path: file, missing: wanted },
  });
}

const shapeText = (dims: readonly (number | string)[]): string =>
  `[${dims.map((dim) => (dim === '' ? '?' : dim)).join(', ')}]`;

class ArrayDataset implements Dataset {
  readonly name: string;
  readonly samples: number;
  readonly dims: Record<string, number>;
  fixedBatch: number | null = null;
  sampleNames?: readonly string[];
  readonly #inputs: readonly RuntimeValue[];
  readonly #sources: ReadonlyMap<string, Rows>;
  readonly #given: Dims;
  /** Symbols of the first axes: they take the size of the batch that is asked for. */
  readonly #batchSymbols = new Set<string>();

  constructor(name: string, inputs: readonly RuntimeValue[], sources: ReadonlyMap<string, Rows>, given: Dims) {
    this.name = name;
    this.#inputs = inputs;
    this.#sources = sources;
    this.#given = given;
    this.dims = {};
    let samples: number | null = null;
    for (const [inputName, rows] of sources) {
      const input = inputs.find((value) => value.name === inputName);
      if (!input) continue;
      this.#bind(input, rows);
      if (samples !== null && samples !== rows.rows) {
        throw new SnugError('E_DATA_SHAPE', `The arrays hold ${samples} and ${rows.rows} samples.`, {
          action: 'All arrays of a data set need the same number of samples.',
        });
      }
      samples = rows.rows;
    }
    this.samples = samples ?? 0;
    if (this.samples === 0) {
      throw new SnugError('E_DATA_SHAPE', `${name} holds no sample.`, { action: 'Give a data set that is not empty.' });
    }
  }

  /** Checks the shape of the data against an input and learns the sizes of its symbols. */
  #bind(input: RuntimeValue, rows: Rows): void {
    const [first, ...rest] = input.dims;
    const bound = { ...this.dims };
    if (input.anyShape) return;
    const fits =
      input.dims.length === rows.rowDims.length + 1 &&
      rest.every((dim, axis) => {
        const size = rows.rowDims[axis] ?? 0;
        if (typeof dim === 'number') return dim === size;
        if (dim === '') return true;
        const known = bound[dim];
        bound[dim] = size;
        return known === undefined || known === size;
      });
    if (!fits) {
      const data = shapeText([rows.rows, ...rows.rowDims]);
      throw new SnugError(
        'E_DATA_SHAPE',
        `The data has the shape ${data}, the input "${input.name}" wants ${shapeText(input.dims)}.`,
        {
          action: 'Reshape the data; the first axis counts samples.',
          params: { input: input.name, data, wanted: shapeText(input.dims) },
        },
      );
    }
    if (typeof first === 'number') this.fixedBatch = first;
    else if (first !== undefined && first !== '') this.#batchSymbols.add(first);
    Object.assign(this.dims, bound);
  }

  async feeds(start: number, count: number): Promise<Feeds> {
    if (!(Number.isInteger(start) && start >= 0 && count >= 1 && start + count <= this.samples)) {
      throw new SnugError(
        'E_USAGE',
        `Samples ${start} to ${start + count} were asked for; there are ${this.samples}.`,
        {
          action: 'Ask for samples that exist.',
        },
      );
    }
    const dims: Record<string, number> = { ...this.#given, ...this.dims, batch: count };
    for (const symbol of this.#batchSymbols) dims[symbol] = count;
    const feeds: Feeds = {};
    for (const input of this.#inputs) {
      const rows = this.#sources.get(input.name);
      const role = roleOf(input);
      if (rows) {
        const dtype = inputDtype(input);
        const data = castArray(await rows.read(start, count), rows.dtype, dtype);
        feeds[input.name] = { dtype, dims: [count, ...rows.rowDims], data };
      } else if (role !== 'data') {
        feeds[input.name] = filledTensor(input, role, dims);
      } else {
        throw new SnugError('E_DATA_SHAPE', `There is no data for the input "${input.name}".`, {
          action: `Add an array of the shape ${shapeText(concreteDims(input, dims))}.`,
          params: { input: input.name },
        });
      }
    }
    return feeds;
  }

  async close(): Promise<void> {
    for (const rows of this.#sources.values()) await rows.close();
  }
}
