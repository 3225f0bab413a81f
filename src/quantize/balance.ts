import { indexGraph } from '../onnx/graph.js';
import type { Graph, Node } from '../onnx/model.js';
import { clipBounds } from './clip.js';

/**
 * How much of an activation's power its mean has, over the rest, for values of normal distribution (half of the power
 * of a rectified one would be its variance): (1/2π) / (1/2 − 1/2π).
 */
const rectified = 0.47;
/** The same of x · sigmoid(x) and its kin, whose negative side is small. */
const gated = 0.23;
/** Means over space keep the mean and lose most of the rest. */
const pooled = 4;

const rectifiers = new Set(['Relu', 'Sigmoid', 'HardSigmoid', 'Softmax', 'Softplus', 'Exp', 'Abs']);
const gates = new Set(['HardSwish', 'Gelu', 'Swish', 'Mish']);
const poolers = new Set(['GlobalAveragePool', 'ReduceMean']);
const movers = new Set([
  ...['MaxPool', 'AveragePool', 'Flatten', 'Reshape', 'Transpose', 'Squeeze', 'Unsqueeze', 'Identity', 'Dropout'],
  ...['Slice', 'Resize', 'Concat'],
]);

/**
 * Values of a graph whose elements are mostly positive, whatever the inputs of the model, as the power of their mean
 * over that of the rest. Where such a value is multiplied by a weight, rounding errors of one sign add up.
 */
export function meanShares(graph: Graph): Map<string, number> {
  const index = indexGraph(graph);
  const shares = new Map<string, number>();
  const shareOf = (node: Node): number => {
    if (node.domain !== '') return 0;
    const { opType, inputs } = node;
    if (rectifiers.has(opType)) return rectified;
    if (gates.has(opType)) return gated;
    if (opType === 'Clip') {
      const [low] = clipBounds(graph, index, node);
      return low !== null && low >= 0 ? rectified : 0;
    }
    if (opType === 'Mul') {
      const gate = inputs.map((name) => index.producer.get(name)?.opType);
      return gate.some((type) => type === 'Sigmoid' || type === 'HardSigmoid') ? gated : 0;
    }
    const known = inputs.slice(0, opType === 'Concat' ? undefined : 1).map((name) => shares.get(name) ?? 0);
    const least = Math.min(...known);
    if (movers.has(opType)) return least;
    return poolers.has(opType) && least > 0 ? pooled : 0;
  };
  for (const node of graph.nodes) {
    const share = shareOf(node);
    if (share > 0) shares.set(node.outputs[0]!, share);
  }
  return shares;
}

/** One row of a weight and its codes, by index. */
export interface BalancedRow {
  exact(i: number): number;
  /** Distance of two codes, may be negative. */
  step(i: number): number;
  /** Code with the zero point taken off. */
  code(i: number): number;
  /** Moves a code up or down by one; false where it is the last one already. */
  move(i: number, by: number): boolean;
}

/** Buckets for the distance to the nearest code, 0 … half a step. */
const buckets = 64;

/**
 * Moves codes of one row to the other neighbour so that rounding errors of the row cancel out: with inputs of mean
 * power `share` over variance, the expected error is `Σδᵢ² + share · (Σδᵢ)²`. Codes that were nearly halfway go first;
 * each step lowers the expected error. (The idea of "SQuant", Guo et al., ICLR 2022, with the weight of the sum taken
 * from what the inputs are.)
 */
export class Balancer {
  private readonly heads = new Int32Array(buckets);
  private next = new Int32Array(0);
  private errors = new Float64Array(0);

  constructor(private readonly share: number) {}

  /** @param count length of the row */
  balance(count: number, { exact, step, code, move }: BalancedRow): void {
    if (this.next.length < count) {
      this.next = new Int32Array(count);
      this.errors = new Float64Array(count);
    }
    const { heads, next, errors, share } = this;
    let sum = 0;
    for (let i = 0; i < count; i++) {
      errors[i] = exact(i) - code(i) * step(i);
      sum += errors[i]!;
    }
    const sign = Math.sign(sum);
    heads.fill(-1);
    for (let i = count - 1; i >= 0; i--) {
      const size = Math.abs(step(i));
      // Only a move towards the sum helps; what is clipped is off by more than half a step and cannot move.
      const off = (errors[i]! * sign) / size;
      if (!(off > 0 && off <= 0.5)) continue;
      const bucket = Math.min(buckets - 1, Math.floor(off * 2 * buckets));
      next[i] = heads[bucket]!;
      heads[bucket] = i;
    }
    for (let bucket = buckets - 1; bucket >= 0; bucket--) {
      for (let i = heads[bucket]!; i >= 0; i = next[i]!) {
        const size = Math.abs(step(i));
        const gain = share * (2 * Math.abs(sum) * size - size * size);
        // In order of cost: once a move does not pay for itself, few of the others would.
        if (gain <= 0) return;
        if (gain <= size * size - 2 * size * Math.abs(errors[i]!)) continue;
        if (!move(i, sign * Math.sign(step(i)))) continue;
        sum -= sign * size;
        if (sum * sign <= 0) return;
      }
    }
  }
}
