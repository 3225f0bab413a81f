import { expect, test, type Screen } from './fixtures.js';
import { vit } from './scenario.js';

const withSamples = { ...vit.model, data: { name: 'images.npy', samples: 100, countable: true } };

test.describe('the damage of pruning', () => {
  const drawn = (snug: Screen) => snug.page.getByRole('img', { name: /error of the answers/ });

  test('is expected without samples, and says so', async ({ snug }) => {
    await snug.load();
    await snug.openSample();
    await snug.openDrawer('Prune');
    await expect(
      snug.page.getByText('Expected from the weights alone. Attach samples, and Snug measures it.'),
    ).toBeVisible();
    await expect(drawn(snug)).toHaveAttribute('aria-label', /^Expected error/);
    expect(await snug.calls('measurePruning')).toHaveLength(0);
  });

  test('is measured once with samples, with the point to go no further', async ({ snug }) => {
    const { page } = snug;
    await snug.load({ model: withSamples });
    await snug.openSample();
    await snug.openDrawer('Prune');
    await expect(page.getByText(/^Measured on 20 samples that the repair did not see/)).toBeVisible();
    await expect(drawn(snug)).toHaveAttribute('aria-label', /^Measured error .* at 80%\.$/);
    await expect(page.getByText(/^This far and no further: 50%\. Beyond it the measured damage/)).toBeVisible();
    await page.getByRole('slider', { name: 'Pruned' }).fill('70');
    await expect(page.getByText(/^Past 50% damage grows fast\./)).toBeVisible();
    await expect(page.getByText(/of answers the same, measured$/)).toBeVisible();
    await page.getByRole('tab', { name: 'Memory' }).click();
    await page.getByRole('tab', { name: 'Prune' }).click();
    await expect(page.getByText(/^Measured on 20 samples/)).toBeVisible();
    expect(await snug.calls('measurePruning')).toHaveLength(1);
  });

  test('can be stopped while it is measured, and taken up again', async ({ snug }) => {
    const { page } = snug;
    await snug.load({ model: withSamples, curveMs: -1 });
    await snug.openSample();
    await snug.openDrawer('Prune');
    await expect(page.getByText('Measuring on your samples: 0 of 8 ratios.')).toBeVisible();
    await page.getByRole('button', { name: 'Stop measuring' }).click();
    await expect(page.getByText('Nothing was measured: stopped.')).toBeVisible();
    await page.getByRole('button', { name: 'Measure', exact: true }).click();
    await expect(page.getByText('Measuring on your samples: 0 of 8 ratios.')).toBeVisible();
  });

  test('is measured for repair only', async ({ snug }) => {
    const { page } = snug;
    await snug.load({ model: withSamples });
    await snug.openSample();
    await snug.openDrawer('Prune');
    await page.getByRole('radio', { name: /Random/ }).check();
    await expect(
      page.getByText('Expected from the weights alone: only pruning with repair is measured.'),
    ).toBeVisible();
    await expect(drawn(snug)).toHaveAttribute('aria-label', /^Expected error/);
  });
});
