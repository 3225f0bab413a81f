import { createHash } from 'node:crypto';
import { existsSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import * as ort from 'onnxruntime-node';
import { dropFiles, expect, keepPicture, models, test } from './fixtures.js';

const model = path.join(models, 'digits-mlp.onnx');
const samples = path.join(models, 'digits-calibration.npy');
const hash = (file: string) => createHash('sha256').update(readFileSync(file)).digest('hex');

test.skip(!existsSync(model), 'the model collection is not beside this checkout');

test('a dropped model is made snug, saved, loads in plain onnxruntime and opens again', async ({
  app,
  door,
  complaints,
}) => {
  const before = hash(model);
  let readings = 0;
  app.on('request', (request) => (readings += Number(request.url().endsWith('/api/hardware'))));
  await expect(app).toHaveURL(/^http:\/\/127\.0\.0\.1:\d+\/$/u);

  await test.step('drop the model', async () => {
    await expect(app.getByText(/GB free now/u).first()).toBeVisible();
    await dropFiles(app, [model]);
    await expect(app.getByRole('heading', { name: /digits-mlp\.onnx/u })).toBeVisible();
    await expect(app.getByText(/Fits as it is/u).first()).toBeVisible();
  });

  // Free memory moves all the time; a page that keeps asking would move the budget under the user's hand.
  expect(readings).toBeLessThanOrEqual(1);

  await test.step('drop samples on the plan', async () => {
    await dropFiles(app, [samples]);
    await expect(app.getByRole('heading', { name: '100 samples from digits-calibration.npy' })).toBeVisible();
  });

  await test.step('a third of the memory, one button', async () => {
    await app.getByRole('combobox', { name: 'Unit' }).selectOption('kB');
    await app.getByRole('spinbutton', { name: 'Budget' }).fill('600');
    await app.getByRole('spinbutton', { name: 'Budget' }).press('Tab');
    await expect(app.getByText(/Snug would make it fit/u)).toBeVisible();
    await keepPicture(app, 'door-plan');
    await app.getByRole('button', { name: 'Make it snug' }).click();
    await expect(app.getByRole('button', { name: 'Download the model' })).toBeVisible({ timeout: 90_000 });
    await expect(app.getByText(/^Fits: .* measured, .* allowed\.$/u)).toBeVisible();
    await keepPicture(app, 'door-result');
  });

  const saved = path.join(door.folder, 'digits-mlp.snug.onnx');
  await test.step('save it and load it in plain onnxruntime', async () => {
    const [download] = await Promise.all([
      app.waitForEvent('download'),
      app.getByRole('button', { name: 'Download the model' }).click(),
    ]);
    expect(download.suggestedFilename()).toMatch(/\.onnx$/u);
    await download.saveAs(saved);
    expect(statSync(saved).size).toBeLessThan(statSync(model).size);
    const session = await ort.InferenceSession.create(saved);
    const input = new ort.Tensor('float32', new Float32Array(4 * 64).fill(0.5), [4, 1, 8, 8]);
    const { output } = await session.run({ input });
    expect(output?.dims).toEqual([4, 10]);
    expect([...(output?.data as Float32Array)].every(Number.isFinite)).toBe(true);
  });

  await test.step('drop the smaller model again', async () => {
    await app.getByRole('button', { name: 'Start again' }).click();
    await expect(app.getByRole('button', { name: /digits-mlp\.onnx/u }).first()).toBeVisible();
    await dropFiles(app, [saved]);
    await expect(app.getByRole('heading', { name: /digits-mlp\.snug\.onnx/u })).toBeVisible();
  });

  expect(hash(model)).toBe(before);
  expect(complaints).toEqual([]);
});

test('a model dropped while the memory is still being read is judged by what was read', async ({ door, page }) => {
  let release: () => void = () => undefined;
  const read = new Promise<void>((resolve) => (release = resolve));
  await page.route('**/api/hardware', async (route) => {
    await read;
    await route.continue();
  });
  await page.goto(door.url);
  await expect(page.getByRole('button', { name: 'Choose a file' })).toBeVisible();
  const opened = page.waitForResponse('**/api/openFiles');
  await dropFiles(page, [model]);
  await opened;
  release();
  await expect(page.getByText(/Fits as it is/u).first()).toBeVisible();
});
