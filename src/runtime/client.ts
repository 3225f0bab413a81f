import { SnugError } from '../contract/errors.js';
import type { Measurement, Provider } from '../contract/types.js';
import { bytesOfValues, collectGarbage, Garbage } from './garbage.js';
import { cancelled, RuntimeJob } from './job.js';
import { separatingEnv } from './device-memory.js';
import { NvidiaWatch } from './nvidia-watch.js';
import { forkRuntime, type SpawnRuntime } from './spawn.js';
import type { TrainingRuntime, TrainingSession, TrainingSpec } from './training-types.js';
import type { Feeds, Runtime, RuntimeSession, SessionSpec } from './types.js';

export interface RuntimeOptions {
  /** How to start the onnxruntime process; a Node child process when left out. */
  spawn?: SpawnRuntime;
  /** Threads of a session that does not say its own number. */
  threads?: number;
  /** Ends every process at once when it aborts; what waits rejects with `E_CANCELLED`. */
  signal?: AbortSignal;
  /** Told the id of every process started. */
  onProcess?: (pid: number) => void;
  /** Told what a process holds (resident bytes) once it is ready for a model. */
  onBase?: (pid: number, bytes: number) => void;
  /** Told the id of every process that is gone. */
  onProcessEnd?: (pid: number) => void;
  /** The program that reads NVIDIA GPUs; found on the path when left out. */
  nvidiaSmi?: string;
}

/** A GPU that a process uses holds at least so much for it; less is other programs at work. */
const leastContextBytes = 8 * 1024 * 1024;

/**
 * What is freed goes back to the system (GNU C library; others ignore it): without these its heaps grow to several
 * times what the runtime holds at once, as large blocks come and go between small ones.
 */
const leanEnv = { MALLOC_ARENA_MAX: '1', MALLOC_MMAP_THRESHOLD_: '262144' };

const closed = (): SnugError =>
  new SnugError('E_BAD_REQUEST', 'This session is closed.', { action: 'Open the model again.' });

/** The runtime of this computer: onnxruntime in processes of its own, one for each open model or measurement. */
export function createRuntime(options: RuntimeOptions = {}): Runtime & TrainingRuntime {
  return new RuntimeClient(options);
}

class RuntimeClient implements Runtime, TrainingRuntime {
  readonly #options: RuntimeOptions;
  readonly #jobs = new Set<RuntimeJob>();
  #providers: Promise<Provider[]> | null = null;

  constructor(options: RuntimeOptions) {
    this.#options = options;
    options.signal?.addEventListener('abort', () => this.#killAll(cancelled()), { once: true });
  }

  providers(): Promise<Provider[]> {
    this.#providers ??= this.#findProviders().catch((error: unknown) => {
      this.#providers = null;
      throw error;
    });
    return this.#providers;
  }

  /** A provider that the build knows may lack its driver: each one has to run a tiny model to count. */
  async #findProviders(): Promise<Provider[]> {
    const known = await this.#once((job) => job.ask({ kind: 'backends' }));
    const works = await Promise.all(
      known.map(async (provider) => {
        if (provider === 'cpu') return true;
        try {
          await this.#once((job) => job.ask({ kind: 'probe', provider }));
          return true;
        } catch (error) {
          if (error instanceof SnugError && error.code === 'E_CANCELLED') throw error;
          // Refused, or its driver took the process down: either way it cannot be used here.
          return false;
        }
      }),
    );
    return known.filter((_, index) => works[index]);
  }

  async open(spec: SessionSpec): Promise<RuntimeSession> {
    // What the caller has done with is freed before another process stands beside it.
    if (spec.lean === true) collectGarbage();
    const job = this.#start(spec.lean === true ? leanEnv : {});
    try {
      const { inputs, outputs } = await job.ask({ kind: 'open', spec: this.#complete(spec) });
      const garbage = new Garbage();
      let received = 0;
      return {
        inputs,
        outputs,
        run: async (feeds, fetches) => {
          if (spec.lean === true) garbage.add(received);
          const results = await job.ask({ kind: 'run', feeds, ...(fetches ? { fetches } : {}) });
          // A message is read in pieces, joined, and copied into arrays.
          received = 3 * bytesOfValues(results);
          return results;
        },
        hold: async (values) => void (await job.ask({ kind: 'hold', values })),
        holdFile: async (path, values) => void (await job.ask({ kind: 'hold-file', path, values })),
        runProducts: async (feeds, products, fetches) => {
          if (spec.lean === true) garbage.add(received);
          const found = await job.ask({ kind: 'products', feeds, products, fetches });
          received = 3 * (bytesOfValues(found.results) + bytesOfValues(feeds));
          return found;
        },
        storeProducts: (output, path) => job.ask({ kind: 'store-products', output, path }),
        close: () => job.kill(closed()),
      };
    } catch (error) {
      await job.kill(closed());
      throw error;
    }
  }

  async openTraining(spec: TrainingSpec): Promise<TrainingSession> {
    const job = this.#start(spec.spareMemory ? leanEnv : {});
    try {
      const session = this.#complete({ ...spec.session, modelPath: spec.gradientPath });
      await job.ask({ kind: 'train-open', spec: { ...spec, session } });
    } catch (error) {
      await job.kill(closed());
      throw error;
    }
    return {
      step: (feeds, weight, rate) => job.ask({ kind: 'train-step', feeds, weight, rate }),
      evaluate: (feeds) => job.ask({ kind: 'train-evaluate', feeds }),
      save: async (path, meta, withMoments) => void (await job.ask({ kind: 'train-save', path, meta, withMoments })),
      close: () => job.kill(closed()),
    };
  }

  async measure(spec: SessionSpec, feeds: Feeds, options: { warmRuns: number; batch: number }): Promise<Measurement> {
    const request = { kind: 'measure', spec: this.#complete(spec), feeds, ...options } as const;
    if (spec.provider === 'cpu') return this.#once((job) => job.ask(request));
    // A level taken before the process exists shows later whether the process uses this GPU at all.
    const watch = await NvidiaWatch.start(this.#options.nvidiaSmi);
    try {
      return await this.#once(async (job) => {
        const measured = await job.ask(request, async () => watch?.setBaseline());
        const rise = watch?.rise(job.pid);
        if (!rise || rise.contextBytes < leastContextBytes) return measured;
        const { peakBytes } = rise;
        return { ...measured, peakBytes, load: null, cold: null, warm: null, method: 'nvidia-smi' };
      }, separatingEnv);
    } finally {
      watch?.stop();
    }
  }

  async close(): Promise<void> {
    await this.#killAll(closed());
  }

  #complete(spec: SessionSpec): SessionSpec {
    const threads = spec.threads ?? this.#options.threads;
    return threads === undefined ? spec : { ...spec, threads };
  }

  #start(env: Readonly<Record<string, string>> = {}): RuntimeJob {
    if (this.#options.signal?.aborted) throw cancelled();
    const { spawn = forkRuntime, onBase, onProcessEnd } = this.#options;
    const job: RuntimeJob = new RuntimeJob(spawn, env, (bytes) => {
      if (job.pid !== undefined) onBase?.(job.pid, bytes);
    });
    this.#jobs.add(job);
    void job.gone.then(() => {
      this.#jobs.delete(job);
      if (job.pid !== undefined) onProcessEnd?.(job.pid);
    });
    if (job.pid !== undefined) this.#options.onProcess?.(job.pid);
    return job;
  }

  async #once<T>(ask: (job: RuntimeJob) => Promise<T>, env: Readonly<Record<string, string>> = {}): Promise<T> {
    const job = this.#start(env);
    try {
      return await ask(job);
    } finally {
      await job.kill(closed());
    }
  }

  async #killAll(reason: SnugError): Promise<void> {
    await Promise.all([...this.#jobs].map((job) => job.kill(reason)));
  }
}
