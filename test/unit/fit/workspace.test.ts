import { existsSync, linkSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { checkOutput, freeOutputName, sweepWork, Workspace } from '../../../src/fit/workspace.js';

let folder = '';
let model = '';

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'snug-test-'));
  model = path.join(folder, 'model.onnx');
  writeFileSync(model, 'weights');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe('checkOutput', () => {
  it('refuses the original itself, also through a hard link, even with force', () => {
    const link = path.join(folder, 'link.onnx');
    linkSync(model, link);
    for (const target of [model, link]) {
      expect(() => checkOutput(target, [model], true)).toThrow(expect.objectContaining({ code: 'E_SAME_FILE' }));
    }
  });

  it('asks before replacing another file', () => {
    const other = path.join(folder, 'other.onnx');
    writeFileSync(other, 'mine');
    expect(() => checkOutput(other, [model], false)).toThrow(expect.objectContaining({ code: 'E_EXISTS' }));
    expect(() => checkOutput(other, [model], true)).not.toThrow();
  });

  it('refuses where the data file beside the output would replace weights of the original', () => {
    const weights = path.join(folder, 'out.onnx.data');
    writeFileSync(weights, 'weights');
    const output = path.join(folder, 'out.onnx');
    expect(() => checkOutput(output, [model, weights], true)).toThrow(expect.objectContaining({ code: 'E_SAME_FILE' }));
  });

  it('refuses a folder and an empty name', () => {
    expect(() => checkOutput(folder, [model], true)).toThrow(expect.objectContaining({ code: 'E_EXISTS' }));
    expect(() => checkOutput('', [model], true)).toThrow(expect.objectContaining({ code: 'E_USAGE' }));
  });

  it('names a folder that is missing', () => {
    const target = path.join(folder, 'no/such/out.onnx');
    expect(() => checkOutput(target, [model], false)).toThrow(expect.objectContaining({ code: 'E_NOT_FOUND' }));
  });
});

describe('Workspace', () => {
  it('publishes the data file before the model and leaves nothing else', () => {
    const output = path.join(folder, 'out.onnx');
    const workspace = new Workspace(output);
    const work = workspace.folder('candidate');
    writeFileSync(path.join(work, 'out.onnx'), 'model');
    writeFileSync(path.join(work, 'out.onnx.data'), 'data');
    workspace.publish([{ name: 'out.onnx' }, { name: 'out.onnx.data' }], work, output, false);
    workspace.remove();
    expect(readdirSync(folder).sort()).toEqual(['model.onnx', 'out.onnx', 'out.onnx.data']);
  });

  it('does not replace a data file unasked', () => {
    const output = path.join(folder, 'out.onnx');
    writeFileSync(`${output}.data`, 'mine');
    const workspace = new Workspace(output);
    writeFileSync(workspace.file('out.onnx'), 'model');
    writeFileSync(workspace.file('out.onnx.data'), 'data');
    const files = [{ name: 'out.onnx' }, { name: 'out.onnx.data' }];
    expect(() => workspace.publish(files, workspace.directory, output, false)).toThrow(
      expect.objectContaining({ code: 'E_EXISTS' }),
    );
    workspace.remove();
    expect(readdirSync(folder).sort()).toEqual(['model.onnx', 'out.onnx.data']);
  });

  it('sweeps what a dead process left, and only that', () => {
    const dead = path.join(folder, '.snug-work-999999999-abc');
    const alive = path.join(folder, `.snug-work-${process.pid}-abc`);
    mkdirSync(dead);
    mkdirSync(alive);
    sweepWork(folder);
    expect(existsSync(dead)).toBe(false);
    expect(existsSync(alive)).toBe(true);
  });

  it('finds a free name for a second result', () => {
    expect(path.basename(freeOutputName(folder, 'model'))).toBe('model.snug.onnx');
    writeFileSync(path.join(folder, 'model.snug.onnx'), '');
    expect(path.basename(freeOutputName(folder, 'model'))).toBe('model.snug-2.onnx');
  });

  it('leaves the name of an interrupted training to it', () => {
    writeFileSync(path.join(folder, 'model.trained.onnx.checkpoint'), 'state');
    expect(path.basename(freeOutputName(folder, 'model', 'trained'))).toBe('model.trained-2.onnx');
  });
});
