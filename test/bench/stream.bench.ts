/**
 * `npm run bench:stream`: 400,000 samples through a model with `snug batch`; prints what the command and its runtime
 * process hold together in each tenth of the run, which must not grow in
 * the second half. Linux only: memory is read from /proc.
 */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { startSnug } from '../cli/run-snug.js';
import { npy } from './npy.js';
import { heldMegabytes } from './process-tree.js';

const model = path.resolve('../shared/models/digits-mlp.onnx');
const samples = 400_000;
const folder = mkdtempSync(path.join(tmpdir(), 'snug-stream-'));

describe.skipIf(process.platform !== 'linux' || !existsSync(model))('streaming (needs Linux and the samples)', () => {
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('holds no more at the end than at the beginning', async () => {
    const data = path.join(folder, 'data.npy');
    const values = Float32Array.from({ length: samples * 64 }, (_, i) => Math.sin(i * 0.37) ** 2);
    writeFileSync(data, npy('<f4', [samples, 1, 8, 8], values));
    const output = path.join(folder, 'out.npy');
    const started = performance.now();
    const { child, finished } = startSnug(['batch', model, data, '-o', output, '--batch', '8', '--json', '-q']);
    const held: number[] = [];
    const timer = setInterval(() => held.push(heldMegabytes(child.pid!)), 100);
    const { code, stdout, stderr } = await finished;
    clearInterval(timer);
    expect(stderr).toBe('');
    expect(code).toBe(0);
    const tenths = Array.from({ length: 10 }, (_, tenth) =>
      Math.max(...held.slice(Math.floor((tenth * held.length) / 10), Math.floor(((tenth + 1) * held.length) / 10))),
    );
    const seconds = (performance.now() - started) / 1000;
    console.log(stdout.trim());
    console.log(`${seconds.toFixed(1)} s; MB held, tenth by tenth: ${tenths.map((mb) => mb.toFixed(1)).join(' ')}`);
    // Until about the middle the JavaScript engine widens its young generation, by some 30 MB in each process.
    expect(tenths[9]! / tenths[5]!).toBeLessThan(1.05);
  });
});
