#!/usr/bin/env node
/**
 * Starts the command line. In a clone it first builds what is missing or older than the sources; an installed
 * package ships the built file and no sources.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { setFlagsFromString } from 'node:v8';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const built = path.join(root, 'out/cli.js');

function newest(folder) {
  let time = 0;
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const file = path.join(folder, entry.name);
    if (entry.isDirectory()) time = Math.max(time, newest(file));
    else if (/\.(ts|js|svelte|css|html)$/.test(entry.name)) time = Math.max(time, statSync(file).mtimeMs);
  }
  return time;
}

const sources = ['src', 'renderer'].map((name) => path.join(root, name));
const inClone = existsSync(path.join(root, 'src/cli/main.ts'));
if (inClone && !process.env.SNUG_SKIP_BUILD) {
  const page = path.join(root, 'out/renderer/index.html');
  const needsPage = process.argv[2] === 'serve' && (!existsSync(page) || statSync(page).mtimeMs < newest(sources[1]));
  if (needsPage || !existsSync(built) || statSync(built).mtimeMs < newest(sources[0])) {
    try {
      execFileSync(process.execPath, [path.join(root, 'build/build.js'), ...(needsPage ? [] : ['--engine'])], {
        stdio: ['ignore', 'ignore', 'inherit'],
      });
    } catch {
      process.stderr.write('Snug could not be built. Run "npm ci" in the project folder, then try again.\n');
      process.exit(1);
    }
  }
}
// Weights pass through in large pieces outside of V8's heap; its room for young objects would grow to 50 MB beside them.
setFlagsFromString('--semi-space-growth-factor=1');
const { main } = await import(pathToFileURL(built).href);
process.exitCode = await main(process.argv);
