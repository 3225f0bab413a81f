#!/usr/bin/env node
/**
 * Builds into `out/`: what Node runs (command line, engine and runtime processes), the desktop app's main
 * process and preload, and the page. `--engine` builds the Node part only (tests need just that), `--example`
 * the example of examples/article besides.
 */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import path from 'node:path';
import { build } from 'vite';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const engineOnly = process.argv.includes('--engine');
const withExample = process.argv.includes('--example');

/** Entry name in `out/` → source. Processes are separate files because they are started by path. */
const nodeEntries = {
  cli: 'src/cli/main.ts',
  'runtime-process': 'src/runtime/process-entry.ts',
  'engine-process': 'src/app/engine-entry.ts',
  ...(withExample ? { article: 'examples/article/main.ts' } : {}),
  ...(engineOnly ? {} : { 'electron/main': 'electron/main.ts' }),
};

/** Settings both Node builds share. Packages stay outside: they are installed, and one of them is native. */
const shared = {
  configFile: false,
  root,
  logLevel: 'warn',
};

await build({
  ...shared,
  build: {
    ssr: true,
    outDir: path.join(root, 'out'),
    emptyOutDir: false,
    target: 'node20',
    sourcemap: true,
    minify: false,
    rolldownOptions: {
      input: Object.fromEntries(Object.entries(nodeEntries).map(([name, file]) => [name, path.join(root, file)])),
      output: { format: 'es', entryFileNames: '[name].js', chunkFileNames: 'chunks/[name]-[hash].js' },
    },
  },
});

if (!engineOnly) {
  // A sandboxed preload can load nothing but itself, and only as CommonJS.
  await build({
    ...shared,
    ssr: { noExternal: true, external: ['electron'] },
    build: {
      ssr: path.join(root, 'electron/preload.ts'),
      outDir: path.join(root, 'out/electron'),
      emptyOutDir: false,
      target: 'node22',
      minify: false,
      rolldownOptions: { output: { format: 'cjs', entryFileNames: 'preload.cjs', codeSplitting: false } },
    },
  });
  await build({ configFile: path.join(root, 'renderer/vite.config.ts'), logLevel: 'warn' });
  // `npm start` builds again when a source is younger than this file.
  writeFileSync(path.join(root, 'out/.built'), '');
}
