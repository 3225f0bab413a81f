#!/usr/bin/env node
/**
 * Makes sure that the tests have a browser: finds one, else installs one (Playwright's download, else Debian's
 * package when root). Always exits 0: without a browser those tests are skipped and say why.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { findBrowser } from './find-browser.js';

const minutes = 60_000;

/** Runs an installer quietly; its last line of output is the reason when it fails. */
function install(command, args, timeout) {
  const done = spawnSync(command, args, { encoding: 'utf8', timeout, shell: process.platform === 'win32' });
  if (done.status === 0) return null;
  const lines = `${done.stdout ?? ''}${done.stderr ?? ''}`.trim().split('\n');
  return done.error?.message ?? lines.at(-1) ?? 'unknown reason';
}

let browser = await findBrowser();
const reasons = [];
if ('reason' in browser && !process.env.SNUG_CHROMIUM) {
  const failed = install('npx', ['--no-install', 'playwright', 'install', 'chromium'], 3 * minutes);
  if (failed !== null) reasons.push(`Playwright could not download one (${failed})`);
  browser = await findBrowser();
}
if (
  'reason' in browser &&
  !process.env.SNUG_CHROMIUM &&
  existsSync('/etc/debian_version') &&
  process.getuid?.() === 0
) {
  install('apt-get', ['update', '-q'], 2 * minutes);
  const failed = install('apt-get', ['install', '-y', '-q', '--no-install-recommends', 'chromium'], 4 * minutes);
  if (failed !== null) reasons.push(`apt-get could not install one (${failed})`);
  browser = await findBrowser();
}
console.log('path' in browser ? `browser: ${browser.path}` : `no browser: ${[browser.reason, ...reasons].join('; ')}`);
