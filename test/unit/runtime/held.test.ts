import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { HeldValues } from '../../../src/runtime/held.js';
import type { RuntimeTensor } from '../../../src/runtime/types.js';

const folder = mkdtempSync(path.join(tmpdir(), 'snug-held-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('values held in the onnxruntime process', () => {
  it('are stored one behind the other, or not at all', async () => {
    const held = new HeldValues();
    const value = (...data: number[]): RuntimeTensor => ({
      ...{ dtype: 'float32', dims: [data.length], data: Float32Array.from(data) },
    });
    await held.hold({ a: value(1, 2), b: value(3) });
    const file = path.join(folder, 'values.bin');
    expect(() => held.store(['a', 'unknown'], file)).toThrow(expect.objectContaining({ code: 'E_BAD_REQUEST' }));
    expect(existsSync(file)).toBe(false);
    held.store(['b', 'a'], file);
    const bytes = Uint8Array.from(readFileSync(file));
    expect([...new Float32Array(bytes.buffer)]).toEqual([3, 1, 2]);
    // A file that is there already is neither replaced nor removed.
    writeFileSync(file, 'mine');
    expect(() => held.store(['a'], file)).toThrow();
    expect(readFileSync(file, 'utf8')).toBe('mine');
  });
});
