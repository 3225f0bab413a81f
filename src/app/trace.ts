import type { GpuReading, MemorySample, Provider } from '../contract/types.js';
import { type DeviceSample, type DeviceSampler, sampleDevice } from '../hardware/sample.js';

/** More points than a screen shows; beyond, neighbours are joined and the higher one stays. */
const mostSamples = 480;
const intervalMs = 250;

/** The next length: neighbours joined, so that a peak is never lost. */
export function thinned(samples: readonly MemorySample[]): MemorySample[] {
  const kept: MemorySample[] = [];
  for (let at = 0; at < samples.length; at += 2) {
    const [first, second] = [samples[at], samples[at + 1]];
    if (first) kept.push(second && second.usedBytes > first.usedBytes ? second : first);
  }
  return kept;
}

export interface TraceOptions {
  gpu: GpuReading;
  provider: Provider;
  /** Runtime processes that are ready for a model → bytes they hold without one; asked before every sample. */
  runtimes: () => ReadonlyMap<number, number>;
  onSample: (sample: MemorySample) => void;
  /** Takes the place of {@link sampleDevice}, for tests. */
  sample?: typeof sampleDevice;
}

/**
 * Memory while a job runs. Samples come only while a process that runs a model is there. On the processor (and on
 * a "GPU" that is one) what counts is what those processes hold above what they held before a model; on a GPU, what
 * the driver says they hold, or how far the device's level rose where it does not tell them apart.
 */
export class Trace {
  #samples: MemorySample[] = [];
  readonly #sampler: DeviceSampler;
  readonly #inProcess: boolean;
  #base = 0;
  #running = false;
  #levelBefore: number | null = null;

  constructor(private readonly options: TraceOptions) {
    const { gpu, provider, runtimes } = options;
    this.#inProcess = provider === 'cpu' || gpu.vendor === 'none';
    this.#sampler = (options.sample ?? sampleDevice)({
      gpu,
      provider,
      intervalMs,
      pids: () => {
        const ready = runtimes();
        this.#running = ready.size > 0;
        this.#base = this.#inProcess ? [...ready.values()].reduce((sum, bytes) => sum + bytes, 0) : 0;
        return [...ready.keys()];
      },
      onSample: (sample) => this.#take(sample),
    });
  }

  get samples(): readonly MemorySample[] {
    return this.#samples;
  }

  stop(): void {
    this.#sampler.stop();
  }

  #take({ atMs, usedBytes, totalBytes, oursBytes }: DeviceSample): void {
    this.#levelBefore ??= usedBytes;
    if (!this.#running) return;
    const rise = usedBytes === null ? null : usedBytes - (this.#levelBefore ?? usedBytes);
    // Without a figure of their own the processes are gone: then the computer's level tells of others only.
    const held = oursBytes !== null ? oursBytes - this.#base : this.#inProcess ? null : rise;
    if (held === null) return;
    const sample: MemorySample = {
      atMs: Math.round(atMs),
      usedBytes: Math.max(0, held),
      deviceUsedBytes: usedBytes,
      deviceTotalBytes: totalBytes,
    };
    this.#samples.push(sample);
    if (this.#samples.length > mostSamples) this.#samples = thinned(this.#samples);
    this.options.onSample(sample);
  }
}
