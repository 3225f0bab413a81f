import { defineConfig } from '@playwright/test';
import { chromiumFlags, executablePath } from './test/chromium.js';

/**
 * Three suites: the page with a faked bridge, the real app through the browser door, and the real desktop app.
 * Which browser is used, and whether there is one, is found by `test/chromium.ts`; without one the suites skip
 * their tests with the reason.
 */
export default defineConfig({
  outputDir: 'test-results/playwright',
  globalSetup: './test/renderer/global-setup.ts',
  fullyParallel: true,
  forbidOnly: Boolean(process.env.CI),
  workers: 2,
  // Real engines on a busy machine: one more try, named as flaky in the output, never hidden.
  retries: process.env.CI ? 1 : 0,
  // Tests behind a door start real engine processes; two cores must do.
  timeout: 120_000,
  reporter: [['list'], ['json', { outputFile: 'test-results/playwright.json' }]],
  use: {
    viewport: { width: 1080, height: 720 },
    locale: 'en-US',
    headless: true,
    screenshot: 'only-on-failure',
    launchOptions: {
      args: [...chromiumFlags],
      ...(executablePath === null ? {} : { executablePath }),
    },
  },
  projects: [
    { name: 'renderer', testDir: 'test/renderer', timeout: 30_000 },
    { name: 'door', testDir: 'test/door' },
    { name: 'e2e', testDir: 'test/e2e' },
  ],
});
