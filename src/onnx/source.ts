import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import type { BigIntStats } from 'node:fs';
import { SnugError } from '../contract/errors.js';
import { errnoOf } from './failures.js';
import type { TensorData } from './model.js';
import { assertRange, memoryData } from './tensor.js';

/** Bytes a model is parsed from: a file seen through a bounded window, or an array. */
export interface ByteSource {
  readonly size: number;
  byte(offset: number): number;
  /** Bytes valid only until the next call. The caller has checked the range against `size`. */
  view(offset: number, length: number): Uint8Array;
  /** Tensor data that stays where it is until read. */
  range(offset: number, length: number): TensorData;
  /** The same bytes for later reads, when this source may be closed by then. */
  reopen<T>(use: (source: ByteSource) => T): T;
}

/** What identifies a file's content between two reads. */
export interface FileIdentity {
  readonly path: string;
  readonly size: number;
  readonly device: bigint;
  readonly inode: bigint;
  readonly modifiedNs: bigint;
}

export function identify(path: string, stats: BigIntStats): FileIdentity {
  return {
    path,
    size: Number(stats.size),
    device: stats.dev,
    inode: stats.ino,
    modifiedNs: stats.mtimeNs,
  };
}

function changed(path: string, details: string): SnugError {
  return new SnugError('E_FILE_CHANGED', `The file ${path} changed while Snug was using it.`, {
    action: 'Open the model again.',
    params: { path },
    details,
  });
}

/** Opens for reading; external data files must not be links, so they are opened with O_NOFOLLOW. */
function openIdentified(file: FileIdentity, follow: boolean): number {
  let fd: number;
  try {
    fd = openSync(file.path, constants.O_RDONLY | (follow ? 0 : (constants.O_NOFOLLOW ?? 0)));
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'EACCES' || errno === 'EPERM') {
      throw new SnugError('E_NO_PERMISSION', `Snug may not read ${file.path}.`, {
        action: 'Check the rights of the file.',
        params: { path: file.path },
        cause: error,
      });
    }
    throw changed(file.path, String(error));
  }
  try {
    const now = identify(file.path, fstatSync(fd, { bigint: true }));
    if (
      now.size !== file.size ||
      now.device !== file.device ||
      now.inode !== file.inode ||
      now.modifiedNs !== file.modifiedNs
    ) {
      throw changed(file.path, `size ${file.size} → ${now.size}, mtime ${file.modifiedNs} → ${now.modifiedNs}`);
    }
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  return fd;
}

/** One call of readSync takes at most 2^31 - 1 bytes. */
const readCallBytes = 2 ** 30;

/** Fills `target` from `offset`. @throws SnugError E_FILE_CHANGED when the file ends early. */
export function readFully(fd: number, path: string, target: Uint8Array, offset: number): void {
  let done = 0;
  while (done < target.byteLength) {
    const count = Math.min(readCallBytes, target.byteLength - done);
    let got: number;
    try {
      got = readSync(fd, target, done, count, offset + done);
    } catch (error) {
      throw new SnugError('E_NOT_FOUND', `Reading ${path} failed.`, {
        action: 'Check the disk or the network drive the file is on.',
        params: { path },
        details: String(error),
        cause: error,
      });
    }
    if (got === 0) throw changed(path, `ended at byte ${offset + done}`);
    done += got;
  }
}

function allocate(length: number): Uint8Array {
  try {
    return new Uint8Array(length);
  } catch (error) {
    throw new SnugError('E_OUT_OF_MEMORY', `There is no memory for one weight of ${length} bytes.`, {
      action: 'Close other programs and try again.',
      cause: error,
    });
  }
}

/**
 * Bytes `offset … offset + length` of a file. Each read opens the file anew, compares it with the identity
 * it had when the model was opened, and closes it, so no descriptor can leak.
 */
export function fileRange(file: FileIdentity, offset: number, length: number, origin: 'file' | 'external'): TensorData {
  const readRange = (from: number, count: number): Uint8Array => {
    assertRange(length, from, count);
    const bytes = allocate(count);
    const fd = openIdentified(file, origin === 'file');
    try {
      readFully(fd, file.path, bytes, offset + from);
    } finally {
      closeSync(fd);
    }
    return bytes;
  };
  return { byteLength: length, origin, read: () => readRange(0, length), readRange };
}

const windowBytes = 64 * 1024;

/** A file through a window: structure is streamed, weights are never touched. */
export class FileSource implements ByteSource {
  readonly size: number;
  readonly #fd: number;
  readonly #file: FileIdentity;
  readonly #window = new Uint8Array(windowBytes);
  #start = 0;
  #length = 0;

  constructor(fd: number, file: FileIdentity) {
    this.#fd = fd;
    this.#file = file;
    this.size = file.size;
  }

  #load(offset: number): void {
    const length = Math.min(windowBytes, this.size - offset);
    readFully(this.#fd, this.#file.path, this.#window.subarray(0, length), offset);
    this.#start = offset;
    this.#length = length;
  }

  byte(offset: number): number {
    let index = offset - this.#start;
    if (index < 0 || index >= this.#length) {
      this.#load(offset);
      index = 0;
    }
    return this.#window[index] as number;
  }

  view(offset: number, length: number): Uint8Array {
    if (length > windowBytes) {
      const bytes = allocate(length);
      readFully(this.#fd, this.#file.path, bytes, offset);
      return bytes;
    }
    if (offset < this.#start || offset + length > this.#start + this.#length) this.#load(offset);
    const index = offset - this.#start;
    return this.#window.subarray(index, index + length);
  }

  range(offset: number, length: number): TensorData {
    return fileRange(this.#file, offset, length, 'file');
  }

  reopen<T>(use: (source: ByteSource) => T): T {
    const fd = openIdentified(this.#file, true);
    try {
      return use(new FileSource(fd, this.#file));
    } finally {
      closeSync(fd);
    }
  }
}

/** A model that is already in memory. */
export class MemorySource implements ByteSource {
  readonly size: number;
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.size = bytes.byteLength;
  }

  byte(offset: number): number {
    return this.#bytes[offset] as number;
  }

  view(offset: number, length: number): Uint8Array {
    return this.#bytes.subarray(offset, offset + length);
  }

  range(offset: number, length: number): TensorData {
    return memoryData(this.#bytes.subarray(offset, offset + length));
  }

  reopen<T>(use: (source: ByteSource) => T): T {
    return use(this);
  }
}
