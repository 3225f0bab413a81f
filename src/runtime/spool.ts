import { mkdtemp, open, rm, type FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { writeError } from '../onnx/output.js';
import { sourceOf, type ByteSource } from './npy.js';

/**
 * Bytes on their way to a {@link ByteSource}, kept in a temporary file instead of memory. The file has no name
 * where the system allows that (it is gone with the process, however that ends); elsewhere it goes with
 * {@link ByteSource.close}.
 */
export class Spool {
  readonly #file: FileHandle;
  readonly #folder: string;
  #size = 0;

  private constructor(file: FileHandle, folder: string) {
    this.#file = file;
    this.#folder = folder;
  }

  /** @throws SnugError E_NO_PERMISSION, E_DISK_FULL, E_WRITE_FAILED about the folder for temporary files */
  static async create(): Promise<Spool> {
    try {
      const folder = await mkdtemp(path.join(tmpdir(), 'snug-spool-'));
      const file = await open(path.join(folder, 'bytes'), 'wx+');
      if (process.platform !== 'win32') await rm(folder, { recursive: true, force: true });
      return new Spool(file, folder);
    } catch (cause) {
      throw writeError(cause, path.join(tmpdir(), 'snug-spool'));
    }
  }

  get size(): number {
    return this.#size;
  }

  async append(bytes: Uint8Array): Promise<void> {
    try {
      for (let done = 0; done < bytes.length;) {
        const { bytesWritten } = await this.#file.write(bytes, done, bytes.length - done, this.#size + done);
        done += bytesWritten;
      }
    } catch (cause) {
      throw writeError(cause, path.join(tmpdir(), 'snug-spool'));
    }
    this.#size += bytes.length;
  }

  /** Everything appended so far; the spool must not be used afterwards but through the source. */
  source(): ByteSource {
    const source = sourceOf(this.#file, this.#size, 'the temporary file');
    return { ...source, close: () => this.discard() };
  }

  async discard(): Promise<void> {
    await this.#file.close();
    await rm(this.#folder, { recursive: true, force: true });
  }
}
