import type { JobEvent, MemorySample } from '../../src/contract/types.js';
import { expect, test, type Screen } from './fixtures.js';
import { experienced, failure } from './scenario.js';

const sample = (atMs: number, usedBytes: number): JobEvent => ({
  jobId: 'job-1',
  kind: 'memory',
  sample: { atMs, usedBytes, deviceUsedBytes: 2.9e9 + usedBytes, deviceTotalBytes: 12e9 },
});

async function startWork(snug: Screen): Promise<void> {
  await snug.openSample();
  await snug.setBudget(4);
  await snug.page.getByRole('button', { name: 'Make it snug' }).click();
  await expect(snug.page.getByRole('progressbar')).toBeVisible();
  await expect.poll(async () => (await snug.calls('startFit')).length).toBe(1);
}

test.describe('calibration', () => {
  test('a calibrated device says when and how exact; it is done again on demand', async ({ snug }) => {
    const { page } = snug;
    await snug.load({ accuracy: experienced });
    await expect(page.getByText('Calibrated for CUDA on Nov 3, 2026: estimates within ±4.1%')).toBeVisible();
    await page.getByText('What the test models showed').click();
    await expect(page.getByRole('row', { name: /^Feature maps 61\.0\sMB 62\.6\sMB −2\.6%$/ })).toBeVisible();
    await expect(
      page.getByText('Holds for NVIDIA GeForce RTX 3060, driver 581.29, ONNX Runtime 1.30.0.'),
    ).toBeVisible();
    await page.getByRole('button', { name: 'Calibrate again' }).click();
    await expect.poll(async () => (await snug.calls('calibrate'))[0]?.args).toEqual(['cuda']);
    await expect(page.locator('[role=status][aria-live=polite]')).toHaveText(
      /^Calibrated\. Estimates are within ±4\.1%/,
    );
    // A GPU that is only a number has nothing to run on.
    await page.getByRole('radio', { name: '8 GB' }).check();
    await expect(page.getByText(/Calibrated for/)).toBeHidden();
  });

  test('a new device is calibrated with one press, and that can be stopped', async ({ snug }) => {
    const { page } = snug;
    await snug.load({ calibrationMs: -1 });
    await expect(page.getByText(/^Not calibrated for CUDA yet/)).toBeVisible();
    await page.getByRole('button', { name: 'Calibrate now' }).click();
    await expect(page.getByText(/^Calibrating for CUDA/)).toBeVisible();
    await page.getByRole('button', { name: 'Stop' }).click();
    await expect(page.getByText(/^Not calibrated for CUDA yet/)).toBeVisible();
    await expect(page.locator('[role=status][aria-live=polite]')).toHaveText(/^Calibration stopped/);
    expect(await snug.calls('stopCalibration')).toHaveLength(1);
  });

  test('one that ends while a plan is open asks for the plan again, once', async ({ snug }) => {
    await snug.load();
    await snug.openSample();
    const asked = (await snug.calls('plan')).length;
    const told = (view: typeof experienced): JobEvent => ({ jobId: 'calibration', kind: 'accuracy', accuracy: view });
    await snug.emit(told({ ...experienced, calibrations: [], calibrating: 'cuda' }));
    await snug.emit(told(experienced));
    await expect.poll(async () => (await snug.calls('plan')).length).toBe(asked + 1);
    await snug.emit(told({ ...experienced, runs: [] }));
    await snug.openDrawer();
    await expect(snug.page.getByText(/Calibrated for CUDA/)).toBeVisible();
    expect((await snug.calls('plan')).length).toBe(asked + 1);
  });
});

test.describe('the record', () => {
  test('stands with the result and in the memory details, and is cleared after a question', async ({ snug }) => {
    const { page } = snug;
    await snug.load({ accuracy: experienced });
    await snug.openSample();
    await snug.setBudget(4);
    await page.getByRole('button', { name: 'Make it snug' }).click();
    const line = page.getByText('On this machine: 3 runs, median error 1.2%, worst 6.0%.');
    await expect(page.locator('.result')).toBeVisible();
    await expect(line).toBeVisible();
    await page.getByRole('button', { name: 'Change the plan' }).click();
    await snug.openDrawer();
    await expect(line).toBeVisible();
    await page.getByText('Show the runs').click();
    const run = page.getByRole('row', { name: /bert-base-uncased\.onnx/ });
    await expect(run).toContainText('812 MB');
    await expect(run).toContainText('+6.0%');
    await expect(page.getByRole('row', { name: /6\.37 GB 6\.40 GB −0\.5%/ })).toBeVisible();

    await page.getByRole('button', { name: 'Clear the record' }).click();
    await expect(page.getByRole('group', { name: 'Forget 3 runs?' })).toBeVisible();
    await page.getByRole('button', { name: 'Keep' }).click();
    await expect(page.getByRole('button', { name: 'Clear the record' })).toBeFocused();
    expect(await snug.calls('clearAccuracy')).toEqual([]);
    await page.getByRole('button', { name: 'Clear the record' }).click();
    await page.getByRole('button', { name: 'Clear', exact: true }).click();
    await expect(page.getByText(/^No model has run here yet/)).toBeVisible();
    await expect(page.locator('[role=status][aria-live=polite]')).toHaveText('The record was cleared.');
  });

  test('grows with a run that ends', async ({ snug }) => {
    await snug.load({ stepMs: -1 });
    await startWork(snug);
    await snug.emit({ jobId: 'job-1', kind: 'accuracy', accuracy: experienced });
    await expect(snug.page.getByRole('progressbar')).toBeVisible();
    await snug.page.getByRole('button', { name: 'Stop' }).click();
    await snug.openDrawer();
    await expect(snug.page.getByText(/^On this machine: 3 runs/)).toBeVisible();
  });
});

test.describe('how it was worked out', () => {
  test('every part in each phase, what it rests on, and what is not known', async ({ snug }) => {
    const { page } = snug;
    await snug.load({
      unknown: [{ name: '/decoder/loop_out', reason: 'no shape rule for the operator Loop' }],
      limits: ['"w" needs 3221225472 bytes in one piece, more than 2 GiB'],
    });
    await snug.openSample();
    await snug.setBudget(4);
    await snug.openDrawer();
    const worked = page.getByRole('region', { name: 'How we worked this out' });
    await expect(worked.getByRole('row', { name: /^Part Loading First run Later runs$/ })).toBeVisible();
    await expect(worked.getByRole('row', { name: /^Activations – 2\.82 GB 2\.82 GB$/ })).toBeVisible();
    await expect(worked.getByRole('row', { name: /^Together/ })).toContainText('3.38 GB');
    await expect(worked.getByText('The largest of the three counts: later runs.')).toBeVisible();
    await expect(worked.getByText(/sure of 3\.21\sGB to 3\.55\sGB: a general rule/)).toBeVisible();
    await expect(worked.getByText(/^On CUDA memory is taken from the driver/)).toBeVisible();
    await expect(worked.getByText('/decoder/loop_out')).toBeVisible();
    await expect(worked.getByText(/no shape rule for the operator Loop/)).toBeVisible();
    await expect(worked.getByText(/^"w" needs 3\.22\sGB in one piece, more than 2 GiB$/)).toBeVisible();
  });

  test('what is in memory at a step is named, by keys and by pointing', async ({ snug }) => {
    const { page } = snug;
    await snug.load();
    await snug.openSample();
    await snug.openDrawer();
    const step = page.getByRole('slider', { name: 'Step of the run' });
    await expect(page.getByText(/In memory at \/encoder\/layer\.6\/fc1 .* the highest point/)).toBeVisible();
    await expect(page.getByRole('listitem').filter({ hasText: 'layer.6/mlp/fc1_output' })).toBeVisible();
    await expect(step).toHaveAttribute('aria-valuetext', /^Step 34 of 60: \/encoder\/layer\.6\/fc1, \d/);
    await step.focus();
    await page.keyboard.press('Home');
    await expect(page.getByText('In memory at /encoder/layer.0/qkv')).toBeVisible();
    await expect(page.getByRole('listitem').filter({ hasText: 'layer.0/attn/scores' })).toBeVisible();

    const canvas = page.locator('.drawer canvas');
    const box = await canvas.boundingBox();
    if (box === null) throw new Error('The chart is not drawn.');
    await canvas.hover({ position: { x: box.width - 12, y: 40 } });
    await expect(page.getByText(/In memory at \/encoder\/layer\.11\//)).toBeVisible();
    await page.mouse.move(0, 0);
    await expect(page.getByText('In memory at /encoder/layer.0/qkv')).toBeVisible();
  });
});

test.describe('the gauge', () => {
  test('follows the running model against the budget, and is silent', async ({ snug }) => {
    const { page } = snug;
    await page.emulateMedia({ reducedMotion: 'reduce' });
    await snug.load({ stepMs: -1 });
    await startWork(snug);
    await expect(page.getByText('No model is running yet.')).toBeVisible();
    const live = page.locator('[role=status][aria-live=polite]');
    const heard = await live.innerText();
    await snug.emit(sample(0, 1e9));
    await snug.emit(sample(250, 3.4e9));
    // A sample is news for two seconds; on a slow machine it comes again until it was seen in time.
    await expect(async () => {
      await snug.emit(sample(500, 1.2e9));
      await expect(page.locator('.gauge .now')).toHaveText('1.2 GB', { timeout: 1000 });
      await expect(
        page.getByRole('img', {
          name: 'Memory of the running model: 1.2 GB now, 3.4 GB at most so far, budget 4.0 GB.',
        }),
      ).toBeVisible({ timeout: 500 });
    }).toPass();
    await expect(page.getByText('highest so far 3.4 GB')).toBeVisible();
    await expect(page.getByText('whole device 4.1 GB of 12.0 GB')).toBeVisible();
    expect(await live.innerText()).toBe(heard);
    expect(await page.evaluate('document.getAnimations().length')).toBe(0);
  });

  test('says when nothing runs any more, and forgets samples of another job', async ({ snug }) => {
    const { page } = snug;
    await snug.load({ stepMs: -1 });
    await startWork(snug);
    await snug.emit({ ...sample(0, 9e9), jobId: 'job-0' });
    await expect(page.getByText('No model is running yet.')).toBeVisible();
    await snug.emit(sample(0, 1e9));
    await expect(page.getByText('No model is running at the moment.')).toBeVisible();
    await expect(page.getByText(/highest so far 1\.0\sGB/)).toBeVisible();
  });

  test('leaves its trace in the result, as a chart with a sentence and a table', async ({ snug }) => {
    const { page } = snug;
    await snug.load();
    await snug.openSample();
    await snug.setBudget(4);
    await page.getByRole('button', { name: 'Make it snug' }).click();
    await expect(page.locator('.result')).toBeVisible();
    await page.getByText('Memory while it runs').click();
    const trace = page.getByRole('figure').filter({ hasText: 'Memory while it ran' });
    await expect(trace.getByRole('img')).toHaveAttribute(
      'aria-label',
      /^Memory while the job ran, 40 samples: 3\.28\sGB at most, 0:20 after the start; budget 4\.0\sGB\.$/,
    );
    await trace.getByText('Show as a table').click();
    await expect(trace.getByRole('row')).toHaveCount(41);
  });
});

test('a calibration that cannot be done says so where it was asked for', async ({ snug }) => {
  const { page } = snug;
  await snug.load({ failures: { calibrate: failure('E_PROVIDER') } });
  await page.getByRole('button', { name: 'Calibrate now' }).click();
  await expect(page.getByRole('alert')).toContainText(/^Calibration did not work on this device: /);
});

test('samples of a long job stay bounded', async ({ snug }) => {
  const { page } = snug;
  await snug.load({ stepMs: -1 });
  await startWork(snug);
  await page.evaluate(() => {
    const { fake } = globalThis as unknown as { fake: { emit: (event: unknown) => void } };
    for (let at = 0; at < 5000; at += 1) {
      const each: MemorySample = { atMs: at, usedBytes: at, deviceUsedBytes: null, deviceTotalBytes: null };
      fake.emit({ jobId: 'job-1', kind: 'memory', sample: each });
    }
  });
  await expect(page.getByText(/highest so far/)).toBeVisible();
  const points = await page.locator('.gauge polyline').getAttribute('points');
  expect(points?.split(' ').length).toBeLessThanOrEqual(240);
});
