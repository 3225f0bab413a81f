import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from './fixtures.js';

const renderer = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../../renderer');

test('the language is switched without a restart and remembered', async ({ snug }) => {
  const { page } = snug;
  await snug.load();
  await snug.openSample();
  await snug.setBudget(4);
  await page.getByLabel('Language').selectOption('zh-CN');
  await expect(page.getByText('放不下：批大小 64 时需要 6.37 GB，可用 4.0 GB。')).toBeVisible();
  await expect(page.locator('html')).toHaveAttribute('lang', 'zh-CN');
  await page.reload();
  await expect(page.getByRole('heading', { name: '把模型拖到这里' })).toBeVisible();
});

test('the first start follows the system’s language', async ({ snug }) => {
  await snug.load({ languages: ['zh-Hans-CN', 'en'] });
  await expect(snug.page.getByRole('button', { name: '选择文件' })).toBeVisible();
});

test('the theme is switched, charts take its colours, and it is remembered', async ({ snug }) => {
  const { page } = snug;
  await page.emulateMedia({ colorScheme: 'light', reducedMotion: 'reduce' });
  await snug.load();
  await snug.openSample();
  await snug.openDrawer('Prune');
  const canvas = page.locator('.drawer canvas').first();
  const background = (): Promise<string> => page.evaluate('getComputedStyle(document.documentElement).backgroundColor');
  const light = { page: await background(), chart: await canvas.screenshot() };
  await page.getByRole('radio', { name: 'Dark' }).check({ force: true });
  await expect.poll(background).not.toBe(light.page);
  expect((await canvas.screenshot()).equals(light.chart)).toBe(false);
  const pixel = await page.evaluate<string>(
    `(() => { const c = document.querySelectorAll('.drawer canvas')[0]; const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
      for (let i = 0; i < d.length; i += 4) if (d[i + 3] === 255 && d[i + 2] > 200 && d[i] < 180) return 'accent of dark'; return 'none'; })()`,
  );
  expect(pixel).toBe('accent of dark');
  await page.reload();
  await expect(page.locator('html')).toHaveAttribute('data-theme', 'dark');
});

test('no words stand in the markup: both languages come from the catalogue', () => {
  const files = readdirSync(renderer, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.svelte'));
  expect(files.length).toBeGreaterThan(20);
  const literal: string[] = [];
  for (const file of files) {
    const markup = readFileSync(path.join(renderer, file), 'utf8')
      .replace(/<script[\s\S]*?<\/script>|<style[\s\S]*?<\/style>|<!--[\s\S]*?-->/g, '')
      // Attributes may hold functions with `>`; take out everything inside braces, innermost first.
      .replace(/\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\}/g, '');
    for (const [, text] of markup.matchAll(/>([^<>]+)</g)) {
      if (/\p{L}{2,}/u.test(text ?? '')) literal.push(`${file}: ${(text ?? '').trim()}`);
    }
    for (const [attribute] of markup.matchAll(/(?:aria-label|title|placeholder|alt)="[^"]*\p{L}[^"]*"/gu)) {
      literal.push(`${file}: ${attribute}`);
    }
  }
  expect(literal).toEqual([]);
});

test('the page holds with words forty per cent longer', async ({ snug }) => {
  const { page } = snug;
  await page.setViewportSize({ width: 720, height: 560 });
  await snug.load();
  await snug.openSample();
  await snug.setBudget(4);
  await page.evaluate(`(() => {
    const walker = document.createTreeWalker(document.querySelector('main'), NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) { const n = walker.currentNode; if (n.data.trim().length > 3) n.data += 'x'.repeat(Math.ceil(n.data.trim().length * 0.4)); }
  })()`);
  expect(await page.evaluate('document.documentElement.scrollWidth')).toBeLessThanOrEqual(720);
});
