import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vite';

const here = path.dirname(fileURLToPath(import.meta.url));

// The page is served under a policy without inline code, inline styles or data: URLs, so nothing may be inlined.
export default defineConfig({
  root: here,
  base: './',
  configFile: false,
  plugins: [svelte({ configFile: false, compilerOptions: { runes: true } })],
  build: {
    outDir: path.join(here, '../out/renderer'),
    emptyOutDir: true,
    target: 'chrome130',
    minify: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 700,
  },
});
