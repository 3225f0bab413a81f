import { indexGraph, replaceUses } from '../onnx/graph.js';
import type { Graph } from '../onnx/model.js';

/**
 * Lets everything that reads a constant under another name (Identity: how PyTorch's older exporter shares equal
 * weights) read the constant itself, in place. A result of the graph keeps its Identity.
 */
export function dropAliases(graph: Graph): void {
  const { outputs } = indexGraph(graph);
  graph.nodes = graph.nodes.filter((node) => {
    const [from, to] = [node.inputs[0] ?? '', node.outputs[0] ?? ''];
    if (node.opType !== 'Identity' || node.domain !== '' || !graph.initializers.has(from) || outputs.has(to)) {
      return true;
    }
    replaceUses(graph, to, from);
    return false;
  });
}
