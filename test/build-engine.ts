import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** Engine tests start real child processes, which need the built entries in `out/`. */
export default function buildEngine(): void {
  if (process.env.SNUG_SKIP_BUILD) return;
  const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
  execFileSync(process.execPath, [path.join(root, 'build/build.js'), '--engine'], { stdio: 'inherit' });
}
