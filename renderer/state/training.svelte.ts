import type { SnugApi, StartedJob } from '../../src/contract/api.js';
import type { ErrorReport, Result } from '../../src/contract/errors.js';
import {
  usualChoices,
  usualRate,
  type TrainingChoices,
  type TrainingFileRole,
  type TrainingPlan,
  type TrainingReport,
  type TrainingRequest,
  type TrainingSetup,
} from '../../src/contract/training.js';
import { i18n } from '../i18n/locale.svelte.js';
import { announcer } from './announcer.svelte.js';
import type { Planner } from './planner.svelte.js';
import { TrainingRun, type TrainingEnd } from './training-run.svelte.js';

/** Names that people and tools give to files of right answers. */
const labelName = /label|target|answer|(?:^|[_.-])y(?:[_.-]|$)/iu;

/** The training of the open model: its files, what was chosen, what that will take, the run and its result. */
export class Training {
  readonly #api: SnugApi;
  readonly #planner: Planner;
  setup: TrainingSetup | null = $state.raw(null);
  choices: TrainingChoices = $state.raw({ ...usualChoices });
  /** What the choices as they stand will take; of the choices before while it is worked out anew. */
  plan: TrainingPlan | null = $state.raw(null);
  /** Why there is no plan. */
  planError: ErrorReport | null = $state.raw(null);
  planning = $state(false);
  /** What is being read. */
  attaching: TrainingFileRole | null = $state(null);
  /** What was read last, and perhaps refused. */
  attached: TrainingFileRole = 'data';
  /** Why a file was refused, or a training did not start or end. */
  error: ErrorReport | null = $state.raw(null);
  run: TrainingRun | null = $state.raw(null);
  report: TrainingReport | null = $state.raw(null);
  reportJobId: string | null = $state(null);
  notice: string | null = $state(null);

  #wanted = false;
  #working = false;
  #generation = 0;
  /** Whether the last run left something behind that can go on. */
  #began = false;

  /** Looks for the training that another page has started; answers whether there was one. */
  readonly #findOther: () => Promise<boolean>;

  constructor(api: SnugApi, planner: Planner, findOther: () => Promise<boolean>) {
    this.#api = api;
    this.#planner = planner;
    this.#findOther = findOther;
  }

  /** Whether there is an answer to learn for every sample. */
  readonly hasAnswers: boolean = $derived.by(() => {
    const { setup, choices } = this;
    if (setup === null) return false;
    if (choices.loss === 'distill') return setup.teacher !== null;
    if (setup.labels !== null) return true;
    return choices.loss === 'mse' ? setup.teacher !== null : setup.nextToken;
  });

  readonly canStart: boolean = $derived(
    this.setup !== null && this.setup.data !== null && this.hasAnswers && this.plan !== null && this.plan.fits,
  );

  /** A model was opened: everything starts over. */
  reset(): void {
    this.#generation += 1;
    this.setup = null;
    this.choices = { ...usualChoices };
    this.plan = null;
    this.planError = null;
    this.error = null;
    this.notice = null;
    this.leave();
    this.attaching = null;
    this.#began = false;
  }

  /** Its result leaves the screen. */
  leave(): void {
    if (this.report !== null && this.reportJobId !== null) void this.#api.dismissJob(this.reportJobId);
    this.report = null;
  }

  async load(): Promise<void> {
    const { model } = this.#planner;
    if (model === null) return;
    this.leave();
    const generation = this.#generation;
    this.#took(await this.#api.trainingSetup(model.modelId), generation);
  }

  choose(changes: Partial<TrainingChoices>): void {
    const { optimizer } = changes;
    // Each optimizer has a rate of its own; one somebody set by hand stays.
    const usual = this.choices.rate === usualRate[this.choices.optimizer];
    const rate = optimizer !== undefined && usual ? { rate: usualRate[optimizer] } : {};
    this.choices = { ...this.choices, ...changes, ...rate };
    void this.solve();
  }

  /** @returns false when the file was refused, or is no longer wanted */
  async attach(role: TrainingFileRole, files: File[]): Promise<boolean> {
    const { model } = this.#planner;
    if (files.length === 0) return true;
    if (model === null || this.attaching !== null) return false;
    const generation = this.#generation;
    this.attaching = role;
    this.attached = role;
    this.error = null;
    const reply = await this.#api.attachTraining(model.modelId, role, files);
    if (generation === this.#generation) this.attaching = null;
    return this.#took(reply, generation);
  }

  /** Files dropped anywhere on the screen go where their names and what is missing say. */
  async attachDropped(files: File[]): Promise<void> {
    const models = files.filter((file) => /\.onnx(?:\.data)?$/iu.test(file.name));
    const labels = files.filter((file) => !models.includes(file) && labelName.test(file.name));
    const data = files.filter((file) => !models.includes(file) && !labels.includes(file));
    // Up to the first that is refused: the next would take the reason off the screen.
    for (const [role, own] of [
      ['teacher', models],
      ['data', data],
      ['labels', labels],
    ] as const) {
      if (!(await this.attach(role, own))) return;
    }
  }

  /** @param generation when it was asked for: what belongs to the model before is dropped */
  #took(reply: Result<TrainingSetup>, generation: number): boolean {
    if (generation !== this.#generation) return false;
    if (reply.ok) {
      this.setup = reply.value;
      void this.solve();
    } else this.error = reply.error;
    return reply.ok;
  }

  #request(): TrainingRequest | null {
    const request = this.#planner.request();
    if (request === null) return null;
    const { modelId, budgetBytes, pins } = request;
    return {
      modelId,
      budgetBytes,
      ...(pins.provider === undefined ? {} : { provider: pins.provider }),
      dims: { ...pins.dims },
      choices: { ...this.choices },
    };
  }

  /** Works out what the choices will take; while that runs, only the newest wish is kept. */
  async solve(): Promise<void> {
    this.#wanted = true;
    if (this.#working) return;
    this.#working = true;
    while (this.#wanted) {
      this.#wanted = false;
      const request = this.#request();
      if (request === null || this.setup === null || this.setup.data === null) break;
      this.planning = true;
      const generation = this.#generation;
      const reply = await this.#api.planTraining(request);
      if (generation !== this.#generation) continue;
      if (reply.ok) {
        this.plan = reply.value;
        this.planError = null;
      } else {
        this.plan = null;
        this.planError = reply.error;
      }
    }
    this.planning = false;
    this.#working = false;
  }

  start(): Promise<void> {
    const request = this.#request();
    this.#began = false;
    return request === null ? Promise.resolve() : this.#begin(() => this.#api.startTraining(request));
  }

  resume(): Promise<void> {
    const { model } = this.#planner;
    this.#began = true;
    return model === null ? Promise.resolve() : this.#begin(() => this.#api.resumeTraining(model.modelId));
  }

  async discard(): Promise<void> {
    const { model } = this.#planner;
    if (model === null) return;
    const generation = this.#generation;
    this.#took(await this.#api.discardTraining(model.modelId), generation);
  }

  /** After an error: goes on with what a run saved before it failed; otherwise starts anew, where that is possible. */
  tryAgain(): Promise<void> {
    if (this.#began && this.setup?.interrupted) return this.resume();
    return this.canStart ? this.start() : this.solve();
  }

  async #begin(ask: () => Promise<Result<{ jobId: string }>>): Promise<void> {
    this.error = null;
    this.notice = null;
    this.leave();
    await this.#show().start(ask);
  }

  /** Shows a training that this page did not start, or how it ended. */
  adopt({ jobId, elapsedMs, events, request }: Extract<StartedJob, { kind: 'training' }>): void {
    if (request !== null) this.choices = request.choices;
    // Files come with the setup, which says nothing of a training while it runs.
    void this.load();
    this.#show().adopt(jobId, elapsedMs, events);
  }

  #show(): TrainingRun {
    const run = new TrainingRun(this.#api, (end) => void this.#finish(run, end));
    this.run = run;
    return run;
  }

  async #finish(run: TrainingRun, end: TrainingEnd): Promise<void> {
    if (this.run !== run) return;
    this.run = null;
    // Refused at once: perhaps because one runs that was started in another window.
    if (end.kind === 'failed' && end.error.code === 'E_USAGE' && run.jobId === null && (await this.#findOther())) {
      this.notice = i18n.t.training.running.other;
      announcer.say(this.notice);
      return;
    }
    this.#began ||= run.progress !== null;
    this.reportJobId = run.jobId;
    const { t } = i18n;
    if (end.kind === 'done') {
      this.report = end.report;
      announcer.say(end.report.ended === 'stopped' ? t.working.stoppedKept : t.working.finished);
      return;
    }
    if (run.jobId !== null) void this.#api.dismissJob(run.jobId);
    if (end.error.code === 'E_CANCELLED') {
      this.notice = t.working.stoppedNothing;
      announcer.say(this.notice);
    } else this.error = end.error;
    void this.load();
  }
}
