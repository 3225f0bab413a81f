import type { ReadOptions } from '../../../src/hardware/read.js';
import type { ExecResult, NamedController } from '../../../src/hardware/probe.js';

export const GiB = 1024 ** 3;
export const MiB = 1024 ** 2;

export interface FakeComputer {
  platform: NodeJS.Platform;
  /** Path → text. Folders follow from the paths. */
  files?: Record<string, string>;
  /** First entry whose key is contained in `command arguments` answers; a string is output with exit code 0. */
  commands?: Record<string, string | ExecResult | 'hangs'>;
  controllers?: NamedController[] | 'hangs';
  ram?: { totalBytes: number; freeBytes: number };
  cpuName?: string;
  timeoutMs?: number;
}

/** Options that make readHardware see the computer described, and a list of the commands it ran. */
export function fake(computer: FakeComputer): ReadOptions & { ran: string[] } {
  const files = computer.files ?? {};
  const ran: string[] = [];
  const never = new Promise<never>(() => {});
  return {
    ran,
    platform: computer.platform,
    exec: (command, args) => {
      const line = [command, ...args].join(' ');
      ran.push(line);
      const hit = Object.entries(computer.commands ?? {}).find(([part]) => line.includes(part))?.[1];
      if (hit === 'hangs') return never;
      if (hit === undefined) return Promise.resolve({ stdout: '', stderr: '', failure: 'missing' });
      return Promise.resolve(typeof hit === 'string' ? { stdout: hit, stderr: '', failure: null } : hit);
    },
    readText: (path) => Promise.resolve(files[path] ?? null),
    list: (folder) => {
      const inside = Object.keys(files).filter((path) => path.startsWith(`${folder}/`));
      return Promise.resolve([...new Set(inside.map((path) => path.slice(folder.length + 1).split('/')[0] ?? ''))]);
    },
    env: () => undefined,
    now: () => 1_795_000_000_000,
    system: () => ({
      ...(computer.ram ?? { totalBytes: 32 * GiB, freeBytes: 20 * GiB }),
      cpuName: computer.cpuName ?? 'Test CPU',
      cores: 8,
    }),
    controllers: () => (computer.controllers === 'hangs' ? never : Promise.resolve(computer.controllers ?? [])),
    processorName: () => Promise.resolve('ARM Cortex-A76'),
    ...(computer.timeoutMs === undefined ? {} : { timeoutMs: computer.timeoutMs }),
  };
}

/** A failed command as a driver tool leaves it. */
export function failed(stdout: string, stderr = ''): ExecResult {
  return { stdout, stderr, failure: 'exit' };
}

export const meminfo = (totalKib: number, availableKib: number) =>
  `MemTotal:       ${totalKib} kB\nMemFree:         1048576 kB\nMemAvailable:   ${availableKib} kB\nBuffers:          512000 kB\nCached:          4096000 kB\n`;

/** Files of one card under /sys/class/drm. */
export function drmCard(card: string, device: Record<string, string>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(device).map(([name, text]) => [
      `/sys/class/drm/${card}/${name.startsWith('../') ? name.slice(3) : `device/${name}`}`,
      text,
    ]),
  );
}

export const renderNode = { '/dev/dri/renderD128': '' };
