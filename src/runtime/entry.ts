import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { SnugError } from '../contract/errors.js';

/**
 * Path of a built process entry (`runtime-process`, `engine-process`). Built code finds it beside itself
 * (chunks one folder up); code run from source (tests) uses the project's `out/`.
 */
export function entryPath(name: 'runtime-process' | 'engine-process'): string {
  const here = path.dirname(fileURLToPath(import.meta.url));
  const places = [here, path.dirname(here), path.resolve(here, '../../out')];
  for (const place of places) {
    const file = path.join(place, `${name}.js`);
    if (existsSync(file)) return file;
  }
  throw new SnugError('E_INTERNAL', `The program file ${name}.js is missing.`, {
    action: 'Run "npm run build" in the project folder.',
  });
}
