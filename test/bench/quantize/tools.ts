import { execFileSync, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { root } from '../../cli/run-snug.js';
import { processTree } from '../process-tree.js';

/** The program that runs onnxruntime's Python tools. */
export const python = process.env.SNUG_PYTHON ?? 'python3';
const peers = path.join(import.meta.dirname, 'peers.py');

/** Whether Python with onnx and onnxruntime is there to compare with. */
export function hasPeers(): boolean {
  try {
    execFileSync(python, ['-c', 'import onnx, onnxruntime.quantization'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/** One finished program. */
export interface ToolRun {
  ok: boolean;
  seconds: number;
  /** Highest resident bytes of the program and every process it started, together; see {@link resident}. */
  peakBytes: number;
  /** Processor time of them all, to some hundredths (Linux only; elsewhere NaN). */
  cpuSeconds: number;
  /** Last line of what went wrong. */
  error: string;
  stdout: string;
}

const field = (pid: number | string, key: string): number => {
  const match = new RegExp(`${key}:\\s+(\\d+)`).exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(match?.[1] ?? 0) * 1024;
};

/**
 * Own pages of every process, and the pages of files (programs, mapped weights) of the process that has most of them: the
 * program file is one and the same in all, and in memory once.
 */
function resident(pids: readonly number[]): number {
  let [own, files] = [0, 0];
  for (const pid of pids) {
    try {
      const file = field(pid, 'RssFile');
      own += field(pid, 'VmRSS') - file;
      files = Math.max(files, file);
    } catch {
      // Ended in between.
    }
  }
  return own + files;
}

/** Clock ticks a second, of /proc. */
const ticks = 100;

/** Processor time of a program, of its children that ended and, below it, of those that run. */
function processorSeconds(pids: readonly number[]): number {
  let sum = 0;
  for (const pid of pids) {
    try {
      // After the name, which may hold spaces: state, then user, system and those of ended children from the 12th on.
      const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)!.split(' ');
      for (const at of [11, 12, 13, 14]) sum += Number(fields[at]) / ticks;
    } catch {
      // Ended in between.
    }
  }
  return sum;
}

/** Runs a program to its end and watches its memory (Linux only; elsewhere the peak is NaN). */
export async function watch(program: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<ToolRun> {
  const started = performance.now();
  const child = spawn(program, args, { env: { ...process.env, ...env }, cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
  const linux = process.platform === 'linux';
  let [peakBytes, cpuSeconds] = linux ? [0, 0] : [NaN, NaN];
  const look = (): void => {
    try {
      const pids = processTree(child.pid!);
      peakBytes = Math.max(peakBytes, field(child.pid!, 'VmHWM'), resident(pids));
      cpuSeconds = Math.max(cpuSeconds, processorSeconds(pids));
    } catch {
      // Ended in between.
    }
  };
  const timer = linux ? setInterval(look, 20) : undefined;
  let [stdout, stderr] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
  clearInterval(timer);
  const error = code === 0 ? '' : (stderr.trim().split('\n').at(-1) ?? `exit code ${code}`);
  return { ok: code === 0, seconds: (performance.now() - started) / 1000, peakBytes, cpuSeconds, error, stdout };
}

/** One of onnxruntime's quantizers; `feeds` is the .npz of calibration samples. */
export function runPeer(
  method: string,
  source: string,
  target: string,
  feeds: string,
  block: number,
): Promise<ToolRun> {
  return watch(python, [peers, method, source, target, feeds, String(block)], {});
}

/** `snug quantize` of the build. */
export function runSnug(source: string, target: string, args: readonly string[]): Promise<ToolRun> {
  return watch(
    process.execPath,
    [path.join(root, 'src/cli/snug.js'), 'quantize', source, '-o', target, '--force', '--json', '-q', ...args],
    { SNUG_SKIP_BUILD: '1' },
  );
}
