import { existsSync } from 'node:fs';
import path from 'node:path';
import { dropFiles, expect, keepPicture, models, test } from './fixtures.js';

const model = path.join(models, 'digits-mlp.onnx');

test.skip(!existsSync(model), 'the model collection is not beside this checkout');

test('a model is trained on labels, stopped with its best weights, and goes on', async ({ app, complaints }) => {
  await dropFiles(app, [model]);
  await app.locator('#train-button').click();
  await app.locator('input[type=file]').nth(0).setInputFiles(path.join(models, 'digits-train.npy'));
  await expect(app.getByText(/^digits-train\.npy, [\d,]+ samples$/u)).toBeVisible();
  await app.locator('input[type=file]').nth(1).setInputFiles(path.join(models, 'digits-calibration.npy'));
  await expect(app.getByRole('alert')).toContainText(/labels for .* samples/u);
  await app.getByRole('button', { name: 'Dismiss' }).click();
  await app.locator('input[type=file]').nth(1).setInputFiles(path.join(models, 'digits-train-labels.npy'));
  await expect(app.getByText(/^Fits: training needs about/u)).toBeVisible();
  await app.getByRole('spinbutton', { name: 'Epochs' }).fill('5000');
  await app.keyboard.press('Enter');
  await expect(app.getByRole('button', { name: 'Start training' })).toBeEnabled();
  await keepPicture(app, 'door-training');
  await app.getByRole('button', { name: 'Start training' }).click();
  await expect(app.getByText(/^Epoch [2-9]\d* of 5,000$/u)).toBeVisible();
  await keepPicture(app, 'door-training-runs');
  await app.getByRole('button', { name: 'Stop and keep the best' }).click();
  await expect(app.getByText(/^Stopped\. The best weights so far were kept\./u)).toBeVisible();
  await expect(app.getByRole('row', { name: /^Right answers/u })).toContainText('%');
  await keepPicture(app, 'door-training-result');

  const saved = app.waitForEvent('download');
  await app.getByRole('button', { name: 'Download the model' }).click();
  // The checkpoint lies beside it and is none of the user's business.
  expect((await saved).suggestedFilename()).toBe('digits-mlp.trained.onnx');

  await app.getByRole('button', { name: 'Train again' }).click();
  await expect(app.getByText('digits-mlp.trained.onnx was not trained to its end')).toBeVisible();
  await app.getByRole('button', { name: 'Go on' }).click();
  await expect(app.getByText(/^Epoch \d+ of 5,000$/u)).toBeVisible();
  await app.getByRole('button', { name: 'Stop and keep the best' }).click();
  await app.getByRole('button', { name: 'Plan with this model' }).click();
  await expect(app.getByRole('heading', { name: 'digits-mlp.trained.onnx' })).toBeVisible();
  expect(complaints).toEqual([]);
});

test('the speed of batch sizes is really measured', async ({ app, complaints }) => {
  await dropFiles(app, [model]);
  await app.locator('#adjust-button').click();
  await app.getByRole('tab', { name: 'Batch' }).click();
  await app.getByRole('button', { name: 'Measure the speed' }).click();
  await expect(app.getByText(/^Measured on .* with the model as it is/u)).toBeVisible({ timeout: 100_000 });
  await expect(app.getByText(/^The knee is batch \d+/u)).toBeVisible();
  await keepPicture(app, 'door-batch');
  expect(complaints).toEqual([]);
});
