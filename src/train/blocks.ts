import {
  cloneModel,
  freshName,
  intAttribute,
  makeNode,
  removeDeadNodesAndInitializers,
  replaceUses,
} from '../onnx/graph.js';
import { DataType, type Model, type ValueInfo } from '../onnx/model.js';
import { topologicalOrder, valuesUsed } from '../onnx/topology.js';
import { float32Output } from './forward.js';
import { batchSymbol, floatTypes, GraphBuilder } from './graph-builder.js';
import { trainableWeights } from './trainable.js';

/**
 * Values through which all that the weights before them have an influence on passes, in order, the output last: a
 * network can be taken apart there. What is made of the inputs alone (masks, positions) may pass beside them and is
 * made again in each part.
 * @param forward result of `forwardGraph`
 */
export function cutValues(forward: Model): ValueInfo[] {
  const { graph } = forward;
  const output = graph.outputs[0]?.name ?? '';
  const nodes = topologicalOrder(graph);
  const weightMade = new Set(trainableWeights(forward).map(({ name }) => name));
  const lastUse = new Map<string, number>([[output, nodes.length]]);
  nodes.forEach((node, at) => {
    for (const name of valuesUsed(node)) if (name !== output) lastUse.set(name, at);
  });
  const builder = new GraphBuilder(cloneModel(forward));
  /** Made of what is fed, and made of weights: what is both has to be handed on. */
  const fed = new Set(graph.inputs.map(({ name }) => name));
  const live = new Set<string>();
  const cuts: ValueInfo[] = [];
  nodes.forEach((node, at) => {
    const used = valuesUsed(node);
    if ([...used].some((name) => weightMade.has(name))) {
      for (const name of node.outputs) weightMade.add(name);
    }
    for (const name of used) if (lastUse.get(name) === at) live.delete(name);
    if (![...used].some((name) => fed.has(name))) return;
    for (const name of node.outputs) fed.add(name);
    if (![...used].some((name) => weightMade.has(name))) return;
    for (const name of node.outputs) {
      if (name === '' || !lastUse.has(name)) continue;
      live.add(name);
    }
    const [only] = live;
    if (live.size !== 1 || only === undefined || !node.outputs.includes(only)) return;
    const dataType = builder.dataType(only);
    if (!floatTypes.has(dataType)) return;
    const { sizes, open } = builder.extent(only);
    // Rows of samples: what is kept of a cut is kept sample by sample.
    if (open[0] !== true || open.slice(1).includes(true)) return;
    cuts.push({ name: only, dataType, dims: sizes.map((size, axis) => (open[axis] ? batchSymbol : size)) });
  });
  return cuts;
}

/**
 * The part of a network between two cuts, as a model of its own. The weights are shared with the network. What it
 * takes and gives at the cuts is float32, whatever the network holds there.
 * @param from null = from the inputs
 */
export function partBetween(forward: Model, from: ValueInfo | null, to: ValueInfo): Model {
  const part = cloneModel(forward);
  const { graph } = part;
  graph.outputs = [{ ...to }];
  float32Output(part);
  if (from) {
    for (const node of graph.nodes) {
      node.outputs = node.outputs.map((name) => (name === from.name ? freshName(graph, `${name}/before`) : name));
    }
    graph.inputs.push({ ...from, dataType: DataType.FLOAT });
    if (from.dataType !== DataType.FLOAT) {
      const narrow = freshName(graph, `${from.name}/narrow`);
      replaceUses(graph, from.name, narrow);
      graph.nodes.unshift(makeNode('Cast', [from.name], [narrow], { to: intAttribute(from.dataType) }));
    }
  }
  removeDeadNodesAndInitializers(graph);
  const used = new Set(graph.nodes.flatMap((node) => [...valuesUsed(node)]));
  graph.inputs = graph.inputs.filter(({ name }) => used.has(name));
  return part;
}
