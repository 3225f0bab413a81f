import type { SnugApi } from '../../src/contract/api.js';
import type { ErrorReport, Result } from '../../src/contract/errors.js';
import type { JobEvent, MemorySample } from '../../src/contract/types.js';

/** A minute at four samples a second: as much as a gauge can show. */
const shownSamples = 240;

/** What the memory gauge reads of a job. */
export interface MemorySource {
  /** The newest samples of the memory the running model holds. */
  readonly samples: readonly MemorySample[];
  readonly highestBytes: number;
  /** When the newest sample came, on the clock of `elapsedMs`. */
  readonly sampledAtMs: number;
  readonly elapsedMs: number;
}

/** What every job of the engine has in common as the page sees it: a clock, memory, and events that find it. */
export abstract class RunningJob implements MemorySource {
  protected readonly api: SnugApi;
  jobId: string | null = $state(null);
  elapsedMs = $state(0);
  stopping = $state(false);
  samples: MemorySample[] = $state.raw([]);
  highestBytes = $state(0);
  sampledAtMs = $state(0);

  protected startedAt = 0;
  protected over = false;
  #early: JobEvent[] = [];
  #clock: ReturnType<typeof setInterval> | undefined;

  constructor(api: SnugApi) {
    this.api = api;
  }

  /** Takes an event that is about this job, memory aside. */
  protected abstract receive(event: JobEvent): void;

  /** Starts the clock and the job; answers why it could not be started. */
  protected async begin(ask: () => Promise<Result<{ jobId: string }>>): Promise<ErrorReport | null> {
    this.#startClock(0);
    const reply = await ask();
    if (this.over) {
      // Stopped before the engine had answered: the job it started must not go on unseen.
      if (reply.ok) await this.api.cancel(reply.value.jobId);
      return null;
    }
    if (!reply.ok) return reply.error;
    this.jobId = reply.value.jobId;
    // Events may overtake the reply that names the job.
    for (const event of this.#early.splice(0)) this.take(event);
    return null;
  }

  /** Takes over a job that was started `elapsedMs` ago and has told these events since. */
  adopt(jobId: string, elapsedMs: number, events: readonly JobEvent[]): void {
    this.#startClock(elapsedMs);
    this.jobId = jobId;
    for (const event of events) this.take(event);
  }

  #startClock(elapsedMs: number): void {
    this.startedAt = performance.now() - elapsedMs;
    this.elapsedMs = elapsedMs;
    this.#clock = setInterval(() => (this.elapsedMs = performance.now() - this.startedAt), 250);
  }

  take(event: JobEvent): void {
    if (this.over) return;
    if (this.jobId === null) {
      this.#early.push(event);
      return;
    }
    if (event.jobId !== this.jobId) return;
    if (event.kind !== 'memory') {
      this.receive(event);
      return;
    }
    this.samples = [...this.samples, event.sample].slice(-shownSamples);
    this.sampledAtMs = performance.now() - this.startedAt;
    this.highestBytes = Math.max(this.highestBytes, event.sample.usedBytes);
  }

  /** @returns false when it had ended before */
  protected finish(): boolean {
    if (this.over) return false;
    this.over = true;
    clearInterval(this.#clock);
    return true;
  }
}
