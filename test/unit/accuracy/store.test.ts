import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type NewCalibration, type NewRun, openAccuracy } from '../../../src/app/accuracy/store.js';

let folder: string;
beforeEach(() => (folder = mkdtempSync(path.join(os.tmpdir(), 'snug-accuracy-'))));
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const file = () => path.join(folder, 'accuracy.json');
const run = (over: Partial<NewRun> = {}): NewRun => ({
  model: 'net.onnx',
  provider: 'cpu',
  batch: 4,
  dtype: 'int8',
  predictedBytes: 100_000,
  measuredBytes: 101_000,
  at: 1,
  device: 'Some CPU',
  ...over,
});
const calibration = (over: Partial<NewCalibration> = {}): NewCalibration => ({
  device: 'RTX 3060',
  driver: '581.29',
  provider: 'cuda',
  at: 5,
  fixed: { loadBytes: 2, peakBytes: 3, predictedBytes: 1 },
  probes: [{ name: 'maps', predictedBytes: 100, measuredBytes: 104, lowBytes: 75, highBytes: 200 }],
  percent: 8,
  ...over,
});
const cpu = { device: 'Some CPU', driver: null, provider: 'cpu' as const };
const cuda = { device: 'RTX 3060', driver: '581.29', provider: 'cuda' as const };

describe('the record of runs', () => {
  it('keeps the newest first, sums them up and survives a restart', async () => {
    await openAccuracy(folder).addRuns([run({ at: 1 }), run({ at: 2, measuredBytes: 80_000 })]);
    const view = await openAccuracy(folder).view();
    expect(view.runs.map(({ at }) => at)).toEqual([2, 1]);
    expect(view.summary?.runs).toBe(2);
    expect(view.summary?.worstPercent).toBeCloseTo(25, 5);
    // What the page gets is what the contract says, and no more.
    expect(Object.keys(view.runs[0] ?? {})).not.toContain('device');
  });

  it('holds at most the last 200, and no folder of a model', async () => {
    const store = openAccuracy(folder);
    for (let at = 0; at < 210; at += 7) {
      await store.addRuns(Array.from({ length: 7 }, (_, i) => run({ at: at + i, model: '/home/me/secret/net.onnx' })));
    }
    const { runs } = await store.view();
    expect(runs).toHaveLength(200);
    expect(runs[0]?.at).toBe(209);
    expect(readFileSync(file(), 'utf8')).not.toContain('secret');
  });

  it('does not keep what cannot be compared', async () => {
    const store = openAccuracy(folder);
    await store.addRuns([run({ measuredBytes: 0 })]);
    expect((await store.view()).summary).toBeNull();
    expect(existsSync(file())).toBe(false);
  });

  it('is not lost by a run that could not be read back', async () => {
    const store = openAccuracy(folder);
    await store.addRuns([run({ at: 1 })]);
    await store.addRuns([run({ at: 2, batch: 0 }), run({ at: 3 })]);
    expect((await openAccuracy(folder).view()).runs.map(({ at }) => at)).toEqual([3, 1]);
    expect(readdirSync(folder)).toEqual(['accuracy.json']);
  });

  it('loses no run when several programs write at once', async () => {
    const stores = Array.from({ length: 6 }, () => openAccuracy(folder));
    await Promise.all(
      Array.from({ length: 5 }, (_, round) =>
        stores.map((store, i) => store.addRuns([run({ at: round * 10 + i })])),
      ).flat(),
    );
    expect((await openAccuracy(folder).view()).runs).toHaveLength(30);
    expect(readdirSync(folder)).toEqual(['accuracy.json']);
  });

  it('goes on after a program that died while it wrote', async () => {
    const lock = `${file()}.lock`;
    writeFileSync(lock, '');
    const old = new Date(Date.now() - 60_000);
    utimesSync(lock, old, old);
    await openAccuracy(folder).addRuns([run()]);
    expect(readdirSync(folder)).toEqual(['accuracy.json']);
  });

  it('is cleared without losing calibrations', async () => {
    const store = openAccuracy(folder);
    await store.addRuns([run()]);
    await store.addCalibration(calibration());
    await store.clearRuns();
    const view = await openAccuracy(folder).view();
    expect(view).toMatchObject({ runs: [], summary: null, calibrations: [{ device: 'RTX 3060' }] });
  });

  it('takes up what another process wrote meanwhile', async () => {
    const [app, commandLine] = [openAccuracy(folder), openAccuracy(folder)];
    await app.addRuns([run({ at: 1 })]);
    await commandLine.addRuns([run({ at: 2 })]);
    await app.addRuns([run({ at: 3 })]);
    expect((await app.view()).runs.map(({ at }) => at)).toEqual([3, 2, 1]);
  });

  it('writes whole files, however many changes come at once', async () => {
    const store = openAccuracy(folder);
    await Promise.all(Array.from({ length: 20 }, (_, at) => store.addRuns([run({ at })])));
    expect(readdirSync(folder)).toEqual(['accuracy.json']);
    expect((await openAccuracy(folder).view()).runs).toHaveLength(20);
  });
});

describe('a file that is not as it should be', () => {
  it.each([
    '',
    '{',
    'null',
    '{"version":2,"runs":[],"calibrations":[]}',
    '{"version":1,"runs":[{"model":"a"}],"calibrations":[]}',
    `{"version":1,"runs":[],"calibrations":[${JSON.stringify({ ...calibration(), onnxruntime: '1', snug: '0', probes: [] })}]}`,
  ])('is put aside and told apart from nothing: %s', async (content) => {
    writeFileSync(file(), content);
    const store = openAccuracy(folder);
    expect(await store.view()).toEqual({ runs: [], summary: null, calibrations: [] });
    expect(readFileSync(`${file()}.bad`, 'utf8')).toBe(content);
    await store.addRuns([run()]);
    expect((await openAccuracy(folder).view()).runs).toHaveLength(1);
  });

  it('and a disk that cannot be written to stops nothing', async () => {
    writeFileSync(path.join(folder, 'file'), '');
    const store = openAccuracy(path.join(folder, 'file', 'settings'));
    await store.addRuns([run()]);
    expect((await store.view()).runs).toHaveLength(1);
  });
});

describe('what is known about a device', () => {
  it('is nothing at first', async () => {
    expect(await openAccuracy(null).known(cpu)).toEqual({ calibration: null, record: null });
  });

  it('holds for the same GPU, driver and provider only', async () => {
    const store = openAccuracy(folder);
    await store.addCalibration(calibration());
    expect(await store.calibrationOf(cuda)).toMatchObject({ percent: 8, onnxruntime: expect.any(String) });
    expect(await store.calibrationOf({ ...cuda, driver: '582.0' })).toBeNull();
    expect(await store.calibrationOf({ ...cuda, provider: 'webgpu' })).toBeNull();
    expect(await store.calibrationOf({ ...cuda, device: 'RTX 4090' })).toBeNull();
    await store.addCalibration(calibration({ percent: 3 }));
    expect((await store.view()).calibrations).toMatchObject([{ percent: 3 }]);
  });

  it('ends with the runtime it was learned with', async () => {
    const store = openAccuracy(folder);
    await store.addCalibration(calibration());
    await store.addRuns([run()]);
    writeFileSync(file(), readFileSync(file(), 'utf8').replaceAll(/"onnxruntime": "[^"]*"/g, '"onnxruntime": "1.0.0"'));
    const later = openAccuracy(folder);
    expect(await later.calibrationOf(cuda)).toBeNull();
    expect((await later.known(cpu)).record).toBeNull();
    // The history stays to be read.
    expect((await later.view()).summary?.runs).toBe(1);
  });

  it('takes the range of runs on the same device and provider', async () => {
    const store = openAccuracy(folder);
    await store.addRuns([
      run({ measuredBytes: 90_000 }),
      run({ measuredBytes: 103_000 }),
      run({ measuredBytes: 300_000, provider: 'webgpu' }),
      run({ measuredBytes: 300_000, device: 'Other CPU' }),
    ]);
    expect((await store.known(cpu)).record).toEqual({ low: 0.9, high: 1.03, runs: 2 });
  });
});

it('does not take the noise of small models on a device for an error of the estimate', async () => {
  const store = openAccuracy(null);
  const small = run({ provider: 'webgpu', predictedBytes: 2e6, measuredBytes: 9e6 });
  const large = run({ provider: 'webgpu', predictedBytes: 100e6, measuredBytes: 104e6 });
  await store.addRuns([small, large]);
  const known = await store.known({ ...cpu, provider: 'webgpu' });
  expect(known.record).toEqual({ low: 1, high: 1.04, runs: 1 });
  expect((await store.view()).summary?.runs).toBe(2);
});
