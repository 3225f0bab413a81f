import path from 'node:path';
import { SnugError } from '../contract/errors.js';
import type { FitReport, KnownError, Measurement, Pins, Provider, PruneCurve, Reason } from '../contract/types.js';
import type { Model } from '../onnx/model.js';
import { defaultBindings } from '../onnx/shape.js';
import { bandRank } from '../quality/metrics.js';
import type { Dataset } from '../runtime/dataset-types.js';
import type { Runtime, RuntimeValue } from '../runtime/types.js';
import { Analysis } from './analysis.js';
import type { Attempt, OnProgress } from './attempt.js';
import { attempt } from './attempt.js';
import type { Candidate } from '../contract/types.js';
import { withholdHalf } from './half-device.js';
import { adviseMeasuring, measuredWidths } from './measured-widths.js';
import type { Allocation } from './prune-candidate.js';
import {
  notShared,
  recoveredLabel,
  shareForRecovery,
  worthRecovering,
  type RecoveryOptions,
} from './recover-candidate.js';
import { feedsForBatch, Reference, splitDataset } from './reference.js';
import { Sensitivity } from './sensitivity.js';
import { anyMix, Planner } from './solve.js';
import { correctMixes, weigh } from './weigh.js';
import { withLayers } from './layer-damage.js';
import { checkOutput, originalFiles, Workspace } from './workspace.js';

export interface FitRequest {
  model: Model;
  modelPath: string;
  outputPath: string;
  budgetBytes: number;
  provider: Provider;
  pins: Pins;
  dataset: Dataset | null;
  /** The right class of each sample of the data set, in order. */
  labels?: ArrayLike<number | bigint>;
  inputs: RuntimeValue[];
  runtime: Runtime;
  /**
   * Bytes free on the device, read each time a candidate is about to run: other programs may have taken memory since
   * the budget was set.
   */
  freeBytes?: () => Promise<number | null>;
  /** How far estimates are off on this machine. */
  known?: KnownError;
  /** What pruning was measured to do to the answers on these samples. */
  curve?: PruneCurve | null;
  /** Training what pruning leaves, kept where answers get closer for it; absent: nothing is trained. */
  recovery?: RecoveryOptions;
  overwrite?: boolean;
  onProgress?: OnProgress;
  signal?: AbortSignal;
}

/** How many candidates are really built before the best so far is taken. */
const maxAttempts = 6;

/** How many more are built once one fits but is not harmless. */
const maxAfterFirstFit = 2;

/** An attempt this harmless ends the search: nothing a further try could win is worth the wait. */
const goodEnough = bandRank('negligible');

/** Outcomes of one candidate that end it but not the search. */
const survivable = new Set([
  'E_OUT_OF_MEMORY',
  'E_ENGINE_CRASHED',
  'E_MODEL_REJECTED',
  'E_RUN_FAILED',
  'E_UNKNOWN_OPERATOR',
]);

function better(a: Attempt, b: Attempt): boolean {
  if (!a.quality || !b.quality) return a.fileBytes < b.fileBytes;
  const bands = bandRank(a.quality.damage.band) - bandRank(b.quality.damage.band);
  if (bands !== 0) return bands < 0;
  if (a.quality.klNats !== null && b.quality.klNats !== null) return a.quality.klNats < b.quality.klNats;
  return a.quality.sqnrDb > b.quality.sqnrDb;
}

/**
 * The one button: finds the plan of least damage whose *measured* peak is within the budget, writes it and
 * reports predicted beside measured. Candidates come in order of expected damage; each measurement corrects
 * the estimate of the next. Cancelling keeps the best finished candidate.
 *
 * @returns a report; `fits` is false and `output` null when nothing reaches the budget (then `plan`,
 *   `predicted` and `measured` describe the smallest reachable candidate)
 * @throws SnugError for everything that ends the job without a result
 */
export async function fitModel(request: FitRequest): Promise<FitReport> {
  const started = performance.now();
  const { model, modelPath, outputPath, budgetBytes, provider, pins, runtime, signal } = request;
  const onProgress = request.onProgress ?? (() => undefined);
  checkOutput(outputPath, [modelPath, ...originalFiles(model)], request.overwrite ?? false);
  const workspace = new Workspace(outputPath);
  const reasons: Reason[] = [];
  const tried: FitReport['tried'] = [];
  let best: Attempt | null = null;
  let smallestMeasured: Attempt | null = null;
  try {
    onProgress({ phase: 'planning', done: 0, total: null, unit: 'runs' });
    const split = request.dataset ? splitDataset(request.dataset) : null;
    const analysis = new Analysis(model, provider, split !== null);
    analysis.known = request.known ?? null;
    await withholdHalf(analysis, runtime, workspace.directory);
    const planner = new Planner(analysis);
    planner.setCurve(request.curve ?? null);
    const allPins: Pins = { ...pins, dims: { ...request.dataset?.dims, ...pins.dims } };
    const view = planner.solve(budgetBytes, allPins);
    reasons.push(...view.reasons);
    const dims = allPins.dims ?? {};
    const planned = view.proposal ?? view.smallest;
    const feedsAt = (batch: number): ReturnType<typeof feedsForBatch> =>
      feedsForBatch(request.dataset, request.inputs, bindBatch(analysis, dims, batch), batch);

    onProgress({ phase: 'checking', done: 0, total: null, unit: 'runs', item: 'original' });
    let before: Measurement | null = null;
    try {
      before = await runtime.measure(
        { modelPath, provider, levers: { memoryPattern: true } },
        await feedsAt(planned.plan.batch),
        {
          warmRuns: 5,
          batch: planned.plan.batch,
        },
      );
    } catch (error) {
      const failure = SnugError.from(error);
      // The original may be too large to run here: that is what Snug is for.
      if (failure.code !== 'E_OUT_OF_MEMORY' && failure.code !== 'E_ENGINE_CRASHED') throw failure;
      reasons.push({ kind: 'note', text: `The original could not run here: ${failure.message}` });
    }
    signal?.throwIfAborted();
    const reference: Reference | null =
      before &&
      (await Reference.collect(
        runtime,
        { modelPath, provider },
        split?.heldOut ?? null,
        bindBatch(analysis, dims, planned.plan.batch),
        planned.plan.batch,
        request.inputs,
        signal,
        split && request.labels ? Array.from(request.labels).slice(request.labels.length - split.heldOut.samples) : [],
      ));

    const weighing =
      before && view.proposal?.plan.mix
        ? await weigh(request, analysis, split?.calibration, dims, workspace.directory)
        : null;
    if (weighing instanceof Sensitivity) planner.setSensitivity(weighing);
    else if (weighing !== null) reasons.push({ kind: 'note', text: weighing });

    const context = {
      analysis,
      runtime,
      workspace,
      inputs: request.inputs,
      pins: allPins,
      reference,
      outputName: path.basename(outputPath),
      calibration: split?.calibration ?? null,
      onProgress,
      ...(signal ? { signal } : {}),
    };
    const excluded = new Set<string>();
    const shortOf = new Map<string, { freeBytes: number; neededBytes: number }>();
    let correction = 1;
    let corrected = false;
    const run = async (
      candidate: Candidate,
      allocation: Allocation = 'uniform',
      recovery?: RecoveryOptions,
    ): Promise<void> => {
      excluded.add(candidate.id);
      const how = [...(allocation === 'measured' ? [measuredWidths] : []), ...(recovery ? [recoveredLabel] : [])];
      const label = [planner.labelOf(candidate), ...how].join(', ');
      const structure = planner.structureOf(candidate, allPins);
      const record: FitReport['tried'][number] = {
        id: candidate.id,
        label,
        predictedBytes: candidate.estimate.peakBytes,
        measuredBytes: null,
        outcome: 'failed',
      };
      tried.push(record);
      try {
        const feeds = await feedsAt(candidate.plan.batch);
        const result = await attempt(
          { ...context, allocation, ...(recovery ? { recovery } : {}) },
          structure,
          candidate,
          feeds,
          async () => {
            const neededBytes = candidate.estimate.peakBytes;
            const freeBytes = (await request.freeBytes?.()) ?? null;
            if (freeBytes !== null && freeBytes < neededBytes) shortOf.set(candidate.id, { freeBytes, neededBytes });
          },
        );
        record.measuredBytes = result.measured.peakBytes;
        correction = clamp(result.measured.peakBytes / candidate.estimate.peakBytes, 0.6, 2);
        if (!smallestMeasured || result.measured.peakBytes < smallestMeasured.measured.peakBytes) {
          smallestMeasured = result;
        }
        if (result.measured.peakBytes > budgetBytes) {
          record.outcome = 'over the budget';
        } else {
          record.outcome = result.quality ? `fits, damage ${result.quality.damage.band}` : 'fits';
          if (!best || better(result, best)) best = result;
        }
        if (weighing instanceof Sensitivity && !corrected) corrected = correctMixes(planner, weighing, result);
      } catch (error) {
        const failure = SnugError.from(error);
        if (!survivable.has(failure.code)) throw failure;
        record.outcome = failure.message;
        reasons.push({ kind: 'candidate-failed', id: label, why: failure.message });
        // What the device cannot run (float16 without shader-f16) it cannot run at other widths either.
        if (failure.code === 'E_RUN_FAILED' || failure.code === 'E_MODEL_REJECTED') {
          excluded.add(structure.level.mix === undefined ? structure.level.id : anyMix);
        }
      }
    };

    let extra = 0;
    try {
      for (let round = 0; round < maxAttempts; round++) {
        signal?.throwIfAborted();
        const done = best as Attempt | null;
        if (done && (bandRank(done.quality?.damage.band ?? 'none') <= goodEnough || extra++ >= maxAfterFirstFit)) break;
        const candidate = planner.propose(budgetBytes / correction, allPins, excluded);
        if (!candidate) break;
        await run(candidate);
      }
      const untried = view.smallest;
      if (!best && !excluded.has(untried.id)) await run(untried);
      const uniform = best as Attempt | null;
      const advice = uniform && split ? adviseMeasuring(uniform) : 'needless';
      if (uniform && advice === 'worthwhile') {
        signal?.throwIfAborted();
        await run({ ...uniform.candidate, id: `${uniform.candidate.id}+measured` }, 'measured');
      } else if (typeof advice !== 'string') reasons.push({ kind: 'note', text: advice.tooLong });
      const pruned = best as Attempt | null;
      const { recovery } = request;
      const recovers = pruned !== null && recovery !== undefined && worthRecovering(pruned, recovery);
      const shares = shareForRecovery(context.calibration) !== null;
      if (recovers && !shares && recovery.mode === 'always') reasons.push({ kind: 'note', text: notShared });
      if (recovers && shares) {
        signal?.throwIfAborted();
        const allocation = pruned === uniform ? 'uniform' : 'measured';
        await run({ ...pruned.candidate, id: `${pruned.candidate.id}+recovered` }, allocation, recovery);
        if (best === pruned) {
          reasons.push({
            kind: 'note',
            text: 'Training what pruning left was tried; answers did not get closer for it.',
          });
        }
      }
    } catch (error) {
      const failure = signal?.aborted ? cancelled() : SnugError.from(error);
      if (!best) throw failure;
      reasons.push({ kind: 'note', text: `${failure.message} The best so far was kept.` });
    }

    const winner = best as Attempt | null;
    const quality = winner && (await withLayers(request, winner, dims, split?.heldOut ?? null));
    const common = {
      model: analysis.summary,
      budgetBytes,
      tried,
      before: {
        measured: before,
        estimate: planner.baselineAt((winner?.plan ?? planned.plan).batch, dims),
        fileBytes: analysis.summary.fileBytes,
        parameters: analysis.summary.parameters,
      },
    };
    if (!winner) return nothingFits(common, view.smallest, smallestMeasured, reasons, started);
    workspace.publish(winner.files, winner.folder, outputPath, request.overwrite ?? false);
    for (const text of winner.notes) reasons.push({ kind: 'note', text });
    const short = shortOf.get(winner.candidate.id);
    if (short) reasons.push({ kind: 'less-free', ...short });
    for (const f of winner.measured.fallbacks) {
      reasons.push({ kind: 'fell-back', node: f.node, operator: f.operator, provider: f.provider });
    }
    return {
      ...common,
      output: { path: outputPath, fileBytes: winner.fileBytes },
      plan: winner.plan,
      fits: true,
      predicted: winner.candidate.estimate,
      measured: winner.measured,
      after: { fileBytes: winner.fileBytes, parameters: winner.parameters },
      quality,
      speed: before && winner.measured.latencyMs > 0 ? before.latencyMs / winner.measured.latencyMs : null,
      reasons: dedupe(reasons),
      seconds: (performance.now() - started) / 1000,
    };
  } catch (error) {
    if (signal?.aborted && !(error instanceof SnugError)) throw cancelled();
    throw SnugError.from(error);
  } finally {
    workspace.remove();
  }
}

function cancelled(): SnugError {
  return new SnugError('E_CANCELLED', 'Stopped. Nothing was changed.', { action: 'Start again whenever you like.' });
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, value));
}

/** All dimension values a run needs, the assumed ones and the batch included. */
function bindBatch(analysis: Analysis, dims: Record<string, number>, batch: number): Record<string, number> {
  return defaultBindings(analysis.model, batch, dims).dims;
}

function dedupe(reasons: Reason[]): Reason[] {
  return [...new Map(reasons.map((r) => [JSON.stringify(r), r])).values()];
}

function nothingFits(
  common: Pick<FitReport, 'model' | 'budgetBytes' | 'tried' | 'before'>,
  smallest: Candidate,
  measured: Attempt | null,
  reasons: Reason[],
  started: number,
): FitReport {
  const shown = measured?.candidate ?? smallest;
  return {
    ...common,
    output: null,
    plan: measured?.plan ?? smallest.plan,
    fits: false,
    predicted: shown.estimate,
    measured: measured?.measured ?? null,
    after: {
      fileBytes: measured?.fileBytes ?? smallest.fileBytes,
      parameters: measured?.parameters ?? common.model.parameters,
    },
    quality: null,
    speed: null,
    reasons: dedupe(reasons),
    seconds: (performance.now() - started) / 1000,
  };
}
