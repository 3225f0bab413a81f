import { SnugError } from '../contract/errors.js';
import type { Candidate, FitReport, Pins, Reason } from '../contract/types.js';
import { bandRank } from '../quality/metrics.js';
import type { Feeds } from '../runtime/types.js';
import type { Attempt, BuildContext } from './attempt.js';
import { attempt } from './attempt.js';
import { measuredWidths } from './measured-widths.js';
import { nearlySame } from './nearly-same.js';
import type { Allocation } from './prune-candidate.js';
import { recoveredLabel, type TimedRecovery } from './recover-candidate.js';
import type { Sensitivity } from './sensitivity.js';
import { anyMix, type Planner } from './solve.js';
import { survivable } from './survivable.js';
import { correctMixes } from './weigh.js';

/** How many candidates are really built before the best so far is taken. */
const maxAttempts = 6;

/** How many more are built once one fits but is not harmless. */
const maxAfterFirstFit = 2;

/** An attempt this harmless ends the search: nothing a further try could win is worth the wait. */
const goodEnough = bandRank('negligible');

export interface SearchOptions {
  planner: Planner;
  budgetBytes: number;
  context: BuildContext & { pins: Pins; signal?: AbortSignal };
  feedsAt: (batch: number) => Promise<Feeds>;
  /** Bytes free on the device, read each time a candidate is about to run. */
  freeBytes?: () => Promise<number | null>;
  /** What each format of each weight was measured to do; null where it was not. */
  sensitivity: Sensitivity | null;
  /** Takes what goes wrong. */
  reasons: Reason[];
}

/** Builds candidates in order of expected damage; each measurement corrects the estimate of the next. */
export class Search {
  /** Of those that fit, the one of least damage. */
  best: Attempt | null = null;
  /** Whatever was measured smallest, fitting or not. */
  smallestMeasured: Attempt | null = null;
  readonly tried: FitReport['tried'] = [];
  /** Candidates that ran although less was free than they need. */
  readonly shortOf = new Map<string, { freeBytes: number; neededBytes: number }>();
  readonly #options: SearchOptions;
  readonly #excluded = new Set<string>();
  readonly #built: { candidate: Candidate; measuredBytes: number | null }[] = [];
  #correction = 1;
  #corrected = false;

  constructor(options: SearchOptions) {
    this.#options = options;
  }

  /** Tries what the planner proposes until one fits that is harmless, or there is no more to gain. */
  async propose(): Promise<void> {
    let extra = 0;
    for (let round = 0; round < maxAttempts; round++) {
      this.#options.context.signal?.throwIfAborted();
      const { best } = this;
      if (best && (bandRank(best.quality?.damage.band ?? 'none') <= goodEnough || extra++ >= maxAfterFirstFit)) break;
      const candidate = this.#next();
      if (!candidate) break;
      await this.run(candidate);
    }
  }

  /** The next proposal from which something is to be learned. */
  #next(): Candidate | null {
    const { planner, budgetBytes, context } = this.#options;
    for (;;) {
      const candidate = planner.propose(budgetBytes / this.#correction, context.pins, this.#excluded);
      if (candidate === null || !this.#knownAlready(candidate)) return candidate;
      this.#excluded.add(candidate.id);
    }
  }

  #knownAlready(candidate: Candidate): boolean {
    const { budgetBytes } = this.#options;
    return this.#built.some((other) => {
      if (!nearlySame(candidate, other.candidate)) return false;
      const { measuredBytes } = other;
      // One that was just too large may have a twin that is just small enough.
      const expected = (measuredBytes ?? 0) * (candidate.estimate.peakBytes / other.candidate.estimate.peakBytes);
      return measuredBytes === null || measuredBytes <= budgetBytes || expected > budgetBytes;
    });
  }

  hasTried(candidate: Candidate): boolean {
    return this.#excluded.has(candidate.id);
  }

  /** Builds and runs one candidate. @throws SnugError of what ends the whole search */
  async run(candidate: Candidate, allocation: Allocation = 'uniform', recovery?: TimedRecovery): Promise<void> {
    const { planner, budgetBytes, context, feedsAt, freeBytes, sensitivity, reasons } = this.#options;
    this.#excluded.add(candidate.id);
    const how = [
      ...(allocation === 'measured' ? [measuredWidths] : []),
      ...(recovery ? [recoveredLabel(candidate.plan)] : []),
    ];
    const label = [planner.labelOf(candidate), ...how].join(', ');
    const structure = planner.structureOf(candidate, context.pins);
    const record: FitReport['tried'][number] = {
      id: candidate.id,
      label,
      predictedBytes: candidate.estimate.peakBytes,
      measuredBytes: null,
      outcome: 'failed',
    };
    this.tried.push(record);
    const built = { candidate, measuredBytes: null as number | null };
    this.#built.push(built);
    try {
      const feeds = await feedsAt(candidate.plan.batch);
      const result = await attempt(
        { ...context, allocation, ...(recovery ? { recovery } : {}) },
        structure,
        candidate,
        feeds,
        async () => {
          const neededBytes = candidate.estimate.peakBytes;
          const free = (await freeBytes?.()) ?? null;
          if (free !== null && free < neededBytes) this.shortOf.set(candidate.id, { freeBytes: free, neededBytes });
        },
      );
      const { peakBytes } = result.measured;
      record.measuredBytes = built.measuredBytes = peakBytes;
      this.#correction = clamp(peakBytes / candidate.estimate.peakBytes, 0.6, 2);
      if (!this.smallestMeasured || peakBytes < this.smallestMeasured.measured.peakBytes) {
        this.smallestMeasured = result;
      }
      if (peakBytes > budgetBytes) {
        record.outcome = 'over the budget';
      } else {
        record.outcome = result.quality ? `fits, damage ${result.quality.damage.band}` : 'fits';
        if (!this.best || better(result, this.best)) this.best = result;
      }
      if (sensitivity && !this.#corrected) this.#corrected = correctMixes(planner, sensitivity, result);
    } catch (error) {
      const failure = SnugError.from(error);
      if (!survivable.has(failure.code)) throw failure;
      record.outcome = failure.message;
      reasons.push({ kind: 'candidate-failed', id: label, why: failure.message });
      // What the device cannot run (float16 without shader-f16) it cannot run at other widths either.
      if (failure.code === 'E_RUN_FAILED' || failure.code === 'E_MODEL_REJECTED') {
        this.#excluded.add(structure.level.mix === undefined ? structure.level.id : anyMix);
      }
    }
  }
}

function better(a: Attempt, b: Attempt): boolean {
  if (!a.quality || !b.quality) return a.fileBytes < b.fileBytes;
  const bands = bandRank(a.quality.damage.band) - bandRank(b.quality.damage.band);
  if (bands !== 0) return bands < 0;
  if (a.quality.klNats !== null && b.quality.klNats !== null) return a.quality.klNats < b.quality.klNats;
  return a.quality.sqnrDb > b.quality.sqnrDb;
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, value));
}
