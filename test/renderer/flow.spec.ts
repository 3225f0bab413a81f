import { expect, test } from './fixtures.js';
import { digits, noGpu } from './scenario.js';

test('a model goes from the first screen to a measured result', async ({ snug }) => {
  const { page } = snug;
  await snug.load();
  await expect(page.getByText('12.0 GB, 9.1 GB free now')).toBeVisible();
  await expect(page.getByText('Read from NVIDIA driver (nvidia-smi)')).toBeVisible();
  await expect(page.getByText('Your models never leave this computer.')).toBeVisible();
  expect(await snug.calls('hardware')).toHaveLength(1);

  await snug.openSample();
  await expect(page.getByRole('heading', { level: 1, name: 'vit-b.onnx' })).toBeFocused();
  await snug.setBudget(4);
  await expect(page.getByText('Does not fit: needs 6.37 GB for batch 64, 4.0 GB can be used.')).toBeVisible();
  await expect(page.getByText('16-bit float everywhere, nothing pruned, batch 64.')).toBeVisible();

  await page.getByRole('button', { name: 'Make it snug' }).click();
  await expect(page.getByRole('heading', { name: 'Making vit-b.onnx snug' })).toBeFocused();
  await expect(page.getByRole('heading', { level: 1, name: 'vit-b.snug.onnx' })).toBeFocused();
  await expect(page.getByText('Fits: 3.28 GB measured, 4.0 GB allowed.')).toBeVisible();
  const memory = page.getByRole('row', { name: /^Peak memory/ });
  await expect(memory).toContainText('6.43 GB');
  await expect(memory).toContainText('3.28 GB');
  await expect(memory).toContainText('3% below the prediction');
  await expect(page.getByRole('row', { name: /^Answers/ })).toContainText('98.1% the same');
  await expect(page.getByRole('row', { name: /^Answers/ })).toContainText('random inputs; not a measure of accuracy');

  const [start] = await snug.calls('startFit');
  expect(start?.args[0]).toMatchObject({ modelId: 'm1', budgetBytes: 4e9 });

  await page.getByRole('button', { name: 'Show in folder' }).click();
  await page.getByRole('button', { name: 'Save report' }).click();
  await page.getByRole('button', { name: 'Save plan as JSON' }).click();
  await expect
    .poll(async () => (await snug.calls('saveOutput')).map((call) => call.args[1]))
    .toEqual(['model', 'report-html', 'report-json']);

  await page.getByRole('button', { name: 'Start again' }).click();
  await expect(page.getByRole('heading', { name: 'Drop a model here' })).toBeFocused();
});

test('the result says what it cost in every measure, what the words mean, and which layer is worst', async ({
  snug,
}) => {
  const { page } = snug;
  await snug.load();
  await snug.openSample();
  await snug.setBudget(4);
  await page.getByRole('button', { name: 'Make it snug' }).click();
  const cost = page.getByRole('region', { name: 'What it cost' });
  await expect(cost.getByText('Damage: small. Give it samples to learn what it costs on real inputs.')).toBeVisible();
  await expect(cost.getByRole('row', { name: 'Same answer (top 1) 98.1% negligible' })).toBeVisible();
  await expect(cost.getByRole('row', { name: 'KL divergence 0.0040 nats negligible' })).toBeVisible();
  await expect(cost.getByRole('row', { name: 'Output to error (SQNR) 34.2 dB negligible' })).toBeVisible();
  await expect(cost.getByRole('row', { name: 'Cosine similarity 0.99960' })).toBeVisible();
  await cost.getByText('What the words mean').click();
  await expect(cost.getByRole('row', { name: 'small below 0.05 below 5% from 20 dB' })).toBeVisible();
  // Without a mouse: the disclosure and the table behind the chart.
  await cost.getByText('Layer by layer').press('Enter');
  await expect(
    cost.getByRole('img', { name: /^Output to error over 3 layers; the lowest is .* with 19\.4 dB\.$/ }),
  ).toBeVisible();
  await cost.getByText('Show as a table').press('Enter');
  await expect(cost.getByRole('row', { name: /19\.4 dB 0\.99940 \w+$/ })).toBeVisible();
  for (const width of [1280, 380]) {
    await page.setViewportSize({ width, height: 800 });
    // The chart follows the window one frame later.
    await expect
      .poll(() => page.evaluate<number>('document.documentElement.scrollWidth - window.innerWidth'))
      .toBeLessThanOrEqual(0);
  }
});

test('a model that fits is told so first; less memory is one press away', async ({ snug }) => {
  const { page } = snug;
  await snug.load(digits);
  await snug.openSample();
  await expect(page.getByText(/^Fits as it is: .*needs 898\skB .* Nothing to do\.$/)).toBeVisible();
  await expect(page.getByRole('button', { name: 'Make it snug anyway' })).not.toHaveClass(/primary/);
  await expect(page.getByText('Drawn at the model’s own size; the whole device has 12.0 GB.')).toBeVisible();
  await page.getByRole('button', { name: /^Try a budget of/ }).click();
  await expect(page.getByText(/^Does not fit: needs 898\skB/)).toBeVisible();
  await expect(page.getByRole('button', { name: 'Make it snug' })).toHaveClass(/primary/);
  await page.getByRole('button', { name: 'Back to Snug’s choice' }).click();
  await expect(page.getByText(/Nothing to do\.$/)).toBeVisible();
});

test('when nothing fits, the smallest reachable and what blocks it are told, and one press takes it', async ({
  snug,
}) => {
  const { page } = snug;
  await snug.load();
  await snug.openSample();
  await snug.setBudget(0.4);
  await expect(
    page.getByText(/Nothing Snug knows fits 400\sMB\. The smallest it can reach is 1\.4\d*\sGB/),
  ).toBeVisible();
  await expect(page.getByText(/^Held up by the activations of/).first()).toBeVisible();
  await page.getByRole('button', { name: 'Use 1.47 GB instead' }).click();
  await expect(page.getByRole('button', { name: 'Make it snug' })).toBeEnabled();
});

test('when the user’s own settings stand in the way, one press hands them back and keeps the budget', async ({
  snug,
}) => {
  const { page } = snug;
  await snug.load();
  await snug.openSample();
  await snug.openDrawer('Numbers');
  await page.getByRole('radio', { name: '32-bit float' }).check();
  await page.keyboard.press('Escape');
  await snug.setBudget(0.4);
  await expect(page.getByText(/^Your own settings stand in the way/)).toBeVisible();
  await page.getByRole('button', { name: 'Let Snug choose the rest' }).click();
  await expect(page.getByText(/^Your own settings stand in the way/)).toBeHidden();
  // The sentence goes with the press, the question follows: one in flight is answered first.
  await expect
    .poll(async () => (await snug.calls('plan')).at(-1)?.args[0])
    .toEqual(expect.objectContaining({ budgetBytes: 0.4e9, pins: expect.not.objectContaining({ dtype: 'fp32' }) }));
});

test('the mark of the budget is dragged, moved by keys and typed', async ({ snug }) => {
  const { page } = snug;
  await snug.load();
  await snug.openSample();
  const mark = page.getByRole('slider', { name: 'Budget' });
  const before = Number(await mark.getAttribute('aria-valuenow'));
  const box = await mark.boundingBox();
  if (box === null) throw new Error('The mark is not drawn.');
  await page.mouse.move(box.x + box.width / 2, box.y + 12);
  await page.mouse.down();
  await page.mouse.move(box.x - 200, box.y + 12, { steps: 8 });
  await page.mouse.up();
  await expect.poll(async () => Number(await mark.getAttribute('aria-valuenow'))).toBeLessThan(before - 1e9);
  await expect(page.getByRole('button', { name: /Set by you/ })).toBeVisible();

  await mark.focus();
  const dragged = Number(await mark.getAttribute('aria-valuenow'));
  await page.keyboard.press('ArrowLeft');
  await expect.poll(async () => Number(await mark.getAttribute('aria-valuenow'))).toBeLessThan(dragged);

  await page.getByRole('button', { name: 'Budget: more' }).click();
  await snug.setBudget(5.5);
  await expect.poll(async () => (await snug.calls('plan')).at(-1)?.args[0]).toMatchObject({ budgetBytes: 5.5e9 });
});

test('another GPU is planned for, and without one the computer’s memory', async ({ snug }) => {
  const { page } = snug;
  await snug.load({ hardware: noGpu });
  await expect(page.getByText(/No GPU memory found/)).toBeVisible();
  await page.getByRole('radio', { name: '8 GB' }).check();
  await expect(page.getByText('A GPU with 8.0 GB')).toBeVisible();
  await page.getByRole('radio', { name: 'Other' }).check();
  const size = page.getByRole('spinbutton', { name: 'Memory of the other GPU' });
  await size.fill('10');
  await size.press('Enter');
  await snug.openSample();
  await expect.poll(async () => (await snug.calls('plan')).at(-1)?.args[0]).toMatchObject({ budgetBytes: 9.5e9 });
});

test('samples are attached, and the plan is asked again with them', async ({ snug }) => {
  const { page } = snug;
  await snug.load();
  await snug.openSample();
  await expect(page.getByText(/Without them it can only check with random inputs/)).toBeVisible();
  await page.locator('#attach-data').setInputFiles({ name: 'mine.npy', mimeType: '', buffer: Buffer.from('x') });
  await expect(page.getByRole('heading', { name: '200 samples from mine.npy' })).toBeVisible();
  expect((await snug.calls('attachData'))[0]?.args).toEqual(['m1', ['mine.npy']]);
});

test('labels are added and replaced from the keyboard, which keeps its place', async ({ snug }) => {
  const { page } = snug;
  await snug.load();
  await snug.openSample();
  await page.locator('#attach-data').setInputFiles({ name: 'mine.npy', mimeType: '', buffer: Buffer.from('x') });
  let chosen = '';
  page.on('filechooser', (chooser) => {
    void chooser.setFiles({ name: chosen, mimeType: '', buffer: Buffer.from('x') });
  });
  const choose = async (button: string, name: string): Promise<void> => {
    await page.getByRole('button', { name: button }).focus();
    chosen = name;
    await page.keyboard.press('Enter');
    await expect(page.getByText(`Right answers will be counted with ${name}.`).first()).toBeVisible();
    await expect(page.getByRole('button', { name: 'Replace labels' })).toBeFocused();
  };
  await choose('Add labels', 'first.npy');
  await choose('Replace labels', 'second.npy');
  expect((await snug.calls('attachLabels')).map(({ args }) => args[1])).toEqual([['first.npy'], ['second.npy']]);
});

test('says when labels cannot be counted, instead of asking for them', async ({ snug }) => {
  const { page } = snug;
  await snug.load({ countable: false });
  await snug.openSample();
  await page.locator('#attach-data').setInputFiles({ name: 'mine.npy', mimeType: '', buffer: Buffer.from('x') });
  await expect(page.getByText(/Right answers cannot be counted/)).toBeVisible();
  await expect(page.getByRole('button', { name: 'Add labels' })).toHaveCount(0);
});

test('a file is dropped anywhere; two models at once are refused', async ({ snug }) => {
  const { page } = snug;
  await snug.load();
  const drop = async (names: string[]): Promise<void> => {
    const data = await page.evaluateHandle(
      `(() => { const d = new DataTransfer(); for (const n of ${JSON.stringify(names)}) d.items.add(new File(['x'], n)); return d; })()`,
    );
    await page.dispatchEvent('header', 'drop', { dataTransfer: data });
  };
  await drop(['a.onnx', 'b.onnx']);
  await expect(page.getByText('Those are several models. Drop one at a time.').first()).toBeVisible();
  await drop(['vit-b.onnx', 'weights.bin']);
  await expect(page.getByRole('heading', { level: 1, name: 'vit-b.onnx' })).toBeVisible();
  expect((await snug.calls('openFiles'))[0]?.args).toEqual([['vit-b.onnx', 'weights.bin']]);
});

test('the recent list opens a model again and marks what is gone', async ({ snug }) => {
  const { page } = snug;
  await snug.load();
  await expect(page.getByRole('button', { name: /old-export.onnx/ })).toBeDisabled();
  await page.getByRole('button', { name: /bert-base-uncased.onnx Does not fit/ }).click();
  await expect(page.locator('.plan')).toBeVisible();
  expect((await snug.calls('openRecent'))[0]?.args).toEqual(['r2']);
});

test('in the browser the file is chosen by the page itself', async ({ snug }) => {
  const { page } = snug;
  await snug.load({ door: 'browser' });
  const chooser = page.waitForEvent('filechooser');
  await page.getByRole('button', { name: 'Choose a file' }).click();
  await (await chooser).setFiles({ name: 'vit-b.onnx', mimeType: '', buffer: Buffer.from('x') });
  await expect(page.locator('.plan')).toBeVisible();
  await snug.setBudget(4);
  await page.getByRole('button', { name: 'Make it snug' }).click();
  await expect(page.getByRole('button', { name: 'Download the model' })).toBeVisible();
});
