import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test as base, expect as baseExpect, type Page } from '@playwright/test';
import { executablePath, noBrowserReason } from '../chromium.js';

const root = path.resolve(import.meta.dirname, '../..');
export const models = path.resolve(root, '../shared/models');
export const screenshots = path.join(root, 'test-results/screens');

/** A running `snug serve`, as a user would start it. */
export interface Door {
  url: string;
  process: ChildProcess;
  cacheDirectory: string;
  /** A folder of this test, removed afterwards. */
  folder: string;
}

async function startDoor(folder: string): Promise<Door> {
  const cacheDirectory = path.join(folder, 'cache');
  const child = spawn(process.execPath, [path.join(root, 'src/cli/snug.js'), 'serve', '--no-open', '--port', '0'], {
    cwd: folder,
    env: {
      ...process.env,
      SNUG_SKIP_BUILD: '1',
      SNUG_SETTINGS_DIR: path.join(folder, 'settings'),
      SNUG_CACHE_DIR: cacheDirectory,
      // Only where a test asks for it: models run beside a test would slow it down.
      SNUG_CALIBRATE: 'never',
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  const url = await new Promise<string>((resolve, reject) => {
    child.stdout.on('data', (chunk: Buffer) => {
      said += chunk.toString();
      const found = /http:\/\/\S+/u.exec(said)?.[0];
      if (found !== undefined) resolve(found);
    });
    child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
    child.on('exit', (code) => reject(new Error(`snug serve ended with code ${code}: ${said}`)));
  });
  return { url, process: child, cacheDirectory, folder };
}

export async function stopDoor(door: Door): Promise<void> {
  if (door.process.exitCode !== null || door.process.signalCode !== null) return;
  const ended = new Promise((resolve) => door.process.once('exit', resolve));
  door.process.kill('SIGTERM');
  await ended;
}

interface TestFixtures {
  browserNeeded: undefined;
  door: Door;
  /** A page that has entered through the one-time link. */
  app: Page;
  /** What the browser's console complained about, policy violations included. */
  complaints: string[];
}

export const test = base.extend<TestFixtures>({
  // A fixture and not a call at the top of this file, which would count for the first file that imports it only.
  browserNeeded: [
    // eslint-disable-next-line no-empty-pattern -- Playwright reads the parameter list and demands a pattern
    async ({}, use, testInfo) => {
      testInfo.skip(executablePath === null, noBrowserReason ?? 'no browser');
      await use(undefined);
    },
    { auto: true },
  ],
  door: [
    // eslint-disable-next-line no-empty-pattern -- as above
    async ({}, use) => {
      const folder = mkdtempSync(path.join(os.tmpdir(), 'snug-door-'));
      const door = await startDoor(folder);
      await use(door);
      await stopDoor(door);
      rmSync(folder, { recursive: true, force: true });
    },
    { timeout: 60_000 },
  ],
  // eslint-disable-next-line no-empty-pattern -- as above
  complaints: async ({}, use) => {
    await use([]);
  },
  app: async ({ page, door, complaints }, use) => {
    page.on('console', (message) => {
      if (message.type() === 'error') complaints.push(message.text());
    });
    page.on('pageerror', (error) => complaints.push(String(error)));
    await page.goto(door.url);
    // Nothing listens for drops before the page has drawn itself.
    await page.locator('button.primary').waitFor();
    await use(page);
  },
});

/** Engine processes share the machine with everything else: minutes are allowed, a second is usual. */
export const expect = baseExpect.configure({ timeout: 60_000 });

/** Drops real files from the disk on the page, as the system does: the page gets their names and bytes only. */
export async function dropFiles(page: Page, files: string[]): Promise<void> {
  const session = await page.context().newCDPSession(page);
  const { width, height } = page.viewportSize() ?? { width: 1080, height: 720 };
  const data = { items: [], files, dragOperationsMask: 1 };
  const send = (type: 'dragEnter' | 'dragOver' | 'dragCancel' | 'drop'): Promise<unknown> =>
    session.send('Input.dispatchDragEvent', { type, x: width / 2, y: height / 2, data });
  // The browser lets go only where the page has said yes; on a busy machine an entry can be lost, and a hand tries again.
  await expect(async () => {
    await send('dragCancel');
    await send('dragEnter');
    await send('dragOver');
    await page.getByText(/^(?:Let go to open it|松开即可打开)$/u).waitFor({ timeout: 2000 });
  }).toPass();
  await send('dragOver');
  await send('drop');
  await session.detach();
}

/** Keeps a picture of the screen for a person to look at. */
export async function keepPicture(page: Page, name: string): Promise<void> {
  mkdirSync(screenshots, { recursive: true });
  await page.screenshot({ path: path.join(screenshots, `${name}.png`), fullPage: true });
}
