import { defineConfig } from '@playwright/test';

/**
 * Three suites: the page with a faked bridge, the real app through the browser door, and the real desktop app.
 * Which browser is used, and whether there is one, is decided by the tests (`build/find-browser.js`), so that
 * without one they are skipped with the reason.
 */
export default defineConfig({
  testDir: 'test',
  outputDir: 'test-results/playwright',
  // Each test may start real engine processes; two cores must do.
  workers: 1,
  timeout: 120_000,
  forbidOnly: Boolean(process.env.CI),
  reporter: [['list'], ['json', { outputFile: 'test-results/playwright.json' }]],
  projects: [
    { name: 'renderer', testDir: 'test/renderer' },
    { name: 'door', testDir: 'test/door' },
    { name: 'e2e', testDir: 'test/e2e' },
  ],
});
