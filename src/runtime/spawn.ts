import { fork, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { ProcessExit } from './errors.js';
import { noTelemetry, runFolderPrefix, type Channel, type FromProcess, type ToProcess } from './protocol.js';

/** A started process of ours, whatever started it: `Out` goes to it, `In` comes from it. */
export interface StartedProcess<Out, In> {
  readonly pid: number | undefined;
  readonly channel: Channel<Out, In>;
  /** Ends it at once; a second call does nothing. */
  kill(): void;
  /** Called exactly once, when the process is gone (or could not be started). */
  onExit(listener: (exit: ProcessExit) => void): void;
}

export interface SpawnRequest {
  /** Program file. */
  entry: string;
  env: Record<string, string>;
}

export type RuntimeProcess = StartedProcess<ToProcess, FromProcess>;

/** Starts the process whose program is `entry`; Electron hands in one that uses utility processes. */
export type SpawnRuntime = (request: SpawnRequest) => RuntimeProcess;

/** What onnxruntime and graphics drivers may read from the environment; everything else stays outside. */
const allowed = new Set([
  'PATH', 'HOME', 'USER', 'TMPDIR', 'TMP', 'TEMP', 'LANG', 'LC_ALL', 'TZ', 'LD_LIBRARY_PATH', 'DYLD_LIBRARY_PATH',
  'DISPLAY', 'WAYLAND_DISPLAY', 'XDG_RUNTIME_DIR', 'XDG_CACHE_HOME', 'XDG_DATA_DIRS', 'LIBGL_ALWAYS_SOFTWARE',
  'SYSTEMROOT', 'SYSTEMDRIVE', 'WINDIR', 'USERPROFILE', 'APPDATA', 'LOCALAPPDATA', 'PROGRAMDATA', 'PROGRAMFILES',
  'COMSPEC', 'NUMBER_OF_PROCESSORS', 'OMP_NUM_THREADS',
]); // prettier-ignore
const allowedPrefixes = ['VK_', 'CUDA_', 'NVIDIA_', 'MESA_', 'ORT_', 'DXIL_'];

/** The part of `env` an onnxruntime process gets. */
export function runtimeEnv(env: NodeJS.ProcessEnv = process.env): Record<string, string> {
  const result: Record<string, string> = { ...noTelemetry };
  for (const [name, value] of Object.entries(env)) {
    const upper = name.toUpperCase();
    if (value === undefined || name in noTelemetry) continue;
    if (allowed.has(upper) || allowedPrefixes.some((prefix) => upper.startsWith(prefix))) result[name] = value;
  }
  // A Vulkan driver that a browser ships lies beside the loader it was tested with, and machines without a
  // graphics stack have no other loader.
  const driver = (env.VK_DRIVER_FILES ?? env.VK_ICD_FILENAMES)?.split(path.delimiter)[0];
  if (driver && existsSync(path.join(path.dirname(driver), 'libvulkan.so.1'))) {
    result.LD_LIBRARY_PATH = [result.LD_LIBRARY_PATH, path.dirname(driver)].filter(Boolean).join(path.delimiter);
  }
  return result;
}

/** Tensors lie outside of V8's heap; its room for young objects (MB for each half) would grow to 50 MB beside them. */
const smallYoungSpace = '--max-semi-space-size=1';

const stderrLimit = 16_384;
const living = new Map<ChildProcess, string>();
let exitHandlerSet = false;

function killAll(): void {
  for (const [child, directory] of living) {
    child.kill('SIGKILL');
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Times the system's out-of-memory killer has struck (Linux; 0 elsewhere). */
function memoryKills(): number {
  let kills = 0;
  for (const file of ['/proc/vmstat', '/sys/fs/cgroup/memory.events']) {
    try {
      kills += Number(/^oom_kill (\d+)/m.exec(readFileSync(file, 'utf8'))?.[1] ?? 0);
    } catch {
      // Not Linux, or no control groups: nothing to count.
    }
  }
  return kills;
}

/**
 * Starts a plain Node child process with an IPC channel that carries typed arrays. Its working directory is
 * a fresh empty folder (models loaded from bytes resolve external data against it), removed afterwards. No
 * child outlives this process.
 */
export function forkProcess<Out extends object, In>({ entry, env }: SpawnRequest): StartedProcess<Out, In> {
  const directory = mkdtempSync(path.join(tmpdir(), runFolderPrefix));
  const killsBefore = memoryKills();
  const child = fork(entry, [], {
    cwd: directory,
    env,
    execArgv: [smallYoungSpace],
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  living.set(child, directory);
  if (!exitHandlerSet) {
    exitHandlerSet = true;
    process.once('exit', killAll);
  }
  let stderr = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-stderrLimit);
  });
  let ended = false;
  const listeners: ((exit: ProcessExit) => void)[] = [];
  const finish = (code: number | null, signal: string | null): void => {
    if (ended) return;
    ended = true;
    living.delete(child);
    rmSync(directory, { recursive: true, force: true });
    const exit = { code, signal, stderr, memoryKill: memoryKills() > killsBefore };
    for (const listener of listeners) listener(exit);
  };
  // 'close' comes after 'exit' when stderr has been read to its end.
  child.on('close', finish);
  child.on('error', (error) => {
    stderr += error.message;
    if (child.pid === undefined) finish(null, null);
  });
  return {
    pid: child.pid,
    channel: {
      post: (message) => {
        // The error of a send to a process that has just died is told by its exit.
        if (child.connected) child.send(message, () => undefined);
      },
      onMessage: (listener) => void child.on('message', (message) => listener(message as In)),
      onClose: (listener) => void child.on('disconnect', listener),
    },
    kill: () => void child.kill('SIGKILL'),
    onExit: (listener) => void listeners.push(listener),
  };
}

export const forkRuntime: SpawnRuntime = forkProcess;
