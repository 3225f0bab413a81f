import type { ErrorReport, Result } from './errors.js';
import type { TrainingFileRole, TrainingPlan, TrainingRequest, TrainingSetup } from './training.js';
import type {
  AccuracyView,
  FitReport,
  HardwareReading,
  JobEvent,
  ModelSummary,
  PlanRequest,
  PlanView,
  Provider,
} from './types.js';

/** A model the door has opened. `modelId` is opaque: the page never sees a path it could use. */
export interface OpenModel {
  modelId: string;
  summary: ModelSummary;
  /**
   * Set when calibration data is attached; `labels` is the file with the right class of each sample, where there is one,
   * and `countable` whether the model has an output that labels can be held against.
   */
  data: { name: string; samples: number; countable: boolean; labels?: string } | null;
}

/** What a job was asked for. */
export type AskedJob =
  | { kind: 'fit'; request: PlanRequest }
  /** Null for a training that went on from an earlier one. */
  | { kind: 'training'; request: TrainingRequest | null }
  /** A measurement in the background: `measurePruning`, `measureBatches`. */
  | { kind: 'pruning' | 'batches'; request: PlanRequest };

/**
 * A job that runs, or has ended and was not put away: all that a page needs to show it which did not see it start.
 */
export type StartedJob = AskedJob & {
  /** Of a measurement the model's id, as in its events. */
  jobId: string;
  model: OpenModel;
  running: boolean;
  /** Since it was asked for. */
  elapsedMs: number;
  /** What it told so far, thinned to what is still of use, and its end when it has ended. */
  events: JobEvent[];
};

export interface SampleModel {
  id: string;
  name: string;
  fileBytes: number;
  hasData: boolean;
}

export interface RecentModel {
  id: string;
  name: string;
  verdict: 'fits' | 'tight' | 'does-not-fit' | 'cannot-tell';
  openedAt: number;
  missing: boolean;
}

export interface DoorInfo {
  door: 'desktop' | 'browser';
  version: string;
  /** BCP 47 tags in the user's order. */
  languages: string[];
  /** Whether `chooseModel` opens a native dialog (desktop) or the page must use a file input (browser). */
  nativeDialog: boolean;
  onnxruntime: string;
}

/**
 * All that the screen may ask of Snug; `window.snug` in the desktop app (preload) and in the browser door.
 * Every call answers with a {@link Result}; nothing throws across the boundary.
 */
export interface SnugApi {
  info(): Promise<Result<DoorInfo>>;
  hardware(): Promise<Result<HardwareReading>>;
  samples(): Promise<Result<SampleModel[]>>;
  recent(): Promise<Result<RecentModel[]>>;
  /** Files as dropped or chosen: one .onnx plus its external data, or a folder's files. */
  openFiles(files: File[]): Promise<Result<OpenModel>>;
  /** Native dialog; null when the user closed it. */
  chooseModel(): Promise<Result<OpenModel | null>>;
  openSample(id: string): Promise<Result<OpenModel>>;
  openRecent(id: string): Promise<Result<OpenModel>>;
  /** Attach calibration data (.npy, .npz, text). */
  attachData(modelId: string, files: File[]): Promise<Result<OpenModel>>;
  /** Attach the right classes of the samples (.npy), so that right answers are counted; needs samples (`E_USAGE`). */
  attachLabels(modelId: string, files: File[]): Promise<Result<OpenModel>>;
  plan(request: PlanRequest): Promise<Result<PlanView>>;
  /** How right Snug has been on this machine, and which devices are calibrated. */
  accuracy(): Promise<Result<AccuracyView>>;
  /** Forgets the record of runs; calibrations stay. */
  clearAccuracy(): Promise<Result<AccuracyView>>;
  /** Runs a few small graphs on a provider to learn how far estimates are off there; answers when it is done. */
  calibrate(provider: Provider): Promise<Result<AccuracyView>>;
  /** Ends a calibration under way; the pending `calibrate` answers with `E_CANCELLED`. */
  stopCalibration(): Promise<Result<null>>;
  /**
   * Begins to measure what each prune ratio does to the answers, in a process of its own and once per model and samples;
   * `pruning` events tell how far it is, and later plans rest on it. Does nothing where it was measured already.
   * Refused without samples (`E_USAGE`).
   */
  measurePruning(modelId: string): Promise<Result<null>>;
  /** Ends that measurement; the ratios measured so far stay. */
  stopMeasuringPruning(modelId: string): Promise<Result<null>>;
  /**
   * Begins to measure how fast the model runs at each batch size that fits, as it is and on the provider of the
   * request; `batches` events tell how far it is, and plans carry what is known. Does nothing where it was measured.
   */
  measureBatches(request: PlanRequest): Promise<Result<null>>;
  /** Ends that measurement; the sizes measured so far stay. */
  stopMeasuringBatches(modelId: string): Promise<Result<null>>;
  startFit(request: PlanRequest): Promise<Result<{ jobId: string }>>;
  cancel(jobId: string): Promise<Result<{ kept: FitReport | null }>>;
  /** Newest first. Events told after the answer was made reach the listeners of {@link onJobEvent}. */
  jobs(): Promise<Result<StartedJob[]>>;
  /** The page has shown how a job ended: no page needs to show it again. Its output stays. */
  dismissJob(jobId: string): Promise<Result<null>>;
  onJobEvent(listener: (event: JobEvent) => void): () => void;
  /** Files a training of this model would use, and one that was interrupted. */
  trainingSetup(modelId: string): Promise<Result<TrainingSetup>>;
  attachTraining(modelId: string, role: TrainingFileRole, files: File[]): Promise<Result<TrainingSetup>>;
  /** Works out the micro-batch and the memory; needs data, but no labels yet. */
  planTraining(request: TrainingRequest): Promise<Result<TrainingPlan>>;
  startTraining(request: TrainingRequest): Promise<Result<{ jobId: string }>>;
  /** Goes on with the interrupted training, with the settings and files it was started with. */
  resumeTraining(modelId: string): Promise<Result<{ jobId: string }>>;
  /** Forgets the interrupted training and removes what it would go on from. */
  discardTraining(modelId: string): Promise<Result<TrainingSetup>>;
  /** Ends a training and keeps the best weights: a `trained` event brings them; `cancel` would throw them away. */
  stopTraining(jobId: string): Promise<Result<null>>;
  /** Opens the model that a job wrote. */
  openOutput(jobId: string): Promise<Result<OpenModel>>;
  /** Desktop only: a model opened from outside the page (menu, file association, a second start of the app). */
  onModelOpened?(listener: (result: Result<OpenModel>) => void): () => void;
  /** Desktop: show in folder. Browser: start a download. `what` picks the file. */
  saveOutput(jobId: string, what: 'model' | 'report-json' | 'report-html'): Promise<Result<null>>;
  /** Text for a bug report; paths outside the model's name are left out. */
  diagnostics(error: ErrorReport | null): Promise<Result<string>>;
}
