import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { writeModel } from '../../src/onnx/write.js';
import { npyHeader } from '../../src/runtime/npy.js';
import { matMulChain } from './models.js';
import { snug, startSnug } from './run-snug.js';

const samples = 12_000;
let folder = '';
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'snug-batch-'));
  writeModel(matMulChain(3, 64), path.join(folder, 'model.onnx'));
  const values = Float32Array.from({ length: samples * 64 }, (_, i) => Math.sin(i));
  writeFileSync(
    path.join(folder, 'data.npy'),
    Buffer.concat([npyHeader('float32', [samples, 64]), Buffer.from(values.buffer)]),
  );
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

it('killed in the middle and started again, it writes the same file', async () => {
  const args = (out: string): string[] => [
    'batch',
    ...['model.onnx', 'data.npy'].map((name) => path.join(folder, name)),
    ...['-o', path.join(folder, out), '--batch', '1', '--json', '-q'],
  ];
  const killed = startSnug(args('out.npy'));
  const note = path.join(folder, '.out.npy.snug-resume.json');
  await vi.waitFor(() => expect(existsSync(note)).toBe(true), { timeout: 50_000, interval: 20 });
  killed.child.kill('SIGKILL');
  await killed.finished;
  expect(existsSync(path.join(folder, 'out.npy'))).toBe(false);

  const { code, stdout } = await snug(args('out.npy'));
  expect(code).toBe(0);
  const { resumedAt } = JSON.parse(stdout) as { resumedAt: number };
  expect(resumedAt).toBeGreaterThan(0);
  expect(resumedAt).toBeLessThan(samples);
  expect((await snug(args('whole.npy'))).code).toBe(0);
  const resumed = readFileSync(path.join(folder, 'out.npy'));
  expect(resumed.equals(readFileSync(path.join(folder, 'whole.npy')))).toBe(true);
  expect(readdirSync(folder).filter((name) => name.startsWith('.'))).toEqual([]);
}, 120_000);

it.each([
  [['--output-name', 'none'], 'It has: y'],
  [['--output-name', 'y', '--all-outputs'], 'contradict'],
  [['--normalize', 'none'], 'imagenet'],
  [['--resize', 'none'], 'crop'],
])('%j is a mistake with a way out', async (extra, text) => {
  const files = ['model.onnx', 'data.npy'].map((name) => path.join(folder, name));
  const { code, stderr } = await snug(['batch', ...files, '-o', path.join(folder, 'o.npy'), ...extra]);
  expect(stderr).toContain(text);
  expect(code).toBe(2);
});
