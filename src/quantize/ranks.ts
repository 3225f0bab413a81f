import type { Graph, Model } from '../onnx/model.js';
import { defaultBindings, inferShapes, type ShapeResult } from '../onnx/shape.js';

const inferred = new WeakMap<Model, ShapeResult>();

/**
 * Number of dimensions of a value, null when unknown. Shapes are inferred once for each model: edits that keep what
 * values mean do not matter.
 */
export function rankOf(model: Model, graph: Graph, value: string): number | null {
  let known = inferred.get(model);
  if (known === undefined) inferred.set(model, (known = inferShapes(model, defaultBindings(model, 1).dims)));
  // A body's own values first, then what it captures: names are not reused in nested scopes.
  const scopes = [known.bodies.get(graph), known, ...known.bodies.values()];
  for (const scope of scopes) {
    const dims = scope?.symbols.get(value);
    if (dims !== undefined) return dims.length;
  }
  return null;
}
