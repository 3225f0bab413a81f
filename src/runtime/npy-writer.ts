import { access, open, rename, rm, type FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { SnugError } from '../contract/errors.js';
import { exists, writeError } from '../onnx/output.js';
import { npyHeader } from './npy.js';
import type { RuntimeArray, RuntimeDtype } from './types.js';

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
  #rows = 0;
  #position: number;

  private constructor(
    file: FileHandle,
    target: string,
    partial: string,
    dtype: RuntimeDtype,
    rowDims: readonly number[],
  ) {
    this.#file = file;
    this.#path = target;
    this.#partial = partial;
    this.#dtype = dtype;
    this.#rowDims = rowDims;
    this.#position = npyHeader(dtype, [0, ...rowDims]).length;
  }

  /**
   * @param rowDims axes of one row (without the first, growing one)
   * @throws SnugError E_EXISTS, E_NO_PERMISSION, E_NOT_FOUND, E_DISK_FULL, E_WRITE_FAILED
   */
  static async create(
    target: string,
    dtype: RuntimeDtype,
    rowDims: readonly number[],
    options: { overwrite?: boolean } = {},
  ): Promise<NpyWriter> {
    if (!options.overwrite) await assertAbsent(target);
    const partial = path.join(path.dirname(target), `.${path.basename(target)}.snug-partial-${process.pid}`);
    try {
      await rm(partial, { force: true });
      return new NpyWriter(await open(partial, 'wx'), target, partial, dtype, rowDims);
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

/** @throws SnugError E_EXISTS */
export async function assertAbsent(target: string): Promise<void> {
  const present = await access(target).then(
    () => true,
    () => false,
  );
  if (present) throw exists(target);
}
