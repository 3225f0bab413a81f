import { closeSync, constants, fstatSync, openSync, readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { SnugError } from '../contract/errors.js';
import { ExternalFiles } from './external.js';
import { errnoOf } from './failures.js';
import { defaultLimits } from './limits.js';
import type { Limits } from './limits.js';
import type { Model } from './model.js';
import { parseModelFrom } from './parse-model.js';
import { FileSource, MemorySource, identify } from './source.js';

export type { Limits } from './limits.js';

function cannotOpen(file: string, error: unknown): SnugError {
  const errno = errnoOf(error);
  if (errno === 'EACCES' || errno === 'EPERM') {
    return new SnugError('E_NO_PERMISSION', `Snug may not read ${file}.`, {
      action: 'Check the rights of the file.',
      params: { path: file },
      cause: error,
    });
  }
  return new SnugError('E_NOT_FOUND', `There is no file ${file}.`, {
    action: 'Check the path.',
    params: { path: file },
    details: String(error),
    cause: error,
  });
}

/**
 * The model file behind a path: the file itself, or the only `.onnx` file of a folder (`model.onnx` when there
 * are several).
 * @throws SnugError E_NOT_FOUND when there is none or it is not clear which.
 */
export function resolveModelPath(file: string): string {
  let stats;
  try {
    stats = statSync(file);
    if (!stats.isDirectory()) return file;
    const candidates = readdirSync(file).filter(
      (name) => !name.startsWith('.') && name.toLowerCase().endsWith('.onnx'),
    );
    const chosen = candidates.length === 1 ? candidates[0] : candidates.find((name) => name === 'model.onnx');
    if (chosen !== undefined) return path.join(file, chosen);
    throw new SnugError(
      'E_NOT_FOUND',
      candidates.length === 0
        ? `The folder ${file} holds no .onnx file.`
        : `The folder ${file} holds ${candidates.length} .onnx files.`,
      { action: 'Name the .onnx file itself.', params: { path: file } },
    );
  } catch (error) {
    throw error instanceof SnugError ? error : cannotOpen(file, error);
  }
}

/**
 * Reads the structure of a model; weights stay in the file (or its external data files) and are read when
 * asked for. The file is streamed through a small window, so its size does not matter.
 * @param file a `.onnx` file, or a folder as {@link resolveModelPath} takes.
 * @throws SnugError E_NOT_FOUND, E_NO_PERMISSION, E_NOT_ONNX, E_TRUNCATED, E_MALFORMED, E_TOO_COSTLY,
 *   E_EXTERNAL_MISSING, E_EXTERNAL_OUTSIDE, E_NOT_SUPPORTED, E_FILE_CHANGED.
 */
export function readModel(file: string, options: { limits?: Partial<Limits> } = {}): Model {
  const modelPath = resolveModelPath(file);
  const limits = { ...defaultLimits, ...options.limits };
  let fd: number;
  try {
    // Non-blocking, so that a named pipe cannot hang the reader.
    fd = openSync(modelPath, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
  } catch (error) {
    throw cannotOpen(modelPath, error);
  }
  try {
    const stats = fstatSync(fd, { bigint: true });
    if (!stats.isFile() || stats.size === 0n) {
      throw new SnugError('E_NOT_ONNX', `${modelPath} is ${stats.isFile() ? 'empty' : 'no regular file'}.`, {
        action: 'Choose a file exported to ONNX (.onnx).',
        params: { path: modelPath },
      });
    }
    const identity = identify(path.resolve(modelPath), stats);
    const external = new ExternalFiles(modelPath, limits);
    const model = parseModelFrom(new FileSource(fd, identity), limits, external);
    model.source = {
      path: identity.path,
      directory: path.dirname(identity.path),
      fileBytes: identity.size,
      externalFiles: external.list(),
    };
    return model;
  } catch (error) {
    throw namingFile(error, modelPath);
  } finally {
    closeSync(fd);
  }
}

/** Adds the file's path to a reader's error. */
function namingFile(error: unknown, file: string): unknown {
  if (!(error instanceof SnugError) || 'path' in error.params) return error;
  return new SnugError(error.code, error.message, {
    action: error.action,
    params: { ...error.params, path: file },
    ...(error.details === undefined ? {} : { details: error.details }),
    cause: error,
  });
}

/** Reads a model held in memory; it can have no external data. Same errors as {@link readModel}. */
export function parseModel(bytes: Uint8Array, options: { limits?: Partial<Limits> } = {}): Model {
  const limits = { ...defaultLimits, ...options.limits };
  if (bytes.byteLength === 0) throw new SnugError('E_NOT_ONNX', 'The model is empty.');
  return parseModelFrom(new MemorySource(bytes), limits, new ExternalFiles(null, limits));
}
