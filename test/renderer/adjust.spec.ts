import type { PlanRequest } from '../../src/contract/types.js';
import { expect, test, type Screen } from './fixtures.js';

async function lastPins(snug: Screen): Promise<PlanRequest['pins'] | undefined> {
  return ((await snug.calls('plan')).at(-1)?.args[0] as PlanRequest | undefined)?.pins;
}

test.beforeEach(async ({ snug }) => {
  await snug.load();
  await snug.openSample();
  await snug.setBudget(4);
});

test('pruning is set by slider and by number, pinned, and given back', async ({ snug }) => {
  const { page } = snug;
  await snug.openDrawer('Prune');
  const slider = page.getByRole('slider', { name: 'Pruned' });
  await slider.fill('40');
  await expect.poll(() => lastPins(snug)).toMatchObject({ pruneRatio: 0.4 });
  await expect(page.getByText(/40% pruned/)).toBeVisible();
  await page.getByRole('button', { name: 'Pruned: more' }).click();
  await expect(slider).toHaveValue('45');
  await expect(page.getByRole('tab', { name: 'Prune Set by you' })).toBeVisible();
  await page.getByRole('spinbutton', { name: 'Hidden width of encoder.layer.0.mlp.fc1', exact: true }).fill('1000');
  await page.keyboard.press('Enter');
  await expect.poll(() => lastPins(snug)).toMatchObject({ pruneRatio: 0.45, classes: { c0: 1000 } });
  await page.getByRole('button', { name: 'Let Snug choose Pruned' }).click();
  await expect.poll(async () => (await lastPins(snug))?.pruneRatio).toBeUndefined();
  await page.getByRole('button', { name: 'Back to Snug’s choice' }).click();
  await expect(page.getByText('Set by you')).toHaveCount(0);
});

test('one width is pinned by keyboard on its bar, and given back alone', async ({ snug }) => {
  const { page } = snug;
  await snug.openDrawer('Prune');
  const name = 'Hidden width of encoder.layer.1.mlp.fc1';
  const bar = page.getByRole('slider', { name });
  await bar.focus();
  await page.keyboard.press('ArrowLeft');
  await expect.poll(() => lastPins(snug)).toMatchObject({ classes: { c1: 3064 } });
  await expect(bar).toHaveAttribute('aria-valuetext', '3,064 of 3,072');
  await page.getByRole('slider', { name: 'Hidden width of encoder.layer.2.mlp.fc1' }).fill('100');
  await expect.poll(() => lastPins(snug)).toMatchObject({ classes: { c1: 3064, c2: 800 } });
  await page.getByRole('button', { name: `Let Snug choose ${name}` }).click();
  await expect.poll(async () => (await lastPins(snug))?.classes).toEqual({ c2: 800 });
  await page.getByRole('button', { name: 'Let Snug choose Width per group' }).click();
  await expect.poll(async () => (await lastPins(snug))?.classes).toBeUndefined();
});

test('widths that the ratio leaves alone are there, with the layers they join', async ({ snug }) => {
  const { page } = snug;
  await snug.openDrawer('Prune');
  await expect(page.getByText('read by encoder.layer.0.mlp.fc2')).toBeVisible();
  await page.getByText('4 more that only shrink when you set them').click();
  const heads =
    'Attention heads of encoder.layer.0.attention.query, encoder.layer.0.attention.key, encoder.layer.0.attention.value';
  await page.getByRole('slider', { name: heads }).fill('9');
  await expect.poll(() => lastPins(snug)).toMatchObject({ classes: { h0: 9 } });
});

test('what needs samples says so', async ({ snug }) => {
  await snug.openDrawer('Prune');
  await expect(snug.page.getByRole('radio', { name: /Least active first/ })).toBeDisabled();
  await snug.page.getByRole('radio', { name: /Random/ }).check();
  await expect.poll(() => lastPins(snug)).toMatchObject({ pruneMethod: 'random' });
});

test('a format is chosen from the table; one that cannot work is greyed with the reason', async ({ snug }) => {
  const { page } = snug;
  await snug.openDrawer('Numbers');
  await expect(page.getByRole('radio', { name: '8-bit dynamic' })).toBeDisabled();
  await expect(page.getByText('Runs on the CPU under CUDA, so nothing would stay on the GPU.')).toBeVisible();
  await page.getByRole('radio', { name: '4-bit weights', exact: true }).check();
  await expect.poll(() => lastPins(snug)).toMatchObject({ dtype: 'int4' });
  await page.getByLabel('Format of encoder.layer.0.mlp.fc1.weight').selectOption('int8');
  await expect
    .poll(() => lastPins(snug))
    .toMatchObject({ dtype: 'int4', weights: { 'encoder.layer.0.mlp.fc1.weight': 'int8' } });
  await page.getByRole('radio', { name: 'Snug’s choice' }).check();
  await expect.poll(async () => (await lastPins(snug))?.dtype).toBeUndefined();
});

test('the batch slider doubles, and the number field takes any batch', async ({ snug }) => {
  const { page } = snug;
  await snug.openDrawer('Batch');
  const field = page.getByRole('spinbutton', { name: 'Batch' });
  await field.fill('24');
  await field.press('Enter');
  await expect.poll(() => lastPins(snug)).toMatchObject({ batch: 24 });
  await expect(page.getByText(/^Largest that fits:/)).toBeVisible();
  await page.getByRole('slider', { name: 'Batch' }).press('ArrowRight');
  await expect.poll(async () => (await lastPins(snug))?.batch ?? 0).toBeGreaterThan(24);
});

test('a plan of the trade-off is taken over as the budget', async ({ snug }) => {
  const { page } = snug;
  await snug.openDrawer('Trade-off');
  await expect(page.getByRole('img', { name: /plans by peak memory and quality; the chosen one is/ })).toBeVisible();
  await page.getByText('Show as a table').click();
  const use = page.getByRole('button', { name: /^Use 3\.\d+ GB$/ }).first();
  await use.click();
  await expect(page.getByRole('button', { name: /Set by you/ }).first()).toBeVisible();
  await expect
    .poll(async () => ((await snug.calls('plan')).at(-1)?.args[0] as PlanRequest).budgetBytes)
    .toBeLessThan(3.4e9);
});

test('a point of the trade-off chart is clicked', async ({ snug }) => {
  const { page } = snug;
  await snug.openDrawer('Trade-off');
  const canvas = page.locator('.drawer canvas');
  const box = await canvas.boundingBox();
  if (box === null) throw new Error('The chart is not drawn.');
  const asked = (await snug.calls('plan')).length;
  await canvas.click({ position: { x: box.width * 0.35, y: box.height * 0.5 } });
  await expect.poll(async () => (await snug.calls('plan')).length).toBeGreaterThan(asked);
});

test('every chart has a sentence with numbers and the same data as a table', async ({ snug }) => {
  const { page } = snug;
  await snug.openDrawer();
  for (const tab of ['Memory', 'Prune', 'Batch', 'Trade-off']) {
    await page.getByRole('tab', { name: tab }).click();
    for (const figure of await page.locator('.drawer figure').all()) {
      await expect(figure.getByRole('img')).toHaveAttribute('aria-label', /\d/);
      await figure.getByText('Show as a table').click();
      await expect.poll(() => figure.getByRole('row').count()).toBeGreaterThan(3);
    }
  }
});

test('the drawer closes by Escape and gives the focus back', async ({ snug }) => {
  const { page } = snug;
  await snug.openDrawer();
  await expect(page.getByRole('tab', { name: 'Memory' })).toBeFocused();
  await page.keyboard.press('ArrowRight');
  await expect(page.getByRole('tab', { name: 'Prune' })).toBeFocused();
  await expect(page.getByRole('tab', { name: 'Prune' })).toHaveAttribute('aria-selected', 'true');
  await page.keyboard.press('Escape');
  await expect(page.locator('#adjust-button')).toBeFocused();
});
