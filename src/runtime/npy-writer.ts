import { access, open, rename, rm, type FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { SnugError } from '../contract/errors.js';
import { exists, writeError } from '../onnx/output.js';
import { elementBytes } from './arrays.js';
import { npyHeader } from './npy.js';
import type { RuntimeArray, RuntimeDtype } from './types.js';

export interface NpyWriterOptions {
  overwrite?: boolean;
  /** Rows that an earlier writer of the same partial file has written; what lies behind them is cut off. */
  resumeAt?: number;
}

/**
 * Writes a .npy array row by row. The file appears under its name only when {@link NpyWriter.finish} has
 * written the number of rows into the header; until then it is a hidden partial file in the same folder.
 */
export class NpyWriter {
  readonly #path: string;
  readonly #partial: string;
  readonly #file: FileHandle;
  readonly #dtype: RuntimeDtype;
  readonly #rowDims: readonly number[];
  #rows: number;
  #position: number;

  private constructor(
    file: FileHandle,
    target: string,
    dtype: RuntimeDtype,
    rowDims: readonly number[],
    at: { rows: number; position: number },
  ) {
    this.#file = file;
    this.#path = target;
    this.#partial = partialPath(target);
    this.#dtype = dtype;
    this.#rowDims = rowDims;
    this.#rows = at.rows;
    this.#position = at.position;
  }

  /**
   * @param rowDims axes of one row (without the first, growing one)
   * @throws SnugError E_EXISTS, E_NO_PERMISSION, E_NOT_FOUND, E_DISK_FULL, E_WRITE_FAILED; E_FILE_CHANGED when
   *   the partial file to resume is gone or shorter than it was
   */
  static async create(
    target: string,
    dtype: RuntimeDtype,
    rowDims: readonly number[],
    options: NpyWriterOptions = {},
  ): Promise<NpyWriter> {
    if (!options.overwrite) await assertAbsent(target);
    const rows = options.resumeAt ?? 0;
    const rowBytes = rowDims.reduce((product, dim) => product * dim, elementBytes(dtype));
    const position = npyHeader(dtype, [0, ...rowDims]).length + rows * rowBytes;
    try {
      const partial = partialPath(target);
      if (options.resumeAt === undefined) {
        await rm(partial, { force: true });
        return new NpyWriter(await open(partial, 'wx'), target, dtype, rowDims, { rows, position });
      }
      const file = await open(partial, 'r+');
      if ((await file.stat()).size < position) {
        await file.close();
        throw new SnugError('E_FILE_CHANGED', `The unfinished ${path.basename(target)} was changed.`, {
          action: 'Begin again (--restart).',
          params: { path: target },
        });
      }
      await file.truncate(position);
      return new NpyWriter(file, target, dtype, rowDims, { rows, position });
    } catch (cause) {
      throw writeError(cause, target);
    }
  }

  get rows(): number {
    return this.#rows;
  }

  /** Appends `count` rows. */
  async append(data: RuntimeArray, count: number): Promise<void> {
    const expected = this.#rowDims.reduce((product, dim) => product * dim, count);
    if (data.length !== expected) {
      throw new SnugError('E_INTERNAL', `${count} rows have ${expected} elements, not ${data.length}.`);
    }
    try {
      await this.#write(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), this.#position);
    } catch (cause) {
      throw writeError(cause, this.#path);
    }
    this.#position += data.byteLength;
    this.#rows += count;
  }

  /** What was appended survives the end of the process and of the system. */
  async sync(): Promise<void> {
    await this.#file.datasync();
  }

  /** Writes the header, flushes and gives the file its name. */
  async finish(): Promise<void> {
    try {
      await this.#write(npyHeader(this.#dtype, [this.#rows, ...this.#rowDims]), 0);
      await this.#file.sync();
      await this.#file.close();
      await rename(this.#partial, this.#path);
    } catch (cause) {
      await this.abort();
      throw writeError(cause, this.#path);
    }
  }

  /** Keeps the partial file for a writer with {@link NpyWriterOptions.resumeAt}. */
  async suspend(): Promise<void> {
    await this.#file.close();
  }

  /** Leaves nothing behind. */
  async abort(): Promise<void> {
    // Closing twice is an error of its own, and the reason to abort is already known to the caller.
    await this.#file.close().catch(() => undefined);
    await rm(this.#partial, { force: true });
  }

  async #write(bytes: Uint8Array, position: number): Promise<void> {
    let done = 0;
    while (done < bytes.length) {
      const { bytesWritten } = await this.#file.write(bytes, done, bytes.length - done, position + done);
      done += bytesWritten;
    }
  }
}

function partialPath(target: string): string {
  return path.join(path.dirname(target), `.${path.basename(target)}.snug-partial`);
}

/** @throws SnugError E_EXISTS */
export async function assertAbsent(target: string): Promise<void> {
  const present = await access(target).then(
    () => true,
    () => false,
  );
  if (present) throw exists(target);
}
