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

/** A process and its descendants; empty when it has ended. Linux only. */
export function processTree(pid: number): number[] {
  try {
    const children = readdirSync(`/proc/${pid}/task`).flatMap((task) =>
      readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').split(' ').filter(Boolean).map(Number),
    );
    return [pid, ...children.flatMap(processTree)];
  } catch {
    return []; // Ended in between.
  }
}

/** What a process and its descendants hold together: the sum of their proportional set sizes, in MB. */
export function heldMegabytes(pid: number): number {
  return processTree(pid).reduce((sum, each) => sum + megabytes(each), 0);
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
    peakMegabytes = Math.max(peakMegabytes, heldMegabytes(child.pid!));
  }, 40);
  return new Promise((resolve) =>
    child.on('close', (code) => {
      clearInterval(timer);
      resolve({ code, seconds: (performance.now() - started) / 1000, peakMegabytes, stderr });
    }),
  );
}
