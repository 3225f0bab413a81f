import type { ErrorReport } from '../contract/errors.js';
import type { Measurement, Provider } from '../contract/types.js';
import type { EvaluationResult, StepResult, TrainingSpec } from './training-types.js';
import type { Feeds, FileValue, ProductOf, RuntimeValue, SessionSpec } from './types.js';

/** What a caller may ask of the onnxruntime process. One request is in flight at a time. */
export type RuntimeRequest =
  | { kind: 'backends' }
  | { kind: 'probe'; provider: Provider }
  | { kind: 'open'; spec: SessionSpec }
  | { kind: 'run'; feeds: Feeds; fetches?: string[] }
  | { kind: 'products'; feeds: Feeds; products: readonly ProductOf[]; fetches: readonly string[] }
  | { kind: 'store-products'; output: string; path: string }
  | { kind: 'hold'; values: Feeds }
  | { kind: 'hold-file'; path: string; values: readonly FileValue[] }
  | { kind: 'measure'; spec: SessionSpec; feeds: Feeds; warmRuns: number; batch: number }
  | { kind: 'train-open'; spec: TrainingSpec }
  | { kind: 'train-step'; feeds: Feeds; weight: number; rate: number | null }
  | { kind: 'train-evaluate'; feeds: Feeds }
  | { kind: 'train-save'; path: string; meta: string; withMoments: boolean }
  | { kind: 'close' };

export type RequestKind = RuntimeRequest['kind'];

/** Answer to each kind of request. */
export interface RuntimeAnswers {
  backends: Provider[];
  probe: null;
  open: { inputs: RuntimeValue[]; outputs: RuntimeValue[] };
  run: Feeds;
  hold: null;
  'hold-file': null;
  products: { results: Feeds; rows: number[] };
  'store-products': Float32Array;
  measure: Measurement;
  'train-open': null;
  'train-step': StepResult;
  'train-evaluate': EvaluationResult;
  'train-save': null;
  close: null;
}

/** From caller to process. `proceed` answers a `mark`. */
export type ToProcess = { id: number; request: RuntimeRequest } | { id: number; proceed: true };

/**
 * From process to caller. `mark` comes while a model is measured on a device: nothing of the model is loaded
 * yet, and the process waits until the caller has read the device's memory level.
 */
export type FromProcess =
  | { id: number; ok: true; value: RuntimeAnswers[RequestKind] }
  | { id: number; ok: false; error: ErrorReport }
  | { id: number; mark: 'baseline' }
  /** The library is loaded and nothing of a model: resident bytes of the process itself. */
  | { base: number };

/** A two-way message pipe: Node IPC, or the parent port of an Electron utility process. */
export interface Channel<Out, In> {
  post(message: Out): void;
  onMessage(listener: (message: In) => void): void;
  onClose(listener: () => void): void;
}

/** How the working folders of runtime processes are named. */
export const runFolderPrefix = 'snug-run-';

/**
 * Since 1.29 onnxruntime's own builds for Linux and macOS report model names, weight hashes and errors to
 * their maker unless this is set before the library is loaded. Then nothing is collected, stored or sent.
 */
export const noTelemetry: Readonly<Record<string, string>> = { ORT_DISABLE_TELEMETRY: '1' };
