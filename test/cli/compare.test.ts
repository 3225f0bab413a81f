import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Quality } from '../../src/contract/types.js';
import { writeModel } from '../../src/onnx/write.js';
import { matMulChain } from './models.js';
import { snug } from './run-snug.js';

const samples = path.resolve('src/app/samples/digits-calibration.npy');
const model = path.resolve('src/app/samples/digits-mlp.onnx');
const folder = mkdtempSync(path.join(tmpdir(), 'snug-compare-'));
const result = path.join(folder, 'four.onnx');

beforeAll(async () => {
  const made = await snug(['quantize', model, '-o', result, '--dtype', 'int4', '--uniform', '-q']);
  expect(made.stderr).toBe('');
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('snug compare', () => {
  it('tells every measure with its band and what to do, and the same as one object', async () => {
    const { code, stdout } = await snug(['compare', model, result, samples, '-q']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^four\.onnx against digits-mlp\.onnx\nDamage \w+, on 100 samples\.\n[A-Z].*\.\n/u);
    expect(stdout).toMatch(/same answer \(top 1\) +[\d.]+ % +\w+/u);
    expect(stdout).toMatch(/KL divergence +[<\d.]+ nats +\w+/u);
    expect(stdout).toMatch(/output to error \(SQNR\) +[\d.]+ dB +\w+/u);
    expect(stdout).toMatch(/cosine similarity +[>\d.]+/u);
    expect(Math.max(...stdout.split('\n').map((line) => line.length))).toBeLessThanOrEqual(100);
    const json = JSON.parse((await snug(['compare', model, result, samples, '--json', '-q'])).stdout) as Quality;
    expect(json).toMatchObject({ source: 'samples', samples: 100, outputs: [{ value: 'output' }] });
    expect(stdout).toContain(`Damage ${json.damage.band}`);
  });

  it('finds no damage in a copy, and gives no advice from random inputs', async () => {
    const { stdout } = await snug(['compare', model, model, '-q']);
    expect(stdout).toContain('Damage none, on random inputs, which are no measure of accuracy.');
    expect(stdout).toContain('Give it samples to learn what it costs on real inputs.');
    expect(stdout).toMatch(/SQNR\) +no error/u);
    const three = JSON.parse(
      (await snug(['compare', model, model, '--dim', 'batch=3', '--json', '-q'])).stdout,
    ) as Quality;
    expect(three).toMatchObject({ source: 'random', samples: 3 });
  });

  it('refuses labels without samples, labels of another length, and a model of another kind', async () => {
    expect(await snug(['compare', model, result, '--labels', samples])).toMatchObject({ code: 2 });
    const labels = await snug(['compare', model, result, samples, '--labels', samples, '-q']);
    expect(labels).toMatchObject({ code: 1, stdout: '' });
    expect(labels.stderr).toMatch(/E_DATA_/u);
    const other = path.join(folder, 'other.onnx');
    writeModel(matMulChain(1, 8), other);
    const before = readFileSync(other);
    expect((await snug(['compare', model, other, '-q'])).stderr).toContain('has no input "input"');
    expect(readFileSync(other).equals(before) && existsSync(result)).toBe(true);
  });
});
