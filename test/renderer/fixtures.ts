import { test as base, expect, type Page } from '@playwright/test';
import type { JobEvent } from '../../src/contract/types.js';
import { executablePath, noBrowserReason } from '../chromium.js';
import { installFakeBridge, type FakeControls } from './fake-bridge.js';
import { installFakeEngine } from './fake-engine.js';
import { installFakeTraining } from './fake-training.js';
import { servePage } from './page-server.js';
import { vit, type Scenario } from './scenario.js';

export { expect };

/** The page, and what a user does with it. */
export interface Screen {
  page: Page;
  load(scenario?: Partial<Scenario>): Promise<void>;
  openSample(): Promise<void>;
  setBudget(gigabytes: number): Promise<void>;
  openDrawer(tab?: string): Promise<void>;
  calls(method: string): Promise<FakeControls['calls']>;
  emit(event: JobEvent): Promise<void>;
}

/**
 * Fails any test in which the page logged an error or broke its content security policy, so that every spec
 * checks both without asking.
 */
export const test = base.extend<{ snug: Screen }, { origin: string }>({
  origin: [
    // eslint-disable-next-line no-empty-pattern -- Playwright reads what a fixture needs from its parameter
    async ({}, use) => {
      const { origin, server } = await servePage();
      await use(origin);
      server.close();
    },
    { scope: 'worker' },
  ],
  snug: async ({ page, origin }, use) => {
    const complaints: string[] = [];
    page.on('console', (message) => {
      if (message.type() === 'error' || message.type() === 'warning') complaints.push(message.text());
    });
    page.on('pageerror', (error) => complaints.push(error.message));
    await page.addInitScript(() => {
      const target = globalThis as unknown as EventTarget;
      target.addEventListener('securitypolicyviolation', (event) => {
        const { violatedDirective, blockedURI } = event as Event & { violatedDirective: string; blockedURI: string };
        console.error(`policy: ${violatedDirective} ${blockedURI}`);
      });
    });
    const field = page.locator('#budget');
    await use({
      page,
      async load(scenario = {}) {
        const whole = { ...vit, ...scenario };
        await page.addInitScript(installFakeEngine, whole);
        await page.addInitScript(installFakeTraining, whole);
        await page.addInitScript(installFakeBridge, whole);
        await page.goto(origin);
      },
      async openSample() {
        await page.locator('.samples button').first().click();
        await expect(page.locator('.plan .card')).toBeVisible();
      },
      async setBudget(gigabytes) {
        await page
          .getByLabel(/^(Unit|单位)$/)
          .first()
          .selectOption('GB');
        await field.fill(String(gigabytes));
        await field.press('Enter');
      },
      async openDrawer(tab) {
        await page.locator('#adjust-button').click();
        if (tab !== undefined) await page.getByRole('tab', { name: tab }).click();
      },
      calls: (method) =>
        page.evaluate((name) => {
          const { fake } = globalThis as unknown as { fake: FakeControls };
          return fake.calls.filter((call) => call.method === name);
        }, method),
      emit: (event) =>
        page.evaluate((sent) => (globalThis as unknown as { fake: FakeControls }).fake.emit(sent), event),
    });
    expect(complaints).toEqual([]);
  },
});

test.skip(executablePath === null, noBrowserReason ?? 'no browser');
