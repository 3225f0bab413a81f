import path from 'node:path';
import type { ClassPlan, Dtype, JobProgress, Provider, PruneMethod } from '../contract/types.js';
import { SnugError } from '../contract/errors.js';
import { Analysis } from '../fit/analysis.js';
import { assignDtypes, levelOf } from '../fit/levels.js';
import { madeUpDataset } from '../fit/made-up.js';
import { checkOutput, originalFiles, Workspace } from '../fit/workspace.js';
import type { Model } from '../onnx/model.js';
import { writeModelInSteps } from '../onnx/write.js';
import { pruneModel } from '../prune/index.js';
import type { QuantizedWeight } from '../quantize/index.js';
import { collectRanges, quantizeModel } from '../quantize/index.js';
import type { Dataset } from '../runtime/dataset-types.js';
import type { Runtime } from '../runtime/types.js';
import type { OpenedModel } from './open.js';

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
  const name = path.basename(request.outputPath);
  const written = await writeModelInSteps(model, workspace.file(name), {
    onProgress: (done, total, item) => {
      request.signal.throwIfAborted();
      request.onProgress({ phase: 'writing', done, total, unit: 'bytes', ...(item === undefined ? {} : { item }) });
    },
  });
  workspace.publish(written.files, workspace.directory, request.outputPath, request.overwrite);
  return { path: request.outputPath, fileBytes: written.bytes };
}

export interface PruneFileResult {
  before: { parameters: number; weightBytes: number };
  after: { parameters: number; weightBytes: number };
  classes: ClassPlan[];
  output: Output;
}

/** `snug prune`: prune only. @throws SnugError of reading, pruning and writing */
export async function pruneFile(
  request: ShrinkRequest & { ratio: number; method: PruneMethod },
): Promise<PruneFileResult> {
  const { opened, outputPath, overwrite, dataset, runtime, ratio, method, dims, onProgress } = request;
  checkOutput(outputPath, originalFiles(opened.model), overwrite);
  const workspace = new Workspace(outputPath);
  try {
    const { model, classes, before, after } = await pruneModel(opened.model, {
      ratio,
      method,
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
    return { before, after, classes, output: await publish(model, request, workspace) };
  } finally {
    workspace.remove();
  }
}

export interface QuantizeFileResult {
  before: { weightBytes: number; fileBytes: number };
  after: { weightBytes: number; fileBytes: number };
  weights: QuantizedWeight[];
  output: Output;
}

/** `snug quantize`: one dtype for every weight that can have it. @throws SnugError of reading, quantizing and writing */
export async function quantizeFile(
  request: ShrinkRequest & { dtype: Dtype; provider: Provider },
): Promise<QuantizeFileResult> {
  const { opened, outputPath, overwrite, dataset, runtime, dtype, provider, dims, onProgress } = request;
  checkOutput(outputPath, originalFiles(opened.model), overwrite);
  const workspace = new Workspace(outputPath);
  try {
    const analysis = new Analysis(opened.model, provider, dataset !== null);
    const { dtypes, reasons } = assignDtypes(analysis, analysis.weights, levelOf(dtype), {});
    if (analysis.weights.length > 0 && [...dtypes.values()].every((d) => d === 'fp32')) {
      const why = analysis.whyNot(dtype) ?? 'no weight of this model can have it here';
      throw new SnugError('E_NOT_SUPPORTED', `No weight can be ${dtype} on ${provider}: ${why}.`, {
        action: 'Choose another --dtype or --provider. Nothing was written.',
        params: { dtype, provider },
      });
    }
    const ranges =
      dataset && [...dtypes.values()].includes('int8-static')
        ? await collectRanges(runtime, opened.model, dataset, {
            workDirectory: workspace.directory,
            dims,
            provider: 'cpu',
          })
        : undefined;
    const quantized = quantizeModel(opened.model, dtypes, {
      provider,
      ...(ranges ? { ranges } : {}),
      onProgress: (done: number, total: number, item?: string) =>
        onProgress({ phase: 'quantizing', done, total, unit: 'weights', ...(item === undefined ? {} : { item }) }),
    });
    const output = await publish(quantized.model, request, workspace);
    const weights = quantized.weights.map((w) => {
      const reason = w.reason ?? reasons.get(w.name);
      return { ...w, sqnrDb: w.sqnrDb, ...(reason === undefined ? {} : { reason }) };
    });
    const saved = weights.reduce((sum, w) => sum + w.bytesBefore - w.bytesAfter, 0);
    return {
      before: { weightBytes: analysis.summary.weightBytes, fileBytes: analysis.summary.fileBytes },
      after: { weightBytes: analysis.summary.weightBytes - saved, fileBytes: output.fileBytes },
      weights,
      output,
    };
  } finally {
    workspace.remove();
  }
}
