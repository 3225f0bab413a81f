import type { PlanRequest } from '../../src/contract/types.js';
import { expect, test, type Screen } from './fixtures.js';

const pins = async (snug: Screen): Promise<PlanRequest['pins']> =>
  ((await snug.calls('plan')).at(-1)?.args[0] as PlanRequest).pins;

test('formats stand beside each other with memory, file, damage and speed; the false ones say why', async ({
  snug,
}) => {
  const { page } = snug;
  await snug.load();
  await snug.openSample();
  await snug.setBudget(4);
  await snug.openDrawer('Numbers');
  const row = page.getByRole('row', { name: /8-bit calibrated/ }).first();
  await expect(row).toContainText('moderate (33 dB)');
  await expect(row).toContainText('faster');
  await expect(page.getByRole('row', { name: /^4-bit weights/ }).first()).toContainText('not known');
  const refused = page.getByRole('row', { name: /^8-bit dynamic/ });
  await expect(refused).toContainText('Runs on the CPU under CUDA');
  await expect(refused.getByRole('radio')).toBeDisabled();
});

test('a point of the front chooses a mix; one format for all takes its place, and back', async ({ snug }) => {
  const { page } = snug;
  await snug.load();
  await snug.openSample();
  await snug.setBudget(4);
  await snug.openDrawer('Numbers');
  const chart = page.getByRole('img', {
    name: /^10 mixes of formats from [\d.]+\sMB to [\d.]+\sMB; none is chosen\.$/,
  });
  await expect(chart).toBeVisible();
  const box = await chart.boundingBox();
  await chart.click({ position: { x: (box?.width ?? 0) / 2, y: (box?.height ?? 0) / 2 } });
  await expect(page.getByText(/^Chosen: [\d.]+\sMB, 8-bit weights for \d+%, 4-bit weights for \d+%\.$/)).toBeVisible();
  expect((await pins(snug)).weightBytes).toBeGreaterThan(0);
  await page.getByText('Show as a table').first().click();
  await page.getByRole('button', { name: /^Use / }).first().click();
  await expect(page.getByText(/^Chosen: [\d.]+\sMB, 4-bit weights everywhere\.$/)).toBeVisible();
  await page.getByRole('radio', { name: '8-bit weights' }).check();
  await expect.poll(async () => (await pins(snug)).dtype).toBe('int8');
  expect((await pins(snug)).weightBytes).toBeUndefined();
  await page.getByRole('radio', { name: 'Snug’s choice' }).check();
  await expect.poll(async () => Object.keys(await pins(snug))).toEqual(['provider']);
});

test('the map shows which weights do the damage, and the table says how much', async ({ snug }) => {
  const { page } = snug;
  await snug.load();
  await snug.openSample();
  await snug.openDrawer('Numbers');
  await page.getByRole('radio', { name: '8-bit weights' }).check();
  await expect(page.getByText('Error each weight adds')).toBeVisible();
  await page.getByText('Show as a table').nth(1).click();
  await expect(page.getByRole('columnheader', { name: 'Error it adds' })).toBeVisible();
  await expect(page.getByRole('row', { name: /layer\.0\.mlp\.fc2\.weight/ }).first()).toContainText('2.00%');
});
