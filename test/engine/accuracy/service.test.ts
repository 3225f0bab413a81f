import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { openAccuracy } from '../../../src/app/accuracy/store.js';
import type { EngineService } from '../../../src/app/engine-service.js';
import { createEngineService } from '../../../src/app/service.js';
import type { AccuracyView, JobEvent } from '../../../src/contract/types.js';

let folder = '';
let service: EngineService;
let events: JobEvent[];

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'snug-learn-'));
  events = [];
});
afterEach(async () => {
  await service.close();
  rmSync(folder, { recursive: true, force: true });
});

function start(options: { autoCalibrate?: boolean } = {}): EngineService {
  service = createEngineService({ accuracy: openAccuracy(path.join(folder, 'settings')), ...options });
  service.onJobEvent((event) => events.push(event));
  return service;
}

/** Resolves with the first event of accuracy that `test` likes, past or to come. */
function told(test: (view: AccuracyView) => boolean): Promise<AccuracyView> {
  const liked = (event: JobEvent): AccuracyView | null =>
    event.kind === 'accuracy' && test(event.accuracy) ? event.accuracy : null;
  const past = events.map(liked).find((view) => view !== null);
  if (past) return Promise.resolve(past);
  return new Promise((resolve) => {
    const stop = service.onJobEvent((event) => {
      const view = liked(event);
      if (!view) return;
      stop();
      resolve(view);
    });
  });
}

const request = (modelId: string, budgetBytes: number) => ({
  modelId,
  budgetBytes,
  pins: { provider: 'cpu' as const, batch: 32 },
});

it('writes down what each fit predicted and measured, and clears it when asked', async () => {
  start();
  const { modelId } = await service.openSample('digits-mlp');
  expect((await service.accuracy()).summary).toBeNull();
  await service.startFit(request(modelId, 387_000), folder);
  const view = await told(({ summary }) => summary !== null);
  expect(view.runs.map(({ model, provider, batch }) => [model, provider, batch])).toEqual([
    ['digits-mlp.onnx', 'cpu', 32],
    ['digits-mlp.onnx', 'cpu', 32],
  ]);
  expect(view.summary?.worstPercent).toBeLessThan(20);
  expect(JSON.stringify(view)).not.toContain(folder);
  expect((await service.clearAccuracy()).runs).toEqual([]);
});

it('calibrates when asked, and the next plan is as sure as that', async () => {
  start();
  const { modelId } = await service.openSample('digits-mlp');
  const before = await service.plan(request(modelId, 5e6));
  expect(before.baseline.estimate.interval?.source).toBe('rule');
  const view = await service.calibrate('cpu');
  expect(view.calibrating).toBeNull();
  expect(view.calibrations).toMatchObject([{ provider: 'cpu', driver: null }]);
  const after = await service.plan(request(modelId, 5e6));
  expect(after.baseline.estimate.interval).toMatchObject({ source: 'calibration', runs: 3 });
  expect(after.baseline.estimate.peakBytes).toBe(before.baseline.estimate.peakBytes);
});

it('calibrates by itself after the first plan, once', async () => {
  start({ autoCalibrate: true });
  const { modelId } = await service.openSample('digits-mlp');
  await service.plan(request(modelId, 5e6));
  expect((await told(({ calibrating }) => calibrating === 'cpu')).calibrations).toEqual([]);
  await told(({ calibrating, calibrations }) => calibrating === null && calibrations.length === 1);
  expect((await service.plan(request(modelId, 5e6))).baseline.estimate.interval?.source).toBe('calibration');
});

it('gives way to a fit, and stops when told to', async () => {
  start();
  const { modelId } = await service.openSample('digits-mlp');
  const first = service.calibrate('cpu');
  const given = expect(first).rejects.toMatchObject({ code: 'E_CANCELLED' });
  await told(({ calibrating }) => calibrating === 'cpu');
  await service.startFit(request(modelId, 387_000), folder);
  await given;
  await expect(service.calibrate('cpu')).rejects.toMatchObject({ code: 'E_USAGE' });
  await told(({ summary }) => summary !== null);
  const second = service.calibrate('cpu');
  const stopped = expect(second).rejects.toMatchObject({ code: 'E_CANCELLED' });
  await service.stopCalibration();
  await stopped;
  expect((await service.accuracy()).calibrations).toEqual([]);
});
