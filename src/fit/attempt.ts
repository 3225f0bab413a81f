import { mkdtempSync } from 'node:fs';
import path from 'node:path';
import type { Candidate, JobProgress, Measurement, Plan, Quality } from '../contract/types.js';
import type { Model } from '../onnx/model.js';
import { listConstantNodesFirst } from '../onnx/topology.js';
import { writeModelInSteps } from '../onnx/write.js';
import { quantizableWeights, type Quantized } from '../quantize/index.js';
import type { Feeds } from '../runtime/types.js';
import type { Analysis } from './analysis.js';
import { blocksOf, layoutBatch, noiseOf, type Structure } from './candidate.js';
import { assignDtypes, formatsOf } from './levels.js';
import { withFewestLiveBytes } from './node-order.js';
import { type Allocation, pruneCandidate, type PruneContext } from './prune-candidate.js';
import { quantizeOnSamples } from './quantize-step.js';
import {
  isQuantized,
  recoverCandidate,
  recoverQuantized,
  secondsAfterPruning,
  shareForRecovery,
  type TimedRecovery,
} from './recover-candidate.js';
import { relaxDims } from './relax.js';
import { sessionMetadataKey } from './session-levers.js';
import type { Workspace } from './workspace.js';

export type OnProgress = (progress: JobProgress) => void;

/** A candidate that was really built and run. */
export interface Attempt {
  candidate: Candidate;
  plan: Plan;
  folder: string;
  files: { name: string; bytes: number }[];
  fileBytes: number;
  parameters: number;
  measured: Measurement;
  quality: Quality | null;
  /** What is worth telling about how it was made. */
  notes: string[];
  pruneSeconds: number;
  /** Values of the result that are those of the model divided by scales. */
  scaled: Quantized['scaled'];
}

export interface BuildContext extends PruneContext {
  analysis: Analysis;
  workspace: Workspace;
  outputName: string;
  /** Whether answers are compared on the samples of `calibration` themselves. Default false. */
  shared?: boolean;
  /** Default uniform. */
  allocation?: Allocation;
  /** Trains what pruning and quantization leave; absent: not. */
  recovery?: TimedRecovery;
}

/**
 * Prunes, quantizes and writes one candidate into its own folder of the workspace.
 *
 * @throws SnugError of the room that failed (E_DISK_FULL, E_RUN_FAILED while calibrating, …)
 */
export async function buildCandidate(
  context: BuildContext,
  structure: Structure,
  candidate: Candidate,
): Promise<{
  folder: string;
  files: { name: string; bytes: number }[];
  fileBytes: number;
  plan: Plan;
  parameters: number;
  notes: string[];
  pruneSeconds: number;
  scaled: Quantized['scaled'];
}> {
  const { analysis, runtime, workspace, recovery, onProgress, signal } = context;
  const { plan } = candidate;
  const folder = workspace.folder(candidate.id.replace(/[^\w-]/g, '_'));
  // Apart from the result, whose name anyone may choose.
  const work = mkdtempSync(path.join(folder, 'work-'));
  let model: Model = analysis.model;
  let { classes, pruneMethod } = plan;
  const notes: string[] = [];
  let pruneSeconds = 0;
  const parts = recovery ? await shareForRecovery(context.calibration) : null;
  const calibration = parts?.calibration ?? context.calibration;
  let secondsLeft = recovery?.seconds ?? 0;
  if (plan.pruneRatio > 0 || classes.some((c) => c.after !== c.before)) {
    onProgress({ phase: 'pruning', done: 0, total: analysis.classes.length, unit: 'weights' });
    const started = performance.now();
    const pruned = await pruneCandidate(
      { ...context, calibration },
      model,
      plan,
      context.allocation ?? 'uniform',
      work,
    );
    pruneSeconds = (performance.now() - started) / 1000;
    pruneMethod = pruned.method;
    notes.push(...pruned.notes);
    ({ model, classes } = pruned);
    if (recovery && parts) {
      const recovered = await recoverCandidate({
        ...{ ...recovery, after: 'pruning', seconds: secondsAfterPruning(recovery, isQuantized(structure.weights)) },
        ...{ original: analysis.model, changed: model, parts, folder: work, onProgress, signal },
      });
      notes.push(recovered.note);
      ({ model } = recovered);
      secondsLeft -= recovered.seconds;
    }
  }
  signal?.throwIfAborted();
  const infos = model === analysis.model ? analysis.weights : quantizableWeights(model, analysis.provider);
  const { dtypes, reasons } = assignDtypes(analysis, infos, structure.level, {
    weights: Object.fromEntries(structure.weights.map((w) => [w.name, w.dtype])),
  });
  const formats = formatsOf(structure.level, dtypes);
  const quantized = await quantizeOnSamples({
    ...{ model, provider: analysis.provider, formats, reasons, samples: calibration, inputs: context.inputs },
    ...{ dims: plan.dims, runtime, folder: work, onProgress, signal },
  });
  notes.push(...quantized.notes);
  let result = quantized.model;
  if (recovery && parts && isQuantized(quantized.weights)) {
    const recovered = await recoverQuantized(quantized, {
      ...{ ...recovery, seconds: secondsLeft },
      ...{ original: analysis.model, parts, folder: work, onProgress, signal },
    });
    notes.push(recovered.note);
    result = recovered.model;
  }
  let finished = (plan.relaxDims && relaxDims(result)) || result;
  if (plan.reorderNodes) {
    finished.graph.nodes = listConstantNodesFirst(finished.graph);
    finished = withFewestLiveBytes(finished, layoutBatch) ?? finished;
  }
  finished.metadata.set(sessionMetadataKey, JSON.stringify(plan.session));
  const written = await writeModelInSteps(finished, `${folder}/${context.outputName}`, {
    externalData: plan.externalWeights ? 'always' : 'auto',
    onProgress: (done, total, item) => {
      signal?.throwIfAborted();
      onProgress({ phase: 'writing', done, total, unit: 'bytes', ...(item === undefined ? {} : { item }) });
    },
  });
  return {
    folder,
    files: written.files,
    fileBytes: written.bytes,
    parameters: analysis.summary.parameters - removedParameters(analysis, infos),
    notes,
    pruneSeconds,
    scaled: quantized.scaled,
    plan: {
      ...plan,
      pruneMethod,
      classes,
      weights: quantized.weights.map((w) => {
        const reason = quantized.reasons.get(w.name);
        return {
          name: w.name,
          operator: w.operator,
          dims: infos.find((info) => info.name === w.name)?.dims ?? [],
          dtype: w.dtype,
          bytesBefore: w.bytesBefore,
          bytesAfter: w.bytesAfter,
          ...blocksOf(w),
          noise: noiseOf(analysis, structure.level, w),
          ...(reason === undefined ? {} : { reason }),
        };
      }),
    },
  };
}

function removedParameters(analysis: Analysis, kept: { dims: number[] }[]): number {
  const count = (weights: { dims: number[] }[]): number =>
    weights.reduce((sum, w) => sum + w.dims.reduce((a, b) => a * b, 1), 0);
  return count(analysis.weights) - count(kept);
}

/** Whether a plan leaves anything that could have been fitted. */
const isChanged = ({ classes, weights }: Plan): boolean =>
  classes.some(({ before, after }) => after !== before) ||
  weights.some(({ bytesBefore, bytesAfter }) => bytesAfter !== bytesBefore);

/**
 * Builds a candidate, measures its peak and compares its answers.
 *
 * @param beforeRun called when the candidate is written and about to run
 */
export async function attempt(
  context: BuildContext,
  structure: Structure,
  candidate: Candidate,
  feeds: Feeds,
  beforeRun: () => Promise<void>,
): Promise<Attempt> {
  const built = await buildCandidate(context, structure, candidate);
  const { plan } = built;
  const spec = {
    modelPath: `${built.folder}/${context.outputName}`,
    provider: plan.provider,
    levers: plan.session,
  };
  context.onProgress({ phase: 'checking', done: 0, total: null, unit: 'runs' });
  await beforeRun();
  const measured = await context.runtime.measure(spec, feeds, { warmRuns: 5, batch: plan.batch });
  context.signal?.throwIfAborted();
  context.onProgress({ phase: 'comparing', done: 0, total: null, unit: 'samples' });
  const { reference } = context;
  const quality = reference ? await reference.compare(context.runtime, spec, context.signal) : null;
  if (quality?.source === 'samples') quality.fitted = context.shared === true && isChanged(plan);
  return { candidate, measured, quality, ...built };
}
