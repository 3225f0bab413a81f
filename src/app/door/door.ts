import type { AskedJob, DoorInfo, OpenModel, RecentModel, SampleModel, StartedJob } from '../../contract/api.js';
import { type ErrorReport, SnugError } from '../../contract/errors.js';
import type {
  AccuracyView,
  FitReport,
  HardwareReading,
  JobEvent,
  PlanRequest,
  PlanView,
  Provider,
} from '../../contract/types.js';
import type { TrainingFileRole, TrainingPlan, TrainingRequest, TrainingSetup } from '../../contract/training.js';
import type { EngineService } from '../engine-service.js';
import { diagnosticsText } from './diagnostics.js';
import { pickData, pickModel } from './files.js';
import { JobRecord } from './job-record.js';
import { eventWithoutPaths, modelWithoutPaths, outputWithoutPaths, reportWithoutPaths } from './privacy.js';
import type { Recents } from './recents.js';

/** Where a model came from decides where its result goes and how long it is remembered. */
export type ModelOrigin = 'file' | 'upload' | 'sample';

export interface DoorOptions {
  service: EngineService;
  recents: Recents;
  info: DoorInfo;
  /** Folder for the result of a fit; undefined puts it beside the model. */
  outputDirectory(origin: ModelOrigin): Promise<string | undefined>;
}

/**
 * What the two doors with a screen have in common: everything in the contract except how files get in and how
 * results get out. Answers hold names instead of paths.
 */
export interface Door {
  info(): DoorInfo;
  hardware(): Promise<HardwareReading>;
  samples(): SampleModel[];
  recent(): Promise<RecentModel[]>;
  /** Opens the one model among files or folders on this computer. */
  openPaths(paths: string[], origin: 'file' | 'upload'): Promise<OpenModel>;
  openSample(id: string): Promise<OpenModel>;
  openRecent(id: string): Promise<OpenModel>;
  attachPaths(modelId: string, paths: string[]): Promise<OpenModel>;
  attachLabelPaths(modelId: string, paths: string[]): Promise<OpenModel>;
  plan(request: PlanRequest): Promise<PlanView>;
  accuracy(): Promise<AccuracyView>;
  clearAccuracy(): Promise<AccuracyView>;
  calibrate(provider: Provider): Promise<AccuracyView>;
  stopCalibration(): Promise<null>;
  measurePruning(modelId: string): Promise<null>;
  stopMeasuringPruning(modelId: string): Promise<null>;
  measureBatches(request: PlanRequest): Promise<null>;
  stopMeasuringBatches(modelId: string): Promise<null>;
  trainingSetup(modelId: string): Promise<TrainingSetup>;
  attachTrainingPaths(modelId: string, role: TrainingFileRole, paths: string[]): Promise<TrainingSetup>;
  planTraining(request: TrainingRequest): Promise<TrainingPlan>;
  startTraining(request: TrainingRequest): Promise<{ jobId: string }>;
  resumeTraining(modelId: string): Promise<{ jobId: string }>;
  discardTraining(modelId: string): Promise<TrainingSetup>;
  stopTraining(jobId: string): Promise<null>;
  /** Opens what a job wrote. */
  openOutput(jobId: string): Promise<OpenModel>;
  startFit(request: PlanRequest): Promise<{ jobId: string }>;
  cancel(jobId: string): Promise<{ kept: FitReport | null }>;
  diagnostics(error: ErrorReport | null): Promise<string>;
  onJobEvent(listener: (event: JobEvent) => void): () => void;
  /** Jobs that run, or have ended and were not put away, newest first. */
  jobs(): StartedJob[];
  dismissJob(jobId: string): null;
  /** Fits and trainings that have started and not ended. */
  running(): string[];
  /** Result file and report of a finished job, the report as texts without paths; `E_NOT_FOUND` when there is none. */
  output(jobId: string): { path: string; json: string; html: string | null };
  close(): Promise<void>;
}

export function createDoor({ service, recents, info, outputDirectory }: DoorOptions): Door {
  const opened = new Map<string, { path: string; origin: ModelOrigin; model: OpenModel }>();
  /** The last plan of each model. */
  const planned = new Map<string, PlanRequest>();
  const record = new JobRecord();
  /** Of the model of each job. */
  const origins = new Map<string, ModelOrigin>();
  const listeners = new Set<(event: JobEvent) => void>();

  const unsubscribe = service.onJobEvent((event) => {
    const shown = eventWithoutPaths(event);
    record.take(shown);
    for (const listener of listeners) listener(shown);
  });

  function remember(model: OpenModel, origin: ModelOrigin): OpenModel {
    const shown = modelWithoutPaths(model);
    opened.set(model.modelId, { path: model.summary.path, origin, model: shown });
    return shown;
  }

  /** A model that something was attached to, as the page may see it. */
  function changed(modelId: string, model: OpenModel): OpenModel {
    const shown = modelWithoutPaths(model);
    const before = opened.get(modelId);
    if (before) opened.set(modelId, { ...before, model: shown });
    return shown;
  }

  /** @param askedAt by `performance.now()`, before the job began */
  function begun(jobId: string, modelId: string, asked: AskedJob, askedAt: number): { jobId: string } {
    const model = opened.get(modelId);
    origins.set(jobId, model?.origin ?? 'file');
    if (model) record.begin(jobId, model.model, asked, askedAt);
    return { jobId };
  }

  function resultOf(jobId: string): NonNullable<ReturnType<EngineService['outputOf']>> {
    const output = service.outputOf(jobId);
    if (output) return output;
    throw new SnugError('E_NOT_FOUND', 'This job has no result to save.', { action: 'Make it snug again.' });
  }
  const originOf = (modelId: string): ModelOrigin => opened.get(modelId)?.origin ?? 'file';

  return {
    info: () => info,
    hardware: () => service.hardware(),
    samples: () => service.samples(),
    recent: () => recents.list(),
    async openPaths(paths, origin) {
      const file = await pickModel(paths);
      const model = await service.open(file);
      await recents.add(file, { temporary: origin === 'upload' });
      return remember({ ...model, summary: { ...model.summary, path: file } }, origin);
    },
    openSample: async (id) => remember(await service.openSample(id), 'sample'),
    async openRecent(id) {
      const file = recents.pathOf(id);
      const before = [...opened.values()].find((one) => one.path === file);
      return this.openPaths([file], before?.origin === 'upload' ? 'upload' : 'file');
    },
    async attachPaths(modelId, paths) {
      return changed(modelId, await service.attachData(modelId, await pickData(paths)));
    },
    async attachLabelPaths(modelId, paths) {
      return changed(modelId, await service.attachLabels(modelId, await pickData(paths)));
    },
    async plan(request) {
      const view = await service.plan(request);
      planned.set(request.modelId, request);
      const model = opened.get(request.modelId);
      if (model && model.origin !== 'sample') await recents.setVerdict(model.path, view.baseline.verdict);
      return view;
    },
    accuracy: () => service.accuracy(),
    clearAccuracy: () => service.clearAccuracy(),
    calibrate: (provider) => service.calibrate(provider),
    async stopCalibration() {
      await service.stopCalibration();
      return null;
    },
    async measurePruning(modelId) {
      const askedAt = performance.now();
      await service.measurePruning(modelId);
      const request = planned.get(modelId);
      if (request) begun(modelId, modelId, { kind: 'pruning', request }, askedAt);
      return null;
    },
    async stopMeasuringPruning(modelId) {
      await service.stopMeasuringPruning(modelId);
      return null;
    },
    async measureBatches(request) {
      const askedAt = performance.now();
      await service.measureBatches(request);
      begun(request.modelId, request.modelId, { kind: 'batches', request }, askedAt);
      return null;
    },
    async stopMeasuringBatches(modelId) {
      await service.stopMeasuringBatches(modelId);
      return null;
    },
    trainingSetup: (modelId) => service.trainingSetup(modelId),
    async attachTrainingPaths(modelId, role, paths) {
      const file = await (role === 'teacher' ? pickModel(paths) : pickData(paths));
      return service.attachTraining(modelId, role, file);
    },
    planTraining: (request) => service.planTraining(request),
    async startTraining(request) {
      const directory = await outputDirectory(originOf(request.modelId));
      const askedAt = performance.now();
      const { jobId } = await service.startTraining(request, directory);
      return begun(jobId, request.modelId, { kind: 'training', request }, askedAt);
    },
    async resumeTraining(modelId) {
      const askedAt = performance.now();
      const { jobId } = await service.resumeTraining(modelId);
      return begun(jobId, modelId, { kind: 'training', request: null }, askedAt);
    },
    discardTraining: (modelId) => service.discardTraining(modelId),
    async stopTraining(jobId) {
      await service.stopTraining(jobId);
      return null;
    },
    openOutput(jobId) {
      const { path } = resultOf(jobId);
      // In a browser the result of an upload or a sample lies in a folder that goes with the server.
      const temporary = info.door === 'browser' && origins.get(jobId) !== 'file';
      return this.openPaths([path], temporary ? 'upload' : 'file');
    },
    async startFit(request) {
      const directory = await outputDirectory(originOf(request.modelId));
      const askedAt = performance.now();
      const { jobId } = await service.startFit(request, directory);
      return begun(jobId, request.modelId, { kind: 'fit', request }, askedAt);
    },
    async cancel(jobId) {
      const { kept } = await service.cancel(jobId);
      if (kept === null) record.drop(jobId);
      return { kept: kept && reportWithoutPaths(kept) };
    },
    async diagnostics(error) {
      const hardware = await service.hardware().catch(() => null);
      return diagnosticsText(info, hardware, error);
    },
    onJobEvent(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    jobs: () => record.all(),
    dismissJob(jobId) {
      record.dismiss(jobId);
      return null;
    },
    running: () => record.running(),
    output(jobId) {
      const { path, report } = resultOf(jobId);
      const json = `${JSON.stringify(outputWithoutPaths(report), null, 2)}\n`;
      return { path, json, html: service.reportHtml(jobId) };
    },
    async close() {
      unsubscribe();
      listeners.clear();
      await service.close();
    },
  };
}
