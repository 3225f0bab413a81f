import type { Feeds } from './types.js';

/** A data set on disk that can be fed to a model in small batches; never loaded whole. */
export interface Dataset {
  readonly name: string;
  /** First axis; for text: windows of `sequence` tokens. */
  readonly samples: number;
  /** Model dimension values the data itself fixes (for example `sequence` for text). */
  readonly dims: Record<string, number>;
  /** Set when the model takes exactly so many samples at a time. */
  readonly fixedBatch?: number | null;
  /** Where each sample came from, when it has a name of its own (files of a folder). */
  readonly sampleNames?: readonly string[];
  /** Feeds for samples `[start, start + count)`, one entry for every model input. */
  feeds(start: number, count: number): Promise<Feeds>;
  close(): Promise<void>;
}
