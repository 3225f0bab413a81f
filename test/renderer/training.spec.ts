import { AxeBuilder } from '@axe-core/playwright';
import type { Page } from '@playwright/test';
import type { TrainingRequest } from '../../src/contract/training.js';
import { interrupted, type FakeTraining } from './fake-training.js';
import { expect, test, type Screen } from './fixtures.js';
import { failure } from './scenario.js';

async function noSeriousViolations(page: Page): Promise<void> {
  const { violations } = await new AxeBuilder({ page })
    .withTags(['wcag2a', 'wcag2aa', 'wcag21aa', 'wcag22aa'])
    .analyze();
  const serious = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
  expect(serious.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(' ')}`)).toEqual([]);
}

const file = (name: string) => ({ name, mimeType: 'application/octet-stream', buffer: Buffer.from('x') });

/** The training screen of a model, with samples and labels chosen. */
async function ready(snug: Screen, scenario: Parameters<Screen['load']>[0] = {}): Promise<void> {
  const { page } = snug;
  await snug.load(scenario);
  await snug.openSample();
  await page.locator('#train-button').click();
  await expect(page.locator('#choose-data')).toBeVisible();
  await page.locator('input[type=file]').nth(0).setInputFiles(file('train.npy'));
  await expect(page.getByText(/^train\.npy/)).toBeVisible();
  await page.locator('input[type=file]').nth(1).setInputFiles(file('train-labels.npy'));
  await expect(page.getByText(/^train-labels\.npy/)).toBeVisible();
}

const start = (page: Page) => page.getByRole('button', { name: 'Start training' });

test('samples, labels and memory come before the start; the run tells its loss; the result is a file', async ({
  snug,
}) => {
  const { page } = snug;
  await snug.load();
  await snug.openSample();
  await page.getByRole('button', { name: 'Train…' }).click();
  await expect(page.getByRole('heading', { name: 'Train vit-b.onnx' })).toBeFocused();
  await expect(page.getByText('Add samples to see what training will need.')).toBeVisible();
  await expect(page.getByText('Add samples to start.')).toBeVisible();
  await expect(start(page)).toBeDisabled();
  await page.locator('input[type=file]').nth(0).setInputFiles(file('train.npy'));
  await expect(page.getByText('train.npy, 1,000 samples')).toBeVisible();
  await expect(page.getByText(/^Fits: training needs about/)).toBeVisible();
  await expect(page.getByText('Add labels to start.')).toBeVisible();
  await expect(start(page)).toBeDisabled();
  await page.locator('input[type=file]').nth(1).setInputFiles(file('train-labels.npy'));
  await expect(page.getByText('train-labels.npy, 1,000 labels')).toBeVisible();
  await expect(page.getByText('290 updates: 900 samples to learn from, 100 held out.')).toBeVisible();

  await start(page).click();
  await expect(page.getByRole('heading', { name: 'Training vit-b.onnx' })).toBeFocused();
  await expect(page.getByRole('heading', { name: 'vit-b.trained.onnx' })).toBeFocused();
  await expect(page.getByText(/^Better: the loss is \d+% lower\.$/)).toBeVisible();
  await expect(page.getByText(/^Trained to the end\./)).toBeVisible();
  await expect(page.getByRole('row', { name: /^Right answers/ })).toContainText('points');
  await expect(page.getByRole('img', { name: /^Loss over 290 updates: training/ })).toBeVisible();
  const [call] = await snug.calls('startTraining');
  expect((call?.args[0] as TrainingRequest).choices).toMatchObject({ loss: 'cross-entropy', epochs: 10, batch: 32 });
  await page.getByRole('button', { name: 'Show in folder' }).click();
  expect((await snug.calls('saveOutput'))[0]?.args).toEqual(['training-1', 'model']);
  await page.getByRole('button', { name: 'Plan with this model' }).click();
  await expect(page.locator('.plan .card')).toBeVisible();
  expect((await snug.calls('openOutput'))[0]?.args).toEqual(['training-1']);
});

test('the micro-batch follows the budget, and what does not fit has a way out', async ({ snug }) => {
  const { page } = snug;
  await ready(snug);
  await expect(page.getByText('All 32 samples of an update run at once.')).toBeHidden();
  await expect(page.getByText(/^Each update adds up 2 runs of 16 samples/)).toBeVisible();
  const budget = page.locator('#training-budget');
  await budget.fill('3');
  await budget.press('Enter');
  await expect(page.getByText(/^Each update adds up \d+ runs of [48] samples/)).toBeVisible();
  await budget.fill('1');
  await budget.press('Enter');
  await expect(page.getByText(/^Does not fit: even one sample at a time needs/)).toBeVisible();
  await expect(start(page)).toBeDisabled();
  await page.getByRole('button', { name: 'Train biases and norms only' }).click();
  await expect(page.getByText(/^Fits: training needs about/)).toBeVisible();
  await expect(start(page)).toBeEnabled();
});

test('choices reach the training; each optimizer brings its own rate', async ({ snug }) => {
  const { page } = snug;
  await ready(snug);
  await page.getByRole('radio', { name: /^Low-rank adapters/ }).check();
  await page.getByRole('spinbutton', { name: 'Rank of the adapters' }).fill('8');
  await page.getByRole('button', { name: 'Epochs: more' }).click();
  await page.getByText('More settings').click();
  await expect(page.getByRole('spinbutton', { name: /^Learning rate/ })).toHaveValue('0.001');
  await page.getByLabel('Optimizer', { exact: true }).selectOption('sgd');
  await expect(page.getByRole('spinbutton', { name: /^Learning rate/ })).toHaveValue('0.01');
  await page.getByRole('button', { name: 'Learning rate: less' }).click();
  await page.getByLabel('Optimizer', { exact: true }).selectOption('adamw');
  await expect(page.getByRole('spinbutton', { name: /^Learning rate/ })).toHaveValue('0.005');
  await page.getByLabel('Stop early after').selectOption({ label: '3 epochs without getting better' });
  await start(page).click();
  await expect.poll(async () => (await snug.calls('startTraining')).length).toBe(1);
  const request = (await snug.calls('startTraining'))[0]?.args[0] as TrainingRequest;
  expect(request.choices).toMatchObject({
    trainable: 'adapters',
    adapterRank: 8,
    epochs: 11,
    optimizer: 'adamw',
    rate: 0.005,
    patience: 3,
  });
});

test('a teacher takes the place of labels', async ({ snug }) => {
  const { page } = snug;
  await ready(snug);
  await page.getByRole('radio', { name: /^The answers of another model/ }).check();
  await expect(page.locator('#choose-labels')).toBeHidden();
  await expect(page.getByText('Add a teacher to start.')).toBeVisible();
  await page.locator('input[type=file]').nth(1).setInputFiles(file('dense.onnx'));
  await expect(page.getByText('dense.onnx', { exact: true })).toBeVisible();
  await expect(start(page)).toBeEnabled();
});

test('files dropped on the window go where their names say', async ({ snug }) => {
  const { page } = snug;
  await snug.load();
  await snug.openSample();
  await page.locator('#train-button').click();
  const data = await page.evaluateHandle(
    "(() => { const d = new DataTransfer(); for (const n of ['digits_y.npy', 'digits_x.npy']) d.items.add(new File(['x'], n)); return d; })()",
  );
  await page.dispatchEvent('header', 'drop', { dataTransfer: data });
  await expect(page.getByText('digits_x.npy, 1,000 samples')).toBeVisible();
  await expect(page.getByText('digits_y.npy, 1,000 labels')).toBeVisible();
  await page.dispatchEvent('[aria-labelledby=training-data]', 'drop', { dataTransfer: data });
  await expect.poll(async () => (await snug.calls('attachTraining')).length).toBe(3);
  expect((await snug.calls('attachTraining'))[2]?.args.slice(1)).toEqual(['data', ['digits_y.npy', 'digits_x.npy']]);
});

test('of files dropped together, the first refused one says why', async ({ snug }) => {
  const { page } = snug;
  await snug.load({ failures: { attachTraining: failure('E_DATA_FORMAT') } });
  await snug.openSample();
  await page.locator('#train-button').click();
  const data = await page.evaluateHandle(
    "(() => { const d = new DataTransfer(); for (const n of ['digits_y.npy', 'digits_x.npy']) d.items.add(new File(['x'], n)); return d; })()",
  );
  await page.dispatchEvent('header', 'drop', { dataTransfer: data });
  await expect(page.getByRole('alert')).toBeVisible();
  await expect(page.locator('#choose-labels')).toBeEnabled();
  await expect(page.getByRole('alert')).toBeVisible();
  expect(await snug.calls('attachTraining')).toHaveLength(1);
});

test('stopping keeps the best, and the clock and the loss are live until then', async ({ snug }) => {
  const { page } = snug;
  await ready(snug, { stepMs: 400 });
  await start(page).click();
  const bar = page.getByRole('progressbar');
  await expect(page.getByText(/^Epoch \d+ of 10$/)).toBeVisible();
  await expect(bar).toHaveAttribute('value', /^0\.\d+$/);
  await expect(page.getByText(/^Best so far loss [\d.]+, [\d.]+% right$/)).toBeVisible();
  await expect(page.getByRole('img', { name: /^Loss over \d+ updates/ })).toBeVisible();
  const sample = { atMs: 1, usedBytes: 1e9, deviceUsedBytes: 3e9, deviceTotalBytes: 12e9 };
  await snug.emit({ jobId: 'training-1', kind: 'memory', sample });
  await expect(page.getByText(/^highest so far 1\.0\sGB/)).toBeVisible();
  await page.getByRole('button', { name: 'Stop and keep the best' }).click();
  await expect(page.getByText(/^Stopped\. The best weights so far were kept\./)).toBeVisible();
  expect((await snug.calls('stopTraining'))[0]?.args).toEqual(['training-1']);
  await page.getByRole('button', { name: 'Train again' }).click();
  await expect(start(page)).toBeVisible();
});

test('one that was interrupted goes on, or is forgotten', async ({ snug }) => {
  const { page } = snug;
  await snug.load({ interrupted });
  await snug.openSample();
  await page.locator('#train-button').click();
  const card = page.getByRole('region', { name: 'vit-b.trained.onnx was not trained to its end' });
  await expect(card).toContainText('It had come to update 120 of 900, today. Best so far: loss 0.84, 73.0% right.');
  await expect(card).toContainText('It goes on with train.npy and train-labels.npy');
  await card.getByRole('button', { name: 'Go on' }).click();
  await expect(page.getByRole('heading', { name: 'vit-b.trained.onnx' })).toBeFocused();
  expect(await snug.calls('resumeTraining')).toHaveLength(1);
  await page.reload();
  await snug.openSample();
  await page.locator('#train-button').click();
  await card.getByRole('button', { name: 'Forget it' }).click();
  await expect(card).toBeHidden();
});

test('trying again goes on with what was saved', async ({ snug }) => {
  const { page } = snug;
  await ready(snug, { failures: { training: failure('E_ENGINE_KILLED') } });
  const again = page.getByRole('alert').getByRole('button', { name: 'Try again' });
  await page.evaluate((left) => {
    const { fakeTraining: fake } = globalThis as unknown as { fakeTraining: FakeTraining };
    fake.setup = { ...fake.setup, interrupted: left };
  }, interrupted);
  await start(page).click();
  await expect(page.getByRole('region', { name: /was not trained to its end/ })).toBeVisible();
  await again.click();
  expect(await snug.calls('resumeTraining')).toHaveLength(1);
  expect(await snug.calls('startTraining')).toHaveLength(1);
});

test('trying again after a failed save saves', async ({ snug }) => {
  const { page } = snug;
  await ready(snug, { failures: { saveOutput: failure('E_DISK_FULL') } });
  await start(page).click();
  await page.getByRole('button', { name: 'Save as JSON' }).click();
  await page.getByRole('alert').getByRole('button', { name: 'Try again' }).click();
  await expect(page.getByRole('alert')).toBeHidden();
  expect(await snug.calls('saveOutput')).toHaveLength(2);
  expect(await snug.calls('startTraining')).toHaveLength(1);
  await expect(page.locator('.ended')).toBeVisible();
});

test('what goes wrong is said with a way out', async ({ snug }) => {
  const { page } = snug;
  await ready(snug, {
    failures: {
      startTraining: failure('E_OUT_OF_MEMORY'),
      training: failure('E_ENGINE_KILLED'),
    },
  });
  const alert = page.getByRole('alert');
  await start(page).click();
  await expect(alert).toContainText('Memory ran out');
  await alert.getByRole('button', { name: 'Change the budget' }).click();
  await expect(page.locator('#training-budget')).toBeFocused();
  await expect(alert).toBeHidden();
  await start(page).click();
  await expect(alert).toContainText('The engine was stopped from outside');
  await expect(start(page)).toBeEnabled();
  await page.evaluate(
    "Object.assign(globalThis.fake, {}); globalThis.snug.attachTraining = () => Promise.resolve({ ok: false, error: { code: 'E_DATA_SHAPE', message: '', action: '', params: { rows: 99, samples: 100 } } })",
  );
  await page.locator('input[type=file]').nth(1).setInputFiles(file('other.npy'));
  await expect(alert).toContainText('There are 99 labels for 100 samples');
  await expect(page.getByText('train-labels.npy, 1,000 labels')).toBeVisible();
});

for (const theme of ['light', 'dark'] as const) {
  for (const locale of ['en', 'zh-CN'] as const) {
    test(`training has no serious accessibility violation, ${theme}, ${locale}`, async ({ snug }) => {
      const { page } = snug;
      test.slow();
      await page.emulateMedia({ colorScheme: theme, reducedMotion: 'reduce' });
      await page.addInitScript(`localStorage.setItem('snug.locale', '${locale}')`);
      await ready(snug, { interrupted, stepMs: 600 });
      await page.locator('details > summary').first().click();
      await noSeriousViolations(page);
      await page.locator('.actions .button').click();
      await expect(page.locator('canvas')).toBeVisible();
      await noSeriousViolations(page);
      await expect(page.locator('.ended')).toBeVisible({ timeout: 15_000 });
      await page.locator('details > summary').first().click();
      await noSeriousViolations(page);
    });
  }
}

test('training reflows at 320 px, with targets of at least 24 pixels', async ({ snug }) => {
  const { page } = snug;
  await page.setViewportSize({ width: 320, height: 640 });
  await ready(snug, { interrupted });
  await page.locator('details > summary').first().click();
  const narrow = async (): Promise<void> => {
    expect(await page.evaluate('document.documentElement.scrollWidth')).toBeLessThanOrEqual(320);
  };
  await narrow();
  for (const target of await page.locator('button:visible, select:visible, summary:visible').all()) {
    const box = await target.boundingBox();
    expect(Math.min(box?.width ?? 0, box?.height ?? 0), await target.innerText()).toBeGreaterThanOrEqual(24);
  }
  await page.locator('.actions .button').click();
  await expect(page.locator('.ended')).toBeVisible();
  await narrow();
});
