import { bodiesOf, walkGraphs } from '../onnx/graph.js';
import { DataType, type Graph, type Model, type Node } from '../onnx/model.js';
import { typesAround, valueTypes } from './value-types.js';

/**
 * Bodies of If, Loop and Scan that cannot compute in float16, with those inside them: the type of an input is not
 * known, or a float result is not made by one of their own nodes, so that no cast can be put in front of it.
 * @param wide nodes whose bodies shall stay float32
 */
export function wideBodies(graph: Graph, wide: ReadonlySet<Node> = new Set()): Set<Graph> {
  const found = new Set<Graph>();
  const walk = (outer: Graph, types: ReadonlyMap<string, number>): void => {
    for (const node of outer.nodes) {
      for (const body of bodiesOf(node)) {
        const inner = valueTypes(body, typesAround(node, body, types));
        if (wide.has(node) || staysWide(body, inner)) walkGraphs(body, (one) => void found.add(one));
        else walk(body, inner);
      }
    }
  };
  walk(graph, valueTypes(graph));
  return found;
}

function staysWide(body: Graph, types: ReadonlyMap<string, number>): boolean {
  if (body.inputs.some(({ name }) => (types.get(name) ?? DataType.UNDEFINED) === DataType.UNDEFINED)) return true;
  const own = new Set([...body.inputs.map(({ name }) => name), ...body.nodes.flatMap(({ outputs }) => outputs)]);
  return body.outputs.some(({ name }) => types.get(name) === DataType.FLOAT && !own.has(name));
}

const known = new WeakMap<Model, Set<Graph>>();

/** Whether a graph of a model is a body that stays float32 ({@link wideBodies}); worked out once for each model. */
export function isWideBody(model: Model, graph: Graph): boolean {
  let bodies = known.get(model);
  if (bodies === undefined) known.set(model, (bodies = wideBodies(model.graph)));
  return bodies.has(graph);
}
