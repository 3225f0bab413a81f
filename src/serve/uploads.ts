import { createWriteStream } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, statfs } from 'node:fs/promises';
import path from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { SnugError } from '../contract/errors.js';
import { badRequest } from '../contract/validate.js';

/** Room left free on the disk besides the upload itself. */
const spareBytes = 64 * 1024 * 1024;
const maxFilesPerSession = 10_000;
const maxDepth = 16;

export interface Uploads {
  /**
   * Streams one file into the folder of its session. `name` may hold folders, with forward slashes.
   *
   * @throws SnugError `E_BAD_REQUEST` for names, sessions or counts out of bounds, `E_EXISTS` for a name sent
   *   twice, `E_DISK_FULL`, `E_NO_PERMISSION`, `E_WRITE_FAILED`
   */
  receive(session: string, name: string, bytes: number, body: Readable): Promise<{ bytes: number }>;
  /** Top-level entries of a session as paths; `E_NOT_FOUND` when nothing was uploaded. */
  paths(session: string): Promise<string[]>;
  /** A fresh folder for the results of one job. */
  outputDirectory(): Promise<string>;
  /** Removes everything. */
  close(): Promise<void>;
}

/**
 * Splits a relative name into safe parts.
 *
 * @throws SnugError `E_BAD_REQUEST` for anything that is not a plain path below its start on every system:
 *   `..`, absolute, drive letters, backslashes, control characters, device names, over-long parts
 */
export function safeParts(name: string): string[] {
  const parts = name.split('/');
  const safe = (part: string) =>
    part.length > 0 &&
    Buffer.byteLength(part) <= 255 &&
    !/[\\:*?"<>|\p{Cc}]/u.test(part) &&
    !/^\.+$|[. ]$/u.test(part) &&
    !/^(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$)/iu.test(part);
  if (parts.length <= maxDepth && parts.every(safe)) return parts;
  throw badRequest('this file name cannot be used here');
}

/** Creates a private folder below `parent` that lives until {@link Uploads.close}. */
export async function createUploads(parent: string): Promise<Uploads> {
  await mkdir(parent, { recursive: true });
  await sweep(parent);
  const root = await mkdtemp(path.join(parent, `serve-${process.pid}-`));
  const counts = new Map<string, number>();

  const folderOf = (session: string): string => {
    if (!/^[A-Za-z0-9][A-Za-z0-9-]{7,63}$/u.test(session)) throw badRequest('this upload session cannot be used');
    return path.join(root, 'in', session);
  };

  return {
    async receive(session, name, bytes, body) {
      const folder = folderOf(session);
      const target = path.join(folder, ...safeParts(name));
      const count = (counts.get(session) ?? 0) + 1;
      if (count > maxFilesPerSession) throw badRequest('too many files at once');
      counts.set(session, count);
      const { bavail, bsize } = await statfs(root);
      if (bytes + spareBytes > bavail * bsize) throw diskFull(bytes, bavail * bsize, undefined);
      try {
        await mkdir(path.dirname(target), { recursive: true });
        await pipeline(body, createWriteStream(target, { flags: 'wx', mode: 0o600 }));
      } catch (error) {
        const code = error instanceof Error && 'code' in error ? error.code : '';
        // The file of an earlier upload stays; a part of this one must not.
        if (code !== 'EEXIST') await rm(target, { force: true });
        throw writeError(code, bytes, error);
      }
      return { bytes };
    },
    async paths(session) {
      const folder = folderOf(session);
      const names = await readdir(folder).catch(() => []);
      if (names.length > 0) return names.map((name) => path.join(folder, name));
      throw new SnugError('E_NOT_FOUND', 'No file arrived.', { action: 'Choose the file again.' });
    },
    async outputDirectory() {
      await mkdir(path.join(root, 'out'), { recursive: true });
      return await mkdtemp(path.join(root, 'out', 'job-'));
    },
    close: () => rm(root, { recursive: true, force: true }),
  };
}

function writeError(code: unknown, bytes: number, cause: unknown): SnugError {
  if (code === 'ENOSPC' || code === 'EDQUOT') return diskFull(bytes, null, cause);
  if (code === 'EEXIST' || code === 'ENOTDIR') {
    return new SnugError('E_EXISTS', 'Two files with the same name were sent.', {
      action: 'Drop the files again, each name once.',
      cause,
    });
  }
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS') {
    return new SnugError('E_NO_PERMISSION', 'Snug may not write to its temporary folder.', {
      action: 'Set SNUG_CACHE_DIR to a folder you can write to and start Snug again.',
      cause,
    });
  }
  return new SnugError('E_WRITE_FAILED', 'The file could not be received whole.', {
    action: 'Try again. Your original was not changed.',
    details: cause instanceof Error ? cause.message : String(cause),
    cause,
  });
}

function diskFull(needBytes: number, freeBytes: number | null, cause: unknown): SnugError {
  return new SnugError('E_DISK_FULL', 'The disk has no room for a copy of this file.', {
    action: 'Free some space, or set SNUG_CACHE_DIR to a folder on another disk and start Snug again.',
    params: { needBytes, ...(freeBytes === null ? {} : { freeBytes }) },
    cause,
  });
}

/** Removes what servers left behind that did not end by themselves. */
async function sweep(parent: string): Promise<void> {
  for (const name of await readdir(parent)) {
    const pid = Number(/^serve-(\d+)-/u.exec(name)?.[1]);
    if (pid > 0 && !alive(pid))
      await rm(path.join(parent, name), { recursive: true, force: true }).catch(() => undefined);
  }
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
}
