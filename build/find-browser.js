import { execFileSync } from 'node:child_process';
import { accessSync, constants, existsSync } from 'node:fs';
import path from 'node:path';

const names = ['google-chrome-stable', 'google-chrome', 'chromium', 'chromium-browser', 'microsoft-edge-stable'];

/** Where installers put a Chromium-based browser that is not on the PATH. */
function installedPlaces() {
  if (process.platform === 'darwin') {
    return [
      '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
      '/Applications/Chromium.app/Contents/MacOS/Chromium',
      '/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge',
    ];
  }
  if (process.platform !== 'win32') return [];
  return [process.env.PROGRAMFILES, process.env['PROGRAMFILES(X86)'], process.env.LOCALAPPDATA]
    .filter((folder) => folder !== undefined)
    .flatMap((folder) => [
      path.join(folder, 'Google/Chrome/Application/chrome.exe'),
      path.join(folder, 'Chromium/Application/chrome.exe'),
      path.join(folder, 'Microsoft/Edge/Application/msedge.exe'),
    ]);
}

function pathPlaces() {
  if (process.platform === 'win32') return [];
  const folders = (process.env.PATH ?? '').split(path.delimiter).filter((folder) => folder !== '');
  return names.flatMap((name) => folders.map((folder) => path.join(folder, name)));
}

/** The browser Playwright itself downloaded, if it did. */
async function playwrightPlace() {
  try {
    const { chromium } = await import('playwright');
    return chromium.executablePath();
  } catch {
    return null;
  }
}

function isExecutable(file) {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** A file that exists may still be unable to start (missing libraries), so it is asked for its version. */
function starts(file) {
  if (process.platform === 'win32') return true; // chrome.exe --version opens a window there
  try {
    execFileSync(file, ['--version'], { stdio: 'ignore', timeout: 20_000 });
    return true;
  } catch {
    return false;
  }
}

/**
 * Finds a Chromium-based browser for the tests: `SNUG_CHROMIUM`, else Chrome, Chromium or Edge of the system,
 * else Playwright's own.
 *
 * @returns {Promise<{ path: string } | { reason: string }>}
 */
export async function findBrowser() {
  const chosen = process.env.SNUG_CHROMIUM;
  if (chosen) {
    return existsSync(chosen) ? { path: chosen } : { reason: `SNUG_CHROMIUM names ${chosen}, which is not there` };
  }
  const own = await playwrightPlace();
  const places = [...pathPlaces(), ...installedPlaces(), ...(own === null ? [] : [own])];
  const found = places.find((file) => isExecutable(file) && starts(file));
  if (found !== undefined) return { path: found };
  return { reason: 'no Chrome, Chromium or Edge was found and none is installed by Playwright' };
}
