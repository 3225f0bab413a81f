import { SnugError } from '../contract/errors.js';
import {
  cloneModel,
  constantValue,
  dropInitializerInputs,
  feedInputs,
  freshName,
  indexGraph,
  intAttribute,
  makeNode,
  removeDeadNodesAndInitializers,
} from '../onnx/graph.js';
import { DataType, type Dim, type Model } from '../onnx/model.js';
import { raiseToOpset13 } from '../onnx/opset-legacy.js';
import { batchSymbol } from './graph-builder.js';

/** Sizes of every input that is fed; `'batch'` where the number of samples stands. */
export type InputDims = Readonly<Record<string, readonly (number | typeof batchSymbol)[]>>;

/**
 * A copy with the outputs that are asked for, open sizes only where the batch is, and constants as initializers.
 * @param outputs `output` alone, or the first one, when left out
 * @throws SnugError E_USAGE for an output that does not exist, E_DATA_SHAPE for an input without data,
 *   E_NOT_SUPPORTED for an old opset that cannot be raised
 */
export function forwardGraph(
  model: Model,
  {
    inputDims,
    output,
    outputs,
  }: { inputDims: InputDims; output?: string | undefined; outputs?: readonly string[] | undefined },
): Model {
  const copy = cloneModel(model);
  const { graph } = copy;
  dropInitializerInputs(copy);
  graph.outputs = (outputs ?? [output ?? graph.outputs[0]?.name ?? '']).map((asked) => {
    const chosen = graph.outputs.find(({ name }) => name === asked);
    if (chosen) return { name: chosen.name, dataType: chosen.dataType, dims: null };
    throw new SnugError('E_USAGE', `The model has no output "${asked}".`, {
      action: `Choose among: ${graph.outputs.map(({ name }) => name).join(', ')}.`,
    });
  });
  const index = indexGraph(graph);
  graph.nodes = graph.nodes.filter((node) => {
    const tensor = node.opType === 'Constant' ? constantValue(graph, index, node.outputs[0] ?? '') : null;
    if (!tensor || tensor.strings) return true;
    graph.initializers.set(node.outputs[0] ?? '', { ...tensor, name: node.outputs[0] ?? '' });
    return false;
  });
  graph.valueInfo.clear();
  removeDeadNodesAndInitializers(graph);
  const used = new Set(graph.nodes.flatMap((node) => node.inputs));
  graph.inputs = feedInputs(graph)
    .filter(({ name }) => used.has(name) || inputDims[name] !== undefined)
    .filter(({ name }) => used.has(name))
    .map(({ name, dataType }) => ({ name, dataType, dims: dimsOf(inputDims, name) }));
  raiseToOpset13(copy, { [batchSymbol]: 3 });
  return copy;
}

/**
 * Makes a graph's first output float32, in place: a loss in half precision would overflow.
 * @returns its name
 */
export function float32Output({ graph }: Model): string {
  const { name = '', dataType = DataType.FLOAT } = graph.outputs[0] ?? {};
  if (dataType === DataType.FLOAT || dataType === DataType.UNDEFINED) return name;
  const wide = freshName(graph, `${name}/float32`);
  graph.nodes.push(makeNode('Cast', [name], [wide], { to: intAttribute(DataType.FLOAT) }, { name: wide }));
  graph.outputs = [{ name: wide, dataType: DataType.FLOAT, dims: null }];
  return wide;
}

function dimsOf(inputDims: InputDims, name: string): Dim[] {
  const dims = inputDims[name];
  if (dims) return [...dims];
  throw new SnugError('E_DATA_SHAPE', `There is no data for the input "${name}".`, {
    action: 'Give a .npz file with an array for every input.',
    params: { input: name },
  });
}
