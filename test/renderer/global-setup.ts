import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** The specs look at the page as it ships: built and minified, never the development server. */
export default function buildPage(): void {
  if (process.env['SNUG_SKIP_BUILD']) return;
  const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
  execFileSync(process.execPath, [path.join(root, 'build/build.js')], { stdio: 'inherit' });
}
