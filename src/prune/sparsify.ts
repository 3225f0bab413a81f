import { SnugError } from '../contract/errors.js';
import { DataType, type Model } from '../onnx/model.js';
import { inferShapes } from '../onnx/shape.js';
import { leavesOf } from './axis-atoms.js';
import type { AxisGraph, WeightUse } from './axis-graph.js';
import { analyse } from './classes.js';
import { linearConsumer, readBias, readWeights, writeRepair, type LinearConsumer } from './consumer.js';
import { addRun, maximumColumns, prepareFit, tapSize, type ConsumerFit } from './fits.js';
import {
  addMoments,
  emptyMoments,
  normalizeMoments,
  relativeError,
  sampleColumns,
  sampleOutputs,
  type Repair,
} from './least-squares.js';
import { refuseQuantized } from './quantized.js';
import { analysisDims, type PruneRequest } from './request.js';
import { finishModel, noEdits, rewriteModel, type Edits } from './rewrite.js';
import { solveSparse, sparsityMask, type SparsityPattern } from './sparse-rows.js';
import { Stages } from './stages.js';

/** Smaller weights are left dense: nothing is gained. */
const leastElements = 1024;
const ridges = [1e-3, 1e-2, 1e-1];
/** A ridge is judged on at most so many outputs of a layer. */
const judgedOutputs = 24;

export interface SparseWeight {
  name: string;
  elements: number;
  zeros: number;
  /** Squared error of the layer's outputs on samples kept out of the fit, relative to their variance; null without samples. */
  heldOutError: number | null;
  /** Why the weight stayed dense or was not repaired. */
  note?: string;
}

export interface SparsifyResult {
  model: Model;
  weights: SparseWeight[];
  /** Squared error of the network's outputs on samples kept out of the fit, in dB; absent without samples. */
  sqnrDb?: number;
}

export type SparsifyRequest = Pick<PruneRequest, 'samples' | 'onProgress' | 'signal'> & { pattern: SparsityPattern };

/**
 * Sets weights to zero. This saves no memory in onnxruntime, which computes with the zeros as with any number; it makes
 * the file smaller once compressed, and the 2:4 pattern is what TensorRT's sparse kernels take. With samples each
 * layer's remaining weights are refitted to the dense outputs, from the input of the network to its end.
 * @throws SnugError E_NOT_SUPPORTED when weights are already quantized; E_BAD_REQUEST for an impossible pattern.
 */
export async function sparsifyModel(model: Model, request: SparsifyRequest): Promise<SparsifyResult> {
  refuseQuantized(model);
  checkPattern(request.pattern);
  const { samples } = request;
  const { graph } = analyse(
    model,
    inferShapes(model, analysisDims(model, { ...samples?.dataset.dims, ...samples?.dims })),
  );
  const { layers, left } = layersOf(graph);
  const edits = noEdits();
  const weights: SparseWeight[] = [...left];
  const stages =
    samples === undefined
      ? null
      : new Stages(
          model,
          graph,
          samples,
          layers.map((layer) => tapSize(graph, layer.consumer)),
        );
  const members = layers.map(({ use }) => ({ members: [{ initializer: use.weight }] }));
  for (const [at, { use, consumer }] of layers.entries()) {
    request.signal?.throwIfAborted();
    const whole = { leaf: leavesOf(use.input)[0]!, width: 0 };
    const narrow = consumer.indices * consumer.columnsPerIndex <= maximumColumns;
    let fit: ConsumerFit | null = null;
    if (stages !== null && narrow) {
      fit = prepareFit(graph, edits, new Map(), whole, consumer, stages.every(tapSize(graph, consumer)));
      const taps = fit.pieces.map((piece) => piece.tap);
      await stages.run(rewriteModel(model, graph, new Map(), edits), taps, members.slice(at), (run) =>
        addRun([fit!], run),
      );
    }
    weights.push(sparsifyLayer(graph, edits, use, consumer, fit, request.pattern));
    request.onProgress?.(at + 1, layers.length, use.weight);
  }
  const sparse = rewriteModel(model, graph, new Map(), edits);
  const error = stages === null || layers.length === 0 ? null : await stages.outputError(sparse);
  return {
    model: finishModel(sparse),
    weights,
    ...(error === null ? {} : { sqnrDb: error > 0 ? -10 * Math.log10(error) : Infinity }),
  };
}

function checkPattern(pattern: SparsityPattern): void {
  const possible =
    pattern.kind === 'unstructured'
      ? pattern.share > 0 && pattern.share < 1
      : Number.isInteger(pattern.n) && Number.isInteger(pattern.m) && pattern.n > 0 && pattern.n < pattern.m;
  if (possible) return;
  throw new SnugError('E_BAD_REQUEST', 'This sparsity is not possible.', {
    action: 'Give a share between 0 and 1, for example 0.5, or a pattern such as 2:4.',
  });
}

interface Layer {
  use: WeightUse;
  consumer: LinearConsumer;
}

/** Weights that can hold zeros, in the order of the network, and those left dense with the reason. */
function layersOf(graph: AxisGraph): { layers: Layer[]; left: SparseWeight[] } {
  const layers: Layer[] = [];
  const left: SparseWeight[] = [];
  for (const use of [...graph.uses].sort((a, b) => a.at - b.at)) {
    const tensor = graph.constant(use.weight)!;
    const elements = tensor.dims.reduce((product, dim) => product * dim, 1);
    const float = tensor.dataType === DataType.FLOAT || tensor.dataType === DataType.FLOAT16;
    const consumer = float ? linearConsumer(graph, use) : null;
    const stays = (note: string): void => {
      left.push({ name: use.weight, elements, zeros: 0, heldOutError: null, note });
    };
    if (elements < leastElements) stays('too small to matter');
    else if (graph.consumers(use.weight).length > 1) stays('shared by several layers');
    else if (consumer === null || use.operand !== use.weight) stays('grouped, or no plain constant');
    else layers.push({ use, consumer });
  }
  return { layers, left };
}

function sparsifyLayer(
  graph: AxisGraph,
  edits: Edits,
  use: WeightUse,
  consumer: LinearConsumer,
  fit: ConsumerFit | null,
  pattern: SparsityPattern,
): SparseWeight {
  const old = readWeights(graph, edits, consumer);
  const inputs = consumer.indices * consumer.columnsPerIndex;
  const { outputs } = consumer;
  const groups = pattern.kind === 'n:m' ? groupsOf(consumer, pattern.m) : [];
  const columns = Array.from({ length: inputs }, (_, column) => column);
  const piece = fit?.pieces[0];
  let repair: Repair;
  let heldOutError: number | null = null;
  let mask: Uint8Array;
  if (fit === null || piece === undefined || piece.training.rows === 0) {
    mask = sparsityMask(old, inputs, outputs, pattern, groups);
    repair = { weights: old.map((value, at) => value * mask[at]!), bias: readBias(graph, consumer) };
  } else {
    const all = emptyMoments(inputs, outputs);
    addMoments(all, piece.training);
    addMoments(all, piece.heldOut);
    const energies = Float64Array.from({ length: inputs }, (_, at) => all.gram[at * inputs + at]!);
    mask = sparsityMask(old, inputs, outputs, pattern, groups, energies);
    // Every output is solved on its own, so that some of them can judge a ridge for all.
    const every = Math.max(1, Math.ceil(outputs / judgedOutputs));
    const judge = sampleOutputs(piece.heldOut.rows > 0 ? piece.heldOut : piece.training, every);
    const training = normalizeMoments(sampleOutputs(piece.training, every), fit.withBias);
    const few = sampleColumns(old, outputs, every);
    const fewMask = mask.filter((_, at) => (at % outputs) % every === 0);
    const solve = (moments: typeof training, before: Float64Array, kept: Uint8Array, ridge: number): Repair => {
      const weights = solveSparse(moments, before, kept, ridge);
      const bias = Float64Array.from(moments.outputMean);
      moments.inputMean.forEach((mean, row) => {
        if (mean === 0) return;
        for (let o = 0; o < bias.length; o++) bias[o]! -= mean * weights[row * bias.length + o]!;
      });
      return { weights, bias };
    };
    let best = { ridge: ridges[0]!, error: Infinity };
    for (const ridge of ridges) {
      const error = relativeError(judge, columns, solve(training, few, fewMask, ridge), fit.withBias);
      if (error < best.error) best = { ridge, error };
    }
    heldOutError = best.error;
    repair = solve(normalizeMoments(all, fit.withBias), old, mask, best.ridge);
  }
  writeRepair(graph, edits, consumer, columns, repair);
  const zeros = mask.reduce((count, kept) => count + (1 - kept), 0);
  return {
    name: use.weight,
    elements: old.length,
    zeros,
    heldOutError,
    ...(fit === null && heldOutError === null ? { note: 'not repaired' } : {}),
  };
}

/** Columns in groups of m neighbours along the input axis, at one kernel position. */
function groupsOf({ indices, columnsPerIndex: k }: LinearConsumer, m: number): number[][] {
  const groups: number[][] = [];
  for (let tap = 0; tap < k; tap++) {
    for (let start = 0; start < indices; start += m) {
      groups.push(Array.from({ length: Math.min(m, indices - start) }, (_, at) => (start + at) * k + tap));
    }
  }
  return groups;
}
