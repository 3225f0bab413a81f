import { lstatSync, realpathSync } from 'node:fs';
import path from 'node:path';
import { SnugError } from '../contract/errors.js';
import { errnoOf, malformed, tooCostly } from './failures.js';
import type { Limits } from './limits.js';
import type { TensorData } from './model.js';
import { fileRange, identify } from './source.js';
import type { FileIdentity } from './source.js';

/** Where a tensor says its bytes are (TensorProto.external_data). */
export interface ExternalReference {
  location: string;
  offset: string;
  /** Empty when the file gives no length. */
  length: string;
}

function outside(location: string, why: string): SnugError {
  return new SnugError('E_EXTERNAL_OUTSIDE', `The model refers to weights outside of its own folder: ${why}`, {
    action: 'Put the model and its data files into one folder, as plain files.',
    params: { location },
  });
}

function missing(location: string, why: string): SnugError {
  return new SnugError('E_EXTERNAL_MISSING', `The model's data file "${location}" ${why}.`, {
    action: 'Put the complete data file beside the model, under this name.',
    params: { location },
  });
}

const maxLocation = 4096;

/** Rules a location must meet before any path is looked up. */
function checkLocation(location: string): void {
  if (location === '') throw malformed('an external tensor names no file.');
  if (location.length > maxLocation) throw malformed('the name of an external file is too long.');
  if (location.includes('\0')) throw outside(location.replaceAll('\0', '␀'), 'the name holds a NUL.');
  if (location.startsWith('*/')) throw outside(location, 'it is an address in memory, not a file.');
  if (location.includes('\\')) throw outside(location, 'the name holds a backslash.');
  if (location.startsWith('/')) throw outside(location, 'the name is an absolute path.');
  if (location.includes(':')) throw outside(location, 'the name holds a drive or stream mark.');
  if (location.split('/').includes('..')) throw outside(location, 'the name steps up with "..".');
}

/** Decimal text as the format demands; JS numbers are exact up to 2^53. */
function decimal(text: string, what: string): number {
  if (!/^\d{1,16}$/.test(text) || !Number.isSafeInteger(Number(text))) {
    throw malformed(`the ${what} of an external tensor is "${text.slice(0, 40)}".`);
  }
  return Number(text);
}

/** Finds and checks external data files: once per file, by stat only. */
export class ExternalFiles {
  readonly #directories: string[];
  readonly #limits: Limits;
  readonly #found = new Map<string, FileIdentity>();

  /**
   * @param modelPath null for a model in memory, which can have no external data.
   */
  constructor(modelPath: string | null, limits: Limits) {
    this.#limits = limits;
    // A model reached through a link may have its data beside the link or beside its target.
    this.#directories =
      modelPath === null
        ? []
        : [...new Set([realpathSync(path.dirname(modelPath)), path.dirname(realpathSync(modelPath))])];
  }

  /** Files referenced so far, in order of first reference. */
  list(): { name: string; bytes: number }[] {
    return [...this.#found].map(([name, file]) => ({ name, bytes: file.size }));
  }

  #find(location: string): FileIdentity {
    const known = this.#found.get(location);
    if (known) return known;
    checkLocation(location);
    if (this.#found.size >= this.#limits.externalFiles) {
      throw tooCostly(`more than ${this.#limits.externalFiles} data files.`);
    }
    for (const directory of this.#directories) {
      const file = this.#inspect(directory, location);
      if (file) {
        this.#found.set(location, file);
        return file;
      }
    }
    throw missing(location, 'is missing');
  }

  #inspect(directory: string, location: string): FileIdentity | null {
    const candidate = path.join(directory, location);
    let stats;
    let real;
    try {
      stats = lstatSync(candidate, { bigint: true });
      if (stats.isSymbolicLink()) throw outside(location, 'the file is a symbolic link.');
      real = realpathSync(candidate);
    } catch (error) {
      const errno = errnoOf(error);
      if (errno === 'ENOENT' || errno === 'ENOTDIR' || errno === 'ENAMETOOLONG') return null;
      if (errno === 'ELOOP') throw outside(location, 'the path is a loop of links.');
      if (errno === 'EACCES' || errno === 'EPERM') throw missing(location, 'may not be read');
      throw error;
    }
    const relative = path.relative(directory, real);
    if (relative === '' || relative.split(path.sep).includes('..') || path.isAbsolute(relative)) {
      throw outside(location, 'a link on the way leads elsewhere.');
    }
    if (!stats.isFile()) throw outside(location, 'it is no regular file.');
    if (stats.nlink !== 1n) throw outside(location, 'the file has other names too (hard link).');
    return identify(real, stats);
  }

  /**
   * Checks a reference against its file and gives the bytes as a lazy range.
   * @param byteLength what dims and element type ask for.
   */
  resolve(reference: ExternalReference, byteLength: number, tensorName: string): TensorData {
    const offset = reference.offset === '' ? 0 : decimal(reference.offset, 'offset');
    const length = reference.length === '' ? byteLength : decimal(reference.length, 'length');
    if (length !== byteLength) {
      throw malformed(`tensor "${tensorName}" needs ${byteLength} bytes but refers to ${length}.`);
    }
    const file = this.#find(reference.location);
    if (offset + length > file.size) {
      throw missing(reference.location, `is too short: ${file.size} bytes of at least ${offset + length}`);
    }
    return fileRange(file, offset, length, 'external');
  }
}
