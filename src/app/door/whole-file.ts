import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, open, readFile, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { errnoOf } from '../../onnx/failures.js';
import { writeError } from '../../onnx/output.js';

/** Writes a file of Snug's own, for its owner alone, whole or not at all. */
export async function writeAtomically(file: string, text: string): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true });
  await replaceWhole(file, text, 0o600);
}

/** Writes beside the target, flushes, then renames, so that a reader sees the old or the new file only. */
async function replaceWhole(file: string, text: string, mode: number): Promise<void> {
  const partial = `${file}.${randomBytes(4).toString('hex')}.partial`;
  try {
    const handle = await open(partial, 'wx', mode);
    try {
      await handle.writeFile(text);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(partial, file);
  } catch (error) {
    await rm(partial, { force: true });
    throw error;
  }
}

/** A change takes milliseconds; a lock this old was left by a process that died. */
const staleLockMs = 5_000;

/**
 * Runs `work` while no other process of Snug changes `file`, so that reading, editing and replacing it is one step.
 * The lock is `<file>.lock`. Where none can be had (read-only folder), or another holds on to it, `work` runs without:
 * a change that may be lost is better than a program that stops.
 */
export async function withLock<T>(file: string, work: () => Promise<T>): Promise<T> {
  const lock = `${file}.lock`;
  await mkdir(path.dirname(file), { recursive: true }).catch(() => undefined);
  const held = await takeLock(lock);
  try {
    return await work();
  } finally {
    if (held) await rm(lock, { force: true }).catch(() => undefined);
  }
}

async function takeLock(lock: string): Promise<boolean> {
  const until = Date.now() + 2 * staleLockMs;
  while (Date.now() < until) {
    try {
      await (await open(lock, 'wx', 0o600)).close();
      return true;
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') return false;
    }
    const since = await stat(lock).then(
      ({ mtimeMs }) => mtimeMs,
      () => null, // Given back in the meantime.
    );
    if (since !== null && Date.now() - since > staleLockMs) await rm(lock, { force: true }).catch(() => undefined);
    else await pause(5 + Math.random() * 20);
  }
  return false;
}

/**
 * Writes a file the user asked for; one that is there stays until the new one is whole.
 *
 * @throws SnugError `E_DISK_FULL`, `E_NO_PERMISSION`, `E_WRITE_FAILED`, `E_NOT_FOUND`
 */
export async function saveText(file: string, text: string): Promise<void> {
  try {
    await replaceWhole(file, text, 0o666);
  } catch (error) {
    throw writeError(error, file);
  }
}

/** What a file of Snug's own held. */
export interface OwnFile<T> {
  /** Null when there was no file, or none that could be used. */
  content: T | null;
  /** The name it was put aside under. */
  setAside: string | null;
  /** False when it is there but cannot be read now (rights, too many open files): it must not be written over. */
  replaceable: boolean;
}

/**
 * Reads a file that Snug wrote. One that `parse` does not understand is renamed to `<file>.bad` (`.bad-2` and so on
 * where that is taken), so that a damaged or newer file never stops anything and nothing of it is lost.
 */
export async function readOwnFile<T>(file: string, parse: (value: unknown) => T): Promise<OwnFile<T>> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    return { content: null, setAside: null, replaceable: errnoOf(error) === 'ENOENT' };
  }
  try {
    return { content: parse(JSON.parse(text)), setAside: null, replaceable: true };
  } catch {
    const setAside = freeName(`${file}.bad`);
    await rename(file, setAside).catch(() => undefined);
    return { content: null, setAside, replaceable: true };
  }
}

function freeName(wanted: string): string {
  let name = wanted;
  for (let i = 2; existsSync(name); i += 1) name = `${wanted}-${i}`;
  return name;
}
