/** Outcome of a command. `failure` says why there is no (complete) answer; `exit` still has its output. */
export interface ExecResult {
  stdout: string;
  stderr: string;
  failure: 'missing' | 'timeout' | 'exit' | null;
}

/** Runs a program without a shell. Never rejects; kills the program after `timeoutMs`. */
export type Exec = (command: string, args: readonly string[], timeoutMs: number) => Promise<ExecResult>;

/** What systeminformation says about one controller; only its name and place are believed (see names.ts). */
export interface NamedController {
  name: string;
  vendor: string;
  /** `03:00.0` or empty. */
  busAddress: string;
  /** MB as reported; used for Intel Macs alone, where it is the system profiler's figure. */
  vramMb: number | null;
}

/**
 * All that reading hardware asks of the world outside, so that every platform can be tested with recorded
 * answers on any other. No member rejects: an absent file is null, an absent folder an empty list.
 */
export interface Probe {
  platform: NodeJS.Platform;
  exec: Exec;
  readText(path: string): Promise<string | null>;
  list(folder: string): Promise<string[]>;
  env(name: string): string | undefined;
  /** Milliseconds since the epoch. */
  now(): number;
  /** What Node itself knows: bytes of memory, the processor's name (may be empty), logical processors. */
  system(): { totalBytes: number; freeBytes: number; cpuName: string; cores: number };
  /** Names of graphics controllers from systeminformation; slow, so asked only when a name is missing. */
  controllers(): Promise<NamedController[]>;
  /** Processor name from systeminformation, for computers where Node has none (many ARM boards). */
  processorName(): Promise<string>;
}

/** Gives `work` at most `timeoutMs`; after that, or when it fails, the answer is `fallback`. */
export async function within<T>(work: Promise<T>, timeoutMs: number, fallback: T): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<T>((resolve) => {
    timer = setTimeout(() => resolve(fallback), Math.max(0, timeoutMs));
  });
  try {
    return await Promise.race([work.catch(() => fallback), late]);
  } finally {
    clearTimeout(timer);
  }
}
