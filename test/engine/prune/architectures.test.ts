import { afterAll, describe, expect, it } from 'vitest';
import { checkModel } from '../../../src/onnx/check.js';
import { pruneModel } from '../../../src/prune/index.js';
import type { Dataset } from '../../../src/runtime/dataset-types.js';
import { architectures } from './architectures.js';
import { analyseModel, difference } from './masking.js';
import { inProcessRuntime, runModel, temporaryFolder } from './support.js';

const folder = temporaryFolder();
afterAll(folder.remove);

/** Families that no rule was written for: each has to work as it is. */
describe('model families', () => {
  it.each(architectures())('$name', async ({ model, feeds, kinds }) => {
    const analysis = analyseModel(model);
    const found = new Set(analysis.classes.map((one) => one.kind));
    for (const kind of kinds) expect([...found]).toContain(kind);
    const exact = analysis.classes.filter((one) => one.approximate === null);
    for (const [at, one] of exact.entries()) {
      const share = at % 2 === 0 ? 0.3 : 0.5;
      const apart = await difference(model, analysis, [one], feeds, { seed: at + 1, share });
      expect(apart, one.name).toBeLessThan(1e-4);
    }
    for (const share of [0.3, 0.5]) {
      const together = await difference(model, analysis, exact, feeds, { seed: 9, share });
      expect(together, 'all classes').toBeLessThan(1e-4);
      const perClass = Object.fromEntries(
        analysis.classes.map((one) => [one.id, Math.max(1, Math.round(one.width * (1 - share)))]),
      );
      const pruned = await pruneModel(model, { ratio: 0, perClass, method: 'magnitude' });
      checkModel(pruned.model);
      expect(pruned.after.weightBytes).toBeLessThan(pruned.before.weightBytes);
      for (const output of Object.values(await runModel(pruned.model, feeds, folder.path))) {
        expect((output.data as Float32Array).every(Number.isFinite)).toBe(true);
      }
    }
  });

  it.each(architectures())('$name is repaired in all its widths', async ({ model, feeds }) => {
    const [name, given] = Object.entries(feeds)[0]!;
    // The same few samples again and again are enough to run every step.
    const dataset: Dataset = {
      name: 'given',
      samples: 2 * 8,
      dims: {},
      fixedBatch: given.dims[0]!,
      feeds: () => Promise.resolve({ [name]: given }),
      close: () => Promise.resolve(),
    };
    const perClass = Object.fromEntries(analyseModel(model).classes.map((one) => [one.id, Math.ceil(one.width / 2)]));
    const samples = { runtime: inProcessRuntime, dataset, workDirectory: folder.path };
    const pruned = await pruneModel(model, { ratio: 0, perClass, method: 'repair', samples });
    checkModel(pruned.model);
    for (const output of Object.values(await runModel(pruned.model, feeds, folder.path))) {
      expect((output.data as Float32Array).every(Number.isFinite)).toBe(true);
    }
  });
});
