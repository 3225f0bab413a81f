import type { Candidate, Damage, MixView, Pins, PlanView, PruneCurve, PruneMethod } from '../contract/types.js';
import type { PreparedEstimate } from '../memory/estimate.js';
import { prepareEstimate } from '../memory/estimate.js';
import { withKnownError } from '../memory/interval.js';
import type { Analysis } from './analysis.js';
import type { Structure } from './candidate.js';
import { candidateAt, candidateSpilling, verdictFor } from './candidate.js';
import { expectedDamage } from './expected-damage.js';
import { damageKey, labelOf, planReasons, tradeoff } from './explain.js';
import type { Level } from './levels.js';
import { levelOf, levelsFor } from './levels.js';
import { type Anchor, MixLadder } from './mix-ladder.js';
import { batchChart, batchSteps, type ChartSource, dtypeChart, pruneChart } from './plan-charts.js';
import { pruneView } from './prune-view.js';
import type { Sensitivity } from './sensitivity.js';
import { Structures } from './structures.js';

/** Ratios tried when none is pinned; beyond 60 % one-shot pruning is seldom worth its damage. */
const ratioGrid = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6];
/** How often a mix of one ratio is made smaller, and what part of the budget it then goes for. */
const mixTries = 4;
const stepDown = 0.995;

/** Stands for every mix among the excluded: a device that cannot run one cannot run others. */
export const anyMix = 'mix';

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
  private readonly structures: Structures;
  private readonly specsByPins = new Map<string, Spec[]>();
  private readonly ladder: MixLadder;
  private baseline: PreparedEstimate | null = null;
  private lastAsked = '';

  constructor(analysis: Analysis) {
    this.analysis = analysis;
    this.ladder = new MixLadder(analysis);
    this.structures = new Structures(analysis);
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

  /** Takes what each format of each weight was measured to do; mixes and expected damage after it rest on that. */
  setSensitivity(sensitivity: Sensitivity): void {
    this.analysis.sensitivity = sensitivity;
    this.specsByPins.clear();
    this.ladder.clear();
    this.structures.forgetMixes();
  }

  /** The batch to plan at: the model's own where it is fixed, else the pinned one, else one sample. */
  private batchOf(pins: Pins): number {
    return this.fixedBatch() ?? pins.batch ?? 1;
  }

  /** The batch the file fixes; null where it is open, and for a size that no batch can have. */
  private fixedBatch(): number | null {
    const { batchDimension, inputs } = this.analysis.summary;
    const first = inputs[0]?.dims[0];
    return batchDimension === null && typeof first === 'number' && first >= 1 ? first : null;
  }

  private ratios(pins: Pins): number[] {
    if (pins.pruneRatio !== undefined) return [pins.pruneRatio];
    // A mix picked by its bytes is one of the front, which is unpruned.
    if (this.analysis.classes.length === 0 || pins.weightBytes !== undefined) return [0];
    return ratioGrid;
  }

  /** Repair, on made-up inputs where there are no samples. */
  private method(pins: Pins): PruneMethod {
    return pins.pruneMethod ?? 'repair';
  }

  /** One format for all weights each, or the one mix that was picked by its bytes. */
  private levels(pins: Pins): Level[] {
    const { dtype, weightBytes } = pins;
    if (dtype !== undefined || weightBytes === undefined) return levelsFor(this.analysis, pins);
    return [this.ladder.picked(pins, weightBytes)];
  }

  /** Whether formats may be mixed as the budget wants it. */
  private mixes({ dtype, weightBytes }: Pins): boolean {
    return dtype === undefined && weightBytes === undefined && this.ladder.offers;
  }

  /** What may be tried, least expected damage first. Nothing is built for it. */
  private specs(pins: Pins): Spec[] {
    const { pruneRatio, pruneMethod, dtype, weights, classes, weightBytes } = pins;
    const key = JSON.stringify([pruneRatio, pruneMethod, dtype, weights, classes, weightBytes]);
    let specs = this.specsByPins.get(key);
    if (!specs) {
      specs = this.levels(pins).flatMap((level) =>
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

  private structure(level: Level, ratio: number, pins: Pins): Structure {
    return this.structures.of(level, ratio, this.method(pins), pins);
  }

  private soon(level: Level, ratio: number, pins: Pins): Structure {
    return this.structures.soon(level, ratio, this.method(pins), pins);
  }

  /** The structure itself where it is built or time allows, else the closest that is built. */
  private closest(level: Level, ratio: number, pins: Pins): Structure {
    return this.structures.closest(level, ratio, this.method(pins), pins);
  }

  private at(structure: Structure, batch: number, pins: Pins, budgetBytes: number): Candidate {
    return candidateAt(this.analysis, structure, batch, pins.dims ?? {}, budgetBytes);
  }

  /** The candidates built so far for these pins, at one batch. */
  private built(pins: Pins, batch: number, budgetBytes: number): Candidate[] {
    const ids = new Set(this.levels(pins).map(({ id }) => id));
    return this.structures
      .built(this.method(pins), pins)
      .filter(
        ({ level, pruneRatio: ratio }) =>
          (pins.pruneRatio ?? ratio) === ratio && (ids.has(level.id) || (level.mix !== undefined && this.mixes(pins))),
      )
      .map((structure) => this.at(structure, batch, pins, budgetBytes));
  }

  private builtOr(shown: Candidate, pins: Pins, budgetBytes: number): Candidate[] {
    const built = this.built(pins, shown.plan.batch, budgetBytes);
    return built.some(({ id }) => id === shown.id) ? built : [...built, shown];
  }

  /** The smallest reachable peak: the harshest ratio of every level, and whatever else was built. */
  private smallest(pins: Pins, batch: number, budgetBytes: number): Candidate {
    const harshest = Math.max(...this.ratios(pins));
    const levels = this.mixes(pins) ? [...this.levels(pins), this.ladder.smallest(pins)] : this.levels(pins);
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
    // Asked the same again, there is time to build what only stood for itself before.
    const asked = JSON.stringify([budgetBytes, pins]);
    this.structures.hurry(started + patienceMs, Number.isFinite(patienceMs) && asked !== this.lastAsked);
    this.lastAsked = asked;
    const proposal = this.propose(budgetBytes, pins, new Set());
    const smallest = this.smallest(pins, this.batchOf(pins), budgetBytes);
    const shown = proposal ?? smallest;
    const baseline = this.baselineAt(shown.plan.batch, pins.dims ?? {});
    const source: ChartSource = {
      analysis,
      budgetBytes,
      closest: (level, ratio, dtype) => this.closest(level, ratio, dtype === undefined ? pins : { ...pins, dtype }),
      structureOf: (candidate) => this.structureOf(candidate, pins),
      at: (structure, batch) => this.at(structure, batch, pins, budgetBytes),
      mixAt: (level, mix, ratio) => ({
        ...this.ladder.sizes(mix, this.anchor(levelOf('int8'), ratio, pins, shown.plan.batch, budgetBytes)),
        damage: expectedDamage(analysis, level, ratio, this.method(pins), pins),
      }),
    };
    const view: PlanView = {
      budgetBytes,
      baseline: {
        estimate: baseline,
        verdict: verdictFor(baseline, budgetBytes),
        fileBytes: analysis.summary.fileBytes,
      },
      proposal,
      smallest,
      reasons: planReasons(analysis, proposal, smallest, pins),
      charts: {
        prune: pruneChart(source, shown),
        dtypes: dtypeChart(source, shown),
        batches: batchChart(source, shown),
        tradeoff: tradeoff(this.builtOr(shown, pins, budgetBytes), shown),
      },
      weightFormats: analysis.weightFormats(),
      ...this.mixView(shown, pins, budgetBytes),
      ...(analysis.classes.length > 0 ? { pruning: pruneView(analysis, shown.plan.pruneMethod) } : {}),
      solveMs: performance.now() - started,
    };
    return this.structures.stoodIn() ? { ...view, unfinished: true } : view;
  }

  /**
   * The candidate of least expected damage that fits, with the largest batch at which it keeps its verdict.
   *
   * @param exclude ids of candidates, or of whole levels, not to propose again (tried, or known not to run)
   */
  propose(budgetBytes: number, pins: Pins, exclude: ReadonlySet<string>): Candidate | null {
    let tight: Candidate | null = null;
    const queue = [...this.specs(pins)];
    const tries = new Map<number, number>();
    for (let at = 0; at < queue.length; at++) {
      const { level, ratio } = queue[at]!;
      const structure = exclude.has(level.id) ? null : this.reachable(level, ratio, pins, budgetBytes);
      const candidate = structure && this.at(structure, this.batchOf(pins), pins, budgetBytes);
      if (candidate !== null && candidate.verdict !== 'does-not-fit' && !exclude.has(candidate.id)) {
        if (candidate.verdict === 'fits') return this.withLargestBatch(candidate, budgetBytes, pins);
        tight ??= candidate;
      }
      // Where 8 bits for all weights are too many, a mix comes next, and after one that is too large a smaller one.
      if ((level.id !== 'int8' && level.mix === undefined) || !this.mixes(pins) || exclude.has(anyMix)) continue;
      const tried = tries.get(ratio) ?? 0;
      tries.set(ratio, tried + 1);
      const mix = tried < mixTries ? this.mixBelow(level, ratio, pins, budgetBytes) : null;
      if (mix) insert(queue, at + 1, mix);
    }
    return tight ? this.withLargestBatch(tight, budgetBytes, pins) : this.spilling(budgetBytes, pins, exclude);
  }

  /** A structure that at least may fit; a close one says so first where the own one is not built. */
  private reachable(level: Level, ratio: number, pins: Pins, budgetBytes: number): Structure | null {
    const guess = this.at(this.closest(level, ratio, pins), this.batchOf(pins), pins, budgetBytes);
    return guess.verdict === 'does-not-fit' && level.mix === undefined ? null : this.soon(level, ratio, pins);
  }

  /** The mix that should fit, going by a level whose structure at this ratio is built. */
  private mixBelow(level: Level, ratio: number, pins: Pins, budgetBytes: number): Spec | null {
    const anchor = this.anchor(level, ratio, pins, this.batchOf(pins), budgetBytes);
    const four = this.anchor(levelOf('int4'), ratio, pins, this.batchOf(pins), budgetBytes);
    const mix = this.ladder.within(pins, budgetBytes * (level.mix === undefined ? 1 : stepDown), anchor, four);
    if (mix === null || mix.id === level.id) return null;
    return { level: mix, ratio, damage: expectedDamage(this.analysis, mix, ratio, this.method(pins), pins) };
  }

  private anchor(level: Level, ratio: number, pins: Pins, batch: number, budgetBytes: number): Anchor {
    const structure = this.closest(level, ratio, pins);
    return { structure, candidate: this.at(structure, batch, pins, budgetBytes) };
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
    const level = this.ladder.levelById(levelId!) ?? this.levels(pins).find((l) => l.id === levelId) ?? levelOf('fp32');
    return this.soon(level, candidate.plan.pruneRatio, pins);
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

  /** The front at the shown batch; its peaks rest on those of 8 bits for all. */
  private mixView(shown: Candidate, pins: Pins, budgetBytes: number): { mixes?: MixView } {
    if (pins.dtype !== undefined || !this.ladder.offers) return {};
    const anchor = this.anchor(levelOf('int8'), 0, pins, shown.plan.batch, budgetBytes);
    return { mixes: this.ladder.view(pins, shown, anchor) };
  }
}

/** Puts a spec where its damage belongs, `from` or later. */
function insert(queue: Spec[], from: number, spec: Spec): void {
  const later = queue.findIndex((each, at) => at >= from && damageKey(each.damage) > damageKey(spec.damage));
  queue.splice(later < 0 ? queue.length : later, 0, spec);
}
