import type { GpuReading, Provider } from '../contract/types.js';
import { nodeProbe } from './node-probe.js';
import { nodeLines, type Lines } from './lines.js';
import type { Probe } from './probe.js';
import { processTree } from './processes.js';
import { sourceFor } from './sample-sources.js';

/** One look at a device while a model runs; null where the source cannot tell. */
export interface DeviceSample {
  /** Milliseconds since sampling began, from a clock that never steps. */
  atMs: number;
  /** In use by all programs, bytes. */
  usedBytes: number | null;
  totalBytes: number | null;
  /** In use by the watched processes, bytes. */
  oursBytes: number | null;
}

export interface SampleOptions {
  /** The device, as `readHardware` told of it; `ram` (no GPU) samples the computer's memory. */
  gpu: Pick<GpuReading, 'id' | 'vendor' | 'shared' | 'totalBytes' | 'address'>;
  /** `cpu` samples the computer's memory and resident sets whatever `gpu` is. */
  provider: Provider;
  /**
   * Ids of the processes that run the model, asked before every sample so that processes may come and go; what
   * they started counts with them. Left out: this process and all it started.
   */
  pids?: () => readonly number[];
  onSample: (sample: DeviceSample) => void;
  /** Ends the sampling when it aborts, as `stop()` does. */
  signal?: AbortSignal;
  /** Asked distance of samples; raised to what the source can bear. Default: as often as that. */
  intervalMs?: number;
  /** Parts of the outside world to replace, for tests. */
  world?: Partial<Probe & Lines>;
}

export interface DeviceSampler {
  /** Plain words: where the figures come from. */
  readonly source: string;
  /** Distance of two samples in milliseconds: 100 or less for kernel files, 500 or more for tools. */
  readonly intervalMs: number;
  /** Ends the sampling and every program started for it; no sample comes afterwards. Safe to call twice. */
  stop(): void;
  /** Settles when the sampling has ended: `stopped`, or `source-ended` when the tool went away or never started. */
  readonly ended: Promise<'stopped' | 'source-ended'>;
}

/**
 * Watches a device's memory while a model runs. Never throws and never rejects: a source that is not there ends
 * the sampling (`ended`), one that answers late makes a gap.
 */
export function sampleDevice(options: SampleOptions): DeviceSampler {
  const world: Probe & Lines = { ...nodeProbe, ...nodeLines, ...options.world };
  const source = sourceFor(options.gpu, options.provider, world);
  const intervalMs = Math.max(source.leastIntervalMs, options.intervalMs ?? 0);
  const roots = options.pids ?? (() => [process.pid]);
  const started = performance.now();
  let finish: (reason: 'stopped' | 'source-ended') => void = () => undefined;
  const ended = new Promise<'stopped' | 'source-ended'>((resolve) => {
    finish = resolve;
  });
  let over = false;
  const end = (reason: 'stopped' | 'source-ended'): void => {
    if (over) return;
    over = true;
    watch.stop();
    options.signal?.removeEventListener('abort', stop);
    finish(reason);
  };
  const stop = (): void => end('stopped');
  const watch = source.watch(
    {
      intervalMs,
      pids: () => processTree(world, roots()),
      onLevel: (level) => {
        if (!over) options.onSample({ atMs: performance.now() - started, ...level });
      },
      onEnd: () => end('source-ended'),
    },
    world,
  );
  if (options.signal?.aborted) stop();
  else options.signal?.addEventListener('abort', stop, { once: true });
  return { source: source.name, intervalMs, stop, ended };
}
