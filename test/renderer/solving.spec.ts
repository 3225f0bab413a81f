import type { PlanRequest } from '../../src/contract/types.js';
import { expect, test } from './fixtures.js';

test('a slow engine is asked one thing at a time and the last wish wins', async ({ snug }) => {
  const { page } = snug;
  await snug.load({ planDelayMs: 120 });
  await snug.openSample();
  await snug.openDrawer('Prune');
  const slider = page.getByRole('slider', { name: 'Pruned' });
  const before = (await snug.calls('plan')).length;
  for (let value = 1; value <= 40; value += 1) await slider.fill(String(value));
  await expect.poll(async () => ((await snug.calls('plan')).at(-1)?.args[0] as PlanRequest).pins.pruneRatio).toBe(0.4);
  await expect(page.getByText(/40% pruned/)).toBeVisible();
  // Forty moves while an answer takes 120 ms: far fewer questions than moves, and the control never lags.
  expect((await snug.calls('plan')).length - before).toBeLessThan(30);
  await expect(slider).toHaveValue('40');
});

test('an answer about the model before is dropped', async ({ snug }) => {
  const { page } = snug;
  await snug.load({ planDelayMs: 300 });
  await page.locator('.samples button').first().click();
  await expect(page.getByRole('heading', { name: /^Opening digits-vit/ })).toBeVisible();
  await expect(page.locator('.plan .card')).toBeVisible();
  await snug.setBudget(4);
  await page.getByRole('button', { name: 'Another model' }).click();
  await snug.openSample();
  // The budget of the model before is not carried over, and its late answer does not come back.
  await expect(page.getByText(/^Fits as it is/)).toBeVisible();
  await page.waitForTimeout(400);
  await expect(page.getByText(/^Fits as it is/)).toBeVisible();
});
