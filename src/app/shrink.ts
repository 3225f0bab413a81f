import { mkdtempSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { deflateRawSync } from 'node:zlib';
import type { ClassPlan, Dtype, JobProgress, Provider, PruneMethod } from '../contract/types.js';
import { SnugError } from '../contract/errors.js';
import { Analysis } from '../fit/analysis.js';
import { formatsNearFourBits } from '../fit/four-bits.js';
import { holdsHalf, withholdHalf } from '../fit/half-device.js';
import { assignDtypes, levelOf } from '../fit/levels.js';
import { madeUpDataset } from '../fit/made-up.js';
import { quantizeAndRecover, quantizeOnSamples, type QuantizedStep } from '../fit/quantize-step.js';
import type { TimedRecovery } from '../fit/recover-candidate.js';
import { smallAtEightBits } from '../fit/small-weights.js';
import { checkOutput, originalFiles, Workspace } from '../fit/workspace.js';
import { estimateMemory } from '../memory/estimate.js';
import type { Model } from '../onnx/model.js';
import { summarizeModel } from '../onnx/summary.js';
import { writeModelInSteps } from '../onnx/write.js';
import type { PruneDamage, SparseWeight, SparsityPattern } from '../prune/index.js';
import { pruneModel, sparsifyModel } from '../prune/index.js';
import type { QuantizedWeight } from '../quantize/index.js';
import type { Dataset } from '../runtime/dataset-types.js';
import type { Runtime } from '../runtime/types.js';
import type { OpenedModel } from './open.js';
import { remainders, type Remainder } from './remainder.js';

interface ShrinkRequest {
  opened: OpenedModel;
  outputPath: string;
  dataset: Dataset | null;
  dims: Record<string, number>;
  runtime: Runtime;
  overwrite: boolean;
  onProgress: (progress: JobProgress) => void;
  signal: AbortSignal;
}

interface Output {
  path: string;
  fileBytes: number;
}

/** Writes an edited model whole or not at all, in a work folder that is always removed. */
async function publish(model: Model, request: ShrinkRequest, workspace: Workspace): Promise<Output> {
  // Apart from temporary files: anyone may choose the name of the output.
  const folder = mkdtempSync(workspace.file('result-'));
  const written = await writeModelInSteps(model, path.join(folder, path.basename(request.outputPath)), {
    onProgress: (done, total, item) => {
      request.signal.throwIfAborted();
      request.onProgress({ phase: 'writing', done, total, unit: 'bytes', ...(item === undefined ? {} : { item }) });
    },
  });
  workspace.publish(written.files, folder, request.outputPath, request.overwrite);
  return { path: request.outputPath, fileBytes: written.bytes };
}

export interface PruneFileResult {
  before: { parameters: number; weightBytes: number };
  after: { parameters: number; weightBytes: number };
  classes: ClassPlan[];
  /** What the answers lost on samples kept out of the fit; null for methods that run none. */
  damage: PruneDamage | null;
  /** What methods that run inputs ran: the user's samples, or made-up inputs. */
  inputs: 'samples' | 'made-up';
  output: Output;
}

/** Batch at which the estimate says what a width saves. */
const allocationBatch = 8;

/** `snug prune`: prune only. @throws SnugError of reading, pruning and writing */
export async function pruneFile(
  request: ShrinkRequest & { ratio: number; method: PruneMethod; allocation?: 'uniform' | 'measured' },
): Promise<PruneFileResult> {
  const { opened, outputPath, overwrite, dataset, runtime, ratio, method, dims, onProgress } = request;
  checkOutput(outputPath, originalFiles(opened.model), overwrite);
  const workspace = new Workspace(outputPath);
  try {
    const { model, classes, before, after, damage } = await pruneModel(opened.model, {
      ratio,
      method,
      allocation: request.allocation ?? 'uniform',
      bytesOf: (pruned) =>
        estimateMemory(pruned, { provider: 'cpu', batch: allocationBatch, dims: { ...dataset?.dims, ...dims } })
          .peakBytes,
      signal: request.signal,
      samples: {
        runtime,
        dataset: dataset ?? madeUpDataset(opened.model, opened.inputs, dims),
        workDirectory: workspace.directory,
        dims,
      },
      onProgress: (done, total, item) =>
        onProgress({ phase: 'pruning', done, total, unit: 'weights', ...(item === undefined ? {} : { item }) }),
    });
    request.signal.throwIfAborted();
    const output = await publish(model, request, workspace);
    return { before, after, classes, damage: damage ?? null, inputs: dataset ? 'samples' : 'made-up', output };
  } finally {
    workspace.remove();
  }
}

export interface SparsifyFileResult {
  weights: SparseWeight[];
  sqnrDb: number | null;
  /** Size of the original and of the result once compressed (deflate); null for files too large to try. */
  compressed: { beforeBytes: number; afterBytes: number } | null;
  output: Output;
}

/** Larger files are not compressed for the report. */
const mostCompressed = 512e6;

/** `snug prune --sparsity`: zeros in weights. @throws SnugError of reading, pruning and writing */
export async function sparsifyFile(request: ShrinkRequest & { pattern: SparsityPattern }): Promise<SparsifyFileResult> {
  const { opened, outputPath, overwrite, dataset, runtime, dims, pattern, signal, onProgress } = request;
  checkOutput(outputPath, originalFiles(opened.model), overwrite);
  const workspace = new Workspace(outputPath);
  try {
    const { model, weights, sqnrDb } = await sparsifyModel(opened.model, {
      pattern,
      signal,
      ...(dataset ? { samples: { runtime, dataset, workDirectory: workspace.directory, dims } } : {}),
      onProgress: (done, total, item) =>
        onProgress({ phase: 'pruning', done, total, unit: 'weights', ...(item === undefined ? {} : { item }) }),
    });
    signal.throwIfAborted();
    const output = await publish(model, request, workspace);
    const small = opened.summary.fileBytes <= mostCompressed && opened.summary.externalFiles.length === 0;
    const size = (file: string): number => deflateRawSync(readFileSync(file)).byteLength;
    const compressed = small ? { beforeBytes: size(opened.path), afterBytes: size(output.path) } : null;
    return { weights, sqnrDb: sqnrDb ?? null, compressed, output };
  } finally {
    workspace.remove();
  }
}

export interface QuantizeFileResult {
  before: { weightBytes: number; fileBytes: number };
  after: { weightBytes: number; fileBytes: number };
  weights: QuantizedWeight[];
  /** What keeps the result from being smaller, the most bytes first. */
  remainders: Remainder[];
  /** What else changed in the model, in English. */
  notes: string[];
  output: Output;
}

/** Seconds for trying formats on samples. */
const formatSeconds = 15;

/**
 * `snug quantize`: one dtype for every weight that can have it; 4 bits are varied weight by weight unless `uniform`
 * ({@link formatsNearFourBits} with samples, {@link smallAtEightBits} without).
 * @throws SnugError of reading, quantizing and writing
 */
export async function quantizeFile(
  request: ShrinkRequest & {
    dtype: Dtype;
    provider: Provider;
    uniform?: boolean;
    /** Plain rounding looks at no samples: with `nearest` the data set must be null. */
    rounding?: 'search' | 'nearest';
    /** Weights that share a scale, the same for all: 16, 32, 64, 128 or 256. Left out: what each format has. */
    blockSize?: number;
    /** Trains scales, biases and norms on a part of the samples. */
    recovery?: TimedRecovery;
  },
): Promise<QuantizeFileResult> {
  const { opened, outputPath, overwrite, dataset, runtime, dtype, provider, dims, recovery, onProgress, signal } =
    request;
  checkOutput(outputPath, originalFiles(opened.model), overwrite);
  const workspace = new Workspace(outputPath);
  try {
    const analysis = new Analysis(opened.model, provider, dataset !== null);
    if (dtype === 'fp16' || holdsHalf(opened.model)) await withholdHalf(analysis, runtime, workspace.directory);
    const plain = assignDtypes(analysis, analysis.weights, levelOf(dtype), {});
    if (analysis.weights.length === 0) {
      throw new SnugError('E_NOT_SUPPORTED', 'The model holds no floating point weights that could be quantized.', {
        action: 'A model that is quantized already stays as it is: start from the original. Nothing was written.',
        params: { dtype, provider },
      });
    }
    if ([...plain.dtypes.values()].every((d) => d === 'fp32')) {
      const why = analysis.whyNot(dtype) ?? 'no weight of this model can have it here';
      throw new SnugError('E_NOT_SUPPORTED', `No weight can be ${dtype} on ${provider}: ${why}.`, {
        action: 'Choose another --dtype or --provider. Nothing was written.',
        params: { dtype, provider },
      });
    }
    const progress = (done: number, total: number, item?: string): void =>
      onProgress({ phase: 'quantizing', done, total, unit: 'weights', ...(item === undefined ? {} : { item }) });
    const folder = workspace.directory;
    const blocks = request.blockSize === undefined ? {} : { blockSize: request.blockSize };
    const quantizeOn = async (samples: Dataset | null): Promise<QuantizedStep> => {
      const varied =
        dtype !== 'int4' || request.uniform === true || request.blockSize !== undefined
          ? null
          : samples
            ? await formatsNearFourBits(plain, {
                ...{ model: opened.model, provider, dataset: samples, runtime, folder },
                ...{ seconds: formatSeconds, onProgress: progress, signal },
              })
            : smallAtEightBits(plain, analysis.weights, opened.model, provider);
      const same = new Map([...plain.dtypes].map(([name, one]) => [name, { dtype: one, ...blocks }]));
      return quantizeOnSamples({
        ...{ model: opened.model, provider, formats: varied?.formats ?? same, samples, inputs: opened.inputs },
        ...{
          reasons: new Map([...plain.reasons, ...(varied?.reasons ?? [])]),
          dims,
          runtime,
          folder,
          onProgress,
          signal,
        },
        ...(request.rounding ? { rounding: request.rounding } : {}),
      });
    };
    const recovered = recovery
      ? await quantizeAndRecover(quantizeOn, { dataset, recovery, original: opened.model, folder, onProgress, signal })
      : null;
    const quantized = recovered?.quantized ?? (await quantizeOn(dataset));
    const result = recovered?.model ?? quantized.model;
    // Whoever stops the training wants what there is.
    const finishing = recovered && signal.aborted ? { ...request, signal: new AbortController().signal } : request;
    const output = await publish(result, finishing, workspace);
    const weights = quantized.weights.map((w) => {
      const reason = quantized.reasons.get(w.name);
      return { ...w, sqnrDb: w.sqnrDb, ...(reason === undefined ? {} : { reason }) };
    });
    return {
      before: { weightBytes: analysis.summary.weightBytes, fileBytes: analysis.summary.fileBytes },
      after: { weightBytes: summarizeModel(result).weightBytes, fileBytes: output.fileBytes },
      weights,
      remainders: remainders(opened.model, result, weights, dtype),
      notes: [...quantized.notes, ...(recovered ? [recovered.note] : [])],
      output,
    };
  } finally {
    workspace.remove();
  }
}
