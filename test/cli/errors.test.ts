import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { writeModel } from '../../src/onnx/write.js';
import { matMulChain } from './models.js';
import { snug, startSnug } from './run-snug.js';

let folder = '';
let model = '';
let hash = '';
const mounts: string[] = [];

const sha = (file: string): string => createHash('sha256').update(readFileSync(file)).digest('hex');

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'snug-cli-'));
  model = path.join(folder, 'model.onnx');
  writeModel(matMulChain(3, 64), model);
  hash = sha(model);
});
afterEach(() => {
  for (const mount of mounts.splice(0)) execFileSync('umount', [mount]);
  rmSync(folder, { recursive: true, force: true });
});

/** A file system of its own; null where this user may not mount one. */
function mount(options: string): string | null {
  const target = path.join(folder, 'mounted');
  mkdirSync(target);
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', target], { stdio: 'ignore' });
  } catch {
    return null;
  }
  mounts.push(target);
  return target;
}

async function expectError(args: string[], code: string, exit = 1): Promise<string> {
  const result = await snug(args);
  expect(result.stderr).toContain(code);
  expect(result.code).toBe(exit);
  if (existsSync(model)) expect(sha(model)).toBe(hash);
  return result.stderr;
}

describe('every failure has its own error, leaves the original alone and no partial output', () => {
  it('a garbage file', async () => {
    const garbage = path.join(folder, 'garbage.onnx');
    writeFileSync(garbage, Buffer.from('this is no model at all, just words in a row'));
    await expectError(['inspect', garbage], 'E_NOT_ONNX');
    await expectError(['fit', garbage, '-o', path.join(folder, 'out.onnx'), '--budget', '1MB'], 'E_NOT_ONNX');
    expect(readdirSync(folder).sort()).toEqual(['garbage.onnx', 'model.onnx']);
  });

  it('a truncated file', async () => {
    const cut = path.join(folder, 'cut.onnx');
    writeModel(matMulChain(3, 64), cut);
    truncateSync(cut, 20_000);
    await expectError(['quantize', cut, '-o', path.join(folder, 'out.onnx'), '--dtype', 'int8'], 'E_TRUNCATED');
    expect(readdirSync(folder).sort()).toEqual(['cut.onnx', 'model.onnx']);
  });

  it('an external file that is missing, and one outside of the folder', async () => {
    const inner = path.join(folder, 'inner');
    mkdirSync(inner);
    const external = path.join(inner, 'external.onnx');
    writeModel(matMulChain(3, 64), external, { externalData: 'always' });
    const [data] = readdirSync(inner).filter((name) => name !== 'external.onnx');
    const bytes = readFileSync(path.join(inner, data));
    rmSync(path.join(inner, data));
    await expectError(['inspect', external], 'E_EXTERNAL_MISSING');
    // A hard link is how data outside of the folder gets past every check of the path.
    writeFileSync(path.join(folder, 'outside.bin'), bytes);
    linkSync(path.join(folder, 'outside.bin'), path.join(inner, data));
    await expectError(['inspect', external], 'E_EXTERNAL_OUTSIDE');
  });

  it('an unknown operator', async () => {
    const strange = matMulChain(2, 16);
    strange.graph.nodes[1].opType = 'Frobnicate';
    const file = path.join(folder, 'strange.onnx');
    writeModel(strange, file);
    const text = await expectError(
      ['fit', file, '-o', path.join(folder, 'o.onnx'), '--budget', '1MB', '--provider', 'cpu'],
      'E_UNKNOWN_OPERATOR',
    );
    expect(text).toContain('Frobnicate');
  });

  it('wrong usage exits with 2 and says what is right', async () => {
    expect(await expectError(['fit', model, '--budget', 'lots'], 'E_USAGE', 2)).toContain('4GB');
    expect((await snug(['no-such-command'])).code).toBe(2);
    expect((await snug(['prune', model])).code).toBe(2);
    expect(await expectError(['gpu', '--provider', 'cpu'], 'E_USAGE', 2)).toContain('--calibrate');
  });

  it('refuses ways to prune that would be ignored', async () => {
    const prune = ['prune', model, '-o', path.join(folder, 'o.onnx')];
    await expectError([...prune, '--ratio', '0.5', '--sparsity', '2:4'], 'E_USAGE', 2);
    await expectError([...prune, '--ratio', '0.5', '--method', 'magnitude', '--allocate', 'measured'], 'E_USAGE', 2);
    await expectError([...prune, '--sparsity', '2:4', '--allocate', 'measured'], 'E_USAGE', 2);
    await expectError([...prune, '--sparsity', '2:4', '--method', 'repair'], 'E_USAGE', 2);
  });

  it('a full disk', async ({ skip }) => {
    const small = mount('size=24k');
    if (small === null) skip('needs the right to mount a tmpfs');
    else {
      await expectError(['quantize', model, '-o', path.join(small, 'o.onnx'), '--dtype', 'int8'], 'E_DISK_FULL');
      await expectError(
        ['fit', model, '-o', path.join(small, 'o.onnx'), '--budget', '1MB', '--provider', 'cpu'],
        'E_DISK_FULL',
      );
      expect(readdirSync(small)).toEqual([]);
    }
  });

  it('a read-only folder', async ({ skip }) => {
    const readOnly = mount('ro');
    if (readOnly === null) skip('needs the right to mount a tmpfs');
    else {
      await expectError(
        ['fit', model, '-o', path.join(readOnly, 'o.onnx'), '--budget', '1MB', '--provider', 'cpu'],
        'E_NO_PERMISSION',
      );
      await expectError(['prune', model, '-o', path.join(readOnly, 'o.onnx'), '--ratio', '0.5'], 'E_NO_PERMISSION');
      expect(readdirSync(readOnly)).toEqual([]);
    }
  });

  it('a killed engine process', async ({ skip }) => {
    if (!existsSync('/proc/self/task')) skip('finds the process through /proc');
    const { child, finished } = startSnug([
      'fit',
      model,
      '-o',
      path.join(folder, 'o.onnx'),
      '--budget',
      '1MB',
      '--provider',
      'cpu',
    ]);
    // Kill whatever onnxruntime process the command starts, until it gives up.
    const timer = setInterval(() => {
      for (const pid of childrenOf(child.pid ?? 0)) {
        try {
          process.kill(pid, 'SIGKILL');
        } catch {
          // Ended by itself in between.
        }
      }
    }, 5);
    const result = await finished;
    clearInterval(timer);
    expect(result.stderr).toContain('E_ENGINE_KILLED');
    expect(result.code).toBe(1);
    expect(sha(model)).toBe(hash);
    expect(readdirSync(folder)).toEqual(['model.onnx']);
  });

  it('nothing fits: exit 3 and the smallest reachable peak', async () => {
    const output = path.join(folder, 'o.onnx');
    const result = await snug([
      'fit',
      model,
      '-o',
      output,
      '--budget',
      '2kB',
      '--provider',
      'cpu',
      '--batch',
      '4',
      '--json',
      '-q',
    ]);
    expect(result.code).toBe(3);
    const report = JSON.parse(result.stdout) as {
      fits: boolean;
      measured: { peakBytes: number };
      reasons: { kind: string }[];
    };
    expect(report.fits).toBe(false);
    expect(report.measured.peakBytes).toBeGreaterThan(2000);
    expect(report.reasons.map((r) => r.kind)).toContain('blocked-by');
    expect(readdirSync(folder)).toEqual(['model.onnx']);
  });

  it('gives errors as JSON too', async () => {
    const result = await snug(['inspect', path.join(folder, 'none.onnx'), '--json']);
    expect(JSON.parse(result.stdout)).toMatchObject({ error: { code: 'E_NOT_FOUND' } });
    expect(result.code).toBe(1);
  });
});

function childrenOf(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number);
  } catch {
    return [];
  }
}
