import type { Provider, PruneMethod } from '../contract/types.js';
import type { Model } from '../onnx/model.js';
import { bindingName } from '../onnx/shape-bindings.js';
import { defaultBindings } from '../onnx/shape.js';
import type { Dataset } from '../runtime/dataset-types.js';
import type { Runtime } from '../runtime/types.js';
import type { WidthRequest } from './widths.js';

/** Batch at which shapes are worked out: any size above one tells a batch from a broadcast axis. */
export const analysisBatch = 2;

/** Height and width of images whose size is open: large enough for a few halvings, small enough to be quick. */
const openImageSize = 64;

/**
 * Sizes at which shapes are worked out: what is given, a batch of {@link analysisBatch}, and for images of open size
 * a height and width that survive downsampling (see {@link defaultBindings} for the rest).
 */
export function analysisDims(model: Model, given: Readonly<Record<string, number>> = {}): Record<string, number> {
  const { dims, assumed } = defaultBindings(model, analysisBatch, given);
  for (const input of model.graph.inputs) {
    if (input.dims?.length !== 4) continue;
    for (const axis of [2, 3]) {
      const name = bindingName(input, axis);
      if (name !== null && assumed.includes(name) && dims[name] === 1) dims[name] = openImageSize;
    }
  }
  return dims;
}

/** Calibration data and the means to run it. */
export interface PruneSamples {
  runtime: Runtime;
  dataset: Dataset;
  /** At most this many samples are used (default 256). */
  maxSamples?: number;
  /** Folder for temporary models. */
  workDirectory: string;
  /** Samples per run (default 32). */
  batch?: number;
  /** Execution provider that runs the samples (default cpu). */
  provider?: Provider;
  /** Sizes of named dimensions, used where shapes are needed. */
  dims?: Record<string, number>;
}

export interface PruneRequest extends WidthRequest {
  method: PruneMethod;
  /** For `random` (default 0). */
  seed?: number;
  /** Needed by `repair` and `activation`. */
  samples?: PruneSamples;
  /**
   * `uniform` cuts every class by the ratio; `measured` saves as many bytes where it costs least, from loss curves
   * measured on the samples (method `repair` only). Default uniform.
   */
  allocation?: 'uniform' | 'measured';
  /** What a pruned model needs, for `measured`: the estimated peak, say. Its weights when left out. */
  bytesOf?: (model: Model) => number;
  onProgress?: (done: number, total: number, item?: string) => void;
  /** Checked between layers. */
  signal?: AbortSignal;
}

/** How well the consumers of one class were repaired. */
export interface ClassRepair {
  /** Squared error of the consumers' outputs on samples kept out of the fit, relative to their variance (worst consumer); null when none could be refitted. */
  heldOutError: number | null;
  /** The same without any repair. */
  unrepairedError: number | null;
  /** Ridge chosen per consumer, relative to the mean diagonal of the Gram matrix. */
  ridges: number[];
  /** Calibration rows (positions, tokens, samples) behind the fit. */
  rows: number;
  /** Consumers left as they were: their weight is grouped, too wide or no plain constant. */
  skipped: number;
}

/** What the pruned network's answers lost on samples kept out of the fit. */
export interface PruneDamage {
  /** Squared error of the outputs relative to their energy, in dB; Infinity when nothing changed. */
  sqnrDb: number;
  /** Expected for other ratios, from the loss curves set right by what was measured; empty without curves. */
  byRatio: { ratio: number; sqnrDb: number }[];
  /** The largest of those ratios that stays above 20 dB (1 % error): this far and no further. Null without curves. */
  furthestRatio: number | null;
}
