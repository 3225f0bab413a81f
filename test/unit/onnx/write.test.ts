import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SnugError } from '../../../src/contract/errors.js';
import type { Model } from '../../../src/onnx/model.js';
import type { OutputFileSystem } from '../../../src/onnx/output.js';
import { readModel } from '../../../src/onnx/read.js';
import { computedData, float32Tensor, readFloat32 } from '../../../src/onnx/tensor.js';
import { cleanupPartials, writeModel } from '../../../src/onnx/write.js';
import { chain, codeOf } from './build.js';

let folder = '';
let out = '';
beforeEach(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'snug-write-'));
  out = path.join(folder, 'out.onnx');
});
afterEach(() => fs.rmSync(folder, { recursive: true, force: true }));

const weight = (name: string, fill: number, size = 64): ReturnType<typeof float32Tensor> =>
  float32Tensor(name, [size, size], new Float32Array(size * size).fill(fill));
const model = (): Model => chain([weight('a', 1), weight('b', 2), weight('c', 3, 128)]);
const sha = (file: string): string => createHash('sha256').update(fs.readFileSync(file)).digest('hex');
const names = (): string[] => fs.readdirSync(folder).sort();
const fills = (file: string): number[] =>
  [...readModel(file).graph.initializers.values()].map((tensor) => readFloat32(tensor)[0] as number);

describe('writing', () => {
  it('reports what it wrote, with progress up to the total', () => {
    const seen: [number, number, string][] = [];
    const result = writeModel(model(), out, { onProgress: (...progress) => seen.push(progress) });
    expect(result).toEqual({
      path: out,
      files: [{ name: 'out.onnx', bytes: fs.statSync(out).size }],
      bytes: fs.statSync(out).size,
    });
    expect(seen.at(-1)?.slice(0, 2)).toEqual([result.bytes, result.bytes]);
    expect(seen.map(([done]) => done)).toEqual(seen.map(([done]) => done).sort((a, b) => a - b));
    expect(names()).toEqual(['out.onnx']);
    expect(fills(out)).toEqual([1, 2, 3]);
  });

  it('puts large weights on pages of a data file', () => {
    const seen: number[] = [];
    const result = writeModel(model(), out, { externalData: 'always', onProgress: (done) => seen.push(done) });
    expect(names()).toEqual(['out.onnx', 'out.onnx.data']);
    expect(result.bytes).toBe(fs.statSync(out).size + fs.statSync(`${out}.data`).size);
    expect(seen.at(-1)).toBe(result.bytes);
    expect(fills(out)).toEqual([1, 2, 3]);
    // a and b: 16 KiB each; c: 64 KiB, on a page of its own.
    expect(fs.readFileSync(`${out}.data`).subarray(32768, 32772)).toEqual(Buffer.from(Float32Array.of(3).buffer));
  });

  it('asks for computed weights one at a time, once each, in the order they are written', () => {
    const asked: string[] = [];
    const lazy = model();
    for (const tensor of lazy.graph.initializers.values()) {
      const { data } = tensor;
      tensor.data = computedData(data.byteLength, () => {
        asked.push(tensor.name);
        return data.read();
      });
    }
    writeModel(lazy, out);
    expect(asked).toEqual(['a', 'b', 'c']);
    writeModel(lazy, path.join(folder, 'two.onnx'), { externalData: 'always' });
    expect(asked).toEqual(['a', 'b', 'c', 'a', 'b', 'c']);
    expect(fills(out)).toEqual([1, 2, 3]);
  });

  it('copies weights from file to file', () => {
    writeModel(model(), out, { externalData: 'always' });
    const copy = path.join(folder, 'copy.onnx');
    writeModel(readModel(out), copy, { externalData: 'never' });
    expect(fills(copy)).toEqual([1, 2, 3]);
    expect(readModel(copy).source?.externalFiles).toEqual([]);
  });

  it('keeps its memory small when 2 GB are computed', () => {
    const megabytes = 64;
    const big = chain(
      Array.from({ length: 32 }, (_, i) => ({
        name: `w${i}`,
        dataType: 1,
        dims: [1024, megabytes * 256],
        data: computedData(megabytes * 2 ** 20, () => new Uint8Array(megabytes * 2 ** 20).fill(1)),
      })),
    );
    let written = 0;
    const sink: OutputFileSystem = {
      ...fs,
      statfsSync: (() => ({ bavail: 1e9, bsize: 4096, blocks: 1e9 })) as unknown as typeof fs.statfsSync,
      writeSync: ((_fd: number, _bytes: Uint8Array, _offset: number, length: number) => {
        written += length;
        return length;
      }) as typeof fs.writeSync,
    };
    const before = process.memoryUsage().rss;
    let peak = 0;
    const result = writeModel(big, out, {
      fileSystem: sink,
      onProgress: () => {
        peak = Math.max(peak, process.memoryUsage().rss - before);
      },
    });
    expect(written).toBe(result.bytes);
    expect(result.bytes).toBeGreaterThan(2 * 2 ** 30);
    expect(result.files).toHaveLength(2);
    expect(peak).toBeLessThan(500e6);
  });
});

describe('not overwriting', () => {
  it('refuses files that exist unless told to', () => {
    fs.writeFileSync(out, 'mine');
    expect(codeOf(() => writeModel(model(), out))).toBe('E_EXISTS');
    expect(fs.readFileSync(out, 'utf8')).toBe('mine');
    writeModel(model(), out, { overwrite: true });
    expect(fills(out)).toEqual([1, 2, 3]);
    fs.rmSync(out);
    fs.writeFileSync(`${out}.data`, 'mine');
    expect(codeOf(() => writeModel(model(), out, { externalData: 'always' }))).toBe('E_EXISTS');
    expect(names()).toEqual(['out.onnx.data']);
  });

  it('refuses a folder as output', () => {
    fs.mkdirSync(out);
    expect(codeOf(() => writeModel(model(), out, { overwrite: true }))).toBe('E_EXISTS');
  });

  it('never replaces the original, its data, or a name that leads to them', () => {
    writeModel(model(), out, { externalData: 'always' });
    const original = readModel(out);
    const before = [sha(out), sha(`${out}.data`)];
    fs.symlinkSync(out, path.join(folder, 'soft.onnx'));
    fs.linkSync(out, path.join(folder, 'hard.onnx'));
    fs.linkSync(out, path.join(folder, 'other.onnx.data'));
    for (const name of ['out.onnx', 'out.onnx.data', 'soft.onnx', 'hard.onnx']) {
      expect([name, codeOf(() => writeModel(original, path.join(folder, name), { overwrite: true }))]).toEqual([
        name,
        'E_SAME_FILE',
      ]);
    }
    const beside = path.join(folder, 'other.onnx');
    expect(codeOf(() => writeModel(original, beside, { overwrite: true, externalData: 'always' }))).toBe('E_SAME_FILE');
    expect([sha(out), sha(`${out}.data`)]).toEqual(before);
  });

  it('names a folder that is missing', () => {
    expect(codeOf(() => writeModel(model(), path.join(folder, 'no', 'out.onnx')))).toBe('E_NOT_FOUND');
  });
});

/** The real file system with one call that fails, the nth time it is made. */
function failing(call: keyof OutputFileSystem, nth: number, errno: string): OutputFileSystem {
  let count = 0;
  const original = fs[call] as (...parameters: unknown[]) => unknown;
  const replaced = (...parameters: unknown[]): unknown => {
    if (++count === nth) throw Object.assign(new Error(`${errno}: injected`), { code: errno });
    return original(...parameters);
  };
  return { ...fs, [call]: replaced } as OutputFileSystem;
}

describe('failures', () => {
  const expected: Record<string, string> = {
    ENOSPC: 'E_DISK_FULL',
    EDQUOT: 'E_DISK_FULL',
    EACCES: 'E_NO_PERMISSION',
    EPERM: 'E_NO_PERMISSION',
    EROFS: 'E_NO_PERMISSION',
    EBUSY: 'E_WRITE_FAILED',
    EIO: 'E_WRITE_FAILED',
    ENAMETOOLONG: 'E_WRITE_FAILED',
  };
  const calls: [keyof OutputFileSystem, number[]][] = [
    ['openSync', [1, 2]],
    ['writeSync', [1, 2, 4]],
    ['fsyncSync', [1, 2]],
    ['closeSync', [1, 2]],
    ['renameSync', [1, 2]],
  ];
  // Every error at one call, and every call with one error.
  const cases = [
    ...Object.keys(expected).map((errno) => ['writeSync', 1, errno] as const),
    ...calls.flatMap(([call, nths]) => nths.map((nth) => [call, nth, 'ENOSPC'] as const)),
  ];

  it.each(cases)('%s number %d failing with %s leaves nothing behind', (call, nth, errno) => {
    const source = path.join(folder, 'source.onnx');
    writeModel(model(), source);
    const before = sha(source);
    const act = (): unknown =>
      writeModel(readModel(source), out, { externalData: 'always', fileSystem: failing(call, nth, errno) });
    expect(codeOf(act)).toBe(expected[errno]);
    expect(names()).toEqual(['source.onnx']);
    expect(sha(source)).toBe(before);
    expect(codeOf(() => writeModel(readModel(source), out))).toBe('none');
  });

  it('checks for room before writing, and says how much', () => {
    const full: OutputFileSystem = {
      ...fs,
      statfsSync: (() => ({ bavail: 1, bsize: 4096, blocks: 10 })) as unknown as typeof fs.statfsSync,
    };
    try {
      writeModel(model(), out, { fileSystem: full });
      expect.unreachable();
    } catch (error) {
      expect(error).toMatchObject({ code: 'E_DISK_FULL', params: { have: 4096 } });
    }
    expect(names()).toEqual([]);
  });

  it('removes the partial output when computing a weight fails', () => {
    const broken = model();
    const last = broken.graph.initializers.get('c')!;
    last.data = computedData(last.data.byteLength, () => {
      throw new SnugError('E_CANCELLED', 'stopped');
    });
    expect(codeOf(() => writeModel(broken, out))).toBe('E_CANCELLED');
    expect(codeOf(() => writeModel(broken, out, { externalData: 'always' }))).toBe('E_CANCELLED');
    expect(names()).toEqual([]);
  });

  it('keeps the old output when overwriting fails', () => {
    writeModel(model(), out);
    const before = sha(out);
    const act = (): unknown =>
      writeModel(chain([weight('z', 9)]), out, { overwrite: true, fileSystem: failing('writeSync', 1, 'EIO') });
    expect(codeOf(act)).toBe('E_WRITE_FAILED');
    expect(sha(out)).toBe(before);
  });

  it('refuses a weight whose size and dims disagree, before any file is made', () => {
    const wrong = model();
    wrong.graph.initializers.get('a')!.dims = [63, 64];
    expect(codeOf(() => writeModel(wrong, out))).toBe('E_INTERNAL');
    expect(names()).toEqual([]);
  });
});

describe('leftovers', () => {
  it('sweeps partials of processes that are gone, and only those', () => {
    // Process ids end far below this on every system.
    fs.writeFileSync(path.join(folder, '.a.onnx.snug-partial-999999999'), 'x');
    fs.writeFileSync(path.join(folder, `.b.onnx.snug-partial-${process.pid}`), 'x');
    fs.writeFileSync(path.join(folder, 'snug-partial-1'), 'x');
    expect(cleanupPartials(folder)).toEqual(['.a.onnx.snug-partial-999999999']);
    expect(names()).toEqual([`.b.onnx.snug-partial-${process.pid}`, 'snug-partial-1']);
    expect(cleanupPartials(path.join(folder, 'nowhere'))).toEqual([]);
  });

  it('replaces a leftover that carries its own process id', () => {
    fs.writeFileSync(path.join(folder, `.out.onnx.snug-partial-${process.pid}`), 'old');
    writeModel(model(), out);
    expect(names()).toEqual(['out.onnx']);
    expect(fills(out)).toEqual([1, 2, 3]);
  });
});
