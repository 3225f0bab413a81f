import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
import path from 'node:path';
import { randomUUID } from 'node:crypto';
import { writeError } from '../onnx/output.js';
import { readFully } from '../onnx/source.js';
import type { Feeds, RuntimeArray, RuntimeTensor } from '../runtime/types.js';

interface StoredValue extends Omit<RuntimeTensor, 'data'> {
  offset: number;
  length: number;
  make: new (buffer: ArrayBuffer) => RuntimeArray;
}

/** Values of many runs in one temporary file, read back run by run. */
export class StoredRuns {
  private readonly file: string;
  private readonly handle: number;
  private readonly runs: Map<string, StoredValue>[] = [];
  private end = 0;

  /** @param folder must exist */
  constructor(folder: string) {
    this.file = path.join(folder, `runs-${randomUUID()}.bin`);
    this.handle = openSync(this.file, 'wx+');
  }

  /** Values of the next run. @throws SnugError E_DISK_FULL, E_WRITE_FAILED… */
  append(values: Feeds): void {
    const run = new Map<string, StoredValue>();
    for (const [name, { dtype, dims, data }] of Object.entries(values)) {
      const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
      const make = data.constructor as StoredValue['make'];
      run.set(name, { dtype, dims: [...dims], offset: this.end, length: bytes.length, make });
      try {
        for (let at = 0; at < bytes.length;) at += writeSync(this.handle, bytes, at, bytes.length - at, this.end + at);
      } catch (error) {
        throw writeError(error, this.file);
      }
      this.end += bytes.length;
    }
    this.runs.push(run);
  }

  /** Values of one run; none of a run that was not stored. @throws SnugError E_FILE_CHANGED when the file was cut short */
  read(run: number): Feeds {
    const feeds: Feeds = {};
    for (const [name, { dtype, dims, offset, length, make }] of this.runs[run] ?? []) {
      const bytes = new Uint8Array(length);
      readFully(this.handle, this.file, bytes, offset);
      feeds[name] = { dtype, dims: [...dims], data: new make(bytes.buffer) };
    }
    return feeds;
  }

  remove(): void {
    closeSync(this.handle);
    rmSync(this.file, { force: true });
  }
}
