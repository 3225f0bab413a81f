import { mixSeed, shuffled } from './random.js';

/** How many samples are held out to judge by; at least one is left to train on. */
export const heldOutCount = (samples: number, share: number): number =>
  Math.min(Math.round(samples * share), samples - 1);

export interface SampleOrderOptions {
  samples: number;
  seed: number;
  /** Samples in one update. */
  batch: number;
  /** Share that is held out, where `held` does not name them. */
  validation: number;
  /** Indices to hold out. */
  held?: readonly number[] | undefined;
}

/**
 * Which samples are trained on and which judge, and the order of each epoch. All of it follows from the seed, so that
 * a training that goes on from a checkpoint sees what it would have seen.
 */
export class SampleOrder {
  readonly training: readonly number[];
  readonly held: readonly number[];
  readonly stepsPerEpoch: number;
  readonly #options: SampleOrderOptions;
  #shuffled: { epoch: number; samples: number[] } | null = null;

  constructor(options: SampleOrderOptions) {
    this.#options = options;
    const all = Array.from({ length: options.samples }, (_, i) => i);
    if (options.held) {
      const held = new Set(options.held);
      this.held = [...held];
      this.training = all.filter((sample) => !held.has(sample));
    } else {
      const order = shuffled(all, mixSeed(options.seed, 0));
      const count = heldOutCount(options.samples, options.validation);
      this.held = order.slice(0, count);
      this.training = order.slice(count);
    }
    this.stepsPerEpoch = Math.ceil(this.training.length / options.batch);
  }

  epochOf(step: number): number {
    return Math.floor(step / this.stepsPerEpoch);
  }

  /** Samples of update `step` (from 0 on); the last update of an epoch takes what is left. */
  ofStep(step: number): number[] {
    const { batch } = this.#options;
    const first = (step % this.stepsPerEpoch) * batch;
    return this.#ofEpoch(this.epochOf(step)).slice(first, first + batch);
  }

  #ofEpoch(epoch: number): number[] {
    if (this.#shuffled?.epoch !== epoch) {
      const samples = shuffled(this.training, mixSeed(this.#options.seed, epoch + 1));
      this.#shuffled = { epoch, samples };
    }
    return this.#shuffled.samples;
  }
}
