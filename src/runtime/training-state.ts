import { closeSync, fsyncSync, openSync, readSync, renameSync, rmSync, statSync, writeSync } from 'node:fs';
import { SnugError } from '../contract/errors.js';
import { writeError } from '../onnx/output.js';

/** One array of a training state. */
export interface StateTensor {
  name: string;
  dims: number[];
  /** The parameter itself, or what the optimizer remembers of it. */
  part: 'value' | 'moment1' | 'moment2';
  data: Float32Array;
}

export interface TrainingState {
  /** Updates made so far. */
  updates: number;
  /** Text of whoever trains: where in the data, with which settings. */
  meta: string;
  tensors: StateTensor[];
}

const magic = 'SNUGTRN1';
const alignment = 64;

interface Header {
  updates: number;
  meta: string;
  tensors: { name: string; dims: number[]; part: StateTensor['part']; elements: number }[];
}

const aligned = (offset: number): number => Math.ceil(offset / alignment) * alignment;

function writeAll(file: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.byteLength;) done += writeSync(file, bytes, done, bytes.byteLength - done);
}

const bytesOf = (data: Float32Array): Uint8Array => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);

/**
 * Writes a state file: a mark, the length of a JSON header, the header, then float32 arrays (little-endian), each
 * on a multiple of 64 bytes. It is written beside its place, brought to the disk and renamed.
 * @throws SnugError E_DISK_FULL, E_NO_PERMISSION, E_WRITE_FAILED
 */
export function writeTrainingState(path: string, state: TrainingState): void {
  const header: Header = {
    updates: state.updates,
    meta: state.meta,
    tensors: state.tensors.map(({ name, dims, part, data }) => ({ name, dims, part, elements: data.length })),
  };
  const text = new TextEncoder().encode(JSON.stringify(header));
  const start = new Uint8Array(aligned(magic.length + 4 + text.length));
  start.set(new TextEncoder().encode(magic));
  new DataView(start.buffer).setUint32(magic.length, text.length, true);
  start.set(text, magic.length + 4);
  const partial = `${path}.partial`;
  try {
    const file = openSync(partial, 'w');
    try {
      writeAll(file, start);
      for (const { data } of state.tensors) {
        writeAll(file, bytesOf(data));
        writeAll(file, new Uint8Array(aligned(data.byteLength) - data.byteLength));
      }
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(partial, path);
  } catch (error) {
    rmSync(partial, { force: true });
    throw writeError(error, path);
  }
}

function damaged(path: string, why: string): SnugError {
  return new SnugError('E_MALFORMED', `${path} is no complete training state: ${why}.`, {
    action: 'Start the training anew with --force in place of --resume.',
    params: { path },
  });
}

/** Reads a state file whole. @throws SnugError E_NOT_FOUND, E_MALFORMED */
export function readTrainingState(path: string): TrainingState {
  const { header, offsets } = readHeader(path);
  const file = openSync(path, 'r');
  try {
    const tensors = header.tensors.map(({ name, dims, part, elements }, index) => {
      const data = new Float32Array(elements);
      const bytes = bytesOf(data);
      for (let done = 0; done < bytes.byteLength;) {
        const got = readSync(file, bytes, done, bytes.byteLength - done, (offsets[index] ?? 0) + done);
        if (got === 0) throw damaged(path, 'it ends early');
        done += got;
      }
      return { name, dims, part, data };
    });
    return { updates: header.updates, meta: header.meta, tensors };
  } finally {
    closeSync(file);
  }
}

/** The text a state file was saved with. Same errors as {@link readTrainingState}. */
export function readStateMeta(path: string): { meta: string; updates: number } {
  const { header } = readHeader(path);
  return { meta: header.meta, updates: header.updates };
}

function readHeader(path: string): { header: Header; offsets: number[] } {
  if (!statSync(path, { throwIfNoEntry: false })?.isFile()) {
    throw new SnugError('E_NOT_FOUND', `There is no training state ${path}.`, {
      action: 'Start the training anew with --force in place of --resume.',
      params: { path },
    });
  }
  const { size } = statSync(path);
  const file = openSync(path, 'r');
  try {
    const part = (offset: number, length: number): Buffer => {
      const bytes = Buffer.alloc(length);
      return bytes.subarray(0, readSync(file, bytes, 0, length, offset));
    };
    const start = part(0, magic.length + 4);
    if (start.length < magic.length + 4 || start.toString('latin1', 0, magic.length) !== magic) {
      throw damaged(path, 'it does not begin like one');
    }
    const length = start.readUInt32LE(magic.length);
    const end = start.length + length;
    if (end > size) throw damaged(path, 'it ends early');
    const header = parseHeader(path, part(start.length, length).toString('utf8'));
    let at = aligned(end);
    const offsets = header.tensors.map(({ elements }) => {
      const offset = at;
      at += aligned(elements * 4);
      return offset;
    });
    if (at > size) throw damaged(path, 'it ends early');
    return { header, offsets };
  } finally {
    closeSync(file);
  }
}

function parseHeader(path: string, text: string): Header {
  try {
    return JSON.parse(text) as Header;
  } catch {
    throw damaged(path, 'its header cannot be read');
  }
}
