import type { OpenModel, SampleModel } from '../contract/api.js';
import type {
  TrainingFileRole,
  TrainingPlan,
  TrainingReport,
  TrainingRequest,
  TrainingSetup,
} from '../contract/training.js';
import type {
  AccuracyView,
  FitReport,
  HardwareReading,
  JobEvent,
  PlanRequest,
  PlanView,
  Provider,
} from '../contract/types.js';
import type { SpawnRuntime } from '../runtime/spawn.js';
import type { AccuracyStore } from './accuracy/store.js';
import type { SpawnEngine } from './engine-client.js';
import type { TrainingStore } from './training-store.js';

/** What a door with a screen needs; lives in the door's process, heavy work happens in engine processes. */
export interface EngineService {
  hardware(): Promise<HardwareReading>;
  samples(): SampleModel[];
  /** @throws SnugError of reading and checking the file */
  open(modelPath: string): Promise<OpenModel>;
  openSample(id: string): Promise<OpenModel>;
  attachData(modelId: string, dataPath: string): Promise<OpenModel>;
  /** @throws SnugError `E_USAGE` without samples, `E_DATA_*` of the file */
  attachLabels(modelId: string, labelsPath: string): Promise<OpenModel>;
  plan(request: PlanRequest): Promise<PlanView>;
  accuracy(): Promise<AccuracyView>;
  clearAccuracy(): Promise<AccuracyView>;
  /** @throws SnugError of the run; `E_CANCELLED` when it was stopped */
  calibrate(provider: Provider): Promise<AccuracyView>;
  stopCalibration(): Promise<void>;
  /** @throws SnugError `E_USAGE` without samples */
  measurePruning(modelId: string): Promise<void>;
  stopMeasuringPruning(modelId: string): Promise<void>;
  measureBatches(request: PlanRequest): Promise<void>;
  stopMeasuringBatches(modelId: string): Promise<void>;
  trainingSetup(modelId: string): Promise<TrainingSetup>;
  attachTraining(modelId: string, role: TrainingFileRole, file: string): Promise<TrainingSetup>;
  planTraining(request: TrainingRequest): Promise<TrainingPlan>;
  startTraining(request: TrainingRequest, outputDirectory?: string): Promise<{ jobId: string }>;
  resumeTraining(modelId: string): Promise<{ jobId: string }>;
  discardTraining(modelId: string): Promise<TrainingSetup>;
  /** Ends a training; a `trained` event brings the best weights. */
  stopTraining(jobId: string): Promise<void>;
  startFit(request: PlanRequest, outputDirectory?: string): Promise<{ jobId: string }>;
  /** Acts within a second; answers with the best finished result of a fit, if there is one. */
  cancel(jobId: string): Promise<{ kept: FitReport | null }>;
  onJobEvent(listener: (event: JobEvent) => void): () => void;
  outputOf(jobId: string): { path: string; report: FitReport | TrainingReport } | null;
  reportHtml(jobId: string): string | null;
  /** Ends every process it started. */
  close(): Promise<void>;
}

export interface EngineServiceOptions {
  spawnEngine?: SpawnEngine;
  spawnRuntime?: SpawnRuntime;
  /** True where an engine process may not start processes itself (Electron). */
  relayRuntimes?: boolean;
  /** Where predictions and calibrations are kept; in memory only when left out. */
  accuracy?: AccuracyStore;
  /** Whether a device is calibrated by itself when it is first planned for. Default false. */
  autoCalibrate?: boolean;
  /** Where unfinished trainings are remembered; in memory only when left out. */
  trainings?: TrainingStore;
}
