import { realpathSync } from 'node:fs';
import path from 'node:path';
import { SnugError } from '../contract/errors.js';
import type { Part } from './encode.js';
import { DataType } from './model.js';
import type { Model, Tensor, TensorData } from './model.js';
import { OutputFile, checkSpace, exists, nodeFileSystem, syncFolder, writeError } from './output.js';
import type { OutputFileSystem } from './output.js';
import { encodeModel } from './serialize.js';
import type { Placement } from './serialize.js';

export { cleanupPartials } from './output.js';
export { serializeModel } from './serialize.js';

export interface WriteOptions {
  /** Weights in a second file `<name>.data`: `auto` (default) from 1.5 GB on, because one file ends at 2 GB. */
  externalData?: 'auto' | 'always' | 'never';
  /** Replace files that exist; default false. Files of the model itself are never replaced. */
  overwrite?: boolean;
  /** Called as bytes are written; `item` is the tensor or file being written. */
  onProgress?: (doneBytes: number, totalBytes: number, item: string) => void;
  /** Default: the real one. */
  fileSystem?: OutputFileSystem;
}

export interface WriteResult {
  path: string;
  files: { name: string; bytes: number }[];
  /** Sum over `files`. */
  bytes: number;
}

const autoExternalBytes = 1.5e9;
/** Protobuf messages end here. */
const maxMessageBytes = 2 ** 31 - 1;
const chunkBytes = 16 * 1024 * 1024;
/** Tensors below this stay in the model file: onnxruntime needs small constants (shapes, axes) at hand. */
const minExternalBytes = 1024;
/** From this size on, tensors start on a page of their own, so that a runtime can map them. */
const pageAlignFrom = 64 * 1024;
const pageBytes = 4096;
const smallAlignment = 64;
/** How long a write in steps keeps everything else waiting, one tensor apart. */
const betweenRestsMs = 20;

function realPath(file: string): string {
  try {
    return realpathSync(file);
  } catch {
    return file;
  }
}

function sameFile(model: Model, fs: OutputFileSystem, file: string): boolean {
  if (!model.source) return false;
  const identity = (name: string): string | null => {
    try {
      const stats = fs.statSync(name, { bigint: true });
      return `${stats.dev}:${stats.ino}`;
    } catch {
      return null;
    }
  };
  const target = identity(file);
  if (target === null) return false;
  const { path: modelPath, externalFiles } = model.source;
  // Data may lie beside the model or beside what the model's path links to (see ExternalFiles).
  const folders = [model.source.directory, path.dirname(realPath(modelPath))];
  const originals = [
    modelPath,
    ...folders.flatMap((folder) => externalFiles.map(({ name }) => path.join(folder, name))),
  ];
  return originals.some((original) => identity(original) === target);
}

function checkTarget(model: Model, fs: OutputFileSystem, file: string, overwrite: boolean): void {
  if (sameFile(model, fs, file)) {
    throw new SnugError('E_SAME_FILE', `${file} belongs to the model being read; Snug never replaces an original.`, {
      action: 'Choose another name for the output.',
      params: { path: file },
    });
  }
  let stats;
  try {
    stats = fs.statSync(file);
  } catch {
    return;
  }
  if (!overwrite || !stats.isFile()) throw exists(file);
}

/** Writes a part in chunks, one step each. Computed data are produced once, whole, and dropped when written. */
function* writePart(output: OutputFile, part: Part, progress: (bytes: number) => void): Generator<void, void> {
  if (part instanceof Uint8Array) {
    output.write(part);
    progress(part.byteLength);
    return;
  }
  const whole = part.origin === 'computed' ? part.read() : null;
  for (let at = 0; at < part.byteLength; at += chunkBytes) {
    const length = Math.min(chunkBytes, part.byteLength - at);
    output.write(whole ? whole.subarray(at, at + length) : part.readRange(at, length));
    progress(length);
    yield;
  }
}

/** Lays initializers out in the data file. */
class DataLayout {
  readonly tensors: { offset: number; tensor: Tensor }[] = [];
  readonly #location: string;
  #end = 0;

  constructor(location: string) {
    this.#location = location;
  }

  get bytes(): number {
    return this.#end;
  }

  readonly place = (tensor: Tensor): Placement | null => {
    const { byteLength } = tensor.data;
    if (tensor.dataType === DataType.STRING || byteLength < minExternalBytes) return null;
    const alignment = byteLength >= pageAlignFrom ? pageBytes : smallAlignment;
    const offset = Math.ceil(this.#end / alignment) * alignment;
    this.#end = offset + byteLength;
    this.tensors.push({ offset, tensor });
    return { location: this.#location, offset };
  };
}

/**
 * Writes a model; peak memory is one tensor. Constant-only nodes come first (see `listConstantNodesFirst`). The
 * output appears whole or not at all: files get their names when complete, the data file before the model.
 * @throws SnugError E_EXISTS, E_SAME_FILE, E_DISK_FULL, E_NO_PERMISSION, E_NOT_FOUND (no such folder),
 *   E_NOT_SUPPORTED (too large for one file and `externalData` is `never`), E_WRITE_FAILED, and whatever reading
 *   the weights throws.
 */
export function writeModel(model: Model, outPath: string, options: WriteOptions = {}): WriteResult {
  const steps = writeSteps(model, outPath, options);
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
  }
}

/**
 * {@link writeModel} that lets timers, messages and signals through between tensors, so that a long write can be
 * stopped: an `onProgress` that throws ends it, and nothing of the output stays.
 */
export async function writeModelInSteps(
  model: Model,
  outPath: string,
  options: WriteOptions = {},
): Promise<WriteResult> {
  const steps = writeSteps(model, outPath, options);
  let rested = performance.now();
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
    if (performance.now() - rested < betweenRestsMs) continue;
    await new Promise((resolve) => setImmediate(resolve));
    rested = performance.now();
  }
}

function* writeSteps(model: Model, outPath: string, options: WriteOptions): Generator<void, WriteResult> {
  const fs = options.fileSystem ?? nodeFileSystem;
  const mode = options.externalData ?? 'auto';
  const modelPath = path.resolve(outPath);
  const dataPath = `${modelPath}.data`;

  const names = new Map<TensorData, string>();
  const remember = (tensor: Tensor): null => {
    names.set(tensor.data, tensor.name);
    return null;
  };
  let encoded = encodeModel(model, { place: remember });
  let layout: DataLayout | null = null;
  if (mode === 'always' || (mode === 'auto' && encoded.length >= autoExternalBytes)) {
    layout = new DataLayout(path.basename(dataPath));
    encoded = encodeModel(model, { place: layout.place });
    if (layout.tensors.length === 0) layout = null;
  }
  if (encoded.length > maxMessageBytes) {
    throw new SnugError('E_NOT_SUPPORTED', `The model is too large for one file (${encoded.length} bytes).`, {
      action: 'Let Snug put the weights into a second file.',
    });
  }

  checkTarget(model, fs, modelPath, options.overwrite ?? false);
  if (layout) checkTarget(model, fs, dataPath, options.overwrite ?? false);
  const total = encoded.length + (layout?.bytes ?? 0);

  let done = 0;
  let item = path.basename(modelPath);
  const progress = (bytes: number): void => {
    done += bytes;
    options.onProgress?.(done, total, item);
  };
  const outputs: OutputFile[] = [];
  let writing = modelPath;
  let published: string | null = null;
  try {
    if (layout) {
      writing = dataPath;
      const file = new OutputFile(fs, dataPath);
      outputs.push(file);
      checkSpace(fs, dataPath, total);
      for (const { offset, tensor } of layout.tensors) {
        item = tensor.name;
        done += offset - file.position;
        file.padTo(offset);
        yield* writePart(file, tensor.data, progress);
      }
      file.finish();
    }
    writing = modelPath;
    const file = new OutputFile(fs, modelPath);
    outputs.push(file);
    // After opening: a folder that is read-only should be called that, however full it is.
    if (!layout) checkSpace(fs, modelPath, total);
    for (const part of encoded.parts) {
      item = (part instanceof Uint8Array ? undefined : names.get(part)) ?? path.basename(modelPath);
      yield* writePart(file, part, progress);
    }
    file.finish();
    for (const output of outputs) {
      writing = output.path;
      const isNew = fs.statSync(output.path, { throwIfNoEntry: false }) === undefined;
      output.publish();
      if (isNew && output !== file) published = output.path;
    }
  } catch (error) {
    for (const output of outputs) output.discard();
    if (published !== null) {
      try {
        fs.unlinkSync(published);
      } catch {
        // Nothing refers to the data file; the error below matters more.
      }
    }
    throw writeError(error, writing);
  }
  syncFolder(fs, path.dirname(modelPath));
  const files = outputs.map((output) => ({ name: path.basename(output.path), bytes: output.position })).reverse();
  return { path: modelPath, files, bytes: total };
}
