import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { AccuracySummary, Calibration, Estimate } from '../../src/contract/types.js';
import { writeModel } from '../../src/onnx/write.js';
import { matMulChain } from './models.js';
import { snug } from './run-snug.js';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'snug-record-'));
  writeModel(matMulChain(3, 64), path.join(folder, 'model.onnx'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const run = async <T>(...args: string[]): Promise<T> => {
  const { code, stdout, stderr } = await snug([...args, '--json', '-q'], { SNUG_SETTINGS_DIR: folder });
  expect([code, stderr]).toEqual([0, '']);
  return JSON.parse(stdout) as T;
};
interface Gpu {
  calibrations: Calibration[];
  accuracy: AccuracySummary | null;
}

it('keeps predictions beside measurements, and forgets them when asked', async () => {
  const model = path.join(folder, 'model.onnx');
  await run('memory', model, '--batch', '8');
  expect(existsSync(path.join(folder, 'accuracy.json'))).toBe(false);
  await run('memory', model, '--batch', '8', '--measure');
  await run('fit', model, '-o', path.join(folder, 'out.onnx'), '--budget', '1MB', '--provider', 'cpu', '--batch', '4');
  const { accuracy } = await run<Gpu>('gpu');
  expect(accuracy?.runs).toBe(3);
  expect(accuracy?.worstPercent).toBeLessThan(20);
  expect(readFileSync(path.join(folder, 'accuracy.json'), 'utf8')).not.toContain(folder);
  expect((await run<Gpu>('gpu', '--clear-record')).accuracy).toBeNull();
});

it('calibrates a provider, and estimates are as sure as that', async () => {
  const { calibrations } = await run<Gpu>('gpu', '--calibrate', '--provider', 'cpu');
  expect(calibrations).toHaveLength(1);
  expect(calibrations[0]?.probes).toHaveLength(3);
  const { estimate } = await run<{ estimate: Estimate }>('memory', path.join(folder, 'model.onnx'));
  expect(estimate.interval).toMatchObject({ source: 'calibration', runs: 3 });
  expect(estimate.highBytes).toBeGreaterThanOrEqual(estimate.peakBytes);
});
