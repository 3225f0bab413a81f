import { bodiesOf, constantValue, indexGraph, walkGraphs } from '../onnx/graph.js';
import { DataType, type Graph, type Node } from '../onnx/model.js';
import { valuesUsed } from '../onnx/topology.js';
import { valueTypes } from './value-types.js';

/** Smallest and largest value by name: activations of the main graph as seen, and constants, those of bodies included. */
export type Magnitudes = ReadonlyMap<string, { low: number; high: number }>;

/** Half of what float16 holds: other inputs than the samples may reach further. */
const largestSafe = 3e4;
/** So low no sum gets: additive masks, which do as well at the lowest number float16 has. */
const maskValue = -1e8;

/** Operators around which a float32 island may be closed without leaving float32. */
const cheap = new Set(
  'Add Sub Mul Div Neg Abs Sqrt Reciprocal Pow Exp Log Unsqueeze Squeeze Reshape Expand'.split(' '),
);

/**
 * Nodes that must compute in float32 because a value they read or write reaches beyond 3·10⁴ (or a constant beyond
 * what float16 holds), with how far it reaches. Masks of huge negative numbers are no reason. What happens inside of
 * bodies is not seen: where what goes in or comes out reaches that far, all their nodes are here.
 */
export function overflowingNodes(graph: Graph, magnitudes: Magnitudes): Map<Node, number> {
  const found = new Map<Node, number>();
  const reachOf = (value: string): number => {
    const seen = magnitudes.get(value);
    if (seen === undefined) return 0;
    const low = seen.low <= maskValue && seen.high <= largestSafe ? 0 : -seen.low;
    return Math.max(low, seen.high);
  };
  walkGraphs(graph, ({ nodes }) => {
    for (const node of nodes) {
      const reaches = [...valuesUsed(node), ...node.outputs].filter((name) => name !== '').map(reachOf);
      const reach = Math.max(0, ...reaches.map((value) => (Number.isNaN(value) ? Infinity : value)));
      if (reach <= largestSafe) continue;
      found.set(node, reach);
      for (const body of bodiesOf(node)) {
        walkGraphs(body, (inner) => {
          for (const one of inner.nodes) found.set(one, Math.max(reach, found.get(one) ?? 0));
        });
      }
    }
  });
  return found;
}

/**
 * Nodes that lie between others that compute in float32 (all they read comes from those, all that read them are
 * those): in float16 they would cost two casts and digits for nothing.
 * @param wide whether a node computes in float32 for a reason of its own.
 */
export function enclosedNodes(graph: Graph, wide: (node: Node) => boolean): Set<Node> {
  const index = indexGraph(graph);
  const types = valueTypes(graph);
  const inside = new Set<Node>();
  const isWide = (node: Node): boolean => wide(node) || inside.has(node);
  for (let grown = true; grown;) {
    grown = false;
    for (const node of graph.nodes) {
      if (isWide(node) || node.domain !== '' || !cheap.has(node.opType)) continue;
      const sources = node.inputs.filter(
        (name) => types.get(name) === DataType.FLOAT && constantValue(graph, index, name) === null,
      );
      const readers = node.outputs.flatMap((name) => index.consumers.get(name) ?? []);
      const result = node.outputs.some((name) => index.outputs.has(name));
      const closed =
        sources.every((name) => index.producer.has(name) && isWide(index.producer.get(name)!)) &&
        readers.every((reader) => !reader.captured && isWide(reader.node));
      if (sources.length === 0 || readers.length === 0 || result || !closed) continue;
      inside.add(node);
      grown = true;
    }
  }
  return inside;
}
