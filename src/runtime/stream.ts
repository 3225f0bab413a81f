import { SnugError } from '../contract/errors.js';
import type { Measurement } from '../contract/types.js';
import { cancelled } from './job.js';
import { StreamOutput } from './stream-output.js';
import type { StreamOptions, StreamResult } from './stream-types.js';
import type { Feeds, RuntimeSession } from './types.js';

export type * from './stream-types.js';

/** A checkpoint costs a flush of the disk; this often one is worth it. */
const checkpointMs = 2000;
/** How often a budget that moves is asked for. */
const budgetMs = 1000;

/**
 * Runs a whole data set through a model, one batch in flight at a time, and appends its outputs to .npy files.
 * When memory runs out (or the process dies of it, or the measured peak is above the budget) the batch halves, a
 * fresh process opens the model and the work goes on at the first unfinished sample. The outputs appear whole or
 * not at all.
 *
 * @throws SnugError whatever stops the work at batch 1, and what no smaller batch could mend;
 *   E_NOTHING_FITS when one sample is above the budget
 */
export async function streamBatches(options: StreamOptions): Promise<StreamResult> {
  if (!Number.isInteger(options.batch) || options.batch < 1) {
    throw new SnugError('E_USAGE', `A batch of ${options.batch} samples is impossible.`, {
      action: 'Give a whole number above 0.',
    });
  }
  const { output, resume } = await StreamOutput.open({
    target: options.output,
    folder: options.outputs === 'all',
    overwrite: options.overwrite ?? false,
    resumeKey: options.resumeKey,
    restart: options.restart,
  });
  let stream: Stream | null = null;
  try {
    stream = new Stream(options, output, resume ?? undefined);
    return await stream.run();
  } catch (error) {
    await stream?.giveUp();
    if (stream === null) await output.abort();
    throw error;
  }
}

/** A smaller batch may mend these. */
function mayFitSmaller(error: unknown): boolean {
  return error instanceof SnugError && (error.code === 'E_OUT_OF_MEMORY' || error.code === 'E_ENGINE_CRASHED');
}

class Stream {
  readonly #options: StreamOptions;
  readonly #output: StreamOutput;
  readonly #resumedAt: number;
  #batch: number;
  #done: number;
  #halvings: number;
  #session: RuntimeSession | null = null;
  /** Samples per second, measured at the batch. */
  #speed = 0;
  #budgetAskedAt = 0;
  #checkpointAt = performance.now();
  #kept: number;

  constructor(options: StreamOptions, output: StreamOutput, resume = { batch: options.batch, done: 0, halvings: 0 }) {
    this.#options = options;
    this.#output = output;
    const { dataset } = options;
    this.#resumedAt = resume.done;
    this.#done = resume.done;
    this.#kept = resume.done;
    this.#halvings = resume.halvings;
    this.#batch = dataset.fixedBatch ?? Math.min(resume.batch, dataset.samples);
    if (dataset.samples % (dataset.fixedBatch ?? 1) !== 0) {
      throw new SnugError('E_DATA_SHAPE', `The model takes exactly ${this.#batch} samples at a time.`, {
        action: `Give a data set whose ${dataset.samples} samples are a multiple of that.`,
        params: { batch: this.#batch, samples: dataset.samples },
      });
    }
    options.signal?.addEventListener('abort', () => void this.#closeSession(), { once: true });
  }

  async run(): Promise<StreamResult> {
    const { dataset } = this.#options;
    const total = dataset.samples;
    let peakBytes = await this.#measureWithinBudget();
    if (this.#resumedAt === 0 && this.#halvings === 0) peakBytes = await this.#grow(peakBytes);
    const start = performance.now();
    while (this.#done < total) {
      this.#assertGoingOn();
      if (await this.#budgetFell(peakBytes)) {
        await this.#shrink();
        peakBytes = await this.#measureWithinBudget();
      }
      const count = Math.min(this.#batch, total - this.#done);
      let outputs: Feeds;
      try {
        outputs = await this.#runBatch(count);
      } catch (error) {
        await this.#halve(error);
        peakBytes = await this.#measureWithinBudget();
        continue;
      }
      await this.#output.append(outputs, count);
      this.#done += count;
      await this.#checkpoint();
      this.#report(start);
    }
    await this.#closeSession();
    await this.#output.finish();
    return {
      batch: this.#batch,
      samples: total,
      samplesPerSecond: this.#rate(start),
      peakBytes,
      halvings: this.#halvings,
      resumedAt: this.#resumedAt,
    };
  }

  /** Ends the processes; what can be gone on with stays, everything else goes. */
  async giveUp(): Promise<void> {
    await this.#closeSession();
    if (this.#options.resumeKey !== undefined && this.#kept > 0) {
      await this.#output.checkpoint(this.#point()).catch(() => undefined);
      await this.#output.suspend();
    } else await this.#output.abort();
  }

  #point(): { batch: number; done: number; halvings: number } {
    return { batch: this.#batch, done: this.#done, halvings: this.#halvings };
  }

  async #checkpoint(): Promise<void> {
    if (performance.now() - this.#checkpointAt < checkpointMs) return;
    await this.#output.checkpoint(this.#point());
    this.#kept = this.#done;
    this.#checkpointAt = performance.now();
  }

  #rate(start: number): number {
    const seconds = (performance.now() - start) / 1000;
    return seconds > 0 ? (this.#done - this.#resumedAt) / seconds : 0;
  }

  #report(start: number): void {
    const samplesPerSecond = this.#rate(start);
    const total = this.#options.dataset.samples;
    this.#options.onProgress?.({
      samples: this.#done,
      total,
      batch: this.#batch,
      samplesPerSecond,
      secondsLeft: samplesPerSecond > 0 ? (total - this.#done) / samplesPerSecond : null,
    });
  }

  async #budget(heldBytes: number): Promise<number> {
    const { budgetBytes } = this.#options;
    this.#budgetAskedAt = performance.now();
    return typeof budgetBytes === 'function' ? budgetBytes(heldBytes) : (budgetBytes ?? Infinity);
  }

  async #budgetFell(peakBytes: number): Promise<boolean> {
    if (typeof this.#options.budgetBytes !== 'function' || this.#atSmallest()) return false;
    if (performance.now() - this.#budgetAskedAt < budgetMs) return false;
    return peakBytes > (await this.#budget(this.#session === null ? 0 : peakBytes));
  }

  async #measure(batch: number): Promise<Measurement> {
    const { runtime, spec, dataset } = this.#options;
    const first = Math.min(this.#done, dataset.samples - batch);
    const feeds = await dataset.feeds(first, batch);
    return runtime.measure(spec, feeds, { warmRuns: 1, batch });
  }

  /** Peak of the first batch that is left, with the batch made small enough for it. */
  async #measureWithinBudget(): Promise<number> {
    for (;;) {
      this.#assertGoingOn();
      let peakBytes: number;
      try {
        ({ peakBytes, samplesPerSecond: this.#speed } = await this.#measure(this.#batch));
      } catch (error) {
        await this.#halve(error);
        continue;
      }
      const budgetBytes = await this.#budget(0);
      if (peakBytes <= budgetBytes) return peakBytes;
      if (this.#atSmallest()) {
        throw new SnugError(
          'E_NOTHING_FITS',
          `Even the smallest batch needs ${peakBytes} bytes; ${Math.floor(budgetBytes)} may be used.`,
          {
            action: 'Raise the budget, or make the model smaller first (snug fit).',
            params: { peakBytes, budgetBytes },
          },
        );
      }
      await this.#shrink();
    }
  }

  /** Doubles the batch while measurements show that there is room and that it pays. Returns the peak. */
  async #grow(peakBytes: number): Promise<number> {
    const { grow, dataset } = this.#options;
    let peak = peakBytes;
    while (grow !== undefined && !this.#isFixed() && this.#batch * 2 <= Math.min(grow.limit, dataset.samples)) {
      this.#assertGoingOn();
      const larger = await this.#measure(this.#batch * 2).catch((error: unknown) => {
        this.#assertGoingOn();
        if (mayFitSmaller(error)) return null;
        throw error;
      });
      if (larger === null || larger.peakBytes > (await this.#budget(0))) break;
      if (larger.samplesPerSecond < this.#speed * grow.gain) break;
      this.#batch *= 2;
      this.#speed = larger.samplesPerSecond;
      peak = larger.peakBytes;
    }
    return peak;
  }

  async #runBatch(count: number): Promise<Feeds> {
    const { runtime, spec, dataset, outputs = 'first' } = this.#options;
    this.#session ??= await runtime.open(spec);
    const known = this.#session.outputs.map((value) => value.name);
    const names = typeof outputs === 'object' ? [outputs.name] : outputs === 'all' ? known : known.slice(0, 1);
    if (names.length === 0) throw new SnugError('E_NOT_SUPPORTED', 'The model has no output.');
    return this.#session.run(await dataset.feeds(this.#done, count), names);
  }

  /** Halves the batch when that may mend `error`, else throws it. */
  async #halve(error: unknown): Promise<void> {
    this.#assertGoingOn();
    if (!mayFitSmaller(error) || this.#atSmallest()) throw error;
    await this.#shrink();
  }

  #isFixed(): boolean {
    return typeof this.#options.dataset.fixedBatch === 'number';
  }

  #atSmallest(): boolean {
    return this.#batch === 1 || this.#isFixed();
  }

  async #shrink(): Promise<void> {
    this.#batch = Math.max(1, this.#batch >> 1);
    this.#halvings += 1;
    await this.#closeSession();
  }

  async #closeSession(): Promise<void> {
    const session = this.#session;
    this.#session = null;
    await session?.close();
  }

  #assertGoingOn(): void {
    if (this.#options.signal?.aborted) throw cancelled();
  }
}
