import type { DoorInfo, OpenModel, RecentModel, SampleModel, SnugApi, StartedJob } from '../../src/contract/api.js';
import type { ErrorReport, Result } from '../../src/contract/errors.js';
import type { AccuracyView, FitReport, JobEvent } from '../../src/contract/types.js';
import { i18n } from '../i18n/locale.svelte.js';
import { AccuracyStore } from './accuracy.svelte.js';
import { announcer } from './announcer.svelte.js';
import { HardwareStore } from './hardware.svelte.js';
import { Job, type JobEnd } from './job.svelte.js';
import { Planner } from './planner.svelte.js';
import { jobToShow, pinsOf } from './started-job.js';
import { Training } from './training.svelte.js';

export type Screen = 'drop' | 'plan' | 'working' | 'result' | 'training';
export const drawerTabs = ['memory', 'prune', 'numbers', 'batch', 'tradeoff'] as const;
export type DrawerTab = (typeof drawerTabs)[number];
export type Saved = Parameters<SnugApi['saveOutput']>[1];
/** Why a result is shown although the work did not run to its end. */
export type Ending = 'done' | 'stopped' | 'failed';

/** All that the page knows: which screen, which model, which job. One instance, made by App. */
export class Session {
  screen: Screen = $state('drop');
  /** False until the first change of screen, so that opening the page moves no focus. */
  moved = $state(false);
  info: DoorInfo | null = $state.raw(null);
  samples: SampleModel[] = $state.raw([]);
  recent: RecentModel[] | null = $state.raw(null);
  /** Name of what is being opened; null when nothing is. */
  opening: string | null = $state(null);
  attaching = $state(false);
  error: ErrorReport | null = $state.raw(null);
  notice: string | null = $state(null);
  drawerOpen = $state(false);
  drawerTab: DrawerTab = $state('memory');
  job: Job | null = $state.raw(null);
  report: FitReport | null = $state.raw(null);
  reportJobId: string | null = $state(null);
  ending: Ending = $state('done');

  readonly api: SnugApi;
  readonly hardware: HardwareStore;
  readonly planner: Planner;
  readonly accuracy: AccuracyStore;
  readonly training: Training;

  constructor(api: SnugApi) {
    this.api = api;
    this.hardware = new HardwareStore(api);
    this.planner = new Planner(api, this.hardware);
    this.accuracy = new AccuracyStore(api);
    this.training = new Training(api, this.planner, () => this.#adopt((job) => job.kind === 'training' && job.running));
  }

  /** Asks for everything the first screen shows; nothing waits for anything else. Returns the unsubscriber. */
  start(): () => void {
    void this.hardware.load();
    void this.accuracy.load();
    void this.api.info().then((reply) => {
      if (!reply.ok) return;
      this.info = reply.value;
      i18n.suggest(reply.value.languages);
    });
    void this.api.samples().then((reply) => {
      if (reply.ok) this.samples = reply.value;
    });
    void this.#loadRecent();
    const stopJobs = this.api.onJobEvent((event) => {
      this.#missed?.push(event);
      this.#take(event);
    });
    // A page that was reloaded, or opened beside another, shows what goes on.
    void this.#adopt(() => this.screen === 'drop');
    // A model opened from outside of the page; while a job runs it must not pull the screen away.
    const stopOpened = this.api.onModelOpened?.((reply) => {
      if (!this.busy) void this.#open('', () => Promise.resolve(reply));
    });
    return () => {
      stopJobs();
      stopOpened?.();
    };
  }

  #take(event: JobEvent): void {
    if (event.kind === 'accuracy') this.#learn(event.accuracy);
    else if (event.kind === 'pruning') this.planner.takeCurve(event.jobId, event.curve);
    else if (event.kind === 'batches') this.planner.takeSweep(event.jobId);
    else {
      this.job?.take(event);
      this.training.run?.take(event);
    }
  }

  /** What came while it was asked which jobs there are. */
  #missed: JobEvent[] | null = null;

  /** Shows a job this page did not start. @returns whether there was one */
  async #adopt(wanted: (job: StartedJob) => boolean): Promise<boolean> {
    const missed: JobEvent[] = (this.#missed = []);
    const reply = await this.api.jobs();
    this.#missed = null;
    if (!reply.ok || this.busy || this.opening !== null) return false;
    const job = jobToShow(reply.value, wanted);
    if (job === null) return false;
    const { jobId, elapsedMs, events } = job;
    void this.#restore(job);
    if (job.kind === 'training') {
      this.#go('training');
      this.training.adopt(job);
    } else if (job.kind === 'fit') {
      this.#go('working');
      this.#show().adopt(jobId, elapsedMs, events);
    } else {
      this.drawerOpen = true;
      this.drawerTab = job.kind === 'pruning' ? 'prune' : 'batch';
      this.#go('plan');
      for (const event of events) this.#take(event);
    }
    for (const event of missed) this.#take(event);
    return true;
  }

  /** The model of a job, with the settings it was asked with. */
  async #restore({ model, request }: StartedJob): Promise<void> {
    this.training.reset();
    this.planner.show(model, request === null ? {} : pinsOf(request), request?.budgetBytes ?? null);
    await this.hardware.settled;
    // Where the device and the budget are what Snug would choose now, nobody has to have fixed them.
    const { device, defaultBudgetBytes } = this.hardware;
    if (this.planner.pins.provider === device?.providers[0]) this.planner.unpin('provider');
    if (this.planner.ownBudgetBytes === defaultBudgetBytes) this.planner.setBudget(null);
    await this.planner.solve();
  }

  /** Whether a job runs that nothing may take from the screen. */
  get busy(): boolean {
    return this.job !== null || this.training.run !== null;
  }

  /** A new calibration changes the interval, and with it perhaps the verdict, of the plan on screen. */
  #learn(view: AccuracyView): void {
    const learned = view.calibrations[0]?.at !== this.accuracy.view?.calibrations[0]?.at;
    this.accuracy.take(view);
    if (learned && this.screen === 'plan') void this.planner.solve();
  }

  openFiles(files: File[]): Promise<void> {
    const models = files.filter((file) => file.name.toLowerCase().endsWith('.onnx'));
    if (models.length > 1) {
      this.error = null;
      this.notice = i18n.t.drop.oneAtATime;
      announcer.say(this.notice);
      return Promise.resolve();
    }
    return this.#open(models[0]?.name ?? files[0]?.name ?? '', () => this.api.openFiles(files));
  }

  openSample(sample: SampleModel): Promise<void> {
    return this.#open(sample.name, () => this.api.openSample(sample.id));
  }

  openRecent(recent: RecentModel): Promise<void> {
    return this.#open(recent.name, () => this.api.openRecent(recent.id));
  }

  chooseModel(): Promise<void> {
    return this.#open('', () => this.api.chooseModel());
  }

  attach(files: File[]): Promise<void> {
    return this.#attach(files, (modelId) => this.api.attachData(modelId, files));
  }

  /** The right classes of the samples. */
  attachLabels(files: File[]): Promise<void> {
    return this.#attach(files, (modelId) => this.api.attachLabels(modelId, files));
  }

  async #attach(files: File[], ask: (modelId: string) => Promise<Result<OpenModel>>): Promise<void> {
    const model = this.planner.model;
    if (model === null || files.length === 0) return;
    this.attaching = true;
    this.error = null;
    const reply = await ask(model.modelId);
    this.attaching = false;
    if (!reply.ok) {
      this.error = reply.error;
      return;
    }
    if (reply.value.data !== null) {
      const { name, samples, labels } = reply.value.data;
      announcer.say(
        labels === undefined ? i18n.t.plan.data.attached(name, samples) : i18n.t.plan.data.labelled(labels),
      );
    }
    await this.planner.refresh(reply.value);
  }

  async makeSnug(): Promise<void> {
    const request = this.planner.request();
    if (request === null) return;
    this.error = null;
    this.notice = null;
    this.#go('working');
    await this.#show().start(request);
  }

  #show(): Job {
    const job = new Job(this.api, (end) => this.#finish(job, end));
    this.job = job;
    return job;
  }

  /** What could not be saved the last time. */
  unsaved: Saved | null = null;

  /** Saves something of the result on the screen. */
  async save(what: Saved): Promise<void> {
    const { reportJobId } = this.screen === 'training' ? this.training : this;
    if (reportJobId === null) return;
    this.error = null;
    const reply = await this.api.saveOutput(reportJobId, what);
    this.unsaved = reply.ok ? null : what;
    if (!reply.ok) this.error = reply.error;
  }

  async openTraining(): Promise<void> {
    this.error = null;
    this.notice = null;
    this.drawerOpen = false;
    this.#go('training');
    await this.training.load();
  }

  /** Goes on with what a training wrote as the open model. */
  openTrained(): Promise<void> {
    const { reportJobId } = this.training;
    this.unsaved = null;
    if (reportJobId === null) return Promise.resolve();
    return this.#open(this.training.report?.output.path ?? '', () => this.api.openOutput(reportJobId));
  }

  backToPlan(): void {
    this.error = null;
    this.#go('plan');
    void this.planner.solve();
  }

  startAgain(): void {
    this.error = null;
    this.notice = null;
    this.drawerOpen = false;
    this.#go('drop');
    // Other programs' memory moves; so does the list of what was opened.
    void this.hardware.load();
    void this.#loadRecent();
  }

  async #open(name: string, ask: () => Promise<Result<OpenModel | null>>): Promise<void> {
    if (this.opening !== null) return;
    this.error = null;
    this.notice = null;
    this.opening = name;
    const reply = await ask();
    if (reply.ok && reply.value !== null) {
      this.drawerOpen = false;
      this.drawerTab = 'memory';
      // Without a reading there is no budget, and everything would "not fit" into nothing.
      await this.hardware.settled;
      this.training.reset();
      await this.planner.open(reply.value);
      this.#go('plan');
    } else if (!reply.ok) {
      this.error = reply.error;
    }
    this.opening = null;
  }

  #finish(job: Job, end: JobEnd): void {
    if (this.job !== job) return;
    const report = end.kind === 'done' ? end.report : end.kind === 'failed' ? end.bestSoFar : end.kept;
    this.report = report;
    this.reportJobId = job.jobId;
    this.ending = end.kind;
    this.job = null;
    if (end.kind === 'failed') this.error = end.error;
    if (report !== null) {
      this.#go('result');
      announcer.say(end.kind === 'stopped' ? i18n.t.working.stoppedKept : i18n.t.working.finished);
      return;
    }
    if (job.jobId !== null) void this.api.dismissJob(job.jobId);
    if (end.kind === 'stopped') {
      this.notice = i18n.t.working.stoppedNothing;
      announcer.say(this.notice);
    }
    this.#go('plan');
  }

  #go(screen: Screen): void {
    if (screen !== 'training') this.training.leave();
    if (this.screen === 'result' && this.reportJobId !== null) void this.api.dismissJob(this.reportJobId);
    this.unsaved = null;
    this.moved = true;
    this.screen = screen;
    window.scrollTo(0, 0);
  }

  async #loadRecent(): Promise<void> {
    const reply = await this.api.recent();
    this.recent = reply.ok ? reply.value : [];
  }
}
