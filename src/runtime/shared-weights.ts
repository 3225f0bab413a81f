import type { Graph } from '../onnx/model.js';
import type { ProfiledNode } from './profile.js';

/** Smaller weights cannot matter; exporters share many constants of a few bytes. */
const smallestBytes = 4096;

/** Whether the runtime's node `profiled` was made from the file's node `original`. */
function stemsFrom(profiled: string, original: string): boolean {
  return (
    profiled === original ||
    profiled === `fused ${original}` ||
    profiled.startsWith(`${original}/`) ||
    profiled.startsWith(`${original}_token_`)
  );
}

/**
 * Bytes that a sum over nodes counts too often, because the profile names the bytes of a shared weight at
 * each of its consumers. A weight is held as it is when every consumer reports at least its bytes: as long as
 * one consumer cannot pack it, all of them report it. Consumers are found by the names the optimiser keeps;
 * one that is not found is left counted, so the result is never too large.
 *
 * @param graph the graph as it is in the file
 */
export function sharedWeightExcess(nodes: readonly ProfiledNode[], graph: Graph): number {
  const consumers = new Map<string, string[]>();
  for (const node of graph.nodes) {
    for (const input of new Set(node.inputs)) {
      const bytes = graph.initializers.get(input)?.data.byteLength ?? 0;
      if (bytes >= smallestBytes && node.name !== '')
        consumers.set(input, [...(consumers.get(input) ?? []), node.name]);
    }
  }
  let excess = 0;
  for (const [weight, names] of consumers) {
    if (names.length < 2) continue;
    const bytes = graph.initializers.get(weight)?.data.byteLength ?? 0;
    const users = nodes.filter((node) => names.some((name) => stemsFrom(node.name, name)));
    if (users.length > 1 && users.every((node) => node.parameterBytes >= bytes)) excess += (users.length - 1) * bytes;
  }
  return excess;
}
