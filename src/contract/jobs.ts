import type { AccuracyView } from './accuracy.js';
import type { ErrorReport } from './errors.js';
import type { PruneCurve } from './pruning.js';
import type { FitReport } from './report.js';
import type { BatchSweep } from './throughput.js';
import type { TrainingProgress, TrainingReport } from './training.js';

/** What a job tells while it runs. */

export type JobPhase =
  'reading' | 'planning' | 'pruning' | 'recovering' | 'quantizing' | 'writing' | 'checking' | 'comparing';

export interface JobProgress {
  phase: JobPhase;
  /** Work units done and in all; bytes where `unit` is `bytes`. */
  done: number;
  total: number | null;
  unit: 'bytes' | 'weights' | 'nodes' | 'samples' | 'runs';
  /** Name of the thing being worked on. */
  item?: string;
}

/** Memory at one moment of a job. */
export interface MemorySample {
  /** Milliseconds since the job started. */
  atMs: number;
  /** What the processes that run the model hold, without the runtime's own base. */
  usedBytes: number;
  /** All that is used on the device the model runs on, other programs included; null when it cannot be read. */
  deviceUsedBytes: number | null;
  deviceTotalBytes: number | null;
}

export type JobEvent =
  | { jobId: string; kind: 'progress'; progress: JobProgress; elapsedMs: number }
  /** Comes a few times a second while a model runs, between the other events. */
  | { jobId: string; kind: 'memory'; sample: MemorySample }
  /** More of a damage curve was measured, or measuring it ended; `jobId` is the model's id. */
  | { jobId: string; kind: 'pruning'; curve: PruneCurve }
  /** One more batch size was measured, or measuring ended; `jobId` is the model's id. */
  | { jobId: string; kind: 'batches'; sweep: BatchSweep }
  /** Comes a few times a second while a model is trained. */
  | { jobId: string; kind: 'training'; training: TrainingProgress }
  /** A training has ended with a file: by itself or by a stop. */
  | { jobId: string; kind: 'trained'; report: TrainingReport }
  /** The record or the calibrations changed; `jobId` is `calibration` or the job whose run was added. */
  | { jobId: string; kind: 'accuracy'; accuracy: AccuracyView }
  | { jobId: string; kind: 'done'; report: FitReport }
  | { jobId: string; kind: 'failed'; error: ErrorReport; bestSoFar: FitReport | null };
