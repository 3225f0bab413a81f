import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { writeModel } from '../../src/onnx/write.js';
import type { TrainFileResult } from '../../src/app/train.js';
import { clouds, smallModel } from '../engine/train/model.js';
import { snug, startSnug } from './run-snug.js';

const folder = mkdtempSync(path.join(tmpdir(), 'snug-train-'));
const [model, data, labels] = ['model.onnx', 'data.npy', 'labels.npy'].map((name) => path.join(folder, name)) as [
  string,
  string,
  string,
];
const output = (name: string): string => path.join(folder, name);

function npy(dtype: string, dims: readonly number[], values: ArrayBufferView): Uint8Array {
  const shape = dims.map((size) => `${size},`).join(' ');
  const text = `{'descr': '${dtype}', 'fortran_order': False, 'shape': (${shape}), }`.padEnd(117) + '\n';
  const start = Buffer.from(`\x93NUMPY\x01\x00..${text}`, 'latin1');
  start.writeUInt16LE(text.length, 8);
  return Buffer.concat([start, Buffer.from(values.buffer, values.byteOffset, values.byteLength)]);
}

beforeAll(async () => {
  const { dataset, labels: right } = clouds(300);
  const { x } = await dataset.feeds(0, 300);
  writeModel(smallModel(), model);
  writeFileSync(data, npy('<f4', x!.dims, x!.data));
  writeFileSync(labels, npy('<i8', right.dims, right.data));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('snug train', () => {
  it('writes a better model, tells every step, and leaves no checkpoint', async () => {
    const before = readFileSync(model);
    const { code, stdout, stderr } = await snug([
      ...['train', model, data, labels, '-o', output('better.onnx'), '--epochs', '6', '--lr', '0.01', '--json', '-q'],
    ]);
    expect(stderr).toBe('');
    expect(code).toBe(0);
    const result = JSON.parse(stdout) as TrainFileResult;
    expect(result.steps).toHaveLength(6 * Math.ceil(270 / 32));
    expect(result.after.loss).toBeLessThan(result.before.loss);
    expect(result.memory.peakBytes).toBeGreaterThan(result.memory.stateBytes);
    expect(readFileSync(model)).toEqual(before);
    expect(existsSync(output('better.onnx'))).toBe(true);
    expect(existsSync(output('better.onnx.checkpoint'))).toBe(false);
  });

  it('keeps the best weights when it is stopped, and goes on from there', async () => {
    const args = ['train', model, data, labels, '-o', output('stopped.onnx'), '--epochs', '4000', '--json', '-q'];
    const { child, finished } = startSnug(args);
    const checkpoint = output('stopped.onnx.checkpoint');
    const savedAt = (): number => statSync(checkpoint, { throwIfNoEntry: false })?.mtimeMs ?? 0;
    const untilSaved = async (after: number): Promise<void> => {
      while (savedAt() <= after) await new Promise((resolve) => setTimeout(resolve, 50));
    };
    await untilSaved(0);
    child.kill('SIGINT');
    const { code, stdout } = await finished;
    expect(code).toBe(0);
    expect((JSON.parse(stdout) as TrainFileResult).ended).toBe('stopped');
    expect(existsSync(output('stopped.onnx'))).toBe(true);
    const stoppedAt = savedAt();
    // Once the user has moved the result away, only the checkpoint is left to lose.
    const moved = output('moved.onnx');
    renameSync(output('stopped.onnx'), moved);
    const anew = await snug(args);
    expect(anew.code).toBe(1);
    expect(anew.stderr).toContain('E_EXISTS');
    expect(anew.stderr).toContain('--resume');
    expect(anew.stderr).toContain('--force');
    expect(savedAt()).toBe(stoppedAt);
    renameSync(moved, output('stopped.onnx'));
    const again = startSnug([...args, '--resume']);
    await untilSaved(stoppedAt);
    again.child.kill('SIGINT');
    const resumed = JSON.parse((await again.finished).stdout) as TrainFileResult;
    expect(resumed.steps.length).toBeGreaterThan((JSON.parse(stdout) as TrainFileResult).steps.length);
  });

  it('goes on with nothing where nothing was interrupted', async () => {
    const out = output('never-begun.onnx');
    const { code, stderr } = await snug(['train', model, data, labels, '-o', out, '--resume', '-q']);
    expect(code).toBe(1);
    expect(stderr).toContain('E_NOT_FOUND');
    expect(stderr).toContain('leave out --resume');
    expect(existsSync(out)).toBe(false);
  });

  it('makes micro-batches that fit a budget, and says when none does', async () => {
    const fits = await snug([
      ...['train', model, data, labels, '-o', output('small.onnx'), '--batch', '256', '--budget', '40kB'],
      ...['--steps', '2', '--json', '-q'],
    ]);
    expect(fits.code).toBe(0);
    const { microBatch, memory } = JSON.parse(fits.stdout) as TrainFileResult;
    expect(microBatch).toBeLessThan(256);
    expect(memory.peakBytes).toBeLessThanOrEqual(40_000);
    const none = await snug(['train', model, data, labels, '-o', output('none.onnx'), '--budget', '1kB', '-q']);
    expect(none.code).toBe(1);
    expect(none.stderr).toContain('E_NOTHING_FITS');
    expect(existsSync(output('none.onnx'))).toBe(false);
  });

  it('names what is wrong', async () => {
    const missing = await snug(['train', model, data, '-o', output('x.onnx'), '-q']);
    expect([missing.code, missing.stderr]).toEqual([2, expect.stringContaining('needs an answer for every sample')]);
    const short = await snug(['train', model, data, data, '-o', output('x.onnx'), '-q']);
    expect(short.stderr).toContain('E_DATA_FORMAT');
    const none = await snug(['train', model, data, labels, '-o', output('x.onnx'), '--trainable', 'head.*', '-q']);
    expect([none.code, none.stderr]).toEqual([2, expect.stringContaining('w1')]);
    const same = await snug(['train', model, data, labels, '-o', model, '--force', '-q']);
    expect(same.stderr).toContain('E_SAME_FILE');
    const both = await snug([
      ...['train', model, data, labels, '-o', output('x.onnx'), '--loss', 'mse', '--teacher', model, '-q'],
    ]);
    expect([both.code, both.stderr]).toEqual([2, expect.stringContaining('not with both')]);
    expect(existsSync(output('x.onnx'))).toBe(false);
  });

  it('replaces none of its inputs, whatever is asked', async () => {
    const teacher = output('teacher.onnx');
    writeModel(smallModel(), teacher);
    for (const [input, rest] of [
      [data, [labels]],
      [labels, [labels]],
      [teacher, ['--loss', 'distill', '--teacher', teacher]],
    ] as const) {
      const before = readFileSync(input);
      const { stderr } = await snug(['train', model, data, ...rest, '-o', input, '--steps', '1', '--force', '-q']);
      expect(stderr).toContain('E_SAME_FILE');
      expect(readFileSync(input)).toEqual(before);
    }
  });
});
