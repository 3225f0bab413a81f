import { execFile } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import os from 'node:os';
import type { NamedController, Probe } from './probe.js';

/** Driver tools print a few kilobytes; the whole DirectX registry branch stays below this too. */
const maxOutputBytes = 8 * 1024 * 1024;

/** The {@link Probe} of the computer this runs on. */
export const nodeProbe: Probe = {
  platform: process.platform,
  exec: (command, args, timeoutMs) =>
    new Promise((resolve) => {
      execFile(
        command,
        [...args],
        {
          // Node takes whole milliseconds only, and 0 would mean no limit.
          timeout: Math.max(1, Math.ceil(timeoutMs)),
          // A tool waiting for a hung driver ignores SIGTERM.
          killSignal: 'SIGKILL',
          maxBuffer: maxOutputBytes,
          windowsHide: true,
          // Numbers and words of the tools must not follow the user's language.
          env: { ...process.env, LC_ALL: 'C' },
        },
        (error, stdout, stderr) => {
          const failure =
            error === null ? null : error.code === 'ENOENT' ? 'missing' : error.killed === true ? 'timeout' : 'exit';
          resolve({ stdout, stderr, failure });
        },
      );
    }),
  readText: (path) => readFile(path, 'utf8').catch(() => null),
  list: (folder) => readdir(folder).catch(() => []),
  env: (name) => process.env[name],
  now: () => Date.now(),
  system: () => ({
    totalBytes: os.totalmem(),
    freeBytes: os.freemem(),
    cpuName: os.cpus()[0]?.model ?? '',
    cores: os.availableParallelism(),
  }),
  controllers: async () => {
    const { default: si } = await import('systeminformation');
    const { controllers } = await si.graphics();
    return controllers.map((controller): NamedController => ({
      name: controller.name ?? controller.model,
      vendor: controller.vendor,
      busAddress: controller.busAddress ?? '',
      vramMb: controller.vram,
    }));
  },
  processorName: async () => {
    const { default: si } = await import('systeminformation');
    const { manufacturer, brand } = await si.cpu();
    return `${manufacturer} ${brand}`.trim();
  },
};
