import {
  appendFileSync,
  closeSync,
  ftruncateSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readModel } from '../../../src/onnx/read.js';
import { summarizeModel } from '../../../src/onnx/summary.js';
import { readFloat32 } from '../../../src/onnx/tensor.js';
import { bytes, int, modelBytes, text, codeOf } from './build.js';

let folder = '';
let model = '';
beforeEach(() => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'snug-external-'));
  mkdirSync(path.join(folder, 'm'));
  model = path.join(folder, 'm', 'model.onnx');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const entry = (key: string, value: string): Uint8Array => bytes(13, text(1, key), text(2, value));
const external = (name: string, location: string, elements: number, offset?: string, length?: string): Uint8Array =>
  bytes(
    5,
    int(1, elements),
    int(2, 1),
    text(8, name),
    entry('location', location),
    ...(offset === undefined ? [] : [entry('offset', offset)]),
    ...(length === undefined ? [] : [entry('length', length)]),
    int(14, 1),
  );
const save = (...tensors: Uint8Array[]): void => writeFileSync(model, modelBytes(...tensors));
const data = (name: string, values: number[]): string => {
  const file = path.join(folder, 'm', name);
  writeFileSync(file, new Uint8Array(Float32Array.from(values).buffer));
  return file;
};

describe('external data', () => {
  it('reads ranges of the data file, lazily', () => {
    data('w.data', [1, 2, 3, 4]);
    save(external('a', 'w.data', 2), external('b', './w.data', 2, '8', '8'), external('c', 'w.data', 1, '12'));
    const { graph, source } = readModel(model);
    expect([...graph.initializers.values()].map((tensor) => [...readFloat32(tensor)])).toEqual([[1, 2], [3, 4], [4]]);
    expect(graph.initializers.get('a')?.data.origin).toBe('external');
    expect(source?.externalFiles.map((file) => file.name)).toContain('w.data');
  });

  it('reads from a folder below, also when the model is reached through a link', () => {
    mkdirSync(path.join(folder, 'm', 'sub'));
    data('sub/w.data', [5]);
    save(external('a', 'sub/w.data', 1));
    const link = path.join(folder, 'link.onnx');
    symlinkSync(model, link);
    expect(readFloat32(readModel(link).graph.initializers.get('a')!)[0]).toBe(5);
  });

  it.each([
    ['steps up', '../secret'],
    ['steps up further in', 'sub/../../secret'],
    ['is absolute', '/etc/passwd'],
    ['has a drive', 'C:secret'],
    ['has backslashes', '..\\secret'],
    ['is a memory address', '*/_ORT_MEM_ADDR_/*'],
    ['holds a NUL', 'a\0b'],
  ])('refuses a location that %s', (_, location) => {
    writeFileSync(path.join(folder, 'secret'), new Uint8Array(4));
    save(external('a', location, 1));
    expect(codeOf(() => readModel(model))).toBe('E_EXTERNAL_OUTSIDE');
  });

  it('refuses links, hard links, and folders that are links', () => {
    const secret = path.join(folder, 'secret');
    writeFileSync(secret, new Uint8Array(4));
    symlinkSync(secret, path.join(folder, 'm', 'soft'));
    linkSync(secret, path.join(folder, 'm', 'hard'));
    symlinkSync(folder, path.join(folder, 'm', 'up'));
    symlinkSync('loop', path.join(folder, 'm', 'loop'));
    mkdirSync(path.join(folder, 'm', 'directory'));
    for (const location of ['soft', 'hard', 'up/secret', 'loop', 'directory', '.']) {
      save(external('a', location, 1));
      expect([location, codeOf(() => readModel(model))]).toEqual([location, 'E_EXTERNAL_OUTSIDE']);
    }
  });

  it('names missing and short files', () => {
    save(external('a', 'nowhere.data', 1));
    expect(codeOf(() => readModel(model))).toBe('E_EXTERNAL_MISSING');
    data('w.data', [1, 2]);
    for (const tensor of [
      external('a', 'w.data', 3),
      external('a', 'w.data', 2, '4'),
      external('a', 'w.data', 1, '8'),
    ]) {
      save(tensor);
      expect(codeOf(() => readModel(model))).toBe('E_EXTERNAL_MISSING');
    }
  });

  it('refuses lengths and offsets that make no sense', () => {
    data('w.data', [1, 2]);
    for (const tensor of [
      external('a', 'w.data', 1, '0', '8'),
      external('a', 'w.data', 1, '-4'),
      external('a', 'w.data', 1, '0x0'),
      external('a', 'w.data', 1, '99999999999999999999'),
      external('a', '', 1),
    ]) {
      save(tensor);
      expect(codeOf(() => readModel(model))).toBe('E_MALFORMED');
    }
  });

  it('notices a data file that changed or was replaced by a link', () => {
    const file = data('w.data', [1, 2]);
    save(external('a', 'w.data', 2));
    const tensor = readModel(model).graph.initializers.get('a')!;
    appendFileSync(file, 'x');
    expect(codeOf(() => tensor.data.read())).toBe('E_FILE_CHANGED');
    rmSync(file);
    symlinkSync(model, file);
    expect(codeOf(() => tensor.data.read())).toBe('E_FILE_CHANGED');
  });

  it('bounds the number of data files', () => {
    data('a.data', [1]);
    data('b.data', [1]);
    save(external('a', 'a.data', 1), external('b', 'b.data', 1));
    expect(codeOf(() => readModel(model, { limits: { externalFiles: 1 } }))).toBe('E_TOO_COSTLY');
  });
});

describe('large files', () => {
  const growth = (act: () => void): number => {
    const before = process.memoryUsage().rss;
    act();
    return process.memoryUsage().rss - before;
  };
  const layerElements = 25_000_000;
  const layers = 60;

  it('reads a model with 6 GB of external weights in little memory', () => {
    const fd = openSync(path.join(folder, 'm', 'w.data'), 'w');
    ftruncateSync(fd, layers * layerElements * 4);
    closeSync(fd);
    save(
      ...Array.from({ length: layers }, (_, i) =>
        external(`w${i}`, 'w.data', layerElements, String(i * layerElements * 4)),
      ),
    );
    const grown = growth(() => {
      const read = readModel(model);
      expect(summarizeModel(read).weightBytes).toBe(layers * layerElements * 4);
      expect(read.graph.initializers.get('w59')?.data.readRange(layerElements * 4 - 4, 4)).toEqual(new Uint8Array(4));
    });
    expect(grown).toBeLessThan(200e6);
  });

  it('reads a model file of 6 GB with its weights inside', () => {
    // raw_data of 100 MB each, as holes: only the headers are written.
    const header = (i: number): Uint8Array => {
      const body = layerElements * 4;
      const fields = Buffer.concat([int(1, layerElements), int(2, 1), text(8, `w${i}`)]);
      const rawTag = Buffer.concat([Uint8Array.of(0x4a), int(1, body).subarray(1)]);
      const length = fields.length + rawTag.length + body;
      return Buffer.concat([Uint8Array.of(0x2a), int(1, length).subarray(1), fields, rawTag]);
    };
    const headers = Array.from({ length: layers }, (_, i) => header(i));
    const graphBytes = headers.reduce((sum, h) => sum + h.byteLength + layerElements * 4, 0);
    const start = Buffer.concat([int(1, 8), Uint8Array.of(0x3a), int(1, graphBytes).subarray(1)]);
    let at = 0;
    const put = (chunk: Uint8Array, skip: number): void => {
      const fd = openSync(model, 'r+');
      ftruncateSync(fd, at);
      closeSync(fd);
      appendFileSync(model, chunk);
      at += chunk.byteLength + skip;
    };
    writeFileSync(model, '');
    put(start, 0);
    for (const chunk of headers) put(chunk, layerElements * 4);
    put(bytes(8, int(2, 17)), 0);
    const grown = growth(() => {
      const read = readModel(model);
      expect(read.source?.fileBytes).toBeGreaterThan(6e9 - 1);
      expect(read.graph.initializers.size).toBe(layers);
      expect(read.opsets.get('')).toBe(17);
      expect(read.graph.initializers.get('w59')?.data.readRange(5e7, 4)).toEqual(new Uint8Array(4));
    });
    expect(grown).toBeLessThan(200e6);
  });
});
