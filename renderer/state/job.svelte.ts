import type { SnugApi } from '../../src/contract/api.js';
import type { ErrorReport } from '../../src/contract/errors.js';
import type {
  FitReport,
  JobEvent,
  JobPhase,
  JobProgress,
  MemorySample,
  PlanRequest,
} from '../../src/contract/types.js';

export const phases: readonly JobPhase[] = [
  'reading',
  'planning',
  'pruning',
  'quantizing',
  'writing',
  'checking',
  'comparing',
];

export type JobEnd =
  | { kind: 'done'; report: FitReport }
  | { kind: 'failed'; error: ErrorReport; bestSoFar: FitReport | null }
  | { kind: 'stopped'; kept: FitReport | null };

/** Time left is a guess; before this much of a phase has passed it would only flicker. */
const timeLeftAfterMs = 5000;
/** A minute at four samples a second: as much as a gauge can show. */
const shownSamples = 240;

/** One run of the engine as the page sees it. */
export class Job {
  readonly #api: SnugApi;
  readonly #onEnd: (end: JobEnd) => void;
  jobId: string | null = $state(null);
  progress: JobProgress | null = $state.raw(null);
  elapsedMs = $state(0);
  stopping = $state(false);
  /** Phases that have begun; a phase the engine leaves out is never among them. */
  begun: JobPhase[] = $state.raw([]);
  /** The newest samples of the memory the running model holds. */
  samples: MemorySample[] = $state.raw([]);
  highestBytes = $state(0);
  /** When the newest sample came, on the clock of `elapsedMs`. */
  sampledAtMs = $state(0);

  #startedAt = 0;
  #phaseStartedAt = 0;
  #early: JobEvent[] = [];
  #clock: ReturnType<typeof setInterval> | undefined;
  #over = false;

  constructor(api: SnugApi, onEnd: (end: JobEnd) => void) {
    this.#api = api;
    this.#onEnd = onEnd;
  }

  /** 0…1 of the phase under way; null when its length is not known. */
  get phaseShare(): number | null {
    const progress = this.progress;
    if (progress === null || progress.total === null || progress.total <= 0) return null;
    return Math.min(1, progress.done / progress.total);
  }

  /** 0…1 over all phases, for the announcements. */
  get overallShare(): number {
    if (this.progress === null) return 0;
    return (this.begun.length - 1 + (this.phaseShare ?? 0)) / phases.length;
  }

  /** Milliseconds this phase should still take; null while that cannot be said honestly. */
  get leftMs(): number | null {
    const share = this.phaseShare;
    const spent = this.#startedAt + this.elapsedMs - this.#phaseStartedAt;
    if (share === null || share <= 0 || this.elapsedMs < timeLeftAfterMs || spent < 1000) return null;
    return (spent / share) * (1 - share);
  }

  async start(request: PlanRequest): Promise<void> {
    this.#startedAt = performance.now();
    this.#phaseStartedAt = this.#startedAt;
    this.#clock = setInterval(() => (this.elapsedMs = performance.now() - this.#startedAt), 250);
    const reply = await this.#api.startFit(request);
    if (this.#over) {
      // Stopped before the engine had answered: the job it started must not go on unseen.
      if (reply.ok) await this.#api.cancel(reply.value.jobId);
      return;
    }
    if (!reply.ok) {
      this.#end({ kind: 'failed', error: reply.error, bestSoFar: null });
      return;
    }
    this.jobId = reply.value.jobId;
    // Events may overtake the reply that names the job.
    for (const event of this.#early.splice(0)) this.take(event);
  }

  take(event: JobEvent): void {
    if (this.#over) return;
    if (this.jobId === null) {
      this.#early.push(event);
      return;
    }
    if (event.jobId !== this.jobId || event.kind === 'accuracy' || event.kind === 'pruning') return;
    if (event.kind === 'memory') {
      this.samples = [...this.samples, event.sample].slice(-shownSamples);
      this.sampledAtMs = performance.now() - this.#startedAt;
      this.highestBytes = Math.max(this.highestBytes, event.sample.usedBytes);
      return;
    }
    if (event.kind === 'progress') {
      if (event.progress.phase !== this.progress?.phase) this.#phaseStartedAt = performance.now();
      if (!this.begun.includes(event.progress.phase)) this.begun = [...this.begun, event.progress.phase];
      this.progress = event.progress;
    } else if (event.kind === 'done') {
      this.#end({ kind: 'done', report: event.report });
    } else if (this.stopping && event.error.code === 'E_CANCELLED') {
      // No failure: the reply to the stop is on its way and says what was kept.
      return;
    } else {
      this.#end({ kind: 'failed', error: event.error, bestSoFar: event.bestSoFar });
    }
  }

  async stop(): Promise<void> {
    if (this.stopping || this.#over) return;
    this.stopping = true;
    const jobId = this.jobId;
    if (jobId === null) {
      this.#end({ kind: 'stopped', kept: null });
      return;
    }
    const reply = await this.#api.cancel(jobId);
    if (reply.ok) this.#end({ kind: 'stopped', kept: reply.value.kept });
    else this.#end({ kind: 'failed', error: reply.error, bestSoFar: null });
  }

  #end(end: JobEnd): void {
    if (this.#over) return;
    this.#over = true;
    clearInterval(this.#clock);
    this.#onEnd(end);
  }
}
