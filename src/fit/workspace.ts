import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import path from 'node:path';
import { SnugError } from '../contract/errors.js';
import type { Model } from '../onnx/model.js';

const prefix = '.snug-work-';

/** Whether a process of this id runs. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/**
 * Checks an output path before any long work: folder there and writable, nothing overwritten unasked, never
 * one of the inputs.
 *
 * @throws SnugError `E_NOT_FOUND`, `E_NO_PERMISSION`, `E_EXISTS`, `E_SAME_FILE`
 */
export function checkOutput(outputPath: string, inputPaths: string[], overwrite: boolean): void {
  if (outputPath === '') throw new SnugError('E_USAGE', 'The name of the output is empty.', { action: 'Name a file.' });
  const directory = path.dirname(path.resolve(outputPath));
  if (!existsSync(directory)) {
    throw new SnugError('E_NOT_FOUND', `The folder ${directory} does not exist.`, {
      action: 'Create it, or choose another folder for the result.',
      params: { path: directory },
    });
  }
  // A large model gets a data file of this name beside it.
  for (const target of [outputPath, `${outputPath}.data`]) {
    const same = inputPaths.find((inputPath) => sameFile(target, inputPath));
    if (same !== undefined) {
      throw new SnugError('E_SAME_FILE', `The output would overwrite ${same}.`, {
        action: 'Choose another name. The original was not changed.',
        params: { path: target },
      });
    }
  }
  const output = statSync(outputPath, { throwIfNoEntry: false });
  if (output) {
    if (output.isDirectory()) {
      throw new SnugError('E_EXISTS', `${outputPath} is a folder.`, {
        action: 'Name a file in it.',
        params: { path: outputPath },
      });
    }
    if (!overwrite) throw existsAlready(outputPath);
  }
  try {
    accessSync(directory, constants.W_OK);
  } catch (error) {
    throw noPermission(directory, error);
  }
}

function sameFile(a: string, b: string): boolean {
  const [one, other] = [a, b].map((file) => statSync(file, { throwIfNoEntry: false }));
  return one !== undefined && other !== undefined && one.dev === other.dev && one.ino === other.ino;
}

function existsAlready(file: string): SnugError {
  return new SnugError('E_EXISTS', `${file} exists already.`, {
    action: 'Choose another name, or add --force to replace it.',
    params: { path: file },
  });
}

/** The file of a model and those that hold its weights; none for a model built in memory. */
export function originalFiles({ source }: Model): string[] {
  return source ? [source.path, ...source.externalFiles.map(({ name }) => path.join(source.directory, name))] : [];
}

function noPermission(directory: string, cause: unknown): SnugError {
  return new SnugError('E_NO_PERMISSION', `Snug may not write into ${directory}.`, {
    action: 'Choose a folder you can write to. The original was not changed.',
    params: { path: directory },
    details: String(cause),
    cause,
  });
}

/**
 * A hidden folder beside the output for everything unfinished. It is on the output's own file system, so
 * that finishing is a rename; it is removed whatever happens.
 */
export class Workspace {
  readonly directory: string;
  private readonly removeOnExit = (): void => this.remove();

  constructor(outputPath: string) {
    const parent = path.dirname(path.resolve(outputPath));
    sweepWork(parent);
    try {
      mkdirSync(parent, { recursive: true });
      this.directory = mkdtempSync(path.join(parent, `${prefix}${process.pid}-`));
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOSPC' || code === 'EDQUOT') {
        throw new SnugError('E_DISK_FULL', `The disk that holds ${parent} is full.`, {
          action: 'Free some space, or choose another disk for the result.',
          params: { path: parent },
          cause: error,
        });
      }
      throw noPermission(parent, error);
    }
    process.on('exit', this.removeOnExit);
  }

  file(...parts: string[]): string {
    return path.join(this.directory, ...parts);
  }

  folder(name: string): string {
    const folder = this.file(name);
    mkdirSync(folder, { recursive: true });
    return folder;
  }

  /**
   * Moves a finished model (and its data file, first, so that a visible model is always complete) to its
   * place.
   *
   * @throws SnugError `E_EXISTS` for a data file that is there and not to be replaced
   */
  publish(files: { name: string }[], fromFolder: string, outputPath: string, overwrite: boolean): void {
    const target = path.dirname(path.resolve(outputPath));
    const main = path.basename(outputPath);
    const ordered = [...files.filter((f) => f.name !== main), ...files.filter((f) => f.name === main)];
    const taken = ordered.map(({ name }) => path.join(target, name)).find((file) => existsSync(file));
    if (taken !== undefined && !overwrite) throw existsAlready(taken);
    for (const { name } of ordered) renameSync(path.join(fromFolder, name), path.join(target, name));
  }

  remove(): void {
    process.off('exit', this.removeOnExit);
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** Removes work folders left by processes that no longer run (power cut, kill −9). */
export function sweepWork(parent: string): void {
  let names: string[];
  try {
    names = readdirSync(parent);
  } catch {
    return;
  }
  for (const name of names) {
    const match = name.startsWith(prefix) ? /^(\d+)-/.exec(name.slice(prefix.length)) : null;
    if (match && !isAlive(Number(match[1]))) rmSync(path.join(parent, name), { recursive: true, force: true });
  }
}

/** Where the state of a training lies that writes this output, until it ends by itself. */
export const checkpointFile = (outputPath: string): string => `${outputPath}.checkpoint`;

/**
 * `name.snug.onnx` (or what was done in place of `snug`) in a folder, with a number when that is taken: by a file, or
 * by a training that was interrupted and can go on.
 */
export function freeOutputName(directory: string, name: string, done: 'snug' | 'trained' = 'snug'): string {
  for (let n = 1; ; n++) {
    const file = path.join(directory, `${name}.${done}${n > 1 ? `-${n}` : ''}.onnx`);
    if (!existsSync(file) && !existsSync(checkpointFile(file))) return file;
  }
}
