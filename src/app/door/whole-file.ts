import { randomBytes } from 'node:crypto';
import { mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import path from 'node:path';

/** Writes beside the target, flushes, then renames, so that a reader sees the old or the new file only. */
export async function writeAtomically(file: string, text: string): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true });
  const partial = `${file}.${randomBytes(4).toString('hex')}.partial`;
  try {
    const handle = await open(partial, 'wx', 0o600);
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

/**
 * Reads a file that Snug wrote. One that `parse` does not understand is renamed to `<file>.bad`, so that a damaged or
 * newer file never stops anything and nothing of it is lost.
 *
 * @returns the content, or null with the name it was put aside under (null when there was no file)
 */
export async function readOwnFile<T>(
  file: string,
  parse: (value: unknown) => T,
): Promise<{ content: T; setAside: null } | { content: null; setAside: string | null }> {
  try {
    return { content: parse(JSON.parse(await readFile(file, 'utf8'))), setAside: null };
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return { content: null, setAside: null };
    const setAside = `${file}.bad`;
    await rename(file, setAside).catch(() => undefined);
    return { content: null, setAside };
  }
}
