import { spawn, type ChildProcess } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

/** What a command did: its exit code, time, and the most memory it and its children held together. */
export interface Observed {
  code: number | null;
  seconds: number;
  /** Sum over the process tree of proportional set sizes, highest of the samples taken, in MB. */
  peakMegabytes: number;
  stderr: string;
}

function children(pid: number): number[] {
  try {
    const tasks = readdirSync(`/proc/${pid}/task`);
    const own = tasks.flatMap((task) =>
      readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').split(' ').filter(Boolean).map(Number),
    );
    return own.flatMap((child) => [child, ...children(child)]);
  } catch {
    return [];
  }
}

function megabytes(pid: number): number {
  try {
    return Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1] ?? 0) / 1000;
  } catch {
    return 0;
  }
}

/** Runs a command to its end and reads the memory of its process tree about 25 times a second. Linux only. */
export function observe(program: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<Observed> {
  const started = performance.now();
  const child: ChildProcess = spawn(program, args, { env, stdio: ['ignore', 'ignore', 'pipe'] });
  let peakMegabytes = 0;
  let stderr = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const timer = setInterval(() => {
    const pids = [child.pid!, ...children(child.pid!)];
    peakMegabytes = Math.max(
      peakMegabytes,
      pids.reduce((sum, pid) => sum + megabytes(pid), 0),
    );
  }, 40);
  return new Promise((resolve) =>
    child.on('close', (code) => {
      clearInterval(timer);
      resolve({ code, seconds: (performance.now() - started) / 1000, peakMegabytes, stderr });
    }),
  );
}
