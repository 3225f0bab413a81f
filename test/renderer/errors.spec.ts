import { errorCodes } from '../../src/contract/errors.js';
import { expect, test } from './fixtures.js';
import { failure } from './scenario.js';

for (const [locale, unchanged] of [
  ['en', 'Your original file was not changed.'],
  ['zh-CN', '原文件没有改动。'],
] as const) {
  test(`every failure has a title, a meaning, one action and folded details in ${locale}`, async ({ snug }) => {
    test.setTimeout(60_000);
    const { page } = snug;
    await page.addInitScript(`localStorage.setItem('snug.locale', '${locale}')`);
    await snug.load();
    const titles = new Set<string>();
    for (const code of errorCodes) {
      await page.evaluate(`snug.openSample = async () => ({ ok: false, error: ${JSON.stringify(failure(code))} })`);
      await page.locator('.samples button').first().click();
      const panel = page.getByRole('alert');
      await expect(panel).toContainText(unchanged);
      titles.add(await panel.getByRole('heading').innerText());
      await expect(panel.locator('.actions > button')).toHaveCount(1);
      // What the runtime said stays in the fold.
      await expect(panel.getByText('bfc_arena')).toBeHidden();
      await panel.locator('summary').click();
      await expect(panel.getByText('bfc_arena')).toBeVisible();
      await expect(panel.getByText(code)).toBeVisible();
      await panel.getByRole('button', { name: /^(Dismiss|知道了)$/ }).click();
    }
    expect(titles.size).toBe(errorCodes.length);
  });
}

test('a job that fails comes back to the plan and can be tried again', async ({ snug }) => {
  const { page } = snug;
  await snug.load({ failures: { job: failure('E_OUT_OF_MEMORY') } });
  await snug.openSample();
  await snug.setBudget(4);
  await page.getByRole('button', { name: 'Make it snug' }).click();
  await expect(page.getByRole('alert')).toContainText('Memory ran out');
  await expect(page.locator('.plan')).toBeVisible();
  await page.getByRole('button', { name: 'Change the budget' }).click();
  await expect(page.getByRole('tab', { name: 'Memory' })).toBeVisible();
});

test('a job that fails late shows the best so far', async ({ snug }) => {
  const { page } = snug;
  await snug.load({ failures: { job: failure('E_ENGINE_CRASHED') }, keepOnCancel: true });
  await snug.openSample();
  await snug.setBudget(4);
  await page.getByRole('button', { name: 'Make it snug' }).click();
  await expect(page.getByRole('heading', { level: 1, name: 'vit-b.snug.onnx' })).toBeVisible();
  await expect(page.getByRole('alert')).toContainText('The engine stopped unexpectedly');
  await expect(page.getByText('It did not finish, but the best so far was kept.')).toBeVisible();
});

test('trying again after a failed save saves, and fits nothing anew', async ({ snug }) => {
  const { page } = snug;
  await snug.load({ failures: { saveOutput: failure('E_DISK_FULL') } });
  await snug.openSample();
  await snug.setBudget(4);
  await page.getByRole('button', { name: 'Make it snug' }).click();
  await page.getByRole('button', { name: 'Save report' }).click();
  await page.getByRole('alert').getByRole('button', { name: 'Try again' }).click();
  await expect(page.getByRole('alert')).toBeHidden();
  expect((await snug.calls('saveOutput')).map(({ args }) => args[1])).toEqual(['report-html', 'report-html']);
  expect(await snug.calls('startFit')).toHaveLength(1);
  await expect(page.getByRole('heading', { level: 1, name: 'vit-b.snug.onnx' })).toBeVisible();
});

test('a start that is refused is an error, not a hang', async ({ snug }) => {
  const { page } = snug;
  await snug.load({ failures: { startFit: failure('E_FILE_CHANGED') } });
  await snug.openSample();
  await snug.setBudget(4);
  await page.getByRole('button', { name: 'Make it snug' }).click();
  await expect(page.getByRole('alert')).toContainText('The file changed meanwhile');
  await page.getByRole('button', { name: 'Try again' }).click();
  await expect(page.getByRole('heading', { name: 'vit-b.snug.onnx' })).toBeVisible();
});

test('hardware that cannot be read leads to manual entry, not to a wall', async ({ snug }) => {
  const { page } = snug;
  await snug.load({ hardware: failure('E_INTERNAL') });
  await expect(page.getByText('The GPU could not be read. Enter its memory below.')).toBeVisible();
  await page.getByRole('radio', { name: '6 GB', exact: true }).check();
  await snug.openSample();
  await expect(page.getByText(/^Does not fit: needs 6\.37\sGB/)).toBeVisible();
});

test('slow hardware shows a skeleton, and the rest of the page is there', async ({ snug }) => {
  const { page } = snug;
  await snug.load({ hardwareDelayMs: 1500 });
  await expect(page.getByText('Reading the GPU…')).toBeVisible();
  await expect(page.getByRole('button', { name: 'Choose a file' })).toBeEnabled();
  await expect(page.getByText('12.0 GB, 9.1 GB free now')).toBeVisible();
});

test('details are copied for a report', async ({ snug, context }) => {
  const { page } = snug;
  await context.grantPermissions(['clipboard-read', 'clipboard-write']);
  await snug.load({ failures: { openSample: failure('E_INTERNAL') } });
  await page.locator('.samples button').first().click();
  await page.getByRole('alert').getByRole('button', { name: 'Copy details' }).click();
  await expect(page.getByRole('button', { name: 'Copied' })).toBeVisible();
  expect(await page.evaluate('navigator.clipboard.readText()')).toContain('snug 0.1.0 linux x64');
});

test('details are copied even where the clipboard permission is denied', async ({ snug, context }) => {
  const { page } = snug;
  await context.grantPermissions(['clipboard-read']);
  await page.addInitScript("navigator.clipboard.writeText = () => Promise.reject(new Error('denied'))");
  await snug.load({ failures: { openSample: failure('E_INTERNAL') } });
  await page.locator('.samples button').first().click();
  await page.getByRole('alert').getByRole('button', { name: 'Copy details' }).click();
  await expect(page.getByRole('button', { name: 'Copied' })).toBeVisible();
  expect(await page.evaluate('navigator.clipboard.readText()')).toContain('snug 0.1.0 linux x64');
});
