import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { dropFiles, expect, keepPicture, models, test } from './fixtures.js';

const model = path.join(models, 'digits-resnet.onnx');

test('a device is calibrated, its estimates rest on that, and a run is watched and remembered', async ({
  app,
  door,
  complaints,
}) => {
  test.skip(!existsSync(model), 'the model collection is not beside this checkout');
  test.slow();

  await test.step('calibrate this computer', async () => {
    // It runs models of its own; nothing about the model to come is needed for it.
    await app.getByRole('button', { name: 'Calibrate now' }).click();
    await expect(app.getByText(/^Calibrated for .* estimates within ±\d/u)).toBeVisible({ timeout: 120_000 });
    await keepPicture(app, 'door-calibrated');
  });

  await test.step('the plan says so, part by part', async () => {
    await dropFiles(app, [model]);
    await expect(app.getByRole('heading', { name: /digits-resnet\.onnx/u })).toBeVisible();
    await app.locator('#adjust-button').click();
    const worked = app.getByRole('region', { name: 'How we worked this out' });
    await expect(worked.getByText(/learned from 3 test models on this machine/u)).toBeVisible();
    await expect(worked.getByRole('row', { name: /^Weights/u })).toContainText(/\d\s[kM]B/u);
    await expect(app.getByRole('slider', { name: 'Step of the run' })).toHaveAttribute('aria-valuetext', /^Step \d/u);
    await expect(app.getByText(/^No model has run here yet/u)).toBeVisible();
    await keepPicture(app, 'door-memory');
    await app.keyboard.press('Escape');
  });

  await test.step('a run is watched', async () => {
    await app.getByRole('combobox', { name: 'Unit' }).first().selectOption('MB');
    await app.getByRole('spinbutton', { name: 'Budget' }).first().fill('3');
    await app.getByRole('spinbutton', { name: 'Budget' }).first().press('Tab');
    await app.getByRole('button', { name: 'Make it snug' }).click();
    await expect(app.getByRole('heading', { name: 'Memory while it runs' })).toBeVisible();
    await expect(app.locator('.result')).toBeVisible({ timeout: 180_000 });
  });

  await test.step('and remembered, by name and number only', async () => {
    await expect(app.getByText(/^On this machine: \d+ runs?, /u)).toBeVisible();
    await app.getByText('Show the runs').click();
    await expect(app.getByRole('row', { name: /^digits-resnet\.onnx/u }).first()).toBeVisible();
    await keepPicture(app, 'door-record');
    const kept = readFileSync(path.join(door.folder, 'settings', 'accuracy.json'), 'utf8');
    expect(kept).not.toContain(door.folder);
    await app.getByRole('button', { name: 'Clear the record' }).click();
    await app.getByRole('button', { name: 'Clear', exact: true }).click();
    await expect(app.getByText(/^No model has run here yet/u)).toBeVisible();
  });
  expect(complaints).toEqual([]);
});
