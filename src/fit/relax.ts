import type { Model } from '../onnx/model.js';
import { DataType } from '../onnx/model.js';
import { cloneModel, freshName, makeNode } from '../onnx/graph.js';
import { int64Tensor } from '../onnx/tensor.js';

/**
 * Hides the batch symbol from onnxruntime's planner. Its static reuse holds a dead buffer until a later
 * value of the *same symbolic shape* takes it over, often half a network later; with an unknown batch it
 * frees the buffer at once and the arena reuses it. A Reshape with −1 for the batch is an alias (no copy)
 * and makes every derived size unknown to the planner, while inputs and outputs keep their names
 * (docs/decisions/0003 has the measurements).
 *
 * Only float inputs of rank ≥ 2 whose first axis is a symbol are touched. Further symbolic axes are copied
 * with 0, so an input whose other axes may be empty (a KV cache) must not be, and is not, touched.
 *
 * @returns a new model, or null when there is no such input.
 */
export function relaxDims(model: Model): Model | null {
  const relaxed = cloneModel(model);
  const { graph } = relaxed;
  let touched = 0;
  for (const input of graph.inputs) {
    const { dims } = input;
    if (graph.initializers.has(input.name) || input.dataType !== DataType.FLOAT || !dims || dims.length < 2) continue;
    if (typeof dims[0] !== 'string' || /past|cache/i.test(input.name)) continue;
    const shape = dims.map((dim, axis) => (axis === 0 ? -1 : typeof dim === 'number' ? dim : 0));
    if (shape.some((dim, axis) => axis > 0 && dim === 0 && typeof dims[axis] === 'number')) continue;
    const shapeName = freshName(graph, `${input.name}_shape`);
    const valueName = freshName(graph, `${input.name}_any_batch`);
    for (const node of graph.nodes) {
      node.inputs = node.inputs.map((name) => (name === input.name ? valueName : name));
    }
    graph.initializers.set(shapeName, int64Tensor(shapeName, [shape.length], shape));
    graph.nodes.unshift(makeNode('Reshape', [input.name, shapeName], [valueName], undefined, { name: valueName }));
    touched++;
  }
  if (touched === 0) return null;
  // Recorded shapes still carry the symbol; the planner would read it from there.
  graph.valueInfo.clear();
  return relaxed;
}
