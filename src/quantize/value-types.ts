import { bodiesOf, constantValue, getInt, getTensor, indexGraph } from '../onnx/graph.js';
import { DataType, type Graph, type Node } from '../onnx/model.js';

const integers = new Set(['Shape', 'Size', 'NonZero', 'ArgMax', 'ArgMin']);
const booleans = new Set([
  'Equal',
  'Greater',
  'GreaterOrEqual',
  'Less',
  'LessOrEqual',
  'Not',
  'And',
  'Or',
  'Xor',
  'IsNaN',
  'IsInf',
]);
/** Operators whose result has the type of an input other than the first. */
const typeInput: Record<string, number> = { Where: 1, DequantizeLinear: 1, GatherBlockQuantized: 2, OneHot: 2 };

/**
 * Element types of the values of one graph (bodies excluded), as far as the operators tell; declared types win.
 * Unknown operators are taken to return the type of their first input.
 * @param around for a body: what it sees ({@link typesAround}), which is in the result, too
 */
export function valueTypes(graph: Graph, around: ReadonlyMap<string, number> = new Map()): Map<string, number> {
  const types = new Map(around);
  const index = indexGraph(graph);
  for (const tensor of graph.initializers.values()) types.set(tensor.name, tensor.dataType);
  for (const { name, dataType } of graph.inputs) {
    if (dataType !== DataType.UNDEFINED || !types.has(name)) types.set(name, dataType);
  }
  for (const node of graph.nodes) {
    node.outputs.forEach((output, position) => {
      if (output === '') return;
      const declared = graph.valueInfo.get(output)?.dataType ?? DataType.UNDEFINED;
      if (declared !== DataType.UNDEFINED) types.set(output, declared);
      else types.set(output, constantValue(graph, index, output)?.dataType ?? outputType(node, position, types));
    });
  }
  return types;
}

/** Types of what a body sees: the values around its node, and its inputs, which Loop and Scan may leave undeclared. */
export function typesAround(node: Node, body: Graph, types: ReadonlyMap<string, number>): Map<string, number> {
  const seen = new Map(types);
  const counters = node.opType === 'Loop' ? [DataType.INT64, DataType.BOOL] : [];
  body.inputs.forEach(({ name, dataType }, at) => {
    const given = counters[at] ?? types.get(node.inputs[at] ?? '') ?? DataType.UNDEFINED;
    seen.set(name, dataType === DataType.UNDEFINED ? given : dataType);
  });
  return seen;
}

/** Type of a result of If, Loop or Scan: that of the body's output. */
function bodyOutputType(node: Node, body: Graph, position: number, types: ReadonlyMap<string, number>): number {
  const output = body.outputs[node.opType === 'Loop' ? position + 1 : position];
  if (output === undefined || output.dataType !== DataType.UNDEFINED) return output?.dataType ?? DataType.UNDEFINED;
  return valueTypes(body, typesAround(node, body, types)).get(output.name) ?? DataType.UNDEFINED;
}

function outputType(node: Node, position: number, types: ReadonlyMap<string, number>): number {
  const { opType } = node;
  const [body] = bodiesOf(node);
  if (body !== undefined) return bodyOutputType(node, body, position, types);
  const of = (input: number): number => types.get(node.inputs[input] ?? '') ?? DataType.UNDEFINED;
  if (integers.has(opType) || (opType === 'TopK' && position === 1)) return DataType.INT64;
  if (booleans.has(opType)) return DataType.BOOL;
  switch (opType) {
    case 'Cast':
      return getInt(node, 'to', DataType.FLOAT);
    case 'ConstantOfShape':
      return getTensor(node, 'value')?.dataType ?? DataType.FLOAT;
    case 'QuantizeLinear':
      return node.inputs.length > 2 ? of(2) : DataType.UINT8;
    case 'DynamicQuantizeLinear':
      return position === 1 ? DataType.FLOAT : DataType.UINT8;
    case 'MatMulInteger':
    case 'ConvInteger':
      return DataType.INT32;
    case 'Dropout':
      return position === 1 ? DataType.BOOL : of(0);
    case 'EyeLike':
    case 'RandomNormal':
    case 'RandomUniform':
    case 'RandomNormalLike':
    case 'RandomUniformLike':
    case 'Bernoulli':
    case 'Multinomial':
      return getInt(node, 'dtype', node.inputs.length > 0 ? of(0) : DataType.FLOAT);
    default: {
      const given = node.inputs.findIndex((input) => input !== '');
      return of(typeInput[opType] ?? Math.max(0, given));
    }
  }
}
