import type { SnugApi } from '../../src/contract/api.js';
import type { ErrorReport } from '../../src/contract/errors.js';
import type { FitReport, JobEvent, JobPhase, JobProgress, PlanRequest } from '../../src/contract/types.js';
import { RunningJob } from './running-job.svelte.js';

export const phases: readonly JobPhase[] = [
  'reading',
  'planning',
  'pruning',
  'recovering',
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

/** One fit as the page sees it. */
export class Job extends RunningJob {
  readonly #onEnd: (end: JobEnd) => void;
  progress: JobProgress | null = $state.raw(null);
  /** Phases that have begun; a phase the engine leaves out is never among them. */
  begun: JobPhase[] = $state.raw([]);

  /** On the clock of the job. */
  #phaseStartedAtMs = 0;

  constructor(api: SnugApi, onEnd: (end: JobEnd) => void) {
    super(api);
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
    const spent = this.elapsedMs - this.#phaseStartedAtMs;
    if (share === null || share <= 0 || this.elapsedMs < timeLeftAfterMs || spent < 1000) return null;
    return (spent / share) * (1 - share);
  }

  async start(request: PlanRequest): Promise<void> {
    const error = await this.begin(() => this.api.startFit(request));
    if (error !== null) this.#end({ kind: 'failed', error, bestSoFar: null });
  }

  protected override receive(event: JobEvent): void {
    if (event.kind === 'progress') {
      if (event.progress.phase !== this.progress?.phase) this.#phaseStartedAtMs = event.elapsedMs;
      if (!this.begun.includes(event.progress.phase)) this.begun = [...this.begun, event.progress.phase];
      this.progress = event.progress;
    } else if (event.kind === 'done') {
      this.#end({ kind: 'done', report: event.report });
    } else if (event.kind === 'failed') {
      // No failure: the reply to the stop is on its way and says what was kept.
      if (this.stopping && event.error.code === 'E_CANCELLED') return;
      this.#end({ kind: 'failed', error: event.error, bestSoFar: event.bestSoFar });
    }
  }

  async stop(): Promise<void> {
    if (this.stopping || this.over) return;
    this.stopping = true;
    const jobId = this.jobId;
    if (jobId === null) {
      this.#end({ kind: 'stopped', kept: null });
      return;
    }
    const reply = await this.api.cancel(jobId);
    if (reply.ok) this.#end({ kind: 'stopped', kept: reply.value.kept });
    else this.#end({ kind: 'failed', error: reply.error, bestSoFar: null });
  }

  #end(end: JobEnd): void {
    if (this.finish()) this.#onEnd(end);
  }
}
