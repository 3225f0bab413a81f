import type { SnugApi } from '../../src/contract/api.js';
import type { ErrorReport, Result } from '../../src/contract/errors.js';
import type { TrainingProgress, TrainingReport } from '../../src/contract/training.js';
import type { JobEvent } from '../../src/contract/types.js';
import { RunningJob } from './running-job.svelte.js';

export type TrainingEnd = { kind: 'done'; report: TrainingReport } | { kind: 'failed'; error: ErrorReport };

/** Time left is a guess; from fewer updates and less time it would only flicker. */
const timeLeftAfterMs = 3000;

/** One training under way. */
export class TrainingRun extends RunningJob {
  readonly #onEnd: (end: TrainingEnd) => void;
  /** Null while the graphs are built and the model as it is gets judged. */
  progress: TrainingProgress | null = $state.raw(null);

  constructor(api: SnugApi, onEnd: (end: TrainingEnd) => void) {
    super(api);
    this.#onEnd = onEnd;
  }

  /** Milliseconds the training should still take; null while that cannot be said honestly. */
  get leftMs(): number | null {
    if (this.progress === null) return null;
    const { step, totalSteps, fromStep, elapsedMs } = this.progress;
    const made = step - fromStep;
    return made <= 0 || elapsedMs < timeLeftAfterMs ? null : (elapsedMs / made) * (totalSteps - step);
  }

  async start(ask: () => Promise<Result<{ jobId: string }>>): Promise<void> {
    const error = await this.begin(ask);
    if (error !== null) this.#end({ kind: 'failed', error });
  }

  protected override receive(event: JobEvent): void {
    if (event.kind === 'training') this.progress = event.training;
    else if (event.kind === 'trained') this.#end({ kind: 'done', report: event.report });
    else if (event.kind === 'failed') this.#end({ kind: 'failed', error: event.error });
  }

  /** Asks for the best weights so far; they come with the end. */
  async stop(): Promise<void> {
    if (this.stopping || this.over) return;
    this.stopping = true;
    if (this.jobId === null) {
      this.#end({ kind: 'failed', error: { code: 'E_CANCELLED', message: '', action: '', params: {} } });
      return;
    }
    const reply = await this.api.stopTraining(this.jobId);
    if (!reply.ok) this.#end({ kind: 'failed', error: reply.error });
  }

  #end(end: TrainingEnd): void {
    if (this.finish()) this.#onEnd(end);
  }
}
