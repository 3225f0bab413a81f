import { spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';

const mebibyte = 1024 * 1024;
const tickMs = 100;
/** Without a driver daemon the tool needs a second or two for its first answer. */
const firstAnswerMs = 5000;

/** What a measurement added to the memory of an NVIDIA GPU. */
export interface NvidiaRise {
  /** Highest level above the baseline, bytes (the tool counts whole MiB). */
  peakBytes: number;
  /** Rise from the start of the watch to the baseline: whether the process uses an NVIDIA GPU at all. */
  contextBytes: number;
}

/**
 * Watches GPU memory from outside while a process runs, with `nvidia-smi` printing every 100 ms. The
 * process's own figure is used where the driver tells it (compute contexts, same pid namespace); else the
 * GPU whose level rises most counts as a whole, other programs included.
 */
export class NvidiaWatch {
  readonly #tools: ChildProcess[];
  readonly #first = new Map<string, number>();
  readonly #latest = new Map<string, number>();
  #baseline = new Map<string, number>();
  #peak = new Map<string, number>();
  #ticks = 0;
  #onTick: () => void = () => undefined;

  private constructor(command: string) {
    this.#tools = [
      this.#listen(command, ['--query-gpu=index,memory.used'], 'gpu'),
      this.#listen(command, ['--query-compute-apps=pid,used_memory'], 'pid'),
    ];
  }

  /** Null when there is no NVIDIA driver. */
  static async start(command = 'nvidia-smi'): Promise<NvidiaWatch | null> {
    const watch = new NvidiaWatch(command);
    const answered = await watch.#tick(firstAnswerMs);
    if (answered) return watch;
    watch.stop();
    return null;
  }

  /** Levels above these count from now on. */
  async setBaseline(): Promise<void> {
    // Two ticks, so that the second one was taken after the call.
    await this.#tick(firstAnswerMs);
    await this.#tick(firstAnswerMs);
    this.#baseline = new Map(this.#latest);
    this.#peak = new Map(this.#latest);
  }

  /** @param pid the watched process, when its id is known */
  rise(pid: number | undefined): NvidiaRise {
    const gpus = [...this.#peak.keys()].filter((key) => key.startsWith('gpu'));
    const own = `pid ${pid}`;
    const keys = this.#baseline.has(own) ? [own] : gpus;
    const above = (levels: Map<string, number>, base: Map<string, number>, names: string[]): number =>
      Math.max(0, ...names.map((key) => (levels.get(key) ?? 0) - (base.get(key) ?? 0)));
    return {
      peakBytes: above(this.#peak, this.#baseline, keys) * mebibyte,
      contextBytes: above(this.#baseline, this.#first, keys) * mebibyte,
    };
  }

  stop(): void {
    for (const tool of this.#tools) tool.kill('SIGKILL');
  }

  #listen(command: string, query: string[], kind: 'gpu' | 'pid'): ChildProcess {
    const tool = spawn(command, [...query, '--format=csv,noheader,nounits', `--loop-ms=${tickMs}`], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    // No such program: the first answer never comes.
    tool.on('error', () => this.#onTick());
    tool.on('exit', () => this.#onTick());
    createInterface({ input: tool.stdout }).on('line', (line) => {
      const match = /^\s*(\d+),\s*(\d+)\s*$/.exec(line);
      if (!match) return;
      const key = `${kind} ${match[1]}`;
      const level = Number(match[2]);
      if (!this.#first.has(key) && kind === 'gpu') this.#first.set(key, level);
      this.#latest.set(key, level);
      this.#peak.set(key, Math.max(level, this.#peak.get(key) ?? 0));
      // One answer has a line for each GPU.
      if (kind !== 'gpu' || key !== [...this.#first.keys()][0]) return;
      this.#ticks += 1;
      this.#onTick();
    });
    return tool;
  }

  /** Waits for the next answer; false when none came. */
  #tick(limitMs: number): Promise<boolean> {
    const before = this.#ticks;
    return new Promise((resolve) => {
      const finish = (): void => {
        clearTimeout(timer);
        this.#onTick = () => undefined;
        resolve(this.#ticks > before);
      };
      const timer = setTimeout(finish, limitMs);
      this.#onTick = finish;
    });
  }
}
