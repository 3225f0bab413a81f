import { constantValue, getInt, getTensor, indexGraph } from '../onnx/graph.js';
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
 */
export function valueTypes(graph: Graph): Map<string, number> {
  const types = new Map<string, number>();
  const index = indexGraph(graph);
  for (const tensor of graph.initializers.values()) types.set(tensor.name, tensor.dataType);
  for (const input of graph.inputs) types.set(input.name, input.dataType);
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

function outputType(node: Node, position: number, types: ReadonlyMap<string, number>): number {
  const { opType } = node;
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
