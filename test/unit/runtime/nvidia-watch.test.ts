import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { NvidiaWatch } from '../../../src/runtime/nvidia-watch.js';

const folder = mkdtempSync(path.join(tmpdir(), 'snug-nvidia-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** A program that answers like nvidia-smi in its loop, from files the test writes. */
function fakeTool(): { command: string; set(gpus: string, apps: string): void } {
  const command = path.join(folder, 'nvidia-smi');
  const gpus = path.join(folder, 'gpus');
  const apps = path.join(folder, 'apps');
  writeFileSync(
    command,
    `#!/bin/sh\ncase "$1" in *gpu=*) f=${gpus};; *) f=${apps};; esac\nwhile true; do cat "$f"; sleep 0.02; done\n`,
  );
  chmodSync(command, 0o755);
  return {
    command,
    set: (gpuText, appText) => {
      writeFileSync(gpus, gpuText);
      writeFileSync(apps, appText);
    },
  };
}

const mib = 1024 * 1024;
const someTicks = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 300));

describe.skipIf(process.platform === 'win32')('NvidiaWatch (its fake tool is a shell script)', () => {
  it('counts the highest level above the baseline on the GPU that rose', async () => {
    const tool = fakeTool();
    tool.set('0, 500\n1, 100\n', '');
    const watch = await NvidiaWatch.start(tool.command);
    tool.set('0, 500\n1, 400\n', '');
    await someTicks();
    await watch?.setBaseline();
    tool.set('0, 500\n1, 900\n', '');
    await someTicks();
    tool.set('0, 500\n1, 600\n', '');
    await someTicks();
    expect(watch?.rise(undefined)).toEqual({ peakBytes: 500 * mib, contextBytes: 300 * mib });
    watch?.stop();
  });

  it('prefers the figure of the process itself', async () => {
    const tool = fakeTool();
    tool.set('0, 500\n', '');
    const watch = await NvidiaWatch.start(tool.command);
    tool.set('0, 800\n', '42, 300\n7, 9000\n');
    await someTicks();
    await watch?.setBaseline();
    tool.set('0, 5000\n', '42, 310\n7, 9900\n');
    await someTicks();
    expect(watch?.rise(42)).toEqual({ peakBytes: 10 * mib, contextBytes: 300 * mib });
    watch?.stop();
  });

  it('sees that another device was used', async () => {
    const tool = fakeTool();
    tool.set('0, 500\n', '');
    const watch = await NvidiaWatch.start(tool.command);
    await watch?.setBaseline();
    expect(watch?.rise(42).contextBytes).toBe(0);
    watch?.stop();
  });

  it('is null without the tool', async () => {
    expect(await NvidiaWatch.start(path.join(folder, 'nothing'))).toBeNull();
  });
});
