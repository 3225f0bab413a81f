import type { ErrorReport } from '../contract/errors.js';
import type {
  FitReport,
  JobProgress,
  KnownError,
  ModelSummary,
  Pins,
  PlanView,
  Provider,
  PruneCurve,
} from '../contract/types.js';
import type { ProcessExit } from '../runtime/errors.js';
import type { FromProcess, ToProcess } from '../runtime/protocol.js';
import type { BatchSweep } from '../contract/throughput.js';
import type { TrainingPlan, TrainingReport } from '../contract/training.js';
import type { TrainingLook, TrainingPaths, TrainingPlanRequest } from './training-files.js';
import type { TrainingNews, TrainingRun } from './training-run.js';
import type { CalibrationResult } from './accuracy/calibrate.js';

/** What a door asks of an engine process. One process holds one model, or does one fit. */
export type EngineRequest =
  | { kind: 'open'; path: string }
  | { kind: 'data'; path: string }
  /** Whether a file holds one class for each of the attached samples. */
  | { kind: 'labels'; path: string }
  | {
      kind: 'plan';
      budgetBytes: number;
      provider: Provider;
      pins: Pins;
      known: KnownError;
      curve: PruneCurve | null;
      sweep: BatchSweep | null;
      /** Whether the device computes in float16. */
      half: boolean;
    }
  | { kind: 'prune-curve'; path: string; dataPath: string }
  | { kind: 'batch-sweep'; path: string; dataPath: string | null; provider: Provider; dims: Record<string, number> }
  | { kind: 'training-look'; files: TrainingPaths; checkpoint: string | null }
  | ({ kind: 'training-plan' } & TrainingPlanRequest)
  | ({ kind: 'train' } & TrainingRun)
  | { kind: 'calibrate'; provider: Provider }
  | {
      kind: 'fit';
      path: string;
      dataPath: string | null;
      labelsPath: string | null;
      outputPath: string;
      budgetBytes: number;
      provider: Provider;
      pins: Pins;
      known: KnownError;
      curve: PruneCurve | null;
    };

export interface EngineAnswers {
  open: ModelSummary;
  data: { name: string; samples: number; countable: boolean };
  labels: null;
  plan: PlanView;
  fit: FitReport;
  'prune-curve': PruneCurve;
  'batch-sweep': BatchSweep;
  'training-look': TrainingLook;
  'training-plan': TrainingPlan;
  train: TrainingReport;
  calibrate: CalibrationResult;
}

/** Messages for runtime processes that only the door may start (Electron utility processes). */
export type RelayDown =
  | { relay: number; message: FromProcess }
  | { relay: number; pid: number | null }
  | { relay: number; exit: ProcessExit };
export type RelayUp =
  | { relay: number; spawn: { entry: string; env: Record<string, string> } }
  | { relay: number; message: ToProcess }
  | { relay: number; kill: true };

export type ToEngine = { id: number; request: EngineRequest; relayed: boolean } | { stop: true } | RelayDown;

export type FromEngine =
  | { id: number; ok: true; value: EngineAnswers[keyof EngineAnswers] }
  | { id: number; ok: false; error: ErrorReport }
  | { progress: JobProgress }
  /** What is measured so far of a damage curve. */
  | { curve: PruneCurve }
  | { sweep: BatchSweep }
  | { training: TrainingNews }
  /** A process the engine started itself, so that its owner can end it together with the engine. */
  | { started: number }
  /** A runtime process has loaded its library and nothing of a model: what it holds is its own. */
  | { base: { pid: number; bytes: number } }
  | { gone: number }
  | RelayUp;
