import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { PruneFileResult } from '../../src/app/shrink.js';
import type { FitReport } from '../../src/contract/types.js';
import { writeModel } from '../../src/onnx/write.js';
import { matMulChain } from './models.js';
import { snug, startSnug } from './run-snug.js';

let folder = '';

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'snug-usage-'));
  writeModel(matMulChain(3, 64), path.join(folder, 'model.onnx'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** A float32 array as a `.npy` file, version 1.0. */
function writeNpy(file: string, dims: number[]): void {
  const header = `{'descr': '<f4', 'fortran_order': False, 'shape': (${dims.join(', ')},), }`;
  const padded = header.padEnd(Math.ceil((header.length + 11) / 64) * 64 - 11) + '\n';
  const values = Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(i));
  const head = Buffer.from([0x93, ...Buffer.from('NUMPY'), 1, 0, padded.length & 255, padded.length >> 8]);
  writeFileSync(file, Buffer.concat([head, Buffer.from(padded), Buffer.from(values.buffer)]));
}

describe('paths as people write them', () => {
  it('takes relative paths, spaces and letters of any script, and writes into another folder', async () => {
    mkdirSync(path.join(folder, 'a folder'));
    mkdirSync(path.join(folder, 'other'));
    const cwd = path.join(folder, 'a folder');
    writeModel(matMulChain(3, 64), path.join(cwd, 'modèle 模型.onnx'));
    const args = ['fit', 'modèle 模型.onnx', '-o', '../other/out.onnx', '--budget', '40kB', '--provider', 'cpu'];
    const { finished } = startSnug([...args, '--batch', '4', '--json', '-q'], {}, cwd);
    const { code, stdout, stderr } = await finished;
    expect(stderr).toBe('');
    expect(code).toBe(0);
    expect((JSON.parse(stdout) as FitReport).fits).toBe(true);
    expect(readdirSync(path.join(folder, 'other'))).toEqual(['out.onnx']);
  });
});

describe('outputs', () => {
  it('never replaces the data it reads', async () => {
    const data = path.join(folder, 'data.npy');
    writeNpy(data, [8, 64]);
    const before = readFileSync(data);
    const model = path.join(folder, 'model.onnx');
    expect((await snug(['batch', model, data, '-o', data, '--force'])).stderr).toContain('E_SAME_FILE');
    const prune = ['prune', model, '-o', data, '--ratio', '0.5', '--calibrate', data, '--force'];
    expect((await snug(prune)).stderr).toContain('E_SAME_FILE');
    const report = ['fit', model, '-o', path.join(folder, 'o.onnx'), '--budget', '1MB', '--report', model, '--force'];
    expect((await snug([...report, '--provider', 'cpu'])).stderr).toContain('E_SAME_FILE');
    const labels = path.join(folder, 'labels.npy');
    writeNpy(labels, [8]);
    const labelled = ['fit', model, '-o', path.join(folder, 'o.onnx'), '--calibrate', data, '--labels', labels];
    const onLabels = await snug([...labelled, '--report', labels, '--force', '--budget', '1MB', '--provider', 'cpu']);
    expect(onLabels.stderr).toContain('E_SAME_FILE');
    expect(readFileSync(data).equals(before)).toBe(true);
  });

  it('prunes to widths of measured loss, and tells what samples kept out of it say', async () => {
    const data = path.join(folder, 'data.npy');
    writeNpy(data, [80, 64]);
    const out = path.join(folder, 'pruned.onnx');
    const args = ['prune', path.join(folder, 'model.onnx'), '-o', out, '--ratio', '0.5', '--calibrate', data];
    const { code, stdout, stderr } = await snug([...args, '--allocate', 'measured', '--json', '-q']);
    expect(stderr).toBe('');
    expect(code).toBe(0);
    const result = JSON.parse(stdout) as PruneFileResult;
    expect(result.inputs).toBe('samples');
    expect(result.after.weightBytes).toBeLessThan(0.6 * result.before.weightBytes);
    expect(result.damage?.byRatio.length).toBeGreaterThan(0);
    expect(readdirSync(folder)).toContain('pruned.onnx');
  });

  it('trains on samples only where there are some', async () => {
    const { code, stderr } = await snug(['fit', path.join(folder, 'model.onnx'), '--recover', '--budget', '40kB']);
    expect(code).toBe(2);
    expect(stderr).toContain('--calibrate');
    expect(readdirSync(folder)).toEqual(['model.onnx']);
  });

  it('says that a folder is no file', async () => {
    const args = ['quantize', path.join(folder, 'model.onnx'), '-o', folder, '--dtype', 'int8', '--force'];
    const { code, stderr } = await snug(args);
    expect(code).toBe(1);
    expect(stderr).toContain('is a folder');
  });
});

describe('options that cannot be meant', () => {
  it.each([
    [['memory', 'MODEL', '--dim', 'sequence=3'], 'It has: batch'],
    [['memory', 'MODEL', '--dim', 'batch=8', '--batch', '4'], 'contradict'],
    [['memory', 'MODEL', '--dim', 'batch=99999999999'], '--dim batch must be'],
    [['quantize', 'MODEL', '-o', 'OUT', '--dtype', 'int8-static'], 'needs samples'],
    [['quantize', 'MODEL', '-o', 'OUT', '--dtype', 'fp32'], 'fp32 is what'],
    [['quantize', 'MODEL', '-o', 'OUT', '--dtype', 'int4', '--rounding', 'up'], 'no way to round'],
    [['quantize', 'MODEL', '-o', 'OUT', '--dtype', 'int8', '--block-size', '48'], 'is no block size'],
    [['quantize', 'MODEL', '-o', 'OUT', '--dtype', 'nf4', '--block-size', '32'], 'has no blocks'],
  ])('%j', async (args, text) => {
    const named = args.map((arg) =>
      arg.replace('MODEL', path.join(folder, 'model.onnx')).replace('OUT', `${folder}/o`),
    );
    const { code, stderr } = await snug(named);
    expect(stderr).toContain(text);
    expect(code).toBe(2);
  });

  it('takes --dim of the batch as the batch', async () => {
    const model = path.join(folder, 'model.onnx');
    const { stdout } = await snug(['memory', model, '--dim', 'batch=8', '--json']);
    expect(JSON.parse(stdout)).toMatchObject({ estimate: { batch: 8, dims: { batch: 8 } } });
  });
});

describe('fit', () => {
  it('takes a model that wants exactly so many samples at a time', async () => {
    const model = matMulChain(3, 64);
    for (const value of [...model.graph.inputs, ...model.graph.outputs]) value.dims = [8, 64];
    const file = path.join(folder, 'fixed.onnx');
    writeModel(model, file);
    writeNpy(path.join(folder, 'data.npy'), [101, 64]);
    const args = ['fit', file, '-o', path.join(folder, 'o.onnx'), '--budget', '45kB', '--provider', 'cpu'];
    const { code, stdout, stderr } = await snug([
      ...args,
      '--calibrate',
      path.join(folder, 'data.npy'),
      '--json',
      '-q',
    ]);
    expect(stderr).toBe('');
    expect(code).toBe(0);
    expect((JSON.parse(stdout) as FitReport).quality).toMatchObject({ source: 'samples', samples: 16 });
    const prune = ['prune', file, '-o', path.join(folder, 'p.onnx'), '--ratio', '0.5', '-q'];
    expect(await snug([...prune, '--calibrate', path.join(folder, 'data.npy')])).toMatchObject({ code: 0, stderr: '' });
  });

  it('refuses a batch the file does not have, and takes a size of 0 for none', async () => {
    const model = matMulChain(2, 16);
    const file = path.join(folder, 'four.onnx');
    const write = (first: number): void => {
      for (const value of [...model.graph.inputs, ...model.graph.outputs]) value.dims = [first, 16];
      writeModel(model, file, { overwrite: true });
    };
    write(4);
    const args = ['fit', file, '-o', path.join(folder, 'four-o.onnx'), '--budget', '1MB', '--provider', 'cpu', '-q'];
    expect(await snug([...args, '--batch', '8'])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('is fixed at 4 in the file') as string,
    });
    write(0);
    expect((await snug(['memory', file, '-q'])).stdout).toContain('batch 1:');
  });

  it('names as fixed by the user only what the user fixed', async () => {
    const model = path.join(folder, 'model.onnx');
    const { stdout } = await snug(['fit', model, '--budget', '1MB', '--batch', '2', '--json', '-q']);
    const pinned = (JSON.parse(stdout) as FitReport).reasons.filter((reason) => reason.kind === 'pinned');
    expect(pinned).toEqual([{ kind: 'pinned', what: 'batch 2' }]);
  });
});

describe('Ctrl+C', () => {
  it('stops a long write and leaves nothing', async () => {
    const model = path.join(folder, 'large.onnx');
    writeModel(matMulChain(24, 768), model);
    const { child, finished } = startSnug(['quantize', model, '-o', path.join(folder, 'o.onnx'), '--dtype', 'int4']);
    child.stderr.on('data', (text: string) => {
      if (text.includes('Writing')) child.kill('SIGINT');
    });
    const { code, stderr } = await finished;
    expect(stderr).toContain('E_CANCELLED');
    expect(code).toBe(1);
    expect(readdirSync(folder).sort()).toEqual(['large.onnx', 'model.onnx']);
  });
});
