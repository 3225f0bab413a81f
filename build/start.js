#!/usr/bin/env node
/**
 * `npm start`: builds when sources are younger than the build, then opens the desktop app; where no Electron
 * runtime can be had, says so in one line and opens the same app in the browser.
 */
import { spawn, spawnSync } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { obtainElectron, whyNoWindow } from './electron-runtime.js';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));

/** A runtime that ends by itself this early could not start (missing system libraries). */
const startMs = 3_000;

function newest(place) {
  const found = statSync(place, { throwIfNoEntry: false });
  if (!found) return 0;
  if (!found.isDirectory()) return found.mtimeMs;
  return Math.max(found.mtimeMs, ...readdirSync(place).map((name) => newest(path.join(place, name))));
}

function buildIfStale() {
  const built = statSync(path.join(root, 'out/.built'), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  const sources = ['src', 'electron', 'renderer', 'build/build.js', 'package.json'];
  if (sources.every((name) => newest(path.join(root, name)) <= built)) return;
  console.log('Building…');
  const done = spawnSync(process.execPath, [path.join(root, 'build/build.js')], { stdio: 'inherit' });
  if (done.status !== 0) process.exit(done.status ?? 1);
}

/** Runs a program until it ends; signals to this one are passed on. */
function run(command, args) {
  return new Promise((resolve) => {
    // With this variable set Electron is a plain Node and opens nothing.
    const env = { ...process.env };
    delete env.ELECTRON_RUN_AS_NODE;
    const started = Date.now();
    const child = spawn(command, args, { cwd: process.cwd(), stdio: 'inherit', env });
    const pass = (signal) => child.kill(signal);
    process.on('SIGINT', pass);
    process.on('SIGTERM', pass);
    child.on('error', (error) => resolve({ code: 1, ranMs: 0, reason: error.message }));
    child.on('close', (code, signal) => {
      process.off('SIGINT', pass);
      process.off('SIGTERM', pass);
      resolve({ code: code ?? 1, ranMs: Date.now() - started, reason: `it ended with ${signal ?? `code ${code}`}` });
    });
  });
}

async function openDesktop(args) {
  const hindered = whyNoWindow();
  if (hindered !== null) return hindered;
  const runtime = await obtainElectron();
  if ('reason' in runtime) return `no Electron runtime could be had: ${runtime.reason}`;
  const { code, ranMs, reason } = await run(runtime.path, [root, ...args]);
  if (code !== 0 && ranMs < startMs) return `Electron could not start: ${reason}`;
  process.exit(code);
}

buildIfStale();
const why = await openDesktop(process.argv.slice(2));
console.log(`No desktop window here (${why}); opening the same app in the browser.`);
const { code } = await run(process.execPath, [path.join(root, 'src/cli/snug.js'), 'serve']);
process.exit(code);
