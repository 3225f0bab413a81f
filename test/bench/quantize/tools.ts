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
  /** Highest resident bytes of the program and every process it started, together. */
  peakBytes: number;
  /** Last line of what went wrong. */
  error: string;
  stdout: string;
}

const field = (pid: number | string, key: string): number => {
  const match = new RegExp(`${key}:\\s+(\\d+)`).exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(match?.[1] ?? 0) * 1024;
};

function resident(pids: readonly number[]): number {
  let sum = 0;
  for (const pid of pids) {
    try {
      sum += field(pid, 'VmRSS');
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
  let peakBytes = linux ? 0 : NaN;
  const look = (): void => {
    try {
      peakBytes = Math.max(peakBytes, field(child.pid!, 'VmHWM'), resident(processTree(child.pid!)));
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
  return { ok: code === 0, seconds: (performance.now() - started) / 1000, peakBytes, error, stdout };
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
