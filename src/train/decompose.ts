import { makeNode } from '../onnx/graph.js';
import type { Model, Node } from '../onnx/model.js';
import { topologicalOrder } from '../onnx/topology.js';
import { activeValues, noRule, operatorKey } from './differentiate.js';
import { decompositions } from './decompositions/index.js';
import { GraphBuilder } from './graph-builder.js';

/** What a decomposition sees of its node. */
export interface DecompositionContext {
  readonly builder: GraphBuilder;
  readonly node: Node;
  /** Name of input `index`; '' when it is left out. */
  input(index: number): string;
  /** Whether anything wants the gradient of input `index`. */
  needs(index: number): boolean;
  /** Whether something reads output `index`. */
  isUsed(index: number): boolean;
}

/**
 * Says one node in other operators, appended to the builder's graph.
 * @returns the values that stand for the node's outputs, in order (null or left out: it cannot be made); null when
 *   the node has a gradient rule as it is
 */
export type Decomposition = (context: DecompositionContext) => readonly (string | null)[] | null;
export type Decompositions = Readonly<Record<string, Decomposition>>;

/**
 * Replaces the nodes between the wanted values and the output that have no gradient rule of their own (fused and
 * recurrent operators, quantized weights) by operators that have one, in place. Everything else stays as it is, and
 * so does the meaning of the graph, up to rounding.
 * @param wanted values that will be differentiated by
 * @param concerns whether a node may be replaced
 * @throws SnugError E_NOT_SUPPORTED for a form of such an operator that is not known
 */
export function decompose(
  model: Model,
  wanted: readonly string[],
  concerns: (node: Node) => boolean = () => true,
): void {
  const { graph } = model;
  const settled = new Set<Node>();
  for (;;) {
    const candidates = graph.nodes.filter(
      (node) => decompositions[operatorKey(node)] && !settled.has(node) && concerns(node),
    );
    if (candidates.length === 0) return;
    const builder = new GraphBuilder(model, 'decomposed');
    const active = activeValues(builder, graph.nodes, wanted);
    const used = new Set([...graph.nodes.flatMap(({ inputs }) => inputs), ...graph.outputs.map(({ name }) => name)]);
    used.delete('');
    const replaced = new Set<Node>();
    for (const node of candidates) {
      settled.add(node);
      if (!node.inputs.some((input) => active.has(input))) continue;
      const values = decompositions[operatorKey(node)]?.({
        builder,
        node,
        input: (index) => node.inputs[index] ?? '',
        needs: (index) => active.has(node.inputs[index] ?? ''),
        isUsed: (index) => used.has(node.outputs[index] ?? ''),
      });
      if (!values) continue;
      replaced.add(node);
      node.outputs.forEach((output, index) => {
        if (output === '' || !used.has(output)) return;
        const value = values[index];
        if (!value) throw noRule(node, `its output ${index + 1} cannot be followed`);
        graph.nodes.push(makeNode('Identity', [value], [output], {}, { name: output }));
      });
    }
    if (replaced.size === 0) return;
    graph.nodes = graph.nodes.filter((node) => !replaced.has(node));
    graph.nodes = topologicalOrder(graph);
  }
}
