import type { StartedJob } from '../../src/contract/api.js';
import type { TrainingRequest } from '../../src/contract/training.js';
import type { Pins, PlanRequest } from '../../src/contract/types.js';

/**
 * Of jobs that other pages started (newest first), the one to show: the newest that runs, or else the newest whose end
 * no page has put away.
 */
export function jobToShow(jobs: readonly StartedJob[], wanted: (job: StartedJob) => boolean): StartedJob | null {
  const found = jobs.filter((job) => wanted(job));
  return found.find(({ running }) => running) ?? found[0] ?? null;
}

/** What was fixed by hand when a job was asked for. */
export function pinsOf(request: PlanRequest | TrainingRequest): Pins {
  if ('pins' in request) return request.pins;
  const { provider, dims } = request;
  return { ...(provider === undefined ? {} : { provider }), ...(Object.keys(dims).length === 0 ? {} : { dims }) };
}
