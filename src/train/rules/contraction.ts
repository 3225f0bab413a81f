import { floatAttribute, getFloat, getInt, intAttribute } from '../../onnx/attribute.js';
import type { GradientContext, GradientRule, GradientRules } from '../differentiate.js';
import type { Extent, GraphBuilder } from '../graph-builder.js';

/** Gemm without a third operand; `a` and `b` are matrices. */
function gemm(builder: GraphBuilder, a: string, transA: boolean, b: string, transB: boolean, alpha = 1): string {
  return builder.emit('Gemm', [a, b], {
    transA: intAttribute(transA ? 1 : 0),
    transB: intAttribute(transB ? 1 : 0),
    ...(alpha === 1 ? {} : { alpha: floatAttribute(alpha) }),
  });
}

function swapLast(builder: GraphBuilder, x: string, rank: number): string {
  const order = Array.from({ length: rank }, (_, axis) => axis);
  order.splice(rank - 2, 2, rank - 1, rank - 2);
  return builder.transpose(x, order);
}

const matMul: GradientRule = (context) => {
  const { builder } = context;
  const [a, b] = [context.input(0), context.input(1)];
  const [rankA, rankB] = [builder.rank(a), builder.rank(b)];
  if (rankA === 1 || rankB === 1) return vectorMatMul(context);
  if (rankB === 2) return weightMatMul(context);
  const dY = context.gradient;
  const batch = builder.extent(context.output(0));
  // The product is broadcast over the batch axes of both operands; each gets back what is its own.
  const contribute = (index: number, product: string): void => {
    const operand = context.input(index);
    const own = builder.extent(operand);
    const extent = {
      sizes: [...batch.sizes.slice(0, -2), ...own.sizes.slice(-2)],
      open: [...batch.open.slice(0, -2), ...own.open.slice(-2)],
    };
    context.contribute(index, builder.sumToShape(product, extent, operand));
  };
  if (context.needs(0)) contribute(0, builder.emit('MatMul', [dY, swapLast(builder, b, rankB)]));
  if (context.needs(1)) contribute(1, builder.emit('MatMul', [swapLast(builder, a, rankA), dY]));
};

/** The right operand is a matrix: everything but the last axis of the left one is rows. */
function weightMatMul(context: GradientContext): void {
  const { builder, gradient } = context;
  const [a, b] = [context.input(0), context.input(1)];
  const [inner, outer] = [builder.fixedSize(b, 0), builder.fixedSize(b, 1)];
  const isMatrix = builder.rank(a) === 2;
  const dY = isMatrix ? gradient : builder.reshape(gradient, [-1, outer]);
  if (context.needs(0)) {
    const dA = gemm(builder, dY, false, b, true);
    context.contribute(0, isMatrix ? dA : builder.reshapeLike(dA, a));
  }
  if (context.needs(1)) {
    context.contribute(1, gemm(builder, isMatrix ? a : builder.reshape(a, [-1, inner]), true, dY, false));
  }
}

/** One operand is a vector: the axis MatMul adds for it is written out. */
function vectorMatMul(context: GradientContext): void {
  const { builder } = context;
  const [a, b] = [context.input(0), context.input(1)];
  const [vectorA, vectorB] = [builder.rank(a) === 1, builder.rank(b) === 1];
  let dY = context.gradient;
  if (vectorB) dY = builder.unsqueeze(dY, [-1]);
  if (vectorA) dY = builder.unsqueeze(dY, [-2]);
  const matrixA = vectorA ? builder.unsqueeze(a, [0]) : a;
  const matrixB = vectorB ? builder.unsqueeze(b, [1]) : b;
  const [rankA, rankB] = [vectorA ? 2 : builder.rank(a), vectorB ? 2 : builder.rank(b)];
  const sum = (x: string, batch: Extent, of: string, isVector: boolean): string => {
    const own = builder.extent(of);
    const last = isVector ? own : { sizes: own.sizes.slice(-2), open: own.open.slice(-2) };
    const flat = isVector ? builder.emit('Squeeze', [x, builder.ints([of === a ? -2 : -1])]) : x;
    return builder.sumToShape(
      flat,
      { sizes: [...batch.sizes, ...last.sizes], open: [...batch.open, ...last.open] },
      of,
    );
  };
  const other = builder.extent(vectorA ? b : a);
  const batch = { sizes: other.sizes.slice(0, -2), open: other.open.slice(0, -2) };
  if (context.needs(0)) {
    context.contribute(0, sum(builder.emit('MatMul', [dY, swapLast(builder, matrixB, rankB)]), batch, a, vectorA));
  }
  if (context.needs(1)) {
    context.contribute(1, sum(builder.emit('MatMul', [swapLast(builder, matrixA, rankA), dY]), batch, b, vectorB));
  }
}

const gemmRule: GradientRule = (context) => {
  const { builder, node, gradient } = context;
  const [a, b] = [context.input(0), context.input(1)];
  const transA = getInt(node, 'transA', 0) !== 0;
  const transB = getInt(node, 'transB', 0) !== 0;
  const alpha = getFloat(node, 'alpha', 1);
  if (context.needs(0)) {
    context.contribute(
      0,
      transA ? gemm(builder, b, transB, gradient, true, alpha) : gemm(builder, gradient, false, b, !transB, alpha),
    );
  }
  if (context.needs(1)) {
    context.contribute(
      1,
      transB ? gemm(builder, gradient, true, a, transA, alpha) : gemm(builder, a, !transA, gradient, false, alpha),
    );
  }
  if (context.needs(2)) {
    const scaled = builder.scale(gradient, getFloat(node, 'beta', 1), gradient);
    context.contribute(2, builder.sumToShape(scaled, builder.extent(context.output(0)), context.input(2)));
  }
};

/** Products of matrices. */
export const contractionGradients: GradientRules = { MatMul: matMul, Gemm: gemmRule };
