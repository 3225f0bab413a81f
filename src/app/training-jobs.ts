import { randomUUID } from 'node:crypto';
import path from 'node:path';
import { SnugError } from '../contract/errors.js';
import type {
  TrainingFileRole,
  TrainingPlan,
  TrainingReport,
  TrainingRequest,
  TrainingSetup,
} from '../contract/training.js';
import type { JobEvent, Provider } from '../contract/types.js';
import { checkpointFile, freeOutputName, sweepWork } from '../fit/workspace.js';
import type { EngineClient, EngineListeners } from './engine-client.js';
import type { HeldModel } from './open-models.js';
import type { Trace } from './trace.js';
import type { TrainingPaths } from './training-files.js';
import type { TrainingNews, TrainingRun } from './training-run.js';
import { stampOf, type TrainingStore, type UnfinishedTraining } from './training-store.js';

interface Job {
  engine: EngineClient;
  report: TrainingReport | null;
  over: boolean;
  finished: Promise<void>;
}

export interface TrainingJobsOptions {
  store: TrainingStore;
  startEngine: (listeners: EngineListeners) => EngineClient;
  emit: (event: JobEvent) => void;
  /** Starts sampling memory for a job. */
  trace: (jobId: string, provider: Provider, engine: EngineClient) => Promise<Trace>;
}

/** Trainings of open models: their files, their plans, those under way and those that were interrupted. */
export class TrainingJobs {
  readonly #jobs = new Map<string, Job>();
  /** Files chosen for training, by model. */
  readonly #files = new Map<string, TrainingPaths>();

  constructor(private readonly options: TrainingJobsOptions) {}

  get running(): boolean {
    return [...this.#jobs.values()].some(({ over }) => !over);
  }

  /** The files to train with; the samples of the model where no others were chosen. */
  #filesOf(modelId: string, { dataPath }: HeldModel): TrainingPaths {
    const { data = null, labels = null, teacher = null } = this.#files.get(modelId) ?? {};
    return { data: data ?? dataPath, labels, teacher };
  }

  async setup(modelId: string, model: HeldModel, files = this.#filesOf(modelId, model)): Promise<TrainingSetup> {
    const unfinished = this.running ? null : await this.options.store.of(model.path);
    const checkpoint = unfinished === null ? null : checkpointFile(unfinished.training.outputPath);
    const { progress, ...setup } = await model.engine.ask({ kind: 'training-look', files, checkpoint });
    if (unfinished === null || progress === null) return { ...setup, interrupted: null };
    const { training, savedAt } = unfinished;
    const name = (file: string): string => path.basename(file);
    return {
      ...setup,
      interrupted: {
        ...progress,
        name: name(training.outputPath),
        totalSteps: training.totalSteps,
        savedAt,
        choices: training.choices,
        files: {
          data: name(training.files.data),
          labels: training.files.labels && name(training.files.labels),
          teacher: training.files.teacher && name(training.files.teacher),
        },
      },
    };
  }

  /** @throws SnugError of a file that cannot be used; what was chosen before then stays */
  async attach(modelId: string, model: HeldModel, role: TrainingFileRole, file: string): Promise<TrainingSetup> {
    const before = this.#filesOf(modelId, model);
    // Labels belong to the samples they were chosen for.
    const files = role === 'data' ? { ...before, data: file, labels: null } : { ...before, [role]: file };
    const setup = await this.setup(modelId, model, files);
    this.#files.set(modelId, files);
    return setup;
  }

  plan(request: TrainingRequest, model: HeldModel, provider: Provider): Promise<TrainingPlan> {
    const { modelId, choices, budgetBytes, dims } = request;
    const files = this.#filesOf(modelId, model);
    return model.engine.ask({ kind: 'training-plan', files, choices, provider, budgetBytes, dims });
  }

  /** @throws SnugError E_USAGE when a file is missing that the loss needs */
  async start(
    { modelId, choices, budgetBytes, dims }: TrainingRequest,
    model: HeldModel,
    provider: Provider,
    outputDirectory: string | undefined,
  ): Promise<{ jobId: string }> {
    const { data, ...files } = this.#filesOf(modelId, model);
    if (data === null) throw new SnugError('E_USAGE', 'A training needs samples.', { action: 'Add samples first.' });
    const name = path.parse(model.path).name;
    const outputPath = freeOutputName(outputDirectory ?? path.dirname(model.path), name, 'trained');
    const own = { path: model.path, files: { data, ...files }, outputPath };
    return this.#run({ ...own, choices, provider, dims, budgetBytes, microBatch: null, resume: false });
  }

  /** @throws SnugError E_NOT_FOUND when no training of this model was interrupted; E_USAGE while one runs */
  async resume(model: HeldModel): Promise<{ jobId: string }> {
    const unfinished = await this.#unfinished(model);
    const { outputPath, files, choices, provider, dims, microBatch } = unfinished;
    await this.options.store.add(unfinished);
    const own = { path: model.path, files, outputPath };
    return this.#run({ ...own, choices, provider, dims, budgetBytes: null, microBatch, resume: true });
  }

  async discard(modelId: string, model: HeldModel): Promise<TrainingSetup> {
    await this.options.store.discard(await this.#unfinished(model));
    return this.setup(modelId, model);
  }

  async #unfinished(model: HeldModel): Promise<UnfinishedTraining> {
    this.#refuseSecond();
    const unfinished = await this.options.store.of(model.path);
    if (unfinished) return unfinished.training;
    throw new SnugError('E_NOT_FOUND', 'No training of this model was interrupted.', { action: 'Start a training.' });
  }

  /** Two trainings would share the memory each was planned to have alone, and what the first one saves. */
  #refuseSecond(): void {
    if (!this.running) return;
    throw new SnugError('E_USAGE', 'Another training is running.', {
      action: 'Wait until it ends, or quit Snug: it can go on afterwards from what it last saved.',
    });
  }

  async #run(run: TrainingRun): Promise<{ jobId: string }> {
    this.#refuseSecond();
    const { startEngine, emit, store, trace: startTrace } = this.options;
    const jobId = randomUUID();
    let remembered: Promise<void> | null = null;
    const onTraining = ({ progress, microBatch }: TrainingNews): void => {
      remembered ??= this.#remember(run, microBatch, progress.totalSteps);
      emit({ jobId, kind: 'training', training: progress });
    };
    const engine = startEngine({ onTraining });
    const job: Job = { engine, report: null, over: false, finished: Promise.resolve() };
    this.#jobs.set(jobId, job);
    const trace = await startTrace(jobId, run.provider, engine);
    job.finished = engine
      .ask({ kind: 'train', ...run })
      .finally(() => trace.stop())
      .then(
        async (report) => {
          const highest = trace.samples.reduce((most, { usedBytes }) => Math.max(most, usedBytes), 0);
          const memory = { ...report.memory, highestBytes: trace.samples.length > 0 ? highest : null };
          await remembered;
          await (report.ended === 'stopped' ? store.release(run.outputPath) : store.remove(run.outputPath));
          job.report = { ...report, memory };
          job.over = true;
          emit({ jobId, kind: 'trained', report: job.report });
        },
        async (error: unknown) => {
          await remembered;
          await store.release(run.outputPath);
          job.over = true;
          emit({ jobId, kind: 'failed', error: SnugError.from(error).toReport(), bestSoFar: null });
        },
      )
      .finally(async () => {
        engine.kill();
        await engine.exited;
        sweepWork(path.dirname(run.outputPath));
      });
    return { jobId };
  }

  /** From the first news on there is a checkpoint to go on from. */
  async #remember(run: TrainingRun, microBatch: number, totalSteps: number): Promise<void> {
    const stamp = stampOf(run.path);
    if (!stamp) return;
    const { path: modelPath, outputPath, files, provider, dims, choices } = run;
    await this.options.store.add({
      ...stamp,
      modelPath,
      outputPath,
      files,
      provider,
      dims,
      choices,
      microBatch,
      totalSteps,
    });
  }

  /** Ends a training; the best weights are written, and `trained` tells of them. */
  stop(jobId: string): void {
    this.#jobs.get(jobId)?.engine.requestStop();
  }

  /** Ends a training at once. What it had saved stays, so that it can go on. */
  async cancel(jobId: string): Promise<boolean> {
    const job = this.#jobs.get(jobId);
    if (!job) return false;
    job.engine.kill();
    await job.finished;
    return true;
  }

  reportOf(jobId: string): TrainingReport | null {
    return this.#jobs.get(jobId)?.report ?? null;
  }

  forget(modelId: string): void {
    this.#files.delete(modelId);
  }

  async close(): Promise<void> {
    for (const { engine } of this.#jobs.values()) engine.kill();
    await Promise.allSettled([...this.#jobs.values()].map(({ finished }) => finished));
  }
}
