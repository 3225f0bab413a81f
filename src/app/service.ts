import { randomUUID } from 'node:crypto';
import path from 'node:path';
import type { OpenModel, SampleModel } from '../contract/api.js';
import { SnugError } from '../contract/errors.js';
import type {
  AccuracyView,
  FitReport,
  HardwareReading,
  JobEvent,
  ModelSummary,
  PlanRequest,
  PlanView,
  Provider,
} from '../contract/types.js';
import { readHardware } from '../hardware/read.js';
import { freeOutputName, sweepWork } from '../fit/workspace.js';
import { createRuntime } from '../runtime/client.js';
import type { SpawnRuntime } from '../runtime/spawn.js';
import { forkProcess, forkRuntime } from '../runtime/spawn.js';
import { Calibrator } from './accuracy/calibrator.js';
import { deviceKey } from './accuracy/device.js';
import { runsOfReport } from './accuracy/runs.js';
import { openAccuracy, type AccuracyStore, type DeviceKey } from './accuracy/store.js';
import { PruneMeasuring } from './prune-measuring.js';
import type { SpawnEngine } from './engine-client.js';
import { EngineClient, type EngineClientOptions } from './engine-client.js';
import { deviceFor, defaultProvider } from './open.js';
import { Trace } from './trace.js';
import { reportHtml } from './report-html.js';
import { bundledSamples } from './samples.js';

/** What a door with a screen needs; lives in the door's process, heavy work happens in engine processes. */
export interface EngineService {
  hardware(): Promise<HardwareReading>;
  samples(): SampleModel[];
  /** @throws SnugError of reading and checking the file */
  open(modelPath: string): Promise<OpenModel>;
  openSample(id: string): Promise<OpenModel>;
  attachData(modelId: string, dataPath: string): Promise<OpenModel>;
  plan(request: PlanRequest): Promise<PlanView>;
  accuracy(): Promise<AccuracyView>;
  clearAccuracy(): Promise<AccuracyView>;
  /** @throws SnugError of the run; `E_CANCELLED` when it was stopped */
  calibrate(provider: Provider): Promise<AccuracyView>;
  stopCalibration(): Promise<void>;
  /** @throws SnugError `E_USAGE` without samples */
  measurePruning(modelId: string): Promise<void>;
  stopMeasuringPruning(modelId: string): Promise<void>;
  startFit(request: PlanRequest, outputDirectory?: string): Promise<{ jobId: string }>;
  /** Acts within a second; answers with the best finished result, if there is one. */
  cancel(jobId: string): Promise<{ kept: FitReport | null }>;
  onJobEvent(listener: (event: JobEvent) => void): () => void;
  outputOf(jobId: string): { path: string; report: FitReport } | null;
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
}

interface Open {
  path: string;
  summary: ModelSummary;
  dataPath: string | null;
  data: OpenModel['data'];
  engine: EngineClient;
}

interface Job {
  engine: EngineClient;
  outputPath: string;
  report: FitReport | null;
  over: boolean;
  finished: Promise<void>;
}

/** Open models keep an engine process each; older ones are let go. */
const maxOpenModels = 3;
/** How long a stopped job may take to hand over its best result before it is ended. */
const stopGraceMs = 700;

export function createEngineService(options: EngineServiceOptions = {}): EngineService {
  return new LocalEngineService(options);
}

class LocalEngineService implements EngineService {
  private readonly models = new Map<string, Open>();
  private readonly jobs = new Map<string, Job>();
  private readonly listeners = new Set<(event: JobEvent) => void>();
  private installed: Promise<Provider[]> | null = null;
  private reading: HardwareReading | null = null;
  private readonly record: AccuracyStore;
  private readonly calibrator: Calibrator;
  private readonly pruning: PruneMeasuring;

  constructor(private readonly options: EngineServiceOptions) {
    this.record = options.accuracy ?? openAccuracy(null);
    this.calibrator = new Calibrator({
      store: this.record,
      startEngine: () => this.engine(),
      keyOf: (provider) => this.keyOf(provider),
      busy: () => this.pruning.running || [...this.jobs.values()].some((job) => !job.over),
      onChange: () => void this.tellAccuracy('calibration'),
    });
    this.pruning = new PruneMeasuring({
      startEngine: (onCurve) => this.engine({ onCurve }),
      onCurve: (modelId, curve) => this.emit({ jobId: modelId, kind: 'pruning', curve }),
    });
  }

  private engine(listeners: Pick<EngineClientOptions, 'onProgress' | 'onCurve'> = {}): EngineClient {
    const { spawnEngine, spawnRuntime, relayRuntimes } = this.options;
    return new EngineClient({
      spawn: spawnEngine ?? forkProcess,
      ...(relayRuntimes ? { spawnRuntime: spawnRuntime ?? forkRuntime } : {}),
      ...listeners,
    });
  }

  private providers(): Promise<Provider[]> {
    this.installed ??= (async () => {
      const { spawnRuntime } = this.options;
      const runtime = createRuntime(spawnRuntime ? { spawn: spawnRuntime } : {});
      try {
        return await runtime.providers();
      } finally {
        await runtime.close();
      }
    })();
    return this.installed;
  }

  async hardware(): Promise<HardwareReading> {
    this.reading = await readHardware({ providers: await this.providers() });
    return this.reading;
  }

  /** Names and drivers do not change while the app runs, so any reading will do. */
  private async keyOf(provider: Provider): Promise<DeviceKey> {
    return deviceKey(this.reading ?? (await this.hardware()), provider);
  }

  async accuracy(): Promise<AccuracyView> {
    return { ...(await this.record.view()), calibrating: this.calibrator.provider };
  }

  async clearAccuracy(): Promise<AccuracyView> {
    await this.record.clearRuns();
    return this.accuracy();
  }

  async calibrate(provider: Provider): Promise<AccuracyView> {
    await this.calibrator.run(provider);
    return this.accuracy();
  }

  stopCalibration(): Promise<void> {
    return this.calibrator.stop();
  }

  private async tellAccuracy(jobId: string): Promise<void> {
    this.emit({ jobId, kind: 'accuracy', accuracy: await this.accuracy() });
  }

  samples(): SampleModel[] {
    return bundledSamples().map(({ id, name, fileBytes, dataPath }) => ({
      id,
      name,
      fileBytes,
      hasData: dataPath !== null,
    }));
  }

  async open(modelPath: string): Promise<OpenModel> {
    const engine = this.engine();
    try {
      const summary = await engine.ask({ kind: 'open', path: modelPath });
      const modelId = randomUUID();
      this.models.set(modelId, { path: modelPath, summary, dataPath: null, data: null, engine });
      for (const [id, model] of this.models) {
        if (this.models.size <= maxOpenModels) break;
        model.engine.kill();
        this.pruning.forget(id);
        this.models.delete(id);
      }
      return { modelId, summary, data: null };
    } catch (error) {
      engine.kill();
      throw error;
    }
  }

  async openSample(id: string): Promise<OpenModel> {
    const sample = bundledSamples().find((s) => s.id === id);
    if (!sample) throw new SnugError('E_NOT_FOUND', 'This sample is not part of this installation.');
    const opened = await this.open(sample.modelPath);
    return sample.dataPath === null ? opened : this.attachData(opened.modelId, sample.dataPath);
  }

  private model(modelId: string): Open {
    const model = this.models.get(modelId);
    if (!model) {
      throw new SnugError('E_NOT_FOUND', 'This model is no longer open.', { action: 'Open the model again.' });
    }
    return model;
  }

  async attachData(modelId: string, dataPath: string): Promise<OpenModel> {
    const model = this.model(modelId);
    this.pruning.forget(modelId);
    model.data = await model.engine.ask({ kind: 'data', path: dataPath });
    model.dataPath = dataPath;
    return { modelId, summary: model.summary, data: model.data };
  }

  private async providerOf(request: PlanRequest): Promise<Provider> {
    if (request.pins.provider) return request.pins.provider;
    return defaultProvider(await this.hardware(), await this.providers());
  }

  async plan(request: PlanRequest): Promise<PlanView> {
    const model = this.model(request.modelId);
    const { budgetBytes, pins } = request;
    const provider = await this.providerOf(request);
    const known = await this.record.known(await this.keyOf(provider));
    const curve = this.pruning.curveOf(request.modelId, model.dataPath);
    const view = await model.engine.ask({ kind: 'plan', budgetBytes, provider, pins, known, curve });
    if (this.options.autoCalibrate) this.calibrator.soon(provider);
    return view;
  }

  measurePruning(modelId: string): Promise<void> {
    const { path: modelPath, dataPath } = this.model(modelId);
    if (dataPath === null) {
      return Promise.reject(
        new SnugError('E_USAGE', 'What pruning does to the answers is measured on samples.', {
          action: 'Attach samples first.',
        }),
      );
    }
    this.pruning.start(modelId, modelPath, dataPath);
    return Promise.resolve();
  }

  stopMeasuringPruning(modelId: string): Promise<void> {
    this.pruning.stop(modelId);
    return Promise.resolve();
  }

  async startFit(request: PlanRequest, outputDirectory?: string): Promise<{ jobId: string }> {
    const model = this.model(request.modelId);
    const jobId = randomUUID();
    // Two models measured side by side would spoil both figures; the calibration comes back by itself.
    await this.calibrator.stop();
    this.pruning.stopAll();
    const started = performance.now();
    const engine = this.engine({
      onProgress: (progress) =>
        this.emit({ jobId, kind: 'progress', progress, elapsedMs: performance.now() - started }),
    });
    const outputPath = freeOutputName(outputDirectory ?? path.dirname(model.path), path.parse(model.path).name);
    const provider = await this.providerOf(request);
    const key = await this.keyOf(provider);
    const known = await this.record.known(key);
    const job: Job = { engine, outputPath, report: null, over: false, finished: Promise.resolve() };
    this.jobs.set(jobId, job);
    const trace = new Trace({
      gpu: deviceFor(this.reading ?? (await this.hardware()), provider),
      provider,
      runtimes: () => engine.runtimes,
      onSample: (sample) => this.emit({ jobId, kind: 'memory', sample }),
    });
    const { budgetBytes, pins } = request;
    const curve = this.pruning.curveOf(request.modelId, model.dataPath);
    const files = { path: model.path, dataPath: model.dataPath, outputPath };
    job.finished = engine
      .ask({ kind: 'fit', ...files, budgetBytes, provider, pins, known, curve })
      .finally(() => trace.stop())
      .then(
        (report) => {
          job.report = trace.samples.length > 0 ? { ...report, trace: [...trace.samples] } : report;
          this.emit({ jobId, kind: 'done', report: job.report });
          return this.record.addRuns(runsOfReport(report, key, Date.now()));
        },
        (error: unknown) =>
          this.emit({ jobId, kind: 'failed', error: SnugError.from(error).toReport(), bestSoFar: null }),
      )
      .finally(async () => {
        job.over = true;
        engine.kill();
        await engine.exited;
        sweepWork(path.dirname(outputPath));
        if (job.report) await this.tellAccuracy(jobId);
      });
    return { jobId };
  }

  async cancel(jobId: string): Promise<{ kept: FitReport | null }> {
    const job = this.jobs.get(jobId);
    if (!job) return { kept: null };
    job.engine.requestStop();
    const grace = new Promise<void>((resolve) => setTimeout(resolve, stopGraceMs).unref());
    await Promise.race([job.finished, grace]);
    if (!job.report) job.engine.kill();
    await job.finished;
    return { kept: job.report };
  }

  onJobEvent(listener: (event: JobEvent) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  private emit(event: JobEvent): void {
    for (const listener of this.listeners) listener(event);
  }

  outputOf(jobId: string): { path: string; report: FitReport } | null {
    const job = this.jobs.get(jobId);
    return job?.report?.output ? { path: job.report.output.path, report: job.report } : null;
  }

  reportHtml(jobId: string): string | null {
    const report = this.jobs.get(jobId)?.report;
    return report ? reportHtml(report) : null;
  }

  async close(): Promise<void> {
    for (const job of this.jobs.values()) job.engine.kill();
    await this.calibrator.stop();
    this.pruning.stopAll();
    for (const model of this.models.values()) model.engine.kill();
    await Promise.allSettled([...this.jobs.values()].map((job) => job.finished));
    this.models.clear();
    this.listeners.clear();
  }
}
