import type { Model } from '../../../src/onnx/model.js';
import { lowerModel } from '../../../src/memory/rewrite/lower.js';
import { inferShapes } from '../../../src/onnx/shape.js';
import type { ObservedNode } from './observe.js';

/** One node as predicted beside the same node as it ran; either may be missing. */
export interface Pair {
  predicted?: { name: string; operator: string; outputs: (number[] | null)[] };
  observed?: ObservedNode;
}

/** The nodes Snug expects the runtime to run, in that order, with the sizes of their outputs. */
function predictedNodes(model: Model, dims: Record<string, number>): NonNullable<Pair['predicted']>[] {
  const graph = lowerModel(model, 'cpu');
  const { shapes } = inferShapes(graph.model, dims);
  return graph.nodes.map((node) => ({
    name: node.name,
    operator: node.opType,
    outputs: node.outputs.filter((name) => name !== '').map((name) => shapes.get(name)?.dims.slice() ?? null),
  }));
}

const sameOutputs = (pair: Required<Pair>): boolean =>
  JSON.stringify(pair.predicted.outputs) === JSON.stringify(pair.observed.outputs);

/** Lines two lists up by operator and order (longest common subsequence in a band around the diagonal). */
export function lineUp(predicted: NonNullable<Pair['predicted']>[], observed: readonly ObservedNode[]): Pair[] {
  const rows = predicted.length;
  const columns = observed.length;
  const length = new Uint32Array((rows + 1) * (columns + 1));
  const at = (row: number, column: number) => row * (columns + 1) + column;
  const score = (row: number, column: number): number => {
    const left = predicted[row];
    const right = observed[column];
    if (!left || !right || left.operator !== right.operator) return 0;
    return left.name === right.name ? 3 : sameOutputs({ predicted: left, observed: right }) ? 2 : 1;
  };
  for (let row = rows - 1; row >= 0; row--) {
    for (let column = columns - 1; column >= 0; column--) {
      const points = score(row, column);
      const both = points > 0 ? (length[at(row + 1, column + 1)] ?? 0) + points : 0;
      length[at(row, column)] = Math.max(both, length[at(row + 1, column)] ?? 0, length[at(row, column + 1)] ?? 0);
    }
  }
  const pairs: Pair[] = [];
  let row = 0;
  let column = 0;
  while (row < rows || column < columns) {
    const best = length[at(row, column)] ?? 0;
    const points = row < rows && column < columns ? score(row, column) : 0;
    if (points > 0 && best === (length[at(row + 1, column + 1)] ?? 0) + points) {
      pairs.push({ predicted: predicted[row++]!, observed: observed[column++]! });
    } else if (row < rows && (column >= columns || best === length[at(row + 1, column)])) {
      pairs.push({ predicted: predicted[row++]! });
    } else pairs.push({ observed: observed[column++]! });
  }
  return pairs;
}

/** What the runtime's nodes and Snug's have in common over all runs. */
export interface Agreement {
  /** Nodes that ran. */
  nodes: number;
  /** Nodes that ran with exactly the predicted output shapes. */
  equal: number;
  /** First few differences in words. */
  differences: string[];
}

function inWords({ predicted, observed }: Pair): string {
  const left = predicted ? `${predicted.operator} ${predicted.name} ${JSON.stringify(predicted.outputs)}` : 'nothing';
  const right = observed ? `${observed.operator} ${observed.name} ${JSON.stringify(observed.outputs)}` : 'nothing';
  return `predicted ${left}, ran ${right}`;
}

/** Compares every node of every run with the prediction. */
export function compareShapes(model: Model, dims: Record<string, number>, runs: readonly ObservedNode[][]): Agreement {
  const predicted = predictedNodes(model, dims);
  const pairs = lineUp(predicted, runs[0] ?? []);
  const agreement: Agreement = { nodes: 0, equal: 0, differences: [] };
  const good = new Set<number>();
  let position = 0;
  for (const pair of pairs) {
    const equal = pair.predicted && pair.observed ? sameOutputs(pair as Required<Pair>) : false;
    if (!equal) agreement.differences.push(inWords(pair));
    if (pair.observed) {
      if (equal) good.add(position);
      position += 1;
    }
  }
  for (const run of runs) {
    agreement.nodes += run.length;
    run.forEach((node, index) => {
      const first = runs[0]?.[index];
      if (good.has(index) && JSON.stringify(first?.outputs) === JSON.stringify(node.outputs)) agreement.equal += 1;
    });
  }
  return agreement;
}
