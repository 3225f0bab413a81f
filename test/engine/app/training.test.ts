import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { EngineService } from '../../../src/app/engine-service.js';
import { createEngineService } from '../../../src/app/service.js';
import { TrainingStore } from '../../../src/app/training-store.js';
import { usualChoices, type TrainingChoices, type TrainingRequest } from '../../../src/contract/training.js';
import type { JobEvent } from '../../../src/contract/types.js';
import { readModel } from '../../../src/onnx/read.js';
import { forkRuntime } from '../../../src/runtime/spawn.js';

let folder = '';
let service: EngineService;
let events: JobEvent[];

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'snug-training-'));
  events = [];
});
afterEach(async () => {
  await service.close();
  rmSync(folder, { recursive: true, force: true });
});

/** A service with the small sample open and 100 made-up labels attached. */
async function open(options: Parameters<typeof createEngineService>[0] = {}) {
  service = createEngineService({ trainings: new TrainingStore(path.join(folder, 'settings')), ...options });
  service.onJobEvent((event) => events.push(event));
  const { modelId } = await service.openSample('digits-mlp');
  const setup = await service.attachTraining(modelId, 'labels', labels(100));
  const request = (choices: Partial<TrainingChoices>): TrainingRequest => ({
    modelId,
    budgetBytes: 1e9,
    provider: 'cpu',
    dims: {},
    choices: { ...usualChoices, batch: 16, ...choices },
  });
  return { modelId, setup, request };
}

/** A `.npy` file of int64 labels 0 … 9 (format version 1.0). */
function labels(count: number): string {
  const header = `{'descr': '<i8', 'fortran_order': False, 'shape': (${count},), }`.padEnd(117) + '\n';
  const file = path.join(folder, `labels-${count}.npy`);
  const values = BigInt64Array.from({ length: count }, (_, i) => BigInt(i % 10));
  const magic = Buffer.from([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, 118, 0]);
  writeFileSync(file, Buffer.concat([magic, Buffer.from(header, 'latin1'), Buffer.from(values.buffer)]));
  return file;
}

const told = <Kind extends JobEvent['kind']>(kind: Kind): Promise<Extract<JobEvent, { kind: Kind }>> => {
  const is = (event: JobEvent): event is Extract<JobEvent, { kind: Kind }> => event.kind === kind;
  const past = events.find(is);
  if (past) return Promise.resolve(past);
  return new Promise((resolve, reject) => {
    service.onJobEvent((event) => {
      if (is(event)) resolve(event);
      else if (event.kind === 'failed') reject(new Error(event.error.message));
    });
  });
};

describe('training through the engine service', () => {
  it.each([
    ['engine processes start the runtime', {}],
    ['the door starts the runtime for them', { relayRuntimes: true, spawnRuntime: forkRuntime }],
  ])('plans, trains, tells the curve and writes the best weights: %s', async (_title, options) => {
    const { setup, request } = await open(options);
    expect(setup).toMatchObject({ data: { samples: 100 }, labels: { rows: 100 }, nextToken: false, interrupted: null });
    const wanted = request({ epochs: 3, validation: 0.2 });
    const plan = await service.planTraining(wanted);
    expect(plan).toMatchObject({ trainingSamples: 80, heldOutSamples: 20, microBatch: 16, steps: 15, fits: true });
    expect(plan.peakBytes).toBe(plan.estimate.peakBytes + plan.stateBytes);
    const { jobId } = await service.startTraining(wanted, folder);
    const { report } = await told('trained');
    expect(report).toMatchObject({ steps: 15, totalSteps: 15, ended: 'finished', microBatch: 16, heldOutSamples: 20 });
    expect(report.curve.training.at(-1)?.step).toBe(15);
    expect(report.curve.heldOut.map(({ step }) => step)).toEqual([0, 5, 10, 15]);
    expect(report.memory.predictedBytes).toBe(plan.peakBytes);
    expect(report.after.loss).toBe(Math.min(...report.curve.heldOut.map(({ loss }) => loss)));
    expect(service.outputOf(jobId)?.path).toBe(path.join(folder, 'digits-mlp.trained.onnx'));
    expect(readModel(report.output.path).graph.initializers.size).toBeGreaterThan(0);
    expect(readdirSync(folder).filter((name) => name.startsWith('digits'))).toEqual(['digits-mlp.trained.onnx']);
  });

  it('fits the micro-batch to the budget, and says so when nothing fits', async () => {
    const { request } = await open();
    const whole = await service.planTraining(request({}));
    const tight = { ...request({}), budgetBytes: whole.peakBytes - 1 };
    const less = await service.planTraining(tight);
    expect(less.microBatch).toBeLessThan(16);
    expect(await service.planTraining({ ...tight, budgetBytes: 1000 })).toMatchObject({ microBatch: 1, fits: false });
    const some = await service.planTraining(request({ trainable: 'biases-and-norms' }));
    expect(some.parameters).toBeLessThan(whole.parameters / 10);
    // The evaluation's run is part of both.
    expect(some.stateBytes).toBeLessThan(whole.stateBytes * 0.75);
    expect((await service.planTraining(request({ trainable: 'adapters', adapterRank: 2 }))).weights).toBe(3);
  });

  it('refuses labels that do not match, keeping those before', async () => {
    const { modelId } = await open();
    await expect(service.attachTraining(modelId, 'labels', labels(99))).rejects.toMatchObject({
      code: 'E_DATA_SHAPE',
      params: { rows: 99, samples: 100 },
    });
    expect((await service.trainingSetup(modelId)).labels?.rows).toBe(100);
  });

  it('stops with the best weights, and goes on where it was: after a stop, and after its end', async () => {
    const { modelId, request } = await open();
    const { jobId } = await service.startTraining(request({ epochs: 20_000 }), folder);
    await told('training');
    await expect(service.startTraining(request({}), folder)).rejects.toMatchObject({ code: 'E_USAGE' });
    await expect(service.discardTraining(modelId)).rejects.toMatchObject({ code: 'E_USAGE' });
    expect((await told('memory')).sample.usedBytes).toBeGreaterThan(0);
    await service.stopTraining(jobId);
    const { report } = await told('trained');
    expect(report.ended).toBe('stopped');
    expect(existsSync(report.output.path)).toBe(true);

    const { interrupted } = await service.trainingSetup(modelId);
    expect(interrupted).toMatchObject({ name: 'digits-mlp.trained.onnx', totalSteps: 120_000 });
    expect(interrupted?.files).toMatchObject({ labels: 'labels-100.npy', teacher: null });

    events.length = 0;
    const again = await service.resumeTraining(modelId);
    expect((await told('training')).training.fromStep).toBeGreaterThan(interrupted?.step ?? Infinity);
    await service.cancel(again.jobId);
    await service.close();

    // Another start of the app knows of it from the disk.
    events.length = 0;
    service = createEngineService({ trainings: new TrainingStore(path.join(folder, 'settings')) });
    const reopened = await service.openSample('digits-mlp');
    const known = await service.trainingSetup(reopened.modelId);
    expect(known.interrupted?.step).toBeGreaterThanOrEqual(interrupted?.step ?? Infinity);
    expect((await service.discardTraining(reopened.modelId)).interrupted).toBeNull();
    await expect(service.resumeTraining(reopened.modelId)).rejects.toMatchObject({ code: 'E_NOT_FOUND' });
    expect(readdirSync(folder).filter((name) => name.includes('checkpoint'))).toEqual([]);
  });
});

it('measures batch sizes in the background, and plans carry them', async () => {
  const { modelId } = await open();
  const request = { modelId, budgetBytes: 1e9, pins: { provider: 'cpu' as const } };
  expect((await service.plan(request)).throughput).toBeUndefined();
  await service.measureBatches(request);
  await new Promise<void>((resolve) => {
    service.onJobEvent((event) => {
      if (event.kind === 'batches' && event.sweep.points.length >= 2) resolve();
    });
  });
  await service.stopMeasuringBatches(modelId);
  const { throughput } = await service.plan(request);
  expect(throughput?.sweep).toMatchObject({ provider: 'cpu', state: 'stopped' });
  expect(throughput?.sweep.points.map(({ batch }) => batch)).toEqual([1, 2]);
  expect(throughput?.sweep.points[0]?.measuredBytes).toBeGreaterThan(500_000);
  expect([1, 2]).toContain(throughput?.knee?.batch);
});
