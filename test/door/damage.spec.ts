import { existsSync } from 'node:fs';
import path from 'node:path';
import { dropFiles, expect, keepPicture, models, test } from './fixtures.js';

const file = (name: string): string => path.join(models, name);

test.skip(!existsSync(file('digits-mlp.onnx')), 'the model collection is not beside this checkout');

test('samples and labels say what a fit cost, by measure and by layer', async ({ app, complaints }) => {
  await dropFiles(app, [file('digits-mlp.onnx')]);
  await expect(app.getByText(/Fits as it is/u).first()).toBeVisible();
  await expect(app.getByRole('button', { name: 'Add labels' })).toHaveCount(0);
  await dropFiles(app, [file('digits-test.npy')]);
  await expect(app.getByRole('button', { name: 'Add labels' })).toBeVisible();

  await app.locator('#attach-labels').setInputFiles(file('digits-train-labels.npy'));
  await expect(app.getByRole('alert')).toContainText(/labels|shape/iu);
  await app.locator('#attach-labels').setInputFiles(file('digits-test-labels.npy'));
  await expect(app.getByText('Right answers will be counted with digits-test-labels.npy.').first()).toBeVisible();

  await app.getByRole('combobox', { name: 'Unit' }).selectOption('kB');
  await app.getByRole('spinbutton', { name: 'Budget' }).fill('500');
  await app.getByRole('spinbutton', { name: 'Budget' }).press('Tab');
  await app.getByRole('button', { name: 'Make it snug' }).click();
  const cost = app.getByRole('region', { name: 'What it cost' });
  await expect(cost).toBeVisible({ timeout: 90_000 });
  await expect(cost.getByText(/^Damage: \w+\./u)).toBeVisible();
  await expect(
    cost.getByRole('row', { name: /^Right answers [\d.]+% → [\d.]+% on \d+ labelled samples$/u }),
  ).toBeVisible();
  await expect(cost.getByRole('row', { name: /^Same answer \(top 1\) [\d.]+% \w+$/u })).toBeVisible();
  await expect(cost.getByRole('row', { name: /^KL divergence .* nats \w+$/u })).toBeVisible();
  await expect(cost.getByRole('row', { name: /^Output to error \(SQNR\) [\d.]+\sdB \w+$/u })).toBeVisible();
  await expect(cost.getByRole('row', { name: /^Cosine similarity (?:>\s)?\d\.\d{5}/u })).toBeVisible();
  await cost.getByText('Layer by layer').click();
  await expect(cost.getByRole('img', { name: /^Output to error over 3 layers; the lowest is/u })).toBeVisible();
  await keepPicture(app, 'door-damage');
  expect(complaints).toEqual([]);
});
