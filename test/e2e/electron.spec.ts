import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { _electron, type ElectronApplication, expect, type Page, test } from '@playwright/test';
import { findElectron, whyNoWindow } from '../../build/electron-runtime.js';

/**
 * The real desktop app. A checkout holds no Electron runtime (it comes from GitHub on the first `npm start`), so
 * most machines skip these tests, with the reason.
 */
const root = path.resolve(import.meta.dirname, '../..');
const runtime = findElectron();
const why = whyNoWindow() ?? (runtime.path === undefined ? `no Electron runtime: ${runtime.reason}` : null);
test.skip(why !== null, why ?? '');

let folder: string;
let app: ElectronApplication;
let page: Page;

function environment(): Record<string, string> {
  const env = { ...process.env, SNUG_SETTINGS_DIR: path.join(folder, 'settings') } as Record<string, string>;
  // With it set Electron is a plain Node.
  delete env.ELECTRON_RUN_AS_NODE;
  return env;
}

const executable = (): string => runtime.path ?? '';
const args = (...more: string[]) => [root, `--user-data-dir=${path.join(folder, 'profile')}`, ...more];

async function launch(...more: string[]): Promise<void> {
  app = await _electron.launch({ executablePath: executable(), args: args(...more), env: environment() });
  page = await app.firstWindow();
  await page.waitForLoadState('load');
}

test.beforeEach(() => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'snug-e2e-'));
});
test.afterEach(async () => {
  await app?.close().catch(() => undefined);
  rmSync(folder, { recursive: true, force: true });
});

const sample = path.join(root, 'src/app/samples/digits-mlp.onnx');

async function makeSnug(): Promise<void> {
  await page.getByRole('combobox', { name: 'Unit' }).selectOption('kB');
  await page.getByRole('spinbutton', { name: 'Budget' }).first().fill('600');
  await page.getByRole('spinbutton', { name: 'Budget' }).first().press('Tab');
  await page.locator('button.primary').click();
}

test('opens one sandboxed window on its own scheme, with functions only on the bridge', async () => {
  await launch();
  expect(page.url()).toBe('snug://app/index.html');
  expect(await page.evaluate('typeof require + typeof process + typeof module')).toBe('undefinedundefinedundefined');
  expect(await page.evaluate('Object.values(window.snug).every((each) => typeof each === "function")')).toBe(true);
  expect(await app.evaluate(({ BrowserWindow }) => BrowserWindow.getAllWindows().length)).toBe(1);
  expect(
    await app.evaluate(({ app: main }) => main.getAppMetrics().find((one) => one.type === 'Tab')?.sandboxed),
  ).not.toBe(false);
});

test('reaches no network, goes nowhere and opens no window', async () => {
  await launch();
  expect(await page.evaluate('fetch("https://example.com/").then(() => "allowed", () => "refused")')).toBe('refused');
  expect(await page.evaluate('window.open("https://example.com/") === null')).toBe(true);
  await page.evaluate('void (location.href = "https://example.com/")');
  await page.waitForTimeout(500);
  expect(page.url()).toBe('snug://app/index.html');
});

test('plans, shrinks and shows the sample, engines in utility processes', async () => {
  await launch();
  await page.getByRole('button', { name: /digits-mlp\.onnx/u }).click();
  await expect(page.getByRole('heading', { name: /digits-mlp\.onnx/u })).toBeVisible();
  const names = await app.evaluate(({ app: main }) => main.getAppMetrics().map((one) => one.serviceName ?? ''));
  expect(names.some((name) => name.startsWith('Snug engine'))).toBe(true);
  await app.evaluate(({ app: main }, downloads) => main.setPath('downloads', downloads), folder);
  await makeSnug();
  await expect(page.getByRole('button', { name: 'Show in folder' })).toBeVisible({ timeout: 60_000 });
});

test('opens the file it was started with', async () => {
  await launch(sample);
  await expect(page.getByRole('heading', { name: /digits-mlp\.onnx/u })).toBeVisible();
});

test('a second start hands its file to the first and ends', async () => {
  await launch();
  const second = spawn(executable(), args(sample), { env: environment(), stdio: 'ignore' });
  const code = await new Promise((resolve) => second.once('exit', resolve));
  expect(code).toBe(0);
  await expect(page.getByRole('heading', { name: /digits-mlp\.onnx/u })).toBeVisible();
});

test('an engine killed from outside is an error with a name, and the app goes on', async () => {
  await launch();
  await page.getByRole('button', { name: /digits-mlp\.onnx/u }).click();
  await expect(page.getByRole('heading', { name: /digits-mlp\.onnx/u })).toBeVisible();
  await app.evaluate(({ app: main }) => {
    for (const one of main.getAppMetrics()) {
      if (one.serviceName?.startsWith('Snug engine')) process.kill(one.pid, 'SIGKILL');
    }
  });
  await makeSnug();
  await expect(page.getByRole('alert')).toBeVisible();
  await page.getByRole('button', { name: 'Another model' }).click();
  await page
    .getByRole('button', { name: /digits-mlp\.onnx/u })
    .first()
    .click();
  await expect(page.getByRole('heading', { name: /digits-mlp\.onnx/u })).toBeVisible();
});

test('a settings file that makes no sense is put aside', async () => {
  const settings = path.join(folder, 'settings');
  mkdirSync(settings);
  writeFileSync(path.join(settings, 'settings.json'), '{ half');
  await launch();
  await expect(page.getByRole('button', { name: 'Choose a file' })).toBeVisible();
  expect(readFileSync(path.join(settings, 'settings.json.bad'), 'utf8')).toBe('{ half');
});

test('the self-test passes without an inspector', async () => {
  const child = spawn(executable(), args('--self-test'), { env: environment(), stdio: ['ignore', 'pipe', 'ignore'] });
  let said = '';
  child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
  expect(await new Promise((resolve) => child.once('exit', resolve))).toBe(0);
  expect(said).toContain('self-test passed');
});
