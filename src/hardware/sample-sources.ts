import path from 'node:path';
import type { GpuReading, Provider } from '../contract/types.js';
import { probeInUse } from './apple.js';
import { drmHeldBy } from './fdinfo.js';
import { parseByteCount } from './finding.js';
import type { Lines, Listening } from './lines.js';
import { nvidiaSmiPaths } from './nvidia.js';
import type { Probe } from './probe.js';
import { residentBytes } from './processes.js';
import { readRam } from './ram.js';
import { parseLoopLine, windowsLoop } from './windows-loop.js';

type World = Probe & Lines;
type Device = Pick<GpuReading, 'id' | 'vendor' | 'shared' | 'totalBytes' | 'address'>;

/** Bytes at one moment; null where the source cannot tell. */
export interface Level {
  usedBytes: number | null;
  totalBytes: number | null;
  oursBytes: number | null;
}

export interface Watcher {
  intervalMs: number;
  pids: () => Promise<number[]>;
  onLevel: (level: Level) => void;
  /** The source went away by itself. */
  onEnd: () => void;
}

export interface SampleSource {
  name: string;
  /** Asking more often would cost the model under watch. */
  leastIntervalMs: number;
  watch(watcher: Watcher, world: World): Listening;
}

/**
 * One look at kernel files takes 6 ms of processor time (measured on Linux, control groups included), a tool ten times
 * that and more.
 */
const fileIntervalMs = 100;
const toolIntervalMs = 500;

/** The source that tells most about `device` on this platform. */
export function sourceFor(device: Device, provider: Provider, world: Pick<Probe, 'platform'>): SampleSource {
  if (provider === 'cpu' || device.vendor === 'none') return ramSource(world.platform);
  if (world.platform === 'win32') return windowsSource(device);
  if (world.platform === 'darwin') return appleSource(device);
  if (device.vendor === 'nvidia') return device.shared ? ramSource(world.platform) : nvidiaSource(device);
  if (world.platform === 'linux' && device.address !== null) return drmSource(device);
  return ramSource(world.platform);
}

/** Asks again and again, each time `intervalMs` after the last question or as soon as its answer is there. */
function polling(read: (watcher: Watcher, world: World) => Promise<Level | null>): SampleSource['watch'] {
  return (watcher, world) => {
    let over = false;
    let timer: NodeJS.Timeout | undefined;
    const ask = async (): Promise<void> => {
      const asked = performance.now();
      const level = await read(watcher, world).catch(() => null);
      if (over) return;
      if (level !== null) watcher.onLevel(level);
      timer = setTimeout(() => void ask(), Math.max(0, watcher.intervalMs - (performance.now() - asked)));
    };
    void ask();
    return {
      stop: () => {
        over = true;
        clearTimeout(timer);
      },
    };
  };
}

const within1s = (): number => 1000;

/** The computer's memory, and the resident sets of the watched processes. */
function ramSource(platform: NodeJS.Platform): SampleSource {
  const files = platform === 'linux';
  if (platform === 'win32') return windowsSource(null);
  return {
    name: files ? 'Linux kernel (/proc)' : 'operating system (vm_stat, ps)',
    leastIntervalMs: files ? fileIntervalMs : toolIntervalMs,
    watch: polling(async (watcher, world) => {
      const [ram, ours] = await Promise.all([
        readRam(world, within1s),
        watcher.pids().then((pids) => residentBytes(world, pids)),
      ]);
      return { usedBytes: ram.totalBytes - ram.freeBytes, totalBytes: ram.totalBytes, oursBytes: ours };
    }),
  };
}

/** The kernel's graphics drivers: sysfs for the device, fdinfo for the watched processes. */
function drmSource(device: Device): SampleSource {
  const folder = `/sys/bus/pci/devices/${device.address}`;
  return {
    name: device.vendor === 'amd' ? 'Linux kernel (amdgpu, fdinfo)' : 'Linux kernel (fdinfo)',
    leastIntervalMs: fileIntervalMs,
    watch: polling(async (watcher, world) => {
      const bytes = async (name: string): Promise<number | null> =>
        parseByteCount(await world.readText(`${folder}/${name}`));
      const pids = await watcher.pids();
      const [vram, gtt, held] = await Promise.all([
        bytes('mem_info_vram_used'),
        bytes('mem_info_gtt_used'),
        drmHeldBy(world, pids),
      ]);
      const mine = held.get(device.address ?? '') ?? { ownBytes: 0, systemBytes: 0 };
      if (!device.shared) return { usedBytes: vram, totalBytes: device.totalBytes, oursBytes: mine.ownBytes };
      const oursBytes = mine.ownBytes + mine.systemBytes;
      if (vram !== null) return { usedBytes: vram + (gtt ?? 0), totalBytes: device.totalBytes, oursBytes };
      // Intel's processor graphics has no counter of its own: its buffers are pages of the computer's memory that
      // no resident set counts.
      const [ram, resident] = await Promise.all([readRam(world, within1s), residentBytes(world, pids)]);
      return {
        usedBytes: ram.totalBytes - ram.freeBytes,
        totalBytes: ram.totalBytes,
        oursBytes: resident === null ? oursBytes : oursBytes + resident,
      };
    }),
  };
}

const mib = 1024 * 1024;

/** One nvidia-smi for the device and one for its compute processes, each printing by itself for as long as needed. */
function nvidiaSource(device: Device): SampleSource {
  return {
    name: 'NVIDIA driver (nvidia-smi)',
    leastIntervalMs: toolIntervalMs,
    watch: (watcher, world) => {
      const tools: Listening[] = [];
      const ours = new Map<number, { bytes: number; at: number }>();
      let known: readonly number[] = [];
      let over = false;
      const id = device.address ?? device.id.replace(/^nvidia-/, '');
      const options = [`--id=${id}`, '--format=csv,noheader,nounits', `--loop-ms=${watcher.intervalMs}`];
      const onLine = (line: string): void => {
        const [total, used] = /^\s*(\d{1,9}),\s*(\d{1,9})\s*$/.exec(line)?.slice(1).map(Number) ?? [];
        void watcher.pids().then((pids) => {
          known = pids;
        });
        if (total === undefined || used === undefined) return;
        // A process that no longer holds anything is no longer printed.
        const recent = performance.now() - 2.5 * watcher.intervalMs;
        const mine = [...ours].filter(([pid, held]) => known.includes(pid) && held.at >= recent);
        watcher.onLevel({
          usedBytes: used * mib,
          totalBytes: total * mib,
          // WebGPU's processes are not among the compute ones, so "not printed" is not "holds nothing".
          oursBytes: mine.length === 0 ? null : mine.reduce((sum, [, held]) => sum + held.bytes, 0),
        });
      };
      const start = (commands: string[]): void => {
        const [command, ...others] = commands;
        if (command === undefined) return watcher.onEnd();
        let answered = false;
        tools.push(
          world.listen(
            command,
            ['--query-gpu=memory.total,memory.used', ...options],
            (line) => {
              // What was printed before the end may still arrive, and must start nothing that no one would stop.
              if (over) return;
              if (!answered) {
                answered = true;
                tools.push(
                  world.listen(command, ['--query-compute-apps=pid,used_memory', ...options], onApp, () => undefined),
                );
              }
              onLine(line);
            },
            () => {
              if (over) return;
              if (answered) watcher.onEnd();
              else start(others);
            },
          ),
        );
      };
      const onApp = (line: string): void => {
        const [pid, used] = /^\s*(\d{1,10}),\s*(\d{1,9})\s*$/.exec(line)?.slice(1).map(Number) ?? [];
        if (pid !== undefined && used !== undefined) ours.set(pid, { bytes: used * mib, at: performance.now() });
      };
      // The process list is asked once beforehand, so that the first answer already has it.
      void watcher.pids().then((pids) => {
        known = pids;
        if (!over) start(nvidiaSmiPaths(world));
      });
      return {
        stop: () => {
          over = true;
          for (const tool of tools) tool.stop();
        },
      };
    },
  };
}

/** One PowerShell that prints the counters again and again; null for the computer's memory alone. */
function windowsSource(device: Device | null): SampleSource {
  return {
    name: device === null ? 'operating system' : 'Windows (GPU performance counters)',
    leastIntervalMs: toolIntervalMs,
    watch: (watcher, world) => {
      const system = `${world.env('SystemRoot') ?? 'C:\\Windows'}\\System32`;
      const programs = path.win32.basename(process.execPath, '.exe');
      const script = windowsLoop(device === null ? 'working-sets' : 'gpu', programs, watcher.intervalMs);
      const onLine = (line: string): void => {
        void watcher.pids().then((pids) => {
          const level = parseLoopLine(line, device?.address ?? null, pids, device?.shared ?? false);
          if (level === null) return;
          const { totalBytes, freeBytes } = world.system();
          if (device === null) watcher.onLevel({ ...level, usedBytes: totalBytes - freeBytes, totalBytes });
          else watcher.onLevel({ ...level, totalBytes: device.totalBytes });
        });
      };
      return world.listen(
        `${system}\\WindowsPowerShell\\v1.0\\powershell.exe`,
        ['-NoProfile', '-NonInteractive', '-Command', script],
        onLine,
        watcher.onEnd,
      );
    },
  };
}

/** What all programs hold for the GPU by the registry of devices, and the resident sets of the watched processes. */
function appleSource(device: Device): SampleSource {
  return {
    name: 'macOS (ioreg, ps)',
    leastIntervalMs: toolIntervalMs,
    watch: polling(async (watcher, world) => {
      const [used, ours] = await Promise.all([
        probeInUse(world, 1000),
        watcher.pids().then((pids) => residentBytes(world, pids)),
      ]);
      return { usedBytes: used, totalBytes: device.totalBytes, oursBytes: ours };
    }),
  };
}
