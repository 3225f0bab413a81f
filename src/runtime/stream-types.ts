import type { Dataset } from './dataset-types.js';
import type { Runtime, SessionSpec } from './types.js';

export interface StreamOptions {
  runtime: Runtime;
  spec: SessionSpec;
  dataset: Dataset;
  /** Samples per run to start with; halved when memory runs out. */
  batch: number;
  /**
   * The batch doubles before the work starts, up to `limit`, as long as the measured peak stays within the budget
   * and the measured samples per second grow by the factor `gain`.
   */
  grow?: { limit: number; gain: number };
  /**
   * Bytes the model may add; a batch whose measured peak is above is halved. A function is given what the model
   * holds now and is asked again while the work goes on, so that the batch halves when others take memory.
   */
  budgetBytes?: number | ((heldBytes: number) => number | Promise<number>);
  /** The .npy file to write; with `outputs: 'all'` a folder for one file per output. */
  output: string;
  overwrite?: boolean;
  /** Name of the output to keep, `'first'` (when left out) or `'all'`. */
  outputs?: { name: string } | 'first' | 'all';
  /** Identifies the work: with it a killed or stopped run goes on where it was when started again. */
  resumeKey?: string;
  /** Forget what an earlier start has left. */
  restart?: boolean;
  onProgress?: (progress: StreamProgress) => void;
  /** Ends the work at once; give the same signal to the runtime, so that it also ends a measurement. */
  signal?: AbortSignal;
}

export interface StreamProgress {
  samples: number;
  total: number;
  batch: number;
  /** Since the work (re)started. */
  samplesPerSecond: number;
  secondsLeft: number | null;
}

export interface StreamResult {
  /** Batch at the end. */
  batch: number;
  samples: number;
  /** Runs, reading and writing together, of the samples done by this start. */
  samplesPerSecond: number;
  /** Measured with {@link StreamResult.batch}; what it counts is the same as for every measurement. */
  peakBytes: number;
  /** Times the batch was halved. */
  halvings: number;
  /** Samples an earlier start had done. */
  resumedAt: number;
}
