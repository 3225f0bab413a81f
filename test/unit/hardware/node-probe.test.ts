import { describe, expect, it } from 'vitest';
import { nodeProbe } from '../../../src/hardware/node-probe.js';
import { within } from '../../../src/hardware/probe.js';
import { readHardware } from '../../../src/hardware/read.js';

const node = (script: string, timeoutMs: number) => nodeProbe.exec(process.execPath, ['-e', script], timeoutMs);

describe('nodeProbe.exec', () => {
  it('tells output, failure, absence and time-out apart', async () => {
    expect(await node('console.log("hi")', 20_000)).toMatchObject({ stdout: 'hi\n', failure: null });
    expect(await node('console.log("out"); process.exitCode = 3', 20_000)).toMatchObject({
      stdout: 'out\n',
      failure: 'exit',
    });
    expect(await nodeProbe.exec('no-such-program-here', [], 20_000)).toMatchObject({ failure: 'missing' });
    // A fraction of a millisecond is what a nearly spent deadline leaves.
    expect(await node('setInterval(() => {}, 1000)', 150.5)).toMatchObject({ failure: 'timeout' });
  });

  it('runs tools in the C locale', async () => {
    expect(await node('console.log(process.env.LC_ALL)', 20_000)).toMatchObject({ stdout: 'C\n' });
  });

  it('absent files and folders are no errors', async () => {
    expect(await nodeProbe.readText('/no/such/file')).toBeNull();
    expect(await nodeProbe.list('/no/such/folder')).toEqual([]);
  });
});

describe('within', () => {
  it('gives the fallback for late and for failed work', async () => {
    expect(await within(new Promise<string>(() => {}), 5, 'late')).toBe('late');
    expect(await within(Promise.reject(new Error('no')), 1000, 'failed')).toBe('failed');
    expect(await within(Promise.resolve('done'), 1000, 'late')).toBe('done');
  });
});

describe('this computer', () => {
  it('has memory and a processor, and each GPU is listed once', async () => {
    const { gpus, ram, cpu } = await readHardware();
    expect(ram.totalBytes).toBeGreaterThan(0);
    expect(ram.freeBytes).toBeLessThanOrEqual(ram.totalBytes);
    expect(cpu.cores).toBeGreaterThan(0);
    expect(gpus.length).toBeGreaterThan(0);
    expect(new Set(gpus.map((gpu) => gpu.id)).size).toBe(gpus.length);
  });
});
