import { AxeBuilder } from '@axe-core/playwright';
import type { Page } from '@playwright/test';
import { expect, test, type Screen } from './fixtures.js';
import { experienced, failure } from './scenario.js';

async function noSeriousViolations(page: Page): Promise<void> {
  const { violations } = await new AxeBuilder({ page })
    .withTags(['wcag2a', 'wcag2aa', 'wcag21aa', 'wcag22aa'])
    .analyze();
  const serious = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
  expect(serious.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(' ')}`)).toEqual([]);
}

const screens: Record<string, (snug: Screen) => Promise<void>> = {
  drop: async () => undefined,
  plan: async (snug) => {
    await snug.openSample();
    await snug.setBudget(4);
    await snug.page.locator('.worked summary').click();
  },
  adjust: async (snug) => {
    // Six whole checks of the page in one test.
    test.slow();
    await snug.openSample();
    await snug.setBudget(4);
    await snug.openDrawer();
    for (const tab of await snug.page.getByRole('tab').all()) {
      await tab.click();
      await noSeriousViolations(snug.page);
    }
  },
  result: async (snug) => {
    await snug.openSample();
    await snug.setBudget(4);
    await snug.page.locator('.actions .primary').click();
    await expect(snug.page.locator('.result')).toBeVisible();
    for (const summary of await snug.page.locator('.more > details > summary').all()) await summary.click();
  },
};

for (const theme of ['light', 'dark'] as const) {
  for (const locale of ['en', 'zh-CN'] as const) {
    for (const [name, go] of Object.entries(screens)) {
      test(`${name} has no serious accessibility violation, ${theme}, ${locale}`, async ({ snug }) => {
        const { page } = snug;
        await page.emulateMedia({ colorScheme: theme, reducedMotion: 'reduce' });
        await page.addInitScript(`localStorage.setItem('snug.locale', '${locale}')`);
        await snug.load();
        await expect(page.locator('.memory-bar')).toBeVisible();
        await go(snug);
        await noSeriousViolations(page);
        expect(await page.locator('html').getAttribute('lang')).toBe(locale);
      });
    }
  }
}

test('working and an error have no serious violation', async ({ snug }) => {
  const { page } = snug;
  await snug.load({ stepMs: -1, failures: { openSample: failure('E_TRUNCATED') } });
  await page.locator('.samples button').first().click();
  await expect(page.getByRole('alert')).toBeVisible();
  await noSeriousViolations(page);
  await snug.openSample();
  await page.locator('.actions button', { hasText: 'snug' }).click();
  await expect(page.getByRole('progressbar')).toBeVisible();
  await noSeriousViolations(page);
});

test('the record, the calibration and the gauge have no serious violation', async ({ snug }) => {
  const { page } = snug;
  test.slow();
  await snug.load({ stepMs: -1, accuracy: experienced });
  await snug.openSample();
  await snug.openDrawer();
  await page.getByText('Show the runs').click();
  await page.getByText('What the test models showed').click();
  await page.getByText('Show as a table').click();
  await page.getByRole('button', { name: 'Clear the record' }).click();
  await noSeriousViolations(page);
  await page.keyboard.press('Escape');
  await page.locator('.actions button', { hasText: 'snug' }).click();
  await expect.poll(async () => (await snug.calls('startFit')).length).toBe(1);
  const sample = { atMs: 1, usedBytes: 1e9, deviceUsedBytes: 3e9, deviceTotalBytes: 12e9 };
  await snug.emit({ jobId: 'job-1', kind: 'memory', sample });
  await expect(page.getByText(/^highest so far/)).toBeVisible();
  await noSeriousViolations(page);
});

test('the whole flow runs by keyboard alone', async ({ snug }) => {
  const { page } = snug;
  await snug.load();
  const tabTo = async (name: RegExp): Promise<void> => {
    for (let presses = 0; presses < 60; presses += 1) {
      await page.keyboard.press('Tab');
      const label = await page.evaluate<string>(
        "(() => { const e = document.activeElement; const l = e.id ? document.querySelector(`label[for='${e.id}']`) : null; return e.getAttribute('aria-label') || l?.textContent || e.textContent || ''; })()",
      );
      if (name.test(label.trim())) return;
    }
    throw new Error(`Tab does not reach ${String(name)}`);
  };
  await tabTo(/^digits-vit/);
  await page.keyboard.press('Enter');
  await expect(page.getByRole('heading', { name: 'vit-b.onnx' })).toBeFocused();
  await tabTo(/^Budget$/);
  await page.keyboard.press('ControlOrMeta+a');
  await page.keyboard.type('4');
  await page.keyboard.press('Enter');
  await expect(page.getByText(/^Does not fit/)).toBeVisible();
  await tabTo(/^Adjust$/);
  await page.keyboard.press('Enter');
  await page.keyboard.press('ArrowRight');
  await tabTo(/^Pruned$/);
  await page.keyboard.press('PageUp');
  await expect(page.getByText(/% pruned/)).toBeVisible();
  await page.keyboard.press('Escape');
  await page.keyboard.press('Shift+Tab');
  await expect(page.getByRole('button', { name: 'Make it snug' })).toBeFocused();
  await page.keyboard.press('Enter');
  await expect(page.getByRole('heading', { name: 'vit-b.snug.onnx' })).toBeFocused();
  await tabTo(/^Show in folder$/);
});

test('under reduced motion nothing moves', async ({ snug }) => {
  const { page } = snug;
  await page.emulateMedia({ reducedMotion: 'reduce' });
  await snug.load();
  await snug.openSample();
  await snug.openDrawer('Prune');
  await page.getByRole('slider', { name: 'Pruned' }).fill('30');
  expect(await page.evaluate('document.getAnimations().length')).toBe(0);
});

for (const [name, go] of Object.entries(screens)) {
  if (name === 'adjust') continue;
  test(`${name} reflows at 320 px without sideways scrolling`, async ({ snug }) => {
    const { page } = snug;
    await page.setViewportSize({ width: 320, height: 640 });
    await snug.load();
    await expect(page.locator('.memory-bar')).toBeVisible();
    await go(snug);
    expect(await page.evaluate('document.documentElement.scrollWidth')).toBeLessThanOrEqual(320);
  });
}

test('the drawer reflows at 320 px on every tab', async ({ snug }) => {
  const { page } = snug;
  await page.setViewportSize({ width: 320, height: 640 });
  await snug.load();
  await snug.openSample();
  await snug.setBudget(4);
  await snug.openDrawer();
  for (const tab of await page.getByRole('tab').all()) {
    await tab.click();
    expect(await page.evaluate('document.documentElement.scrollWidth')).toBeLessThanOrEqual(320);
  }
});

test('every target is at least 24 pixels', async ({ snug }) => {
  const { page } = snug;
  await snug.load();
  await snug.openSample();
  await snug.setBudget(4);
  // What the new budget changes on the page comes before the targets are counted.
  await expect(page.getByText(/^Does not fit/)).toBeVisible();
  await snug.openDrawer();
  for (const tab of await page.getByRole('tab').all()) {
    await tab.click();
    // A radio's or check box's target is its label.
    for (const target of await page
      .locator('button:visible, select:visible, summary:visible, label:has(input):visible')
      .all()) {
      const box = await target.boundingBox();
      const what = (await target.innerText()) || (await target.getAttribute('aria-label'));
      expect(Math.min(box?.width ?? 0, box?.height ?? 0), what ?? '').toBeGreaterThanOrEqual(24);
    }
  }
});
