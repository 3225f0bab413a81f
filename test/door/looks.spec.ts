import { expect, keepPicture, test } from './fixtures.js';

const locales = [
  { locale: 'en-US', lang: 'en' },
  { locale: 'zh-CN', lang: 'zh-CN' },
];

for (const { locale, lang } of locales) {
  for (const theme of ['light', 'dark'] as const) {
    test.describe(`${locale}, ${theme}`, () => {
      test.use({ locale, colorScheme: theme });

      test('the bundled sample from the first screen to its result', async ({ app, complaints }) => {
        await expect(app.locator('html')).toHaveAttribute('lang', lang);
        // The memory bar stands once the hardware was read.
        await expect(app.getByRole('img').first()).toBeVisible();
        await keepPicture(app, `drop-${lang}-${theme}`);

        await app.getByRole('button', { name: /digits-mlp\.onnx/u }).click();
        await expect(app.getByRole('spinbutton').first()).toBeVisible();
        await app.getByRole('combobox').last().selectOption('kB');
        await app.getByRole('spinbutton').first().fill('600');
        await app.getByRole('spinbutton').first().press('Tab');
        await expect(app.getByText(/600\s?kB/u).first()).toBeVisible();
        await expect(app.locator('section.card[aria-busy="false"]')).toBeVisible();
        await keepPicture(app, `plan-${lang}-${theme}`);

        await app.locator('button.primary').click();
        await expect(app.getByRole('heading', { name: /digits-mlp\.snug.*\.onnx/u })).toBeVisible();
        await expect(app.locator('section.card table')).toBeVisible();
        await keepPicture(app, `result-${lang}-${theme}`);
        expect(complaints).toEqual([]);
      });
    });
  }
}
