import { parseByteCount } from './finding.js';
import type { Probe } from './probe.js';

/** The computer's memory as programs can use it, in bytes. */
export interface RamReading {
  totalBytes: number;
  freeBytes: number;
  source: string;
  notes: string[];
}

/** `/proc/meminfo` → bytes. `available` counts caches the kernel gives back; kernels before 3.14 lack it. */
export function parseMeminfo(text: string): { totalBytes: number; availableBytes: number } | null {
  const kib = (name: string) => {
    const match = new RegExp(`^${name}:\\s+(\\d{1,15}) kB`, 'm').exec(text);
    return match ? Number(match[1]) * 1024 : null;
  };
  const totalBytes = kib('MemTotal');
  if (totalBytes === null || totalBytes === 0) return null;
  const older = (kib('MemFree') ?? 0) + (kib('Buffers') ?? 0) + (kib('Cached') ?? 0);
  return { totalBytes, availableBytes: Math.min(totalBytes, kib('MemAvailable') ?? older) };
}

/** Folders of this process's memory control groups, from the leaf up to the root, for both versions of cgroups. */
export function cgroupFolders(procSelfCgroup: string): { folder: string; version: 1 | 2 }[] {
  const folders: { folder: string; version: 1 | 2 }[] = [];
  for (const line of procSelfCgroup.split('\n')) {
    const match = /^\d+:([^:]*):(\/.*)$/.exec(line.trim());
    if (!match) continue;
    const [, controllers = '', path = '/'] = match;
    const version = controllers === '' ? 2 : 1;
    if (version === 1 && !controllers.split(',').includes('memory')) continue;
    const parts = path.split('/').filter((part) => part !== '' && part !== '..');
    for (let length = parts.length; length >= 0; length -= 1) {
      const root = version === 2 ? '/sys/fs/cgroup' : '/sys/fs/cgroup/memory';
      folders.push({ folder: [root, ...parts.slice(0, length)].join('/'), version });
    }
  }
  return folders;
}

/**
 * What a control group leaves. `limit` is `memory.max` (`max` = none) or version 1's `memory.limit_in_bytes`;
 * page cache nobody used lately (`inactive_file`) counts in `current` but is given back under pressure.
 */
export function parseCgroup(files: {
  limit: string | null;
  current: string | null;
  stat: string | null;
}): { limitBytes: number; freeBytes: number } | null {
  const limitBytes = parseByteCount(files.limit);
  if (limitBytes === null || limitBytes === 0) return null;
  const current = parseByteCount(files.current) ?? 0;
  const cache = Number(/^(?:total_)?inactive_file (\d{1,15})$/m.exec(files.stat ?? '')?.[1] ?? 0);
  return { limitBytes, freeBytes: Math.min(limitBytes, Math.max(0, limitBytes - Math.max(0, current - cache))) };
}

/** `vm_stat` → bytes that programs can get: free, inactive, speculative and purgeable pages; null if unreadable. */
export function parseVmStat(text: string): number | null {
  const pageBytes = Number(/page size of (\d{1,7}) bytes/.exec(text)?.[1] ?? 0);
  const pages = (name: string) => Number(new RegExp(`^Pages ${name}:\\s+(\\d{1,12})\\.`, 'm').exec(text)?.[1] ?? 0);
  const free = pages('free') + pages('inactive') + pages('speculative') + pages('purgeable');
  return pageBytes > 0 && free > 0 ? free * pageBytes : null;
}

/** Reads the computer's memory; where the platform's better source is silent, what Node says. */
export async function readRam(probe: Probe, remaining: () => number): Promise<RamReading> {
  const { totalBytes, freeBytes } = probe.system();
  if (probe.platform === 'darwin') {
    const { stdout } = await probe.exec('/usr/bin/vm_stat', [], remaining());
    const available = parseVmStat(stdout);
    if (available !== null) {
      return { totalBytes, freeBytes: Math.min(totalBytes, available), source: 'macOS (vm_stat)', notes: [] };
    }
  }
  if (probe.platform === 'linux') {
    const meminfo = parseMeminfo((await probe.readText('/proc/meminfo')) ?? '');
    const known = meminfo ?? { totalBytes, availableBytes: freeBytes };
    return limitByCgroups(probe, {
      totalBytes: known.totalBytes,
      freeBytes: known.availableBytes,
      source: 'Linux kernel (/proc/meminfo)',
      notes: [],
    });
  }
  return { totalBytes, freeBytes, source: 'operating system', notes: [] };
}

async function limitByCgroups(probe: Probe, ram: RamReading): Promise<RamReading> {
  // Inside a container the path of /proc/self/cgroup may be the host's while only the root is mounted; the
  // root folder is always in the list, missing files are skipped.
  const folders = cgroupFolders((await probe.readText('/proc/self/cgroup')) ?? '');
  const limits = await Promise.all(
    folders.map(async ({ folder, version }) => {
      const [limit, current] =
        version === 2 ? ['memory.max', 'memory.current'] : ['memory.limit_in_bytes', 'memory.usage_in_bytes'];
      const texts = await Promise.all(
        [limit, current, 'memory.stat'].map((name) => probe.readText(`${folder}/${name}`)),
      );
      return parseCgroup({ limit: texts[0] ?? null, current: texts[1] ?? null, stat: texts[2] ?? null });
    }),
  );
  let { totalBytes, freeBytes } = ram;
  for (const limit of limits) {
    // Version 1 writes "no limit" as a number near 2^63 (not a safe integer, so null) or above all memory.
    if (limit === null || limit.limitBytes >= ram.totalBytes) continue;
    totalBytes = Math.min(totalBytes, limit.limitBytes);
    freeBytes = Math.min(freeBytes, limit.freeBytes);
  }
  if (totalBytes === ram.totalBytes) return ram;
  return {
    totalBytes,
    freeBytes,
    source: `${ram.source}, control group limit`,
    notes: ['A limit set for this process (container or service) counts, not all of the computer’s memory.'],
  };
}
