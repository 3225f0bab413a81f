import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { unzipSync, zipSync } from 'fflate';
import { afterEach, expect, it } from 'vitest';
import { contentDisposition } from '../../../src/serve/downloads.js';
import { storedZip } from '../../../src/serve/zip.js';

const folder = mkdtempSync(path.join(os.tmpdir(), 'snug-zip-'));
afterEach(() => rmSync(folder, { recursive: true, force: true }));

it('is read back by another implementation, and is as long as it says', async () => {
  const contents: Record<string, Buffer> = {
    'net.onnx': Buffer.from('model'),
    'net.onnx.data': Buffer.alloc(3_000_000, 7),
    'leer.bin': Buffer.alloc(0),
    '模型.json': Buffer.from('{}'),
  };
  const files = Object.entries(contents).map(([name, body]) => {
    writeFileSync(path.join(folder, name), body);
    return { path: path.join(folder, name), name };
  });
  const zip = await storedZip(files);
  const chunks: Buffer[] = [];
  for await (const chunk of zip.chunks()) chunks.push(chunk);
  const bytes = Buffer.concat(chunks);
  expect(bytes.length).toBe(zip.bytes);
  const read = unzipSync(bytes);
  expect(Object.keys(read)).toEqual(Object.keys(contents));
  // The reader does not check checksums; the other implementation's writer says what the first must be.
  const other = Buffer.from(zipSync({ 'net.onnx': contents['net.onnx'] ?? Buffer.alloc(0) }, { level: 0 }));
  expect(bytes.readUInt32LE(14)).toBe(other.readUInt32LE(14));
  for (const [name, body] of Object.entries(contents)) expect(Buffer.from(read[name] ?? []).equals(body)).toBe(true);
});

it('names downloads so that no name can add a header or a path', () => {
  expect(contentDisposition('a"b\r\nX: y.onnx')).toBe(
    `attachment; filename="a_b__X: y.onnx"; filename*=UTF-8''a%22b%0D%0AX%3A%20y.onnx`,
  );
  expect(contentDisposition("模型's.onnx")).toContain("filename*=UTF-8''%E6%A8%A1%E5%9E%8B%27s.onnx");
});
