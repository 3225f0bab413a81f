import * as nodeFs from 'node:fs';
import path from 'node:path';
import { SnugError } from '../contract/errors.js';
import { errnoOf } from './failures.js';

/** The file system calls a writer makes; tests hand in one that fails. */
export type OutputFileSystem = Pick<
  typeof nodeFs,
  'openSync' | 'writeSync' | 'fsyncSync' | 'closeSync' | 'renameSync' | 'unlinkSync' | 'statSync' | 'statfsSync'
>;

export const nodeFileSystem: OutputFileSystem = nodeFs;

const partialPattern = /^\..+\.snug-partial-(\d+)$/;

/** Room left free on the disk besides the output itself. */
const spareBytes = 16 * 1024 * 1024;

/** Names an error of the file system for a person. */
export function writeError(error: unknown, file: string): SnugError {
  if (error instanceof SnugError) return error;
  const errno = errnoOf(error);
  const options = { params: { path: file }, details: String(error), cause: error };
  switch (errno) {
    case 'ENOSPC':
    case 'EDQUOT':
      return new SnugError('E_DISK_FULL', `The disk became full while writing ${file}.`, {
        ...options,
        action: 'Free some space or choose another folder.',
      });
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return new SnugError('E_NO_PERMISSION', `Snug may not write to ${path.dirname(file)}.`, {
        ...options,
        action: 'Choose another folder.',
      });
    case 'EEXIST':
      return exists(file);
    case 'ENOENT':
    case 'ENOTDIR':
      return new SnugError('E_NOT_FOUND', `There is no folder ${path.dirname(file)}.`, {
        ...options,
        action: 'Make the folder first, or choose another one.',
      });
    case 'ENAMETOOLONG':
      return new SnugError('E_WRITE_FAILED', `The name ${path.basename(file)} is too long.`, {
        ...options,
        action: 'Choose a shorter name.',
      });
    case 'EBUSY':
      return new SnugError('E_WRITE_FAILED', `Another program is using ${file}.`, {
        ...options,
        action: 'Close it and try again.',
      });
    default:
      return new SnugError('E_WRITE_FAILED', `Writing ${file} failed.`, {
        ...options,
        action: 'Try another folder.',
      });
  }
}

export function exists(file: string): SnugError {
  return new SnugError('E_EXISTS', `${file} exists already.`, {
    action: 'Choose another name, or allow overwriting (--force).',
    params: { path: file },
  });
}

/** @throws SnugError E_DISK_FULL when the folder's disk has no room for `bytes` (and a reserve). */
export function checkSpace(fs: OutputFileSystem, file: string, bytes: number): void {
  let have: number;
  try {
    const stats = fs.statfsSync(path.dirname(file));
    have = stats.bavail * stats.bsize;
    // Some network drives report nothing; writing will tell.
    if (stats.blocks === 0) return;
  } catch {
    return;
  }
  // The reserve matters for big outputs only: a small model may go to a small disk.
  const need = Math.ceil(bytes * 1.05) + Math.min(spareBytes, bytes);
  if (have < need) {
    throw new SnugError('E_DISK_FULL', `There is not enough room for ${file}.`, {
      action: 'Free some space or choose another folder.',
      params: { path: file, need, have },
    });
  }
}

/**
 * One output file: written under a temporary name in the same folder, visible under its own name only when
 * complete.
 */
export class OutputFile {
  readonly path: string;
  readonly partial: string;
  readonly #fs: OutputFileSystem;
  #fd: number | null;
  #position = 0;

  /** @throws whatever the file system throws; see {@link writeError}. */
  constructor(fs: OutputFileSystem, file: string) {
    this.#fs = fs;
    this.path = file;
    this.partial = path.join(path.dirname(file), `.${path.basename(file)}.snug-partial-${process.pid}`);
    try {
      this.#fd = fs.openSync(this.partial, 'wx');
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') throw error;
      // Ours by its name, so a leftover of an earlier process with this id.
      fs.unlinkSync(this.partial);
      this.#fd = fs.openSync(this.partial, 'wx');
    }
  }

  get position(): number {
    return this.#position;
  }

  write(bytes: Uint8Array): void {
    if (this.#fd === null) throw new SnugError('E_INTERNAL', 'Writing to a closed file.');
    let done = 0;
    while (done < bytes.byteLength) {
      done += this.#fs.writeSync(this.#fd, bytes, done, Math.min(bytes.byteLength - done, 2 ** 30));
    }
    this.#position += bytes.byteLength;
  }

  /** Zeros up to `position` (gaps between aligned tensors). */
  padTo(position: number): void {
    if (position > this.#position) this.write(new Uint8Array(position - this.#position));
  }

  /** Everything on the disk, file closed. */
  finish(): void {
    if (this.#fd === null) return;
    this.#fs.fsyncSync(this.#fd);
    const fd = this.#fd;
    this.#fd = null;
    this.#fs.closeSync(fd);
  }

  /** Gives the file its name. */
  publish(): void {
    this.#fs.renameSync(this.partial, this.path);
  }

  /** Removes what was written so far. Never throws: it runs while another error is on its way. */
  discard(): void {
    try {
      if (this.#fd !== null) this.#fs.closeSync(this.#fd);
    } catch {
      // The descriptor is gone either way.
    }
    this.#fd = null;
    try {
      this.#fs.unlinkSync(this.partial);
    } catch {
      // Already renamed or never made.
    }
  }
}

/** Makes renames in a folder durable; not every file system can. */
export function syncFolder(fs: OutputFileSystem, folder: string): void {
  try {
    const fd = fs.openSync(folder, 'r');
    try {
      fs.fsyncSync(fd);
    } finally {
      fs.closeSync(fd);
    }
  } catch {
    // Windows and some network drives refuse; the rename itself is still atomic.
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errnoOf(error) === 'EPERM';
  }
}

/**
 * Removes unfinished outputs of processes that are gone. Returns the names removed; a folder that cannot be
 * read holds nothing to remove.
 */
export function cleanupPartials(directory: string): string[] {
  const removed: string[] = [];
  let names: string[];
  try {
    names = nodeFs.readdirSync(directory);
  } catch {
    return removed;
  }
  for (const name of names) {
    const match = partialPattern.exec(name);
    if (!match || isAlive(Number(match[1]))) continue;
    try {
      nodeFs.unlinkSync(path.join(directory, name));
      removed.push(name);
    } catch {
      // In use or not ours to remove: left for the next time.
    }
  }
  return removed;
}
