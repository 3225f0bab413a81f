import { randomUUID } from 'node:crypto';
import path from 'node:path';
import type { OpenModel, SampleModel } from '../contract/api.js';
import { SnugError } from '../contract/errors.js';
import type {
  FitReport,
  HardwareReading,
  JobEvent,
  JobProgress,
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
import type { SpawnEngine } from './engine-client.js';
import { EngineClient } from './engine-client.js';
import { defaultProvider } from './open.js';
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

  constructor(private readonly options: EngineServiceOptions) {}

  private engine(onProgress?: (progress: JobProgress) => void): EngineClient {
    const { spawnEngine, spawnRuntime, relayRuntimes } = this.options;
    return new EngineClient({
      spawn: spawnEngine ?? forkProcess,
      ...(relayRuntimes ? { spawnRuntime: spawnRuntime ?? forkRuntime } : {}),
      ...(onProgress ? { onProgress } : {}),
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
    return readHardware({ providers: await this.providers() });
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
    model.data = await model.engine.ask({ kind: 'data', path: dataPath });
    model.dataPath = dataPath;
    return { modelId, summary: model.summary, data: model.data };
  }

  private async providerOf(request: PlanRequest): Promise<Provider> {
    if (request.pins.provider) return request.pins.provider;
    return defaultProvider(await readHardware({ providers: await this.providers() }), await this.providers());
  }

  async plan(request: PlanRequest): Promise<PlanView> {
    const model = this.model(request.modelId);
    const { budgetBytes, pins } = request;
    return model.engine.ask({ kind: 'plan', budgetBytes, provider: await this.providerOf(request), pins });
  }

  async startFit(request: PlanRequest, outputDirectory?: string): Promise<{ jobId: string }> {
    const model = this.model(request.modelId);
    const jobId = randomUUID();
    const started = performance.now();
    const engine = this.engine((progress) =>
      this.emit({ jobId, kind: 'progress', progress, elapsedMs: performance.now() - started }),
    );
    const outputPath = freeOutputName(outputDirectory ?? path.dirname(model.path), path.parse(model.path).name);
    const provider = await this.providerOf(request);
    const job: Job = { engine, outputPath, report: null, finished: Promise.resolve() };
    this.jobs.set(jobId, job);
    const { budgetBytes, pins } = request;
    job.finished = engine
      .ask({ kind: 'fit', path: model.path, dataPath: model.dataPath, outputPath, budgetBytes, provider, pins })
      .then(
        (report) => {
          job.report = report;
          this.emit({ jobId, kind: 'done', report });
        },
        (error: unknown) =>
          this.emit({ jobId, kind: 'failed', error: SnugError.from(error).toReport(), bestSoFar: null }),
      )
      .finally(async () => {
        engine.kill();
        await engine.exited;
        sweepWork(path.dirname(outputPath));
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
    for (const model of this.models.values()) model.engine.kill();
    await Promise.allSettled([...this.jobs.values()].map((job) => job.finished));
    this.models.clear();
    this.listeners.clear();
  }
}
