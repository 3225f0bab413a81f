import { constantValue, getFloat, type GraphIndex } from '../onnx/graph.js';
import type { Graph, Node } from '../onnx/model.js';
import { readNumbers } from '../onnx/tensor.js';

/** Bounds of a Clip, constants since opset 11 and attributes before; null where there is none or it is not known. */
export function clipBounds(graph: Graph, index: GraphIndex, node: Node): [low: number | null, high: number | null] {
  const bound = (input: number, attribute: string): number | null => {
    if (node.attributes.has(attribute)) return getFloat(node, attribute, 0);
    const tensor = constantValue(graph, index, node.inputs[input] ?? '');
    return tensor === null ? null : readNumbers(tensor)[0]!;
  };
  return [bound(1, 'min'), bound(2, 'max')];
}
