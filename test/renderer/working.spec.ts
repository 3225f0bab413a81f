import type { JobEvent, JobProgress } from '../../src/contract/types.js';
import { expect, test, type Screen } from './fixtures.js';

const at = (progress: JobProgress): JobEvent => ({ jobId: 'job-1', kind: 'progress', progress, elapsedMs: 0 });

async function start(snug: Screen, keepOnCancel = false): Promise<void> {
  await snug.load({ stepMs: -1, keepOnCancel });
  await snug.openSample();
  await snug.setBudget(4);
  await snug.page.getByRole('button', { name: 'Make it snug' }).click();
  await expect(snug.page.getByRole('progressbar')).toBeVisible();
  await expect.poll(async () => (await snug.calls('startFit')).length).toBe(1);
}

test('progress names the phase and counts what is known', async ({ snug }) => {
  const { page } = snug;
  await start(snug);
  const bar = page.getByRole('progressbar');
  await snug.emit(at({ phase: 'reading', done: 100e6, total: 347e6, unit: 'bytes' }));
  await expect(page.getByText('100 MB of 347 MB')).toBeVisible();
  await snug.emit(at({ phase: 'quantizing', done: 41, total: 162, unit: 'weights', item: 'fc1.weight' }));
  await expect(page.getByText('41 of 162 weights')).toBeVisible();
  await expect(page.getByText('fc1.weight')).toBeVisible();
  await expect(bar).toHaveAttribute('value', String(41 / 162));
  await expect(page.getByRole('listitem').filter({ hasText: 'Read' })).toContainText('done');
  await expect(page.getByRole('listitem').filter({ hasText: 'Prune' })).toContainText('not needed');
  await expect(page.getByRole('listitem').filter({ hasText: 'Write' })).toContainText('to do');
  await snug.emit(at({ phase: 'checking', done: 0, total: null, unit: 'runs' }));
  await expect(bar).not.toHaveAttribute('value', /.*/);
  await expect(page.getByText('Elapsed 0:0')).toBeVisible();
});

test('time left appears only after five seconds', async ({ snug }) => {
  const { page } = snug;
  await start(snug);
  await snug.emit(at({ phase: 'quantizing', done: 10, total: 100, unit: 'weights' }));
  await page.waitForTimeout(1500);
  await expect(page.getByText('Left about')).toBeHidden();
  await expect(page.getByText(/Left about \d+ s/)).toBeVisible({ timeout: 8000 });
});

test('quarters are announced, and nothing between them', async ({ snug }) => {
  const { page } = snug;
  await start(snug);
  const live = page.locator('[role=status][aria-live=polite]');
  await expect(live).toContainText('0% done');
  await snug.emit(at({ phase: 'reading', done: 1, total: 1, unit: 'bytes' }));
  await snug.emit(at({ phase: 'planning', done: 10, total: 10, unit: 'nodes' }));
  await expect(live).toContainText('25% done');
  const heard = await live.innerText();
  await snug.emit(at({ phase: 'pruning', done: 1, total: 10, unit: 'weights' }));
  await expect(live).toHaveText(heard);
  // Going back to an earlier phase is not told as less.
  await snug.emit(at({ phase: 'planning', done: 0, total: 10, unit: 'nodes' }));
  await expect(live).toHaveText(heard);
  await snug.emit(at({ phase: 'writing', done: 10, total: 10, unit: 'weights' }));
  await expect(live).toContainText('50% done');
});

test('stop acts at once and says that nothing was changed', async ({ snug }) => {
  const { page } = snug;
  await start(snug);
  await snug.emit(at({ phase: 'checking', done: 0, total: null, unit: 'runs' }));
  await page.getByRole('button', { name: 'Stop' }).click();
  await expect(page.getByText('Stopped. Nothing was changed.').first()).toBeVisible({ timeout: 1000 });
  await expect(page.locator('.plan')).toBeVisible();
  expect((await snug.calls('cancel'))[0]?.args).toEqual(['job-1']);
  // What the dead job still says must not come back.
  await snug.emit(at({ phase: 'comparing', done: 1, total: 2, unit: 'samples' }));
  await expect(page.locator('.plan')).toBeVisible();
});

test('stop keeps the best so far when there is one', async ({ snug }) => {
  const { page } = snug;
  await start(snug, true);
  await page.getByRole('button', { name: 'Stop' }).click();
  await expect(page.getByRole('heading', { level: 1, name: 'vit-b.snug.onnx' })).toBeFocused();
  await expect(page.getByText('Stopped. The best so far was kept.').first()).toBeVisible();
});

test('a file dropped while the engine works is not opened', async ({ snug }) => {
  const { page } = snug;
  await start(snug);
  const data = await page.evaluateHandle(
    "(() => { const d = new DataTransfer(); d.items.add(new File(['x'], 'a.onnx')); return d; })()",
  );
  await page.dispatchEvent('header', 'drop', { dataTransfer: data });
  await expect(page.getByRole('progressbar')).toBeVisible();
  expect(await snug.calls('openFiles')).toEqual([]);
});
