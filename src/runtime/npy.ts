import { open, type FileHandle } from 'node:fs/promises';
import { SnugError } from '../contract/errors.js';
import { errnoOf } from '../onnx/failures.js';
import { arrayFromBytes, elementBytes } from './arrays.js';
import type { RuntimeArray, RuntimeDtype } from './types.js';

/** Bytes that can be read piece by piece: a file, or a part of an archive in memory. */
export interface ByteSource {
  readonly size: number;
  /** `offset + length <= size`. */
  read(offset: number, length: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

export interface NpyHeader {
  dtype: RuntimeDtype;
  dims: number[];
  /** Where the elements start, bytes. */
  dataOffset: number;
}

const magic = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59];
/** Headers are padded text of some hundred bytes; one this long is no array of ours. */
const maxHeaderBytes = 65_536;

const dtypes: Record<string, RuntimeDtype> = {
  '<f2': 'float16',
  '<f4': 'float32',
  '<f8': 'float64',
  '|i1': 'int8',
  '|u1': 'uint8',
  '<i2': 'int16',
  '<u2': 'uint16',
  '<i4': 'int32',
  '<u4': 'uint32',
  '<i8': 'int64',
  '<u8': 'uint64',
  '|b1': 'bool',
};

const npyAction = 'Save the array with numpy.save as float32 or int64, in C order (numpy.ascontiguousarray).';

function badFormat(name: string, what: string): SnugError {
  return new SnugError('E_DATA_FORMAT', `${name}: ${what}`, { action: npyAction, params: { name } });
}

/** Opens a file as a byte source. @throws SnugError E_NOT_FOUND, E_NO_PERMISSION, E_DATA_FORMAT */
export async function openSource(path: string): Promise<ByteSource> {
  try {
    const file = await open(path, 'r');
    const status = await file.stat();
    if (!status.isDirectory()) return sourceOf(file, status.size, path);
    await file.close();
    throw new Error(`${path} is a folder`);
  } catch (cause) {
    throw readFailure(path, cause);
  }
}

/** The first `size` bytes of an open file. @param name for the message when the file shrinks meanwhile */
export function sourceOf(file: FileHandle, size: number, name: string): ByteSource {
  return {
    size,
    read: async (offset, length) => {
      const bytes = new Uint8Array(length);
      let done = 0;
      while (done < length) {
        const { bytesRead } = await file.read(bytes, done, length - done, offset + done);
        if (bytesRead === 0) throw new SnugError('E_FILE_CHANGED', `${name} became shorter while it was read.`);
        done += bytesRead;
      }
      return bytes;
    },
    close: () => file.close(),
  };
}

/** The error of a data file that cannot be opened. */
export function readFailure(path: string, cause: unknown): SnugError {
  const errno = errnoOf(cause);
  if (errno === 'ENOENT' || errno === 'ENOTDIR') {
    return new SnugError('E_NOT_FOUND', `There is no file ${path}.`, {
      action: 'Check the path.',
      params: { path },
      cause,
    });
  }
  if (errno === 'EACCES' || errno === 'EPERM') {
    return new SnugError('E_NO_PERMISSION', `${path} may not be read.`, {
      action: 'Change the rights of the file, or copy it elsewhere.',
      params: { path },
      cause,
    });
  }
  return new SnugError('E_DATA_FORMAT', `${path} cannot be read.`, {
    action: 'Give a .npy or .npz file, or a text file for a model with a tokenizer.',
    params: { path },
    cause,
    details: String(cause),
  });
}

/**
 * Reads the header of NumPy's array format, versions 1 to 3 (numpy.lib.format).
 *
 * @throws SnugError E_DATA_FORMAT for anything but a complete little-endian array in C order
 */
export async function readNpyHeader(source: ByteSource, name: string): Promise<NpyHeader> {
  const start = await source.read(0, Math.min(12, source.size));
  const view = new DataView(start.buffer, start.byteOffset, start.byteLength);
  if (start.length < 10 || magic.some((byte, i) => start[i] !== byte)) throw badFormat(name, 'not a .npy array.');
  const version = start[6] ?? 0;
  if (version < 1 || version > 3 || (version > 1 && start.length < 12)) {
    throw badFormat(name, `unknown version ${version} of the .npy format.`);
  }
  const headerOffset = version === 1 ? 10 : 12;
  const headerBytes = version === 1 ? view.getUint16(8, true) : view.getUint32(8, true);
  const dataOffset = headerOffset + headerBytes;
  if (headerBytes > maxHeaderBytes || dataOffset > source.size) throw badFormat(name, 'the header is damaged.');
  const text = new TextDecoder('latin1').decode(await source.read(headerOffset, headerBytes));

  const descr = /['"]descr['"]\s*:\s*['"]([^'"]+)['"]/.exec(text)?.[1];
  const order = /['"]fortran_order['"]\s*:\s*(True|False)/.exec(text)?.[1];
  const shape = /['"]shape['"]\s*:\s*\(([^)]*)\)/.exec(text)?.[1];
  if (order === undefined || shape === undefined || !/^[\d\s,L]*$/.test(shape)) {
    throw badFormat(name, 'the header is damaged.');
  }
  const dtype = descr === undefined ? undefined : dtypes[descr.replace(/^=/, '<')];
  if (!dtype) throw badFormat(name, `arrays of type ${descr ?? 'record'} cannot be used.`);
  const dims = shape
    .split(',')
    .map((part) => part.trim().replace(/L$/, ''))
    .filter((part) => part !== '')
    .map(Number);
  if (order === 'True' && dims.length > 1) throw badFormat(name, 'the array is stored in Fortran order.');
  const bytes = dims.reduce((product, dim) => product * dim, elementBytes(dtype));
  if (!Number.isSafeInteger(bytes)) throw badFormat(name, 'the shape is impossible.');
  if (dataOffset + bytes > source.size) {
    throw badFormat(name, `the file ends early (${source.size} bytes, ${dataOffset + bytes} are needed).`);
  }
  return { dtype, dims, dataOffset };
}

/** An array whose first axis counts samples, read in slices. */
export class NpyArray {
  readonly dtype: RuntimeDtype;
  /** Size of the first axis. */
  readonly rows: number;
  /** The other axes. */
  readonly rowDims: number[];
  readonly #source: ByteSource;
  readonly #dataOffset: number;
  readonly #rowElements: number;

  private constructor(source: ByteSource, header: NpyHeader, rows: number) {
    this.#source = source;
    this.#dataOffset = header.dataOffset;
    this.dtype = header.dtype;
    this.rows = rows;
    this.rowDims = header.dims.slice(1);
    this.#rowElements = this.rowDims.reduce((product, dim) => product * dim, 1);
  }

  /** @param name for messages. Closes the source when it is no array. */
  static async open(source: ByteSource, name: string): Promise<NpyArray> {
    try {
      const header = await readNpyHeader(source, name);
      const rows = header.dims[0];
      if (rows === undefined) throw badFormat(name, 'a single number is no data set.');
      return new NpyArray(source, header, rows);
    } catch (error) {
      await source.close();
      throw error;
    }
  }

  get dims(): number[] {
    return [this.rows, ...this.rowDims];
  }

  /** Elements of rows `[start, start + count)`. */
  async read(start: number, count: number): Promise<RuntimeArray> {
    const rowBytes = this.#rowElements * elementBytes(this.dtype);
    return arrayFromBytes(this.dtype, await this.#source.read(this.#dataOffset + start * rowBytes, count * rowBytes));
  }

  close(): Promise<void> {
    return this.#source.close();
  }
}

const descrOf = new Map(Object.entries(dtypes).map(([descr, dtype]) => [dtype, descr]));
/** Fixed, so that the number of rows can be written when it is known. */
const writtenHeaderBytes = 192;

/** A complete version 1 header of {@link writtenHeaderBytes} bytes for `dims`. */
export function npyHeader(dtype: RuntimeDtype, dims: readonly number[]): Uint8Array {
  const shape = dims.length === 1 ? `(${dims[0]},)` : `(${dims.join(', ')})`;
  const text = `{'descr': '${descrOf.get(dtype)}', 'fortran_order': False, 'shape': ${shape}, }`;
  const room = writtenHeaderBytes - 10 - 1;
  if (text.length > room) throw new SnugError('E_NOT_SUPPORTED', 'The output has too many axes for a .npy file.');
  const header = new Uint8Array(writtenHeaderBytes);
  header.set([...magic, 1, 0]);
  new DataView(header.buffer).setUint16(8, room + 1, true);
  header.set(new TextEncoder().encode(`${text.padEnd(room)}\n`), 10);
  return header;
}
