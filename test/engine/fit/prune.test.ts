import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { openData, openModel } from '../../../src/app/open.js';
import { bundledSamples } from '../../../src/app/samples.js';
import type { Pins, PruneCurve } from '../../../src/contract/types.js';
import { fitModel } from '../../../src/fit/fit.js';
import { measurePruneCurve } from '../../../src/fit/prune-curve.js';
import { createRuntime } from '../../../src/runtime/client.js';
import type { Runtime } from '../../../src/runtime/types.js';

const [sample] = bundledSamples();
let folder = '';
let runtime: Runtime;

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'snug-prune-fit-'));
  runtime = createRuntime();
});
afterEach(async () => {
  await runtime.close();
  rmSync(folder, { recursive: true, force: true });
});

async function fit(pins: Pins, withSamples: boolean) {
  const modelPath = path.join(folder, 'digits-mlp.onnx');
  copyFileSync(sample.modelPath, modelPath);
  const opened = openModel(modelPath);
  return fitModel({
    model: opened.model,
    modelPath,
    inputs: opened.inputs,
    outputPath: path.join(folder, 'small.onnx'),
    budgetBytes: 10_000_000,
    provider: 'cpu',
    pins: { batch: 8, dtype: 'fp32', ...pins },
    dataset: withSamples ? await openData(sample.dataPath ?? '', opened, {}) : null,
    runtime,
  });
}
const notes = (report: Awaited<ReturnType<typeof fit>>): string[] =>
  report.reasons.flatMap((reason) => (reason.kind === 'note' ? [reason.text] : []));

it('repairs on made-up inputs where there are no samples, and says so', async () => {
  const report = await fit({ pruneRatio: 0.3 }, false);
  expect(report.plan.pruneMethod).toBe('repair');
  expect(notes(report).join()).toContain('made-up inputs; the answers are closer for it');
  const plain = await fit({ pruneRatio: 0.3, pruneMethod: 'magnitude' }, false).catch((error: unknown) => error);
  // The same name twice is refused: the first result is never overwritten.
  expect(plain).toMatchObject({ code: 'E_EXISTS' });
});

it('tries widths by measured loss where the answers suffered, at the same memory', async () => {
  const report = await fit({ pruneRatio: 0.75, dtype: 'int4' }, true);
  const tried = report.tried.find(({ label }) => label.endsWith('widths by measured loss'));
  expect(tried?.outcome).toMatch(/^fits/);
  // The better of the two, on samples that neither was fitted to, was written.
  const [uniform] = report.tried;
  expect(tried?.measuredBytes).toBeLessThanOrEqual((uniform?.measuredBytes ?? 0) * 1.05);
  expect(report.quality?.sqnrDb).toBeGreaterThan(20);
});

it('measures a curve on samples that the repair did not see', async () => {
  const opened = openModel(sample.modelPath);
  const dataset = await openData(sample.dataPath ?? '', opened, {});
  const told: PruneCurve[] = [];
  const curve = await measurePruneCurve({
    model: opened.model,
    modelPath: opened.path,
    inputs: opened.inputs,
    dataset,
    dims: {},
    runtime,
    onCurve: (each) => told.push(each),
  });
  await dataset.close();
  expect(curve).toMatchObject({ state: 'done', samples: 20 });
  expect(curve.points).toHaveLength(curve.total);
  expect(curve.points.map(({ ratio }) => ratio)).toEqual([...curve.points.map(({ ratio }) => ratio)].sort());
  expect(curve.points[0].damage.sqnrDb).toBeGreaterThan(curve.points.at(-1)?.damage.sqnrDb ?? Infinity);
  expect(told.map(({ points }) => points.length)).toEqual([...told.keys()]);
});
