import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { bundledSamples } from '../../src/app/samples.js';
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
  [['-o', 'answers.txt'], 'ends in .npy'],
])('%j is a mistake with a way out', async (extra, text) => {
  const files = ['model.onnx', 'data.npy'].map((name) => path.join(folder, name));
  const { code, stderr } = await snug(['batch', ...files, '-o', path.join(folder, 'o.npy'), ...extra]);
  expect(stderr).toContain(text);
  expect(code).toBe(2);
});

it('replaces no list of images unasked', async () => {
  const images = path.join(folder, 'images');
  mkdirSync(images);
  const grey = sharp({ create: { width: 8, height: 8, channels: 3, background: '#808080' } });
  await grey.png().toFile(path.join(images, '0.png'));
  const [sample] = bundledSamples();
  const names = path.join(folder, 'o.npy.names.txt');
  writeFileSync(names, 'mine');
  const args = ['batch', sample.modelPath, images, '-o', path.join(folder, 'o.npy')];
  expect((await snug(args)).stderr).toContain('E_EXISTS');
  expect(readFileSync(names, 'utf8')).toBe('mine');
  expect((await snug([...args, '--force'])).code).toBe(0);
  expect(readFileSync(names, 'utf8')).toBe('0.png\n');
});
