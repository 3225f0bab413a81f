import type { AskedJob, OpenModel, StartedJob } from '../../contract/api.js';
import type { JobEvent } from '../../contract/types.js';

/** A minute at four samples a second: as much as a page shows. */
const mostSamples = 240;
/** Ended jobs that no page has put away. */
const mostEnded = 8;

interface Entry {
  jobId: string;
  /** Null while it is not known what this was asked for. */
  begun: { asked: AskedJob; model: OpenModel; askedAt: number } | null;
  told: JobEvent[];
  memory: Extract<JobEvent, { kind: 'memory' }>[];
  end: JobEvent | null;
}

/**
 * Jobs that run, or have ended and were not put away, with what they told: a page that was reloaded, or opened beside
 * another, shows them as if it had been there from their start.
 */
export class JobRecord {
  readonly #entries = new Map<string, Entry>();

  /** @param askedAt by `performance.now()`, before the job began */
  begin(jobId: string, model: OpenModel, asked: AskedJob, askedAt: number): void {
    // What a job tells may come before the answer that names it.
    this.#entry(keyOf(jobId, asked.kind), jobId).begun = { asked, model, askedAt };
  }

  take(event: JobEvent): void {
    if (event.kind === 'accuracy') return;
    const key = keyOf(event.jobId, event.kind);
    if (event.kind === 'pruning' || event.kind === 'batches') {
      const { state } = event.kind === 'pruning' ? event.curve : event.sweep;
      // What was measured stays with the model and comes with its plan.
      if (state === 'measuring') this.#entry(key, event.jobId).told = [event];
      else this.#entries.delete(key);
      return;
    }
    const entry = this.#entry(key, event.jobId);
    if (event.kind === 'memory') entry.memory = withSample(entry.memory, event);
    else if (event.kind === 'training') entry.told = [event];
    else if (event.kind === 'progress') entry.told = withProgress(entry.told, event);
    else this.#end(entry, event);
  }

  #entry(key: string, jobId: string): Entry {
    const known = this.#entries.get(key);
    if (known) return known;
    const entry: Entry = { jobId, begun: null, told: [], memory: [], end: null };
    this.#entries.set(key, entry);
    return entry;
  }

  #end(entry: Entry, event: JobEvent): void {
    entry.end = event;
    const ended = [...this.#entries].filter(([, { end }]) => end !== null);
    for (const [key] of ended.slice(0, -mostEnded)) this.#entries.delete(key);
  }

  /** Fits and trainings under way, by id. */
  running(): string[] {
    return [...this.#entries.values()]
      .filter(({ begun, end }) => end === null && begun !== null && !isMeasurement(begun.asked.kind))
      .map(({ jobId }) => jobId);
  }

  /** Newest first; without those that were stopped and left nothing. */
  all(): StartedJob[] {
    return [...this.#entries.values()].reverse().flatMap(({ jobId, begun, told, memory, end }) => {
      if (begun === null) return [];
      const { asked, model, askedAt } = begun;
      const stopped = end?.kind === 'failed' && end.error.code === 'E_CANCELLED' && end.bestSoFar === null;
      // Asked for again, it measures nothing and tells nothing.
      const known = isMeasurement(asked.kind) && told.length === 0;
      if (stopped || known) return [];
      const events = [...told, ...memory, ...(end === null ? [] : [end])];
      return [{ ...asked, jobId, model, elapsedMs: performance.now() - askedAt, events, running: end === null }];
    });
  }

  /** A page has shown how it ended. */
  dismiss(jobId: string): void {
    if (this.#entries.get(jobId)?.end) this.#entries.delete(jobId);
  }

  /** It was ended from outside and left nothing. */
  drop(jobId: string): void {
    this.#entries.delete(jobId);
  }
}

const isMeasurement = (kind: string): boolean => kind === 'pruning' || kind === 'batches';

/** Two measurements of a model go by the same id, the model's. */
const keyOf = (jobId: string, kind: string): string => (isMeasurement(kind) ? `${kind} ${jobId}` : jobId);

/** Of each run of a phase the first and the newest word stay: when it began, and where it is. */
function withProgress(told: JobEvent[], event: Extract<JobEvent, { kind: 'progress' }>): JobEvent[] {
  const same = (at: number): boolean => {
    const before = told.at(at);
    return before?.kind === 'progress' && before.progress.phase === event.progress.phase;
  };
  return [...(same(-1) && same(-2) ? told.slice(0, -1) : told), event];
}

/** The newest samples, and the highest of all. */
function withSample<T extends Extract<JobEvent, { kind: 'memory' }>>(memory: T[], event: T): T[] {
  if (memory.length < mostSamples) return [...memory, event];
  const [first, second, ...rest] = memory;
  const higher = first && second && first.sample.usedBytes > second.sample.usedBytes ? first : second;
  return [...(higher ? [higher] : []), ...rest, event];
}
