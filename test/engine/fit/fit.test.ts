import { createHash } from 'node:crypto';
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openData, openModel } from '../../../src/app/open.js';
import { bundledSamples } from '../../../src/app/samples.js';
import { Analysis } from '../../../src/fit/analysis.js';
import { fitModel, type FitRequest } from '../../../src/fit/fit.js';
import { datasetWindow } from '../../../src/fit/reference.js';
import { notShared } from '../../../src/fit/recover-candidate.js';
import { Planner } from '../../../src/fit/solve.js';
import { createRuntime } from '../../../src/runtime/client.js';
import type { Dataset } from '../../../src/runtime/dataset-types.js';
import type { TrainingRuntime } from '../../../src/runtime/training-types.js';
import type { Runtime } from '../../../src/runtime/types.js';

const [sample] = bundledSamples();
let folder = '';
let modelPath = '';
let runtime: Runtime;
let dataset: Dataset | null = null;
const sha = (): string => createHash('sha256').update(readFileSync(modelPath)).digest('hex');

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'snug-fit-'));
  modelPath = path.join(folder, 'digits-mlp.onnx');
  copyFileSync(sample.modelPath, modelPath);
  runtime = createRuntime();
});
afterEach(async () => {
  await runtime.close();
  await dataset?.close();
  rmSync(folder, { recursive: true, force: true });
});

async function request(budgetBytes: number, extra: Partial<FitRequest> = {}): Promise<FitRequest> {
  const opened = openModel(modelPath);
  dataset = await openData(sample.dataPath ?? '', opened, {});
  return {
    model: opened.model,
    modelPath,
    inputs: opened.inputs,
    outputPath: path.join(folder, 'small.onnx'),
    budgetBytes,
    provider: 'cpu',
    pins: { batch: 32 },
    dataset,
    runtime,
    ...extra,
  };
}

describe('fitModel on the bundled sample', () => {
  it('keeps the measured peak within half of what the original takes, and its answers', async () => {
    const before = sha();
    const report = await fitModel(await request(387_000));
    expect(report.fits).toBe(true);
    expect(report.measured?.peakBytes).toBeLessThanOrEqual(387_000);
    expect(report.before.measured?.peakBytes).toBeGreaterThan(700_000);
    expect(Math.abs(report.predicted.peakBytes / (report.measured?.peakBytes ?? 1) - 1)).toBeLessThan(0.1);
    expect(report.quality).toMatchObject({ source: 'samples', samples: 20, fitted: false, top1Agreement: 1 });
    expect(report.quality?.outputs).toMatchObject([{ top1Agreement: 1 }]);
    const changed = report.plan.weights.filter(({ dtype }) => dtype !== 'fp32').length;
    expect(report.quality?.layers).toHaveLength(report.plan.pruneRatio > 0 ? 1 : changed);
    expect(readdirSync(folder).sort()).toEqual(['digits-mlp.onnx', 'small.onnx']);
    expect(sha()).toBe(before);
    // The result is an ordinary model: it opens and can be inspected again.
    expect(openModel(path.join(folder, 'small.onnx')).summary.inputs[0]).toMatchObject({
      name: 'input',
      dims: ['batch', 1, 8, 8],
    });
  });

  it('says that nothing was kept out of samples too few to share', async () => {
    const asked = await request(387_000);
    const few = datasetWindow(asked.dataset!, 0, 10);
    const report = await fitModel({ ...asked, dataset: few, pins: { batch: 8 } });
    expect(report.quality).toMatchObject({ source: 'samples', samples: 10, fitted: true });
    const unchanged = await fitModel({
      ...asked,
      ...{ dataset: few, pins: { batch: 8 }, budgetBytes: 10_000_000, overwrite: true },
    });
    expect(unchanged.quality).toMatchObject({ samples: 10, fitted: false });
  });

  it('does nothing to a model that fits', async () => {
    const report = await fitModel(await request(10_000_000));
    expect(report.reasons).toContainEqual({ kind: 'already-fits' });
    expect(report.plan.weights.every((w) => w.dtype === 'fp32')).toBe(true);
    expect(report.quality?.damage.band).toBe('none');
  });

  it('obeys pins', async () => {
    const report = await fitModel(await request(10_000_000, { pins: { batch: 8, dtype: 'int4', pruneRatio: 0.5 } }));
    expect(report.plan.batch).toBe(8);
    expect(report.plan.classes.map((c) => c.after)).toEqual(report.plan.classes.map((c) => c.before / 2));
    expect(report.plan.weights.filter((w) => w.dtype === 'int4').length).toBe(report.plan.weights.length);
    expect(report.after.parameters).toBeLessThan(report.before.parameters * 0.6);
  });

  it('says why nothing was trained where that was asked for', async () => {
    const given = await request(10_000_000, { pins: { batch: 8, dtype: 'fp32', pruneRatio: 0.5 } });
    const few: Dataset = { ...given.dataset!, samples: 20, feeds: (start, count) => dataset!.feeds(start, count) };
    const recovery = {
      mode: 'always',
      runtime: runtime as typeof runtime & TrainingRuntime,
      memoryBytes: 1e9,
    } as const;
    const report = await fitModel({ ...given, dataset: few, recovery });
    expect(report.reasons).toContainEqual({ kind: 'note', text: notShared });
    expect(report.tried.every(({ id }) => !id.endsWith('+recovered'))).toBe(true);
  });

  it('mixes formats where 8 bits for all are too many, and says what it weighed', async () => {
    const { model } = openModel(modelPath);
    const planner = new Planner(new Analysis(model, 'cpu', true));
    const eight = planner.solve(1e9, { batch: 32, dtype: 'int8', pruneRatio: 0 }).smallest.estimate.peakBytes;
    const budget = Math.round(eight * 0.92);
    const report = await fitModel(await request(budget, { pins: { batch: 32, pruneRatio: 0 } }));
    expect(report.fits).toBe(true);
    expect(report.measured?.peakBytes).toBeLessThanOrEqual(budget);
    expect(new Set(report.plan.weights.map(({ dtype }) => dtype))).toContain('int4');
    expect(report.plan.mix?.basis).toBe('measured');
    expect(report.plan.weights.every(({ noise }) => noise !== undefined)).toBe(true);
    // The front is steep here: for a twelfth of the memory it gives up no answer.
    expect(report.quality?.damage.band).toBe('negligible');
  });

  it('raises the batch as far as the budget goes when nobody fixed it', async () => {
    const report = await fitModel(await request(2_000_000, { pins: {} }));
    expect(report.plan.batch).toBeGreaterThan(32);
    expect(report.measured?.batch).toBe(report.plan.batch);
    expect(report.measured?.peakBytes).toBeLessThanOrEqual(2_000_000);
  });

  it('reads what is free right before a run, and says when it is less than needed', async () => {
    let asked = 0;
    const freeBytes = () => Promise.resolve(++asked > 0 ? 1000 : null);
    const short = await fitModel(await request(10_000_000, { freeBytes }));
    expect(asked).toBe(short.tried.length);
    const neededBytes = short.predicted.peakBytes;
    expect(short.reasons).toContainEqual({ kind: 'less-free', freeBytes: 1000, neededBytes });
  });

  it('leaves nothing behind when stopped, and says so', async () => {
    const abort = new AbortController();
    const stoppable = createRuntime({ signal: abort.signal });
    const job = fitModel(
      await request(387_000, {
        runtime: stoppable,
        signal: abort.signal,
        onProgress: ({ phase }) => {
          if (phase === 'quantizing') abort.abort();
        },
      }),
    );
    await expect(job).rejects.toMatchObject({ code: 'E_CANCELLED' });
    await stoppable.close();
    expect(readdirSync(folder)).toEqual(['digits-mlp.onnx']);
  });

  it('keeps the best finished candidate when stopped later', async () => {
    const abort = new AbortController();
    const stoppable = createRuntime({ signal: abort.signal });
    let compared = false;
    // Pruned at random, the first candidate that fits is damaged, and the search goes on.
    const report = await fitModel(
      await request(190_000, {
        pins: { batch: 32, dtype: 'int4', pruneMethod: 'random' },
        runtime: stoppable,
        signal: abort.signal,
        onProgress: ({ phase }) => {
          if (phase === 'comparing') compared = true;
          if (phase === 'writing' && compared) abort.abort();
        },
      }),
    );
    await stoppable.close();
    expect(abort.signal.aborted).toBe(true);
    expect(report.fits).toBe(true);
    expect(report.reasons).toContainEqual({ kind: 'note', text: expect.stringContaining('best so far was kept') });
    expect(readdirSync(folder).sort()).toEqual(['digits-mlp.onnx', 'small.onnx']);
  });
});
