import { open, type FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { Unzip, UnzipInflate, type UnzipFile } from 'fflate';
import { SnugError } from '../contract/errors.js';
import { NpyArray, readFailure } from './npy.js';
import { Spool } from './spool.js';

/** Read at once; also what is held of an archive in memory. */
const pieceBytes = 1 << 20;

/**
 * The arrays of a `.npz` archive (numpy.savez, numpy.savez_compressed) whose names are wanted, each unpacked into
 * a temporary file, so that archives may be larger than memory.
 *
 * @returns the arrays by name, and the names of all that is in the archive
 * @throws SnugError E_NOT_FOUND, E_NO_PERMISSION, E_DATA_FORMAT, E_DISK_FULL
 */
export async function readNpz(
  file: string,
  wanted: ReadonlySet<string>,
): Promise<{ arrays: Map<string, NpyArray>; present: string[] }> {
  const handle = await open(file).catch((cause: unknown) => {
    throw readFailure(file, cause);
  });
  const entries = new Entries(wanted);
  try {
    await unpack(handle, entries);
    const arrays = new Map<string, NpyArray>();
    for (const [name, spool] of entries.take()) arrays.set(name, await NpyArray.open(spool.source(), name));
    return { arrays, present: entries.present };
  } catch (thrown) {
    await entries.discard();
    if (thrown instanceof SnugError) throw thrown;
    throw new SnugError('E_DATA_FORMAT', `${path.basename(file)} is not a .npz archive.`, {
      action: 'Save the arrays again with numpy.savez.',
      params: { path: file },
      details: String(thrown),
    });
  } finally {
    await handle.close();
  }
}

async function unpack(handle: FileHandle, entries: Entries): Promise<void> {
  const unzip = new Unzip((entry) => entries.found(entry));
  unzip.register(UnzipInflate);
  const { size } = await handle.stat();
  for (let position = 0; position < size;) {
    const { bytesRead, buffer } = await handle.read(Buffer.allocUnsafe(pieceBytes), 0, pieceBytes, position);
    if (bytesRead === 0) break;
    position += bytesRead;
    unzip.push(buffer.subarray(0, bytesRead), position >= size);
    await entries.flush();
  }
  if (entries.present.length === 0) throw new Error('No entry was found.');
}

/** The unzipper calls back while it is pushed to; what it gives is written before the next push. */
class Entries {
  readonly present: string[] = [];
  readonly #wanted: ReadonlySet<string>;
  readonly #spools = new Map<string, Spool>();
  readonly #waiting: { name: string; bytes: Uint8Array }[] = [];
  #failure: Error | null = null;

  constructor(wanted: ReadonlySet<string>) {
    this.#wanted = wanted;
  }

  found(entry: UnzipFile): void {
    if (!entry.name.endsWith('.npy')) return;
    const name = entry.name.replace(/\.npy$/u, '');
    this.present.push(name);
    if (!this.#wanted.has(name)) return;
    entry.ondata = (failure, bytes) => {
      // The library types a chunk as always there; after a failure it is null.
      if (failure !== null) this.#failure ??= failure;
      else this.#waiting.push({ name, bytes });
    };
    entry.start();
  }

  async flush(): Promise<void> {
    if (this.#failure !== null) throw this.#failure;
    for (const { name, bytes } of this.#waiting.splice(0)) {
      let spool = this.#spools.get(name);
      if (spool === undefined) {
        spool = await Spool.create();
        this.#spools.set(name, spool);
      }
      await spool.append(bytes);
    }
  }

  /** The spools, which are the caller's from now on. */
  *take(): Generator<[string, Spool]> {
    for (const [name, spool] of this.#spools) {
      this.#spools.delete(name);
      yield [name, spool];
    }
  }

  async discard(): Promise<void> {
    for (const spool of this.#spools.values()) await spool.discard();
  }
}
