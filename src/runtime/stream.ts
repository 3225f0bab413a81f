import { SnugError } from '../contract/errors.js';
import { cancelled } from './job.js';
import type { Dataset } from './dataset-types.js';
import { assertAbsent, NpyWriter } from './npy-writer.js';
import type { Runtime, RuntimeSession, RuntimeTensor, SessionSpec } from './types.js';

export interface StreamOptions {
  runtime: Runtime;
  spec: SessionSpec;
  dataset: Dataset;
  /** Samples per run to start with; halved when memory runs out. */
  batch: number;
  /** Bytes the model may add; a batch whose measured peak is above is halved before the work starts. */
  budgetBytes?: number;
  /** The .npy file to write. */
  output: string;
  overwrite?: boolean;
  /** Output of the model to keep; its first one when left out. */
  fetch?: string;
  onProgress?: (progress: { samples: number; total: number; batch: number }) => void;
  /** Ends the work at once; give the same signal to the runtime, so that it also ends a measurement. */
  signal?: AbortSignal;
}

export interface StreamResult {
  /** Batch at the end. */
  batch: number;
  samples: number;
  /** Runs, reading and writing together. */
  samplesPerSecond: number;
  /** Measured with {@link StreamResult.batch}; what it counts is the same as for every measurement. */
  peakBytes: number;
  /** Times the batch was halved. */
  halvings: number;
}

/**
 * Runs a whole data set through a model, one batch in flight at a time, and appends one output to a .npy
 * file. When memory runs out (or the process dies of it, or the measured peak is above the budget) the batch
 * halves, a fresh process opens the model and the work goes on at the first unfinished sample. The output
 * appears whole or not at all.
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
  if (!options.overwrite) await assertAbsent(options.output);
  const stream = new Stream(options);
  try {
    return await stream.run();
  } catch (error) {
    await stream.abort();
    throw error;
  }
}

/** A smaller batch may mend these. */
function mayFitSmaller(error: unknown): boolean {
  return error instanceof SnugError && (error.code === 'E_OUT_OF_MEMORY' || error.code === 'E_ENGINE_CRASHED');
}

class Stream {
  readonly #options: StreamOptions;
  #batch: number;
  #done = 0;
  #halvings = 0;
  #session: RuntimeSession | null = null;
  #writer: NpyWriter | null = null;
  /** Shape of one sample of the output. */
  #sample: string | null = null;

  constructor(options: StreamOptions) {
    this.#options = options;
    const { batch, dataset } = options;
    this.#batch = dataset.fixedBatch ?? Math.min(batch, dataset.samples);
    if (dataset.samples % (dataset.fixedBatch ?? 1) !== 0) {
      throw new SnugError('E_DATA_SHAPE', `The model takes exactly ${this.#batch} samples at a time.`, {
        action: `Give a data set whose ${dataset.samples} samples are a multiple of that.`,
        params: { batch: this.#batch, samples: dataset.samples },
      });
    }
    options.signal?.addEventListener('abort', () => void this.#closeSession(), { once: true });
  }

  async run(): Promise<StreamResult> {
    const { dataset, onProgress } = this.#options;
    const total = dataset.samples;
    let peakBytes = await this.#measureWithinBudget();
    const start = performance.now();
    while (this.#done < total) {
      this.#assertGoingOn();
      const count = Math.min(this.#batch, total - this.#done);
      let output: RuntimeTensor;
      try {
        output = await this.#runBatch(count);
      } catch (error) {
        await this.#halve(error);
        peakBytes = await this.#measureWithinBudget();
        continue;
      }
      await this.#append(output, count);
      this.#done += count;
      onProgress?.({ samples: this.#done, total, batch: this.#batch });
    }
    const seconds = (performance.now() - start) / 1000;
    await this.#closeSession();
    await this.#writer?.finish();
    return {
      batch: this.#batch,
      samples: total,
      samplesPerSecond: seconds > 0 ? total / seconds : 0,
      peakBytes,
      halvings: this.#halvings,
    };
  }

  async abort(): Promise<void> {
    await this.#closeSession();
    await this.#writer?.abort();
  }

  /** Peak of the first batch that is left, with the batch made small enough for it. */
  async #measureWithinBudget(): Promise<number> {
    const { runtime, spec, dataset, budgetBytes } = this.#options;
    for (;;) {
      this.#assertGoingOn();
      const first = Math.min(this.#done, dataset.samples - this.#batch);
      let peakBytes: number;
      try {
        const feeds = await dataset.feeds(first, this.#batch);
        ({ peakBytes } = await runtime.measure(spec, feeds, { warmRuns: 1, batch: this.#batch }));
      } catch (error) {
        await this.#halve(error);
        continue;
      }
      if (budgetBytes === undefined || peakBytes <= budgetBytes) return peakBytes;
      if (this.#atSmallest()) {
        throw new SnugError('E_NOTHING_FITS', 'Even the smallest batch needs more memory than the budget.', {
          action: 'Raise the budget, or make the model smaller first (snug fit).',
          params: { peakBytes, budgetBytes },
        });
      }
      await this.#shrink();
    }
  }

  async #runBatch(count: number): Promise<RuntimeTensor> {
    const { runtime, spec, dataset } = this.#options;
    this.#session ??= await runtime.open(spec);
    const name = this.#options.fetch ?? this.#session.outputs[0]?.name;
    if (name === undefined) throw new SnugError('E_NOT_SUPPORTED', 'The model has no output.');
    const outputs = await this.#session.run(await dataset.feeds(this.#done, count), [name]);
    const output = outputs[name];
    if (output?.dims[0] !== count) {
      const dims = `[${output?.dims.join(', ') ?? ''}]`;
      throw new SnugError('E_DATA_SHAPE', `The output "${name}" has the shape ${dims} for ${count} samples.`, {
        action: 'Choose an output whose first axis counts samples.',
        params: { output: name, dims, samples: count },
      });
    }
    return output;
  }

  async #append(output: RuntimeTensor, count: number): Promise<void> {
    const { output: file, overwrite } = this.#options;
    const rowDims = output.dims.slice(1);
    const sample = `[${rowDims.join(', ')}]`;
    this.#sample ??= sample;
    if (sample !== this.#sample) {
      throw new SnugError('E_DATA_SHAPE', `One sample gave ${sample}, earlier ones gave ${this.#sample}.`, {
        action: 'Choose an output whose shape does not depend on the values of the data.',
      });
    }
    this.#writer ??= await NpyWriter.create(file, output.dtype, rowDims, { overwrite: overwrite ?? false });
    await this.#writer.append(output.data, count);
  }

  /** Halves the batch when that may mend `error`, else throws it. */
  async #halve(error: unknown): Promise<void> {
    this.#assertGoingOn();
    if (!mayFitSmaller(error) || this.#atSmallest()) throw error;
    await this.#shrink();
  }

  #atSmallest(): boolean {
    return this.#batch === 1 || typeof this.#options.dataset.fixedBatch === 'number';
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
