import type { PlanRequest } from '../../src/contract/types.js';
import { expect, test } from './fixtures.js';
import { noGpu } from './scenario.js';

test('the speed of batch sizes is measured on demand; the knee is marked and taken', async ({ snug }) => {
  const { page } = snug;
  await snug.load();
  await snug.openSample();
  await snug.setBudget(4);
  await snug.openDrawer('Batch');
  await expect(page.getByText(/^How fast each size is can only be measured: .* on CUDA\.$/)).toBeVisible();
  await page.getByRole('button', { name: 'Measure the speed' }).click();
  await expect(page.getByText(/^The knee is batch 16: 9\d% of the speed of batch 32/)).toBeVisible();
  await expect(page.getByText(/^Measured on CUDA with the model as it is/)).toBeVisible();
  await expect(page.getByRole('img', { name: /knee is at batch 16 with 818\.$/ })).toBeVisible();
  await page.getByRole('button', { name: 'Use 16', exact: true }).first().click();
  await expect(page.getByRole('spinbutton', { name: 'Batch' })).toHaveValue('16');
  expect(((await snug.calls('plan')).at(-1)?.args[0] as PlanRequest).pins.batch).toBe(16);
  await expect(page.getByRole('button', { name: 'Use 16', exact: true })).toBeHidden();
  // A smaller budget leaves fewer sizes, and another knee, without another run.
  await snug.setBudget(1.5);
  await expect(page.getByText(/^The knee is batch [48]/)).toBeVisible();
  expect(await snug.calls('measureBatches')).toHaveLength(1);
  await page.getByText('Show as a table').nth(1).click();
  await expect(page.getByRole('row', { name: /^64 / })).toContainText('878');
  await page.getByRole('button', { name: 'Use 64' }).click();
  await expect(page.getByRole('spinbutton', { name: 'Batch' })).toHaveValue('64');
});

test('a click on either chart chooses the batch under it', async ({ snug }) => {
  const { page } = snug;
  await snug.load();
  await snug.openSample();
  await snug.openDrawer('Batch');
  const chart = page.getByRole('img', { name: /^Peak memory against batch size/ });
  const box = await chart.boundingBox();
  await chart.click({ position: { x: (box?.width ?? 0) - 6, y: 20 } });
  await expect(page.getByRole('spinbutton', { name: 'Batch' })).toHaveValue('128');
  await page.getByRole('button', { name: 'Measure the speed' }).click();
  const speed = page.getByRole('img', { name: /^Measured samples per second up to batch 64/ });
  await speed.click({ position: { x: 50, y: 100 } });
  await expect(page.getByRole('spinbutton', { name: 'Batch' })).toHaveValue('1');
});

test('measuring can be stopped and taken up again; what was measured stays', async ({ snug }) => {
  const { page } = snug;
  await snug.load({ sweepMs: 700, hardware: noGpu });
  await snug.openSample();
  await snug.openDrawer('Batch');
  await page.getByRole('button', { name: 'Measure the speed' }).click();
  await expect(page.getByText(/^Measuring: [2-6] of 7 sizes at most\.$/)).toBeVisible();
  await page.getByRole('button', { name: 'Stop measuring' }).click();
  await expect(page.getByRole('button', { name: 'Measure the speed' })).toBeVisible();
  await expect(page.getByText(/^The knee is batch/)).toBeVisible();
  expect(await snug.calls('stopMeasuringBatches')).toHaveLength(1);
});
