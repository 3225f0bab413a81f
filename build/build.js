#!/usr/bin/env node
/**
 * Builds what Node runs into `out/`: the command line, the engine and runtime processes, and, with the
 * renderer present, the page. `--engine` builds the Node part only (tests need just that).
 */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import path from 'node:path';
import { build } from 'vite';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const engineOnly = process.argv.includes('--engine');

/** Entry name in `out/` → source. Processes are separate files because they are started by path. */
const nodeEntries = {
  cli: 'src/cli/main.ts',
  'runtime-process': 'src/runtime/process-entry.ts',
  'engine-process': 'src/app/engine-entry.ts',
};

const input = Object.fromEntries(
  Object.entries(nodeEntries)
    .map(([name, file]) => [name, path.join(root, file)])
    .filter(([, file]) => existsSync(file)),
);

if (Object.keys(input).length > 0) {
  await build({
    configFile: false,
    root,
    logLevel: 'warn',
    build: {
      ssr: true,
      outDir: path.join(root, 'out'),
      emptyOutDir: false,
      target: 'node20',
      sourcemap: true,
      minify: false,
      rolldownOptions: {
        input,
        output: { format: 'es', entryFileNames: '[name].js', chunkFileNames: 'chunks/[name]-[hash].js' },
      },
    },
  });
}

if (!engineOnly && existsSync(path.join(root, 'renderer/vite.config.ts'))) {
  await build({ configFile: path.join(root, 'renderer/vite.config.ts'), logLevel: 'warn' });
}
