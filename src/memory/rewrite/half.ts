import { getInt, intAttribute } from '../../onnx/attribute.js';
import { DataType, type Model, type Node, type Tensor } from '../../onnx/model.js';
import { computedData, readNumbers } from '../../onnx/tensor.js';

/** The constant in float32; its bytes are computed when asked for (small ones are: scales, exponents). */
function widened(tensor: Tensor): Tensor {
  const data = computedData(tensor.data.byteLength * 2, () => {
    const values = Float32Array.from(readNumbers(tensor));
    return new Uint8Array(values.buffer);
  });
  return { ...tensor, dataType: DataType.FLOAT, data };
}

function cast(from: string, to: string, dataType: number): Node {
  const attributes = new Map([['to', intAttribute(dataType)]]);
  return { name: `${to}/cast`, opType: 'Cast', domain: '', inputs: [from], outputs: [to], attributes };
}

/** An operator as it runs in float32: constants and casts widened, values at the border renamed. */
function widenNode(node: Node, renamed: ReadonlyMap<string, string>): Node {
  const rename = (name: string) => renamed.get(name) ?? name;
  const attributes = new Map(node.attributes);
  for (const [name, attribute] of attributes) {
    if (attribute.type === 'tensor' && attribute.value.dataType === DataType.FLOAT16) {
      attributes.set(name, { type: 'tensor', value: widened(attribute.value) });
    }
  }
  if (node.opType === 'Cast' && getInt(node, 'to', 0) === DataType.FLOAT16)
    attributes.set('to', intAttribute(DataType.FLOAT));
  return { ...node, attributes, inputs: node.inputs.map(rename), outputs: node.outputs.map(rename) };
}

/**
 * The CPU computes half-precision models in float32: weights are widened once, inputs and outputs are cast at the
 * border.
 */
export function widenHalf(model: Pick<Model, 'graph' | 'opsets'>): Pick<Model, 'graph' | 'opsets'> {
  const { graph } = model;
  const initializers = new Map<string, Tensor>();
  let any = false;
  for (const [name, tensor] of graph.initializers) {
    any ||= tensor.dataType === DataType.FLOAT16;
    initializers.set(name, tensor.dataType === DataType.FLOAT16 ? widened(tensor) : tensor);
  }
  const isHalf = (value: { dataType: number }) => value.dataType === DataType.FLOAT16;
  const inputs = graph.inputs.filter((input) => isHalf(input) && !initializers.has(input.name));
  const outputs = graph.outputs.filter(isHalf);
  if (!any && inputs.length === 0 && outputs.length === 0) return model;
  const renamed = new Map([...inputs, ...outputs].map(({ name }) => [name, `${name}/float32`]));
  const nodes = [
    ...inputs.map(({ name }) => cast(name, `${name}/float32`, DataType.FLOAT)),
    ...graph.nodes.map((node) => widenNode(node, renamed)),
    ...outputs.map(({ name }) => cast(`${name}/float32`, name, DataType.FLOAT16)),
  ];
  return { graph: { ...graph, initializers, nodes }, opsets: model.opsets };
}
