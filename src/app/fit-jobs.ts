import { randomUUID } from 'node:crypto';
import path from 'node:path';
import { SnugError } from '../contract/errors.js';
import type { FitReport, JobEvent, KnownError, PlanRequest, Provider, PruneCurve } from '../contract/types.js';
import { freeOutputName, sweepWork } from '../fit/workspace.js';
import type { EngineClient, EngineListeners } from './engine-client.js';
import type { HeldModel } from './open-models.js';
import type { Trace } from './trace.js';

/** How long a stopped job may take to hand over its best result before it is ended. */
const stopGraceMs = 700;

interface Job {
  engine: EngineClient;
  report: FitReport | null;
  over: boolean;
  finished: Promise<void>;
}

export interface FitJobsOptions {
  startEngine: (listeners: EngineListeners) => EngineClient;
  emit: (event: JobEvent) => void;
  /** Starts sampling memory for a job. */
  trace: (jobId: string, provider: Provider, engine: EngineClient) => Promise<Trace>;
  /** A fit has ended with a result. */
  onReport: (jobId: string, report: FitReport) => Promise<void>;
}

export interface FitStart {
  model: HeldModel;
  request: PlanRequest;
  provider: Provider;
  known: KnownError;
  curve: PruneCurve | null;
  /** Folder for the result; the model's own when left out. */
  outputDirectory?: string | undefined;
}

/** Fits under way and their results: one engine process each. */
export class FitJobs {
  readonly #jobs = new Map<string, Job>();

  constructor(private readonly options: FitJobsOptions) {}

  get running(): boolean {
    return [...this.#jobs.values()].some(({ over }) => !over);
  }

  async start({ model, request, provider, known, curve, outputDirectory }: FitStart): Promise<{ jobId: string }> {
    const { startEngine, emit, trace: startTrace, onReport } = this.options;
    const jobId = randomUUID();
    const started = performance.now();
    const engine = startEngine({
      onProgress: (progress) => emit({ jobId, kind: 'progress', progress, elapsedMs: performance.now() - started }),
    });
    const outputPath = freeOutputName(outputDirectory ?? path.dirname(model.path), path.parse(model.path).name);
    const job: Job = { engine, report: null, over: false, finished: Promise.resolve() };
    this.#jobs.set(jobId, job);
    const trace = await startTrace(jobId, provider, engine);
    const { budgetBytes, pins } = request;
    const files = { path: model.path, dataPath: model.dataPath, labelsPath: model.labelsPath, outputPath };
    job.finished = engine
      .ask({ kind: 'fit', ...files, budgetBytes, provider, pins, known, curve })
      .finally(() => trace.stop())
      .then(
        (report) => {
          job.report = trace.samples.length > 0 ? { ...report, trace: [...trace.samples] } : report;
          emit({ jobId, kind: 'done', report: job.report });
        },
        (error: unknown) => emit({ jobId, kind: 'failed', error: SnugError.from(error).toReport(), bestSoFar: null }),
      )
      .finally(async () => {
        job.over = true;
        engine.kill();
        await engine.exited;
        sweepWork(path.dirname(outputPath));
        if (job.report) await onReport(jobId, job.report);
      });
    return { jobId };
  }

  /** Acts within a second; answers with the best finished result, if there is one. */
  async cancel(jobId: string): Promise<{ kept: FitReport | null }> {
    const job = this.#jobs.get(jobId);
    if (!job) return { kept: null };
    job.engine.requestStop();
    const grace = new Promise<void>((resolve) => setTimeout(resolve, stopGraceMs).unref());
    await Promise.race([job.finished, grace]);
    if (!job.report) job.engine.kill();
    await job.finished;
    return { kept: job.report };
  }

  reportOf(jobId: string): FitReport | null {
    return this.#jobs.get(jobId)?.report ?? null;
  }

  async close(): Promise<void> {
    for (const { engine } of this.#jobs.values()) engine.kill();
    await Promise.allSettled([...this.#jobs.values()].map(({ finished }) => finished));
  }
}
