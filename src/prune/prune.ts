import { SnugError } from '../contract/errors.js';
import type { ClassPlan } from '../contract/types.js';
import type { Model } from '../onnx/model.js';
import { inferShapes } from '../onnx/shape.js';
import { analyse, type AnalysedClass } from './classes.js';
import { repairClasses } from './repair.js';
import { analysisDims, type ClassRepair, type PruneRequest } from './request.js';
import { finishModel, noEdits, rewriteModel } from './rewrite.js';
import { rankAtRandom, rankByMagnitude } from './scores.js';
import { planWidths, type WidthRequest } from './widths.js';

export interface ModelSize {
  parameters: number;
  weightBytes: number;
}

export interface PruneResult {
  model: Model;
  classes: ClassPlan[];
  before: ModelSize;
  after: ModelSize;
  /** Per class id, for method `repair`. */
  repair?: Record<string, ClassRepair>;
}

/** Operators whose weights are integers: pruning them would need their scales rebuilt. */
const quantizedOperators = new Set(
  `DequantizeLinear QLinearConv QLinearMatMul MatMulInteger ConvInteger MatMulNBits MatMulBnb4 DynamicQuantizeMatMul
  MatMulIntegerToFloat GatherBlockQuantized QGemm QAttention QLinearAdd`.split(/\s+/),
);

/**
 * Removes hidden units of MLPs and inner channels of convolutions. The given model stays as it is; the new one
 * shares its weights by reference and slices them when they are read.
 * @throws SnugError E_NOT_SUPPORTED when weights are already quantized; E_BAD_REQUEST for impossible widths or
 * `repair` without samples; whatever the runtime reports while calibrating.
 */
export async function pruneModel(model: Model, request: PruneRequest): Promise<PruneResult> {
  refuseQuantized(model);
  const bindings = analysisDims(model, { ...request.samples?.dataset.dims, ...request.samples?.dims });
  const analysis = analyse(model, inferShapes(model, bindings));
  const plans = planWidths(analysis.classes, request);
  const shrinking = analysis.classes
    .map((one, at) => ({ one, width: plans[at]!.after }))
    .filter(({ one, width }) => width < one.width);

  const kept = new Map<number, readonly number[]>();
  let edits = noEdits();
  let repair: Record<string, ClassRepair> | undefined;
  if (request.method === 'repair' || request.method === 'activation') {
    if (request.samples === undefined) {
      throw new SnugError('E_BAD_REQUEST', `Pruning by ${request.method} needs inputs to run.`, {
        action: 'Give samples or made-up inputs, or prune by magnitude.',
      });
    }
    ({ edits, repair } = await repairClasses(model, analysis.graph, shrinking, kept, request.samples, request));
  } else {
    shrinking.forEach(({ one, width }, at) => {
      kept.set(one.leaf.id, best(rank(request, one), width));
      request.onProgress?.(at + 1, shrinking.length, one.name);
    });
  }
  function rank({ method, seed = 0 }: PruneRequest, one: AnalysedClass): number[] {
    return method === 'random' ? rankAtRandom(one, seed) : rankByMagnitude(analysis.graph, one);
  }
  const pruned = finishModel(rewriteModel(model, analysis.graph, kept, edits));
  return {
    model: pruned,
    classes: plans,
    before: sizeOf(model),
    after: sizeOf(pruned),
    ...(repair === undefined ? {} : { repair }),
  };
}

/**
 * The pruned model's structure alone, in milliseconds: the first units of every class are kept and no weight is read.
 * For planning: its shapes and bytes are those any method reaches, its numbers mean nothing.
 * @throws SnugError as {@link pruneModel}.
 */
export function previewPrune(model: Model, request: WidthRequest): Omit<PruneResult, 'repair'> {
  refuseQuantized(model);
  const analysis = analyse(model, inferShapes(model, analysisDims(model)));
  const plans = planWidths(analysis.classes, request);
  const kept = new Map<number, readonly number[]>();
  plans.forEach(({ before, after }, at) => {
    if (after < before)
      kept.set(
        analysis.classes[at]!.leaf.id,
        Array.from({ length: after }, (_, unit) => unit),
      );
  });
  const pruned = finishModel(rewriteModel(model, analysis.graph, kept, noEdits()));
  return { model: pruned, classes: plans, before: sizeOf(model), after: sizeOf(pruned) };
}

function best(order: readonly number[], width: number): number[] {
  return order.slice(0, width).sort((a, b) => a - b);
}

function sizeOf(model: Model): ModelSize {
  let parameters = 0;
  let weightBytes = 0;
  for (const tensor of model.graph.initializers.values()) {
    parameters += tensor.dims.reduce((product, dim) => product * dim, 1);
    weightBytes += tensor.data.byteLength;
  }
  return { parameters, weightBytes };
}

function refuseQuantized(model: Model): void {
  const node = model.graph.nodes.find((candidate) => quantizedOperators.has(candidate.opType));
  if (node === undefined) return;
  throw new SnugError('E_NOT_SUPPORTED', `This model's weights are already quantized (${node.opType}).`, {
    action: 'Prune the original model first, then quantize the result.',
    params: { operator: node.opType },
  });
}
