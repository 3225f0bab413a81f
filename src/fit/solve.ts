import type { Candidate, Damage, Pins, PlanView, PruneCurve, PruneMethod, Reason } from '../contract/types.js';
import { dtypes } from '../contract/types.js';
import type { PreparedEstimate } from '../memory/estimate.js';
import { prepareEstimate } from '../memory/estimate.js';
import { withKnownError } from '../memory/interval.js';
import type { Analysis } from './analysis.js';
import type { Structure } from './candidate.js';
import { buildStructure, candidateAt, candidateSpilling, verdictFor } from './candidate.js';
import { expectedDamage } from './expected-damage.js';
import { blocker, damageKey, labelOf, leftLarge, tradeoff } from './explain.js';
import type { Level } from './levels.js';
import { levelOf, levelsFor } from './levels.js';
import { chartRatios, pruneView } from './prune-view.js';

/** Ratios tried when none is pinned; beyond 60 % one-shot pruning is seldom worth its damage. */
const ratioGrid = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6];
const batchSteps = [1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256];

interface Spec {
  level: Level;
  ratio: number;
  damage: Damage;
}

/**
 * Solves plans for one model again and again. Structures (prune ratio × dtype level) are edited once and
 * kept; a re-solve only re-estimates them at another batch or budget.
 */
export class Planner {
  readonly analysis: Analysis;
  private readonly structures = new Map<string, Structure>();
  private readonly specsByPins = new Map<string, Spec[]>();
  private baseline: PreparedEstimate | null = null;
  /** When to stop building structures that a close one can stand for, and whether one did. */
  private deadline = Infinity;
  private unfinished = false;

  constructor(analysis: Analysis) {
    this.analysis = analysis;
  }

  /** Builds every structure the default pins need, so that later solves are quick. Yields between them. */
  async warmUp(stop: () => boolean): Promise<void> {
    for (const { level, ratio } of this.specs({})) {
      if (stop()) return;
      this.structure(level, ratio, {});
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }

  /** Takes what was measured of the damage of pruning; plans after it rest on that. */
  setCurve(curve: PruneCurve | null): void {
    if (curve?.points.length === this.analysis.curve?.points.length && curve?.state === this.analysis.curve?.state)
      return;
    this.analysis.curve = curve;
    this.specsByPins.clear();
  }

  /** The batch to plan at: the model's own where it is fixed, else the pinned one, else one sample. */
  private batchOf(pins: Pins): number {
    const { batchDimension, inputs } = this.analysis.summary;
    const first = inputs[0]?.dims[0];
    if (batchDimension === null && typeof first === 'number') return first;
    return pins.batch ?? 1;
  }

  private ratios(pins: Pins): number[] {
    if (pins.pruneRatio !== undefined) return [pins.pruneRatio];
    return this.analysis.classes.length > 0 ? ratioGrid : [0];
  }

  /** Repair, on made-up inputs where there are no samples. */
  private method(pins: Pins): PruneMethod {
    return pins.pruneMethod ?? 'repair';
  }

  /** What may be tried, least expected damage first. Nothing is built for it. */
  private specs(pins: Pins): Spec[] {
    const key = JSON.stringify([pins.pruneRatio, pins.pruneMethod, pins.dtype, pins.weights, pins.classes]);
    let specs = this.specsByPins.get(key);
    if (!specs) {
      specs = levelsFor(this.analysis, pins).flatMap((level) =>
        this.ratios(pins).map((ratio) => ({
          level,
          ratio,
          damage: expectedDamage(this.analysis, level, ratio, this.method(pins), pins),
        })),
      );
      specs.sort((a, b) => damageKey(a.damage) - damageKey(b.damage) || a.ratio - b.ratio);
      this.specsByPins.set(key, specs);
    }
    return specs;
  }

  private structureKey(level: Level, ratio: number, pins: Pins): string {
    return JSON.stringify([level.id, ratio, this.method(pins), pins.weights, pins.classes]);
  }

  private structure(level: Level, ratio: number, pins: Pins): Structure {
    const key = this.structureKey(level, ratio, pins);
    let structure = this.structures.get(key);
    if (!structure) {
      structure = buildStructure(this.analysis, level, ratio, this.method(pins), pins);
      this.structures.set(key, structure);
    }
    return structure;
  }

  /** The structure itself where it is built or time allows, else the closest that is built. */
  private closest(level: Level, ratio: number, pins: Pins): Structure {
    const known = this.structures.get(this.structureKey(level, ratio, pins));
    if (known || performance.now() < this.deadline) return known ?? this.structure(level, ratio, pins);
    const near = [...chartRatios]
      .sort((a, b) => Math.abs(a - ratio) - Math.abs(b - ratio))
      .map((other) => this.structures.get(this.structureKey(level, other, { ...pins, classes: undefined })))
      .find((structure) => structure !== undefined);
    if (near === undefined) return this.structure(level, ratio, pins);
    this.unfinished = true;
    return near;
  }

  private at(structure: Structure, batch: number, pins: Pins, budgetBytes: number): Candidate {
    return candidateAt(this.analysis, structure, batch, pins.dims ?? {}, budgetBytes);
  }

  /** The candidates built so far for these pins, at one batch. */
  private built(pins: Pins, batch: number, budgetBytes: number): Candidate[] {
    return this.specs(pins)
      .map(({ level, ratio }) => this.structures.get(this.structureKey(level, ratio, pins)))
      .filter((structure) => structure !== undefined)
      .map((structure) => this.at(structure, batch, pins, budgetBytes));
  }

  /** The smallest reachable peak: the harshest ratio of every level, and whatever else was built. */
  private smallest(pins: Pins, batch: number, budgetBytes: number): Candidate {
    const harshest = Math.max(...this.ratios(pins));
    const levels = levelsFor(this.analysis, pins);
    this.structure(levels[levels.length - 1] ?? levelOf('fp32'), harshest, pins);
    for (const level of levels) this.closest(level, harshest, pins);
    return this.built(pins, batch, budgetBytes).reduce((a, b) => (b.estimate.peakBytes < a.estimate.peakBytes ? b : a));
  }

  baselineAt(batch: number, dims: Record<string, number>): ReturnType<PreparedEstimate['estimate']> {
    this.baseline ??= prepareEstimate(this.analysis.model);
    const options = { provider: this.analysis.provider, batch, dims, levers: { memoryPattern: true } };
    return withKnownError(this.baseline.estimate(options), this.analysis.known);
  }

  /**
   * The one-button solve: least expected damage first, then the largest batch that still fits.
   *
   * @param budgetBytes bytes the model may add
   * @param patienceMs after this, what is beside the proposal is taken from close structures: see `unfinished`
   */
  solve(budgetBytes: number, pins: Pins, patienceMs = Infinity): PlanView {
    const started = performance.now();
    const { analysis } = this;
    this.deadline = started + patienceMs;
    this.unfinished = false;
    const proposal = this.propose(budgetBytes, pins, new Set());
    const smallest = this.smallest(pins, this.batchOf(pins), budgetBytes);
    const shown = proposal ?? smallest;
    const baseline = this.baselineAt(shown.plan.batch, pins.dims ?? {});
    const view: PlanView = {
      budgetBytes,
      baseline: {
        estimate: baseline,
        verdict: verdictFor(baseline, budgetBytes),
        fileBytes: analysis.summary.fileBytes,
      },
      proposal,
      smallest,
      reasons: this.reasons(proposal, smallest, pins),
      charts: {
        prune: this.pruneChart(shown, pins, budgetBytes),
        dtypes: this.dtypeChart(shown, pins, budgetBytes),
        batches: this.batchChart(shown, pins, budgetBytes),
        tradeoff: tradeoff(this.built(pins, shown.plan.batch, budgetBytes), shown),
      },
      ...(analysis.classes.length > 0 ? { pruning: pruneView(analysis, shown.plan.pruneMethod) } : {}),
      solveMs: performance.now() - started,
    };
    this.deadline = Infinity;
    return this.unfinished ? { ...view, unfinished: true } : view;
  }

  /**
   * The candidate of least expected damage that fits, with the largest batch at which it keeps its verdict.
   *
   * @param exclude ids of candidates, or of whole levels, not to propose again (tried, or known not to run)
   */
  propose(budgetBytes: number, pins: Pins, exclude: ReadonlySet<string>): Candidate | null {
    let tight: Candidate | null = null;
    for (const { level, ratio } of this.specs(pins)) {
      if (exclude.has(level.id)) continue;
      const guess = this.at(this.closest(level, ratio, pins), this.batchOf(pins), pins, budgetBytes);
      if (guess.verdict === 'does-not-fit') continue;
      const candidate = this.at(this.structure(level, ratio, pins), this.batchOf(pins), pins, budgetBytes);
      if (exclude.has(candidate.id)) continue;
      if (candidate.verdict === 'fits') return this.withLargestBatch(candidate, budgetBytes, pins);
      if (candidate.verdict !== 'does-not-fit') tight ??= candidate;
    }
    return tight ? this.withLargestBatch(tight, budgetBytes, pins) : this.spilling(budgetBytes, pins, exclude);
  }

  /** Where nothing fits on the GPU as a whole: the least damaging candidate that does with some nodes on the CPU. */
  private spilling(budgetBytes: number, pins: Pins, exclude: ReadonlySet<string>): Candidate | null {
    if (this.analysis.provider !== 'webgpu') return null;
    for (const { level, ratio } of this.specs(pins)) {
      if (exclude.has(level.id)) continue;
      const structure = this.closest(level, ratio, pins);
      const spilling = candidateSpilling(this.analysis, structure, this.batchOf(pins), pins.dims ?? {}, budgetBytes);
      if (spilling && !exclude.has(spilling.id)) return spilling;
    }
    return null;
  }

  /** How a candidate is named on screen. */
  labelOf(candidate: Candidate): string {
    return labelOf(candidate.id.split('@')[0], candidate.plan.pruneRatio);
  }

  structureOf(candidate: Candidate, pins: Pins): Structure {
    const [levelId] = candidate.id.split('@');
    const level = levelsFor(this.analysis, pins).find((l) => l.id === levelId) ?? levelOf('fp32');
    return this.structure(level, candidate.plan.pruneRatio, pins);
  }

  /** Raises the batch, unless it is pinned or the model's is fixed, as far as the verdict stays. */
  private withLargestBatch(candidate: Candidate, budgetBytes: number, pins: Pins): Candidate {
    if (pins.batch !== undefined || this.analysis.summary.batchDimension === null) return candidate;
    const structure = this.structureOf(candidate, pins);
    let best = candidate;
    for (const batch of batchSteps) {
      if (batch <= best.plan.batch) continue;
      const next = this.at(structure, batch, pins, budgetBytes);
      if (next.verdict !== candidate.verdict) break;
      best = next;
    }
    return best;
  }

  private reasons(proposal: Candidate | null, smallest: Candidate, pins: Pins): Reason[] {
    const reasons: Reason[] = [];
    if (proposal?.id === 'fp32@0') reasons.push({ kind: 'already-fits' });
    else if (proposal) reasons.push({ kind: 'chosen', why: 'least-damage' });
    for (const what of ['provider', 'batch', 'pruneRatio', 'dtype'] as const) {
      if (pins[what] !== undefined) reasons.push({ kind: 'pinned', what: `${what} ${String(pins[what])}` });
    }
    if (!this.analysis.hasSamples) reasons.push({ kind: 'no-samples' });
    for (const name of (proposal ?? smallest).estimate.assumed) {
      reasons.push({ kind: 'assumed-dimension', name, value: (proposal ?? smallest).estimate.dims[name] });
    }
    for (const weight of (proposal ?? smallest).plan.weights) {
      if (weight.reason && weight.bytesAfter >= weight.bytesBefore * 0.9 && weight.bytesBefore >= 4096) {
        reasons.push({ kind: 'stayed-large', weight: weight.name, why: weight.reason });
      }
    }
    if (!proposal) reasons.push(blocker(smallest));
    return reasons;
  }

  private pruneChart(shown: Candidate, pins: Pins, budgetBytes: number): PlanView['charts']['prune'] {
    if (this.analysis.classes.length === 0) return [];
    const { level } = this.structureOf(shown, pins);
    const points = [];
    for (const ratio of chartRatios) {
      const structure = this.closest(level, ratio, pins);
      const c = this.at(structure, shown.plan.batch, pins, budgetBytes);
      points.push({ ratio, peakBytes: c.estimate.peakBytes, fileBytes: c.fileBytes, damage: c.damage });
    }
    return points;
  }

  private dtypeChart(shown: Candidate, pins: Pins, budgetBytes: number): PlanView['charts']['dtypes'] {
    const rows: PlanView['charts']['dtypes'] = [];
    for (const dtype of dtypes) {
      const level = levelOf(dtype);
      const structure = this.closest(level, shown.plan.pruneRatio, { ...pins, dtype });
      const c = this.at(structure, shown.plan.batch, pins, budgetBytes);
      const why = this.analysis.whyNot(dtype);
      rows.push({
        dtype,
        peakBytes: c.estimate.peakBytes,
        fileBytes: c.fileBytes,
        damage: c.damage,
        allowed: why === null,
        note: why ?? leftLarge(c, dtype),
      });
    }
    return rows;
  }

  private batchChart(shown: Candidate, pins: Pins, budgetBytes: number): PlanView['charts']['batches'] {
    const structure = this.structureOf(shown, pins);
    return batchSteps.map((batch) => {
      const c = this.at(structure, batch, pins, budgetBytes);
      return { batch, peakBytes: c.estimate.peakBytes, fits: c.estimate.peakBytes <= budgetBytes };
    });
  }
}
