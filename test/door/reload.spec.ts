import { existsSync } from 'node:fs';
import path from 'node:path';
import { dropFiles, expect, keepPicture, models, test } from './fixtures.js';

const model = path.join(models, 'digits-mlp.onnx');

test.skip(!existsSync(model), 'the model collection is not beside this checkout');

test('a training goes on through a reload and is there in a second window, and so is its result', async ({
  app,
  complaints,
}) => {
  await dropFiles(app, [model]);
  await app.locator('#train-button').click();
  await app.locator('input[type=file]').nth(0).setInputFiles(path.join(models, 'digits-train.npy'));
  await expect(app.getByText(/^digits-train\.npy, [\d,]+ samples$/u)).toBeVisible();
  await app.locator('input[type=file]').nth(1).setInputFiles(path.join(models, 'digits-train-labels.npy'));
  await expect(app.getByText(/^Fits: training needs about/u)).toBeVisible();
  await app.getByRole('spinbutton', { name: 'Epochs' }).fill('5000');
  await app.keyboard.press('Enter');
  // A window that was there before the training began, on the same model.
  const other = await app.context().newPage();
  await other.goto(new URL('/', app.url()).href);
  await other.getByRole('button', { name: /digits-mlp\.onnx Fits/u }).click();
  await other.locator('#train-button').click();
  await other.locator('input[type=file]').nth(0).setInputFiles(path.join(models, 'digits-train.npy'));
  await expect(other.getByText(/^digits-train\.npy, [\d,]+ samples$/u)).toBeVisible();
  await other.locator('input[type=file]').nth(1).setInputFiles(path.join(models, 'digits-train-labels.npy'));
  await expect(other.getByRole('button', { name: 'Start training' })).toBeEnabled();

  await app.getByRole('button', { name: 'Start training' }).click();
  await expect(app.getByText(/^Epoch [3-9]\d* of 5,000$/u)).toBeVisible();
  await app.reload();
  await expect(app.getByRole('heading', { name: 'Training digits-mlp.onnx' })).toBeVisible();
  await expect(app.getByText(/^Epoch (?:[3-9]|\d\d+) of 5,000$/u)).toBeVisible();
  await expect(app.getByRole('img', { name: /^Loss over \d/u })).toBeVisible();
  await keepPicture(app, 'door-reload-training');

  // Refused there, since one runs: that one is shown.
  await other.getByRole('button', { name: 'Start training' }).click();
  await expect(other.getByRole('main').getByText('A training was running already. This is it.')).toBeVisible();
  await expect(other.getByText(/^Epoch \d+ of 5,000$/u)).toBeVisible();
  await other.close();

  await app.getByRole('button', { name: 'Stop and keep the best' }).click();
  await expect(app.getByText(/^Stopped\. The best weights so far were kept\./u)).toBeVisible();
  await app.reload();
  await expect(app.getByText(/^Stopped\. The best weights so far were kept\./u)).toBeVisible();
  const saved = app.waitForEvent('download');
  await app.getByRole('button', { name: 'Download the model' }).click();
  expect((await saved).suggestedFilename()).toBe('digits-mlp.trained.onnx');
  // The files and settings are still those it was started with.
  await app.getByRole('button', { name: 'Train again' }).click();
  await expect(app.getByText(/^digits-train-labels\.npy/u).first()).toBeVisible();
  await expect(app.getByRole('spinbutton', { name: 'Epochs' })).toHaveValue('5000');
  // What was put away does not come back.
  await app.reload();
  await expect(app.getByRole('button', { name: 'Choose a file' })).toBeVisible();
  expect(complaints).toEqual([]);
});

test('a measurement and a fit go on through a reload', async ({ app, complaints }) => {
  await dropFiles(app, [path.join(models, 'digits-vit.onnx')]);
  await app.getByRole('combobox', { name: 'Unit' }).selectOption('MB');
  await app.getByRole('spinbutton', { name: 'Budget' }).fill('6');
  await app.getByRole('spinbutton', { name: 'Budget' }).press('Tab');
  await app.locator('#adjust-button').click();
  await app.getByRole('tab', { name: 'Batch' }).click();
  await app.getByRole('button', { name: 'Measure the speed' }).click();
  await expect(app.getByRole('button', { name: 'Stop measuring' })).toBeVisible();
  await app.reload();
  await expect(app.getByRole('heading', { name: 'digits-vit.onnx' })).toBeVisible();
  await expect(app.getByRole('tab', { name: 'Batch' })).toHaveAttribute('aria-selected', 'true');
  await app.getByRole('button', { name: 'Stop measuring' }).click();
  await expect(app.getByRole('button', { name: 'Measure the speed' })).toBeVisible();

  await expect(app.getByRole('spinbutton', { name: 'Budget' }).first()).toHaveValue('6');
  await app.getByRole('button', { name: 'Make it snug' }).click();
  await expect(app.getByRole('progressbar')).toBeVisible();
  await app.reload();
  await expect(app.getByRole('heading', { name: /digits-vit\.onnx/u })).toBeVisible();
  await expect(app.getByRole('progressbar')).toBeVisible();
  await app.getByRole('button', { name: 'Stop' }).click();
  await expect(app.getByText(/^Stopped\. /u).first()).toBeVisible();
  expect(complaints).toEqual([]);
});
