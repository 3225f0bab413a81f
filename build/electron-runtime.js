import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const electronPackage = path.join(root, 'node_modules/electron');

const probeMs = 5_000;
const downloadMs = 5 * 60_000;

function executableName() {
  if (process.platform === 'darwin') return 'Electron.app/Contents/MacOS/Electron';
  return process.platform === 'win32' ? 'electron.exe' : 'electron';
}

/** An Electron runtime that is already on this computer, or why there is none. */
export function findElectron() {
  const override = process.env.ELECTRON_OVERRIDE_DIST_PATH;
  const folder = override ?? path.join(electronPackage, 'dist');
  const file = path.join(folder, executableName());
  if (existsSync(file)) return { path: file };
  return { reason: override ? `there is none in ${override}` : 'it was not downloaded yet' };
}

/** Why a window could not be shown here even with a runtime; null when nothing speaks against it. */
export function whyNoWindow() {
  if (process.platform !== 'linux') return null;
  if (process.getuid?.() === 0) return 'Electron does not run as root';
  if (!process.env.DISPLAY && !process.env.WAYLAND_DISPLAY) return 'this computer has no display';
  return null;
}

/**
 * Finds the runtime, else downloads it with the installer of the electron package. The package holds no binary;
 * it comes from GitHub (or `ELECTRON_MIRROR`), which is asked first with a short limit, so that a computer
 * without that way out does not wait.
 *
 * @returns {Promise<{ path: string } | { reason: string }>}
 */
export async function obtainElectron() {
  const found = findElectron();
  if ('path' in found || process.env.ELECTRON_OVERRIDE_DIST_PATH) return found;
  const installer = path.join(electronPackage, 'install.js');
  if (!existsSync(installer)) return { reason: 'the electron package is not installed' };
  const mirror = process.env.ELECTRON_MIRROR ?? process.env.npm_config_electron_mirror ?? 'https://github.com/';
  const proxied = process.env.HTTPS_PROXY ?? process.env.https_proxy;
  if (!proxied && !(await answers(mirror))) return { reason: `${new URL(mirror).host} cannot be reached` };
  const { version } = JSON.parse(readFileSync(path.join(electronPackage, 'package.json'), 'utf8'));
  console.log(`Downloading the Electron ${version} runtime, once…`);
  const done = spawnSync(process.execPath, [installer], {
    cwd: root,
    encoding: 'utf8',
    timeout: downloadMs,
    env: { ...process.env, ...(proxied ? { ELECTRON_GET_USE_PROXY: '1' } : {}) },
  });
  const now = findElectron();
  if ('path' in now) return now;
  return { reason: done.error?.message ?? firstError(done.stderr) };
}

async function answers(url) {
  try {
    await fetch(url, { method: 'HEAD', signal: AbortSignal.timeout(probeMs) });
    return true;
  } catch {
    return false;
  }
}

/** The line of a stack trace that says what happened. */
function firstError(text) {
  const lines = (text ?? '').split('\n').map((line) => line.trim());
  return lines.find((line) => /error/iu.test(line)) ?? 'the download failed';
}
