import { readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { SnugError } from '../contract/errors.js';
import { errnoOf } from '../onnx/failures.js';
import { writeError } from '../onnx/output.js';

const lockFile = (target: string): string =>
  path.join(path.dirname(path.resolve(target)), `.${path.basename(target)}.snug-lock`);

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errnoOf(error) === 'EPERM';
  }
}

const holder = async (file: string): Promise<number | null> => {
  const pid = Number(await readFile(file, 'utf8').catch(() => ''));
  return Number.isInteger(pid) && pid > 0 ? pid : null;
};

/**
 * Makes this process the only one that writes unfinished work for `target`. A lock whose process is gone counts as
 * none, so that work killed in the middle can be gone on with.
 *
 * @returns what gives it back
 * @throws SnugError E_EXISTS while another process (or this one) holds it; of writing
 */
export async function lockOutput(target: string): Promise<() => Promise<void>> {
  const file = lockFile(target);
  for (let attempt = 0; attempt < 2; attempt++) {
    try {
      await writeFile(file, String(process.pid), { flag: 'wx' });
    } catch (cause) {
      if (errnoOf(cause) !== 'EEXIST') throw writeError(cause, target);
      const pid = await holder(file);
      if (pid !== null && isAlive(pid)) throw busy(target, pid);
      await rm(file, { force: true });
      continue;
    }
    // Someone who saw the same dead lock may have taken it away again.
    if ((await holder(file)) === process.pid) return () => rm(file, { force: true });
  }
  throw busy(target, (await holder(file)) ?? 0);
}

function busy(target: string, pid: number): SnugError {
  return new SnugError('E_EXISTS', `Process ${pid} is writing ${path.basename(target)} already.`, {
    action: 'Wait for it or stop it, or choose another output.',
    params: { path: target, pid },
  });
}
