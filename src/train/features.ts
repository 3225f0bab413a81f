import { intAttribute } from '../onnx/attribute.js';
import { cloneModel, freshName, makeNode } from '../onnx/graph.js';
import { DataType, type Model, type ValueInfo } from '../onnx/model.js';
import { float32Tensor } from '../onnx/tensor.js';

/** A value inside a network [batch, …], and what its elements are multiplied by. */
export interface Feature {
  value: ValueInfo;
  scale: number;
}

/**
 * A copy of a network whose one output [batch, n] (float32) holds several of its values side by side: the mean squared error of it
 * is a weighted sum of theirs, so that one training draws them all to what another network has there.
 * @param forward result of `forwardGraph`
 * @param features at least one
 */
export function withFeatures(forward: Model, features: readonly Feature[]): Model {
  const copy = cloneModel(forward);
  const { graph } = copy;
  const parts = features.map(({ value: { name, dataType }, scale }) => {
    const factor = freshName(graph, `${name}/scale`);
    graph.initializers.set(factor, float32Tensor(factor, [], Float32Array.of(scale)));
    const flat = freshName(graph, `${name}/flat`);
    graph.nodes.push(makeNode('Flatten', [name], [flat], { axis: intAttribute(1) }));
    let wide = flat;
    if (dataType !== DataType.FLOAT) {
      wide = freshName(graph, `${name}/wide`);
      graph.nodes.push(makeNode('Cast', [flat], [wide], { to: intAttribute(DataType.FLOAT) }));
    }
    const scaled = freshName(graph, `${name}/scaled`);
    graph.nodes.push(makeNode('Mul', [wide, factor], [scaled]));
    return scaled;
  });
  const output = freshName(graph, 'features');
  graph.nodes.push(makeNode('Concat', parts, [output], { axis: intAttribute(1) }));
  graph.outputs = [{ name: output, dataType: DataType.FLOAT, dims: null }];
  return copy;
}
