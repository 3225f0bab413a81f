import { SnugError } from '../contract/errors.js';
import type { LossKind } from '../contract/training.js';
import { intAttribute } from '../onnx/attribute.js';
import { DataType, type ValueInfo } from '../onnx/model.js';
import { batchSymbol, type GraphBuilder } from './graph-builder.js';

export interface LossSettings {
  kind: LossKind;
  /** Softens both distributions of `distill`; the loss is multiplied by its square (Hinton et al. 2015, section 2). */
  temperature?: number;
}

/** A loss appended to a graph. */
export interface AppendedLoss {
  /** Sum over the items of the batch, one number. */
  sum: string;
  /** How many answers were right, one number; null where that means nothing. */
  correct: string | null;
  /** Gradient of `weight · sum` with respect to the output. */
  gradient: string;
  /** Input that takes the labels, the target or the teacher's output. */
  target: ValueInfo;
  /** Input that takes one number: 1 / items of the whole batch, so that micro-batches add up to its mean. */
  weight: ValueInfo;
  /** Items in one sample: 1, or the rows of logits of one sample. */
  itemsPerSample: number;
}

const openDims = (builder: GraphBuilder, value: string): (number | string)[] => {
  const { sizes, open } = builder.extent(value);
  return sizes.map((size, axis) => (open[axis] ? batchSymbol : size));
};

/**
 * Appends a loss of `output` and its gradient. A label outside of 0…classes−1 (such as −100) is left out.
 * @throws SnugError E_NOT_SUPPORTED when the output has a shape the loss cannot take
 */
export function appendLoss(builder: GraphBuilder, output: string, settings: LossSettings): AppendedLoss {
  const dims = openDims(builder, output);
  if (dims.length < 2 || dims.slice(1).includes(batchSymbol)) {
    throw new SnugError('E_NOT_SUPPORTED', `The output "${output}" has the shape [${dims.join(', ')}].`, {
      action: 'Choose an output whose first axis counts samples and whose other sizes are fixed (--output).',
      params: { output },
    });
  }
  const weight: ValueInfo = { name: builder.name('weight'), dataType: builder.dataType(output), dims: [] };
  const rows = (dims.slice(1, -1) as number[]).reduce((a, b) => a * b, 1);
  switch (settings.kind) {
    case 'cross-entropy':
      return { ...crossEntropy(builder, output, dims, weight), weight, itemsPerSample: rows };
    case 'mse':
      return { ...meanSquare(builder, output, dims, weight), weight, itemsPerSample: 1 };
    case 'distill':
      return {
        ...distillation(builder, output, dims, weight, settings.temperature ?? 1),
        weight,
        itemsPerSample: rows,
      };
  }
}

type Part = Pick<AppendedLoss, 'sum' | 'correct' | 'gradient' | 'target'>;

/** Sum of everything, as one number. */
const total = (builder: GraphBuilder, x: string): string =>
  builder.emit('ReduceSum', [x], { keepdims: intAttribute(0) });

/** log Σ exp over the last axis, with what it is made of; written out, so that every provider has the operators. */
function logSoftmaxParts(
  builder: GraphBuilder,
  logits: string,
  axis: number,
): { shifted: string; logSum: string; probabilities: string } {
  const shifted = builder.sub(logits, builder.reduceMax(logits, axis));
  const exponentials = builder.emit('Exp', [shifted]);
  const sum = builder.reduceSum(exponentials, [axis], true);
  return {
    shifted,
    logSum: builder.emit('Log', [sum]),
    probabilities: builder.div(exponentials, sum),
  };
}

/** How many rows have their largest element where `labels` says. */
function countRight(builder: GraphBuilder, logits: string, labels: string, axis: number): string {
  const best = builder.emit('ArgMax', [logits], { axis: intAttribute(axis), keepdims: intAttribute(0) });
  return total(builder, builder.cast(builder.emit('Equal', [best, labels]), DataType.FLOAT));
}

function crossEntropy(builder: GraphBuilder, logits: string, dims: (number | string)[], weight: ValueInfo): Part {
  const axis = dims.length - 1;
  const classes = dims[axis] as number;
  const target: ValueInfo = { name: builder.name('labels'), dataType: DataType.INT64, dims: dims.slice(0, -1) };
  const { shifted, logSum, probabilities } = logSoftmaxParts(builder, logits, axis);
  const range = builder.ints(Array.from({ length: classes }, (_, i) => i));
  const hot = builder.emit('Equal', [builder.unsqueeze(target.name, [axis]), range]);
  const oneHot = builder.cast(hot, builder.dataType(logits));
  const counted = builder.reduceSum(oneHot, [axis], true);
  const right = builder.keepWhere(hot, shifted, logits);
  return {
    target,
    sum: builder.sub(total(builder, builder.mul(counted, logSum)), total(builder, right)),
    correct: countRight(builder, logits, target.name, axis),
    gradient: builder.mul(builder.sub(builder.mul(probabilities, counted), oneHot), weight.name),
  };
}

function meanSquare(builder: GraphBuilder, output: string, dims: (number | string)[], weight: ValueInfo): Part {
  const elements = (dims.slice(1) as number[]).reduce((a, b) => a * b, 1);
  const target: ValueInfo = { name: builder.name('target'), dataType: builder.dataType(output), dims };
  const difference = builder.sub(output, target.name);
  return {
    target,
    sum: builder.scale(total(builder, builder.mul(difference, difference)), 1 / elements, output),
    correct: null,
    gradient: builder.mul(difference, builder.scale(weight.name, 2 / elements, output)),
  };
}

function distillation(
  builder: GraphBuilder,
  logits: string,
  dims: (number | string)[],
  weight: ValueInfo,
  temperature: number,
): Part {
  const axis = dims.length - 1;
  const target: ValueInfo = { name: builder.name('teacher'), dataType: builder.dataType(logits), dims };
  const student = logSoftmaxParts(builder, builder.scale(logits, 1 / temperature, logits), axis);
  const teacher = logSoftmaxParts(builder, builder.scale(target.name, 1 / temperature, logits), axis);
  const logRatio = builder.sub(
    builder.sub(teacher.shifted, teacher.logSum),
    builder.sub(student.shifted, student.logSum),
  );
  const divergence = total(builder, builder.mul(teacher.probabilities, logRatio));
  const best = builder.emit('ArgMax', [target.name], { axis: intAttribute(axis), keepdims: intAttribute(0) });
  const difference = builder.sub(student.probabilities, teacher.probabilities);
  return {
    target,
    sum: builder.scale(divergence, temperature ** 2, logits),
    correct: countRight(builder, logits, best, axis),
    gradient: builder.mul(difference, builder.scale(weight.name, temperature, logits)),
  };
}
