import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { pickData, pickModel } from '../../../src/app/door/files.js';
import { textWithoutPaths } from '../../../src/app/door/privacy.js';

let folder: string;
beforeEach(() => (folder = mkdtempSync(path.join(os.tmpdir(), 'snug-files-'))));
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function make(...names: string[]): string[] {
  return names.map((name) => {
    const file = path.join(folder, name);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, '');
    return file;
  });
}

it('finds the one model among its data files or in a folder', async () => {
  const files = make('m/net.onnx', 'm/net.onnx.data', 'm/tokenizer.json');
  expect(await pickModel(files)).toBe(files[0]);
  expect(await pickModel([path.join(folder, 'm')])).toBe(files[0]);
  const [nested] = make('repo/onnx/model.ONNX');
  expect(await pickModel([path.join(folder, 'repo')])).toBe(nested);
});

it('lets the content decide about a single file of another name', async () => {
  const files = make('model.pb');
  expect(await pickModel(files)).toBe(files[0]);
});

it('names what is wrong', async () => {
  const several = make('a.onnx', 'b.onnx');
  await expect(pickModel(several)).rejects.toMatchObject({ code: 'E_USAGE', params: { count: 2 } });
  await expect(pickModel(make('x.txt', 'y.txt'))).rejects.toMatchObject({ code: 'E_USAGE' });
  mkdirSync(path.join(folder, 'empty'));
  await expect(pickModel([path.join(folder, 'empty')])).rejects.toMatchObject({ code: 'E_USAGE' });
  await expect(pickModel([path.join(folder, 'gone.onnx')])).rejects.toMatchObject({ code: 'E_NOT_FOUND' });
});

it('finds the data set: one file, or the folder of images', async () => {
  expect(await pickData(make('a.npy'))).toBe(path.join(folder, 'a.npy'));
  expect(await pickData(make('a.npy', 'notes.md'))).toBe(path.join(folder, 'a.npy'));
  expect(await pickData(make('i/1.png', 'i/2.JPG'))).toBe(path.join(folder, 'i'));
  expect(await pickData([path.join(folder, 'i')])).toBe(path.join(folder, 'i'));
  await expect(pickData(make('a.npy', 'b.npy'))).rejects.toMatchObject({ code: 'E_DATA_FORMAT' });
});

it('takes folders out of texts and leaves names of nodes alone', () => {
  const roots = ['home', 'usr'];
  expect(textWithoutPaths('cannot open /home/me/models/a.onnx: no', roots)).toBe('cannot open …/a.onnx: no');
  expect(textWithoutPaths('C:\\Users\\me\\a.onnx failed', roots)).toBe('…\\a.onnx failed');
  expect(textWithoutPaths('node /layer1/conv/Conv failed', roots)).toBe('node /layer1/conv/Conv failed');
  expect(textWithoutPaths(`at ${os.homedir()}/a/b.js:3`, roots)).toBe('at …/b.js:3');
  expect(textWithoutPaths('see https://example.com/home/x', roots)).toBe('see https://example.com/home/x');
});
