import { existsSync } from 'node:fs';
import path from 'node:path';
import { dropFiles, expect, keepPicture, models, test } from './fixtures.js';

const model = path.join(models, 'digits-vit.onnx');

test.skip(!existsSync(model), 'the model collection is not beside this checkout');

test('what pruning does is measured on the samples, while plans go on', async ({ app, complaints }) => {
  await dropFiles(app, [model]);
  await expect(app.getByRole('heading', { name: /digits-vit\.onnx/u })).toBeVisible();
  await app.locator('#adjust-button').click();
  await app.getByRole('tab', { name: 'Prune' }).click();
  await expect(app.getByText(/^Expected from the weights alone\. Attach samples/u)).toBeVisible();

  await dropFiles(app, [path.join(models, 'digits-calibration.npy')]);
  await expect(app.getByText(/^Measuring on your samples/u)).toBeVisible();
  const slider = app.getByRole('slider', { name: 'Pruned' });
  await slider.fill('30');
  await expect(app.getByText(/of answers the same, measured$/u)).toBeVisible({ timeout: 100_000 });
  // Two ratios are enough to see; the rest need not be waited for.
  await expect(app.getByText(/^Measuring on your samples: [2-7] of 8 ratios\.$/u)).toBeVisible({ timeout: 100_000 });
  await app.getByRole('button', { name: 'Stop measuring' }).click();
  await expect(app.getByText(/^Measured at [2-7] of \d ratios, then stopped\.$/u)).toBeVisible();
  await expect(app.getByRole('img', { name: /^Measured error of the answers/u })).toHaveAttribute(
    'aria-label',
    /at 30%/u,
  );
  await keepPicture(app, 'door-prune');
  expect(complaints).toEqual([]);
});
