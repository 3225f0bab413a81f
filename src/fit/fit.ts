import path from 'node:path';
import { SnugError } from '../contract/errors.js';
import type { FitReport, KnownError, Measurement, Pins, Provider, PruneCurve, Reason } from '../contract/types.js';
import type { Model } from '../onnx/model.js';
import { defaultBindings } from '../onnx/shape.js';
import type { Dataset } from '../runtime/dataset-types.js';
import type { Runtime, RuntimeValue } from '../runtime/types.js';
import { Analysis } from './analysis.js';
import type { Attempt, OnProgress } from './attempt.js';
import type { Candidate } from '../contract/types.js';
import { withholdHalf } from './half-device.js';
import { adviseMeasuring } from './measured-widths.js';
import {
  canShare,
  inVain,
  notShared,
  recoverySeconds,
  worthRecovering,
  type RecoveryOptions,
} from './recover-candidate.js';
import { feedsForBatch, Reference, splitDataset } from './reference.js';
import { Sensitivity } from './sensitivity.js';
import { Search } from './search.js';
import { Planner } from './solve.js';
import { weigh } from './weigh.js';
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
  /** Training what pruning and quantization leave, kept where answers get closer for it; absent: nothing is trained. */
  recovery?: RecoveryOptions;
  overwrite?: boolean;
  onProgress?: OnProgress;
  signal?: AbortSignal;
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
      shared: split?.apart === false,
      onProgress,
      ...(signal ? { signal } : {}),
    };
    const search = new Search({
      ...{ planner, budgetBytes, context, feedsAt, reasons },
      ...(request.freeBytes ? { freeBytes: request.freeBytes } : {}),
      sensitivity: weighing instanceof Sensitivity ? weighing : null,
    });
    try {
      await search.propose();
      if (!search.best && !search.hasTried(view.smallest)) await search.run(view.smallest);
      await improve(search, started, request, split !== null, context.calibration, reasons);
    } catch (error) {
      const failure = signal?.aborted ? cancelled() : SnugError.from(error);
      if (!search.best) throw failure;
      reasons.push({ kind: 'note', text: `${failure.message} The best so far was kept.` });
    }

    const winner = search.best;
    const quality = winner && (await withLayers(request, winner, dims, split?.heldOut ?? null));
    const common = {
      model: analysis.summary,
      budgetBytes,
      tried: search.tried,
      before: {
        measured: before,
        estimate: planner.baselineAt((winner?.plan ?? planned.plan).batch, dims),
        fileBytes: analysis.summary.fileBytes,
        parameters: analysis.summary.parameters,
      },
    };
    if (!winner) return nothingFits(common, view.smallest, search.smallestMeasured, reasons, started);
    workspace.publish(winner.files, winner.folder, outputPath, request.overwrite ?? false);
    for (const text of winner.notes) reasons.push({ kind: 'note', text });
    const short = search.shortOf.get(winner.candidate.id);
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

/** Takes the best plan further where that pays: widths by measured loss, then training of what is left. */
async function improve(
  search: Search,
  started: number,
  { recovery, signal }: FitRequest,
  hasSamples: boolean,
  calibration: Dataset | null,
  reasons: Reason[],
): Promise<void> {
  const note = (text: string): void => void reasons.push({ kind: 'note', text });
  const uniform = search.best;
  if (!uniform) return;
  const advice = hasSamples ? adviseMeasuring(uniform) : 'needless';
  if (advice === 'worthwhile') {
    signal?.throwIfAborted();
    await search.run({ ...uniform.candidate, id: `${uniform.candidate.id}+measured` }, 'measured');
  } else if (typeof advice !== 'string') note(advice.tooLong);
  const shrunk = search.best ?? uniform;
  if (recovery === undefined || !worthRecovering(shrunk, recovery)) return;
  if (!canShare(calibration)) {
    if (recovery.mode === 'always') note(notShared);
    return;
  }
  signal?.throwIfAborted();
  const allocation = shrunk === uniform ? 'uniform' : 'measured';
  await search.run({ ...shrunk.candidate, id: `${shrunk.candidate.id}+recovered` }, allocation, {
    ...recovery,
    seconds: recoverySeconds(recovery.mode, (performance.now() - started) / 1000),
  });
  if (search.best === shrunk) note(inVain(shrunk.plan));
}

function cancelled(): SnugError {
  return new SnugError('E_CANCELLED', 'Stopped. Nothing was changed.', { action: 'Start again whenever you like.' });
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
