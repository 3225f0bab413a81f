import { makeNode } from '../../onnx/graph.js';
import type { Model, Node, Tensor } from '../../onnx/model.js';
import { DataType } from '../../onnx/model.js';
import { newModel } from '../../onnx/new-model.js';
import { float32Tensor } from '../../onnx/tensor.js';

/** A graph that calibration runs. The input is named `x`, the output `y`. */
export interface Probe {
  name: string;
  model: Model;
}

/**
 * Weights that keep values near 1 through the layers. Each tensor has a value of its own: the runtime keeps equal
 * packed weights only once.
 */
function weight(name: string, dims: readonly number[], layer: number): Tensor {
  const elements = dims.reduce((product, dim) => product * dim, 1);
  const fanIn = Math.max(1, elements / (dims[0] ?? 1));
  return float32Tensor(name, dims, new Float32Array(elements).fill((1 + layer / 16) / fanIn));
}

function modelOf(name: string, dims: number[], nodes: Node[], weights: Tensor[]): Model {
  const value = (each: string, shape: number[] | null) => ({ name: each, dataType: DataType.FLOAT, dims: shape });
  return newModel({ name, opset: 17, nodes, weights, inputs: [value('x', dims)], outputs: [value('y', null)] });
}

/** One node on four numbers: what a session costs before any model. */
export function oneNode(): Probe {
  return { name: 'one node', model: modelOf('one', [4], [makeNode('Relu', ['x'], ['y'], {}, { name: 'relu' })], []) };
}

/** Four dense layers: nearly all of it weights (16.8 MB), as in a text model. */
function dense(): Probe {
  const width = 1024;
  const weights = [0, 1, 2, 3].map((layer) => weight(`w${layer}`, [width, width], layer));
  const nodes = weights.flatMap((tensor, layer) => [
    makeNode('MatMul', [layer === 0 ? 'x' : `h${layer}`, tensor.name], [`m${layer}`], {}, { name: `mul${layer}` }),
    makeNode('Relu', [`m${layer}`], [layer === 3 ? 'y' : `h${layer + 1}`], {}, { name: `relu${layer}` }),
  ]);
  return { name: 'dense layers', model: modelOf('dense', [8, width], nodes, weights) };
}

/** Wide feature maps with a branch that stays alive over three layers: nearly all of it activations. */
function maps(): Probe {
  const channels = 16;
  const conv = (from: string, to: string, weightName: string) =>
    makeNode('Conv', [from, weightName], [to], {}, { name: `conv_${to}` });
  const nodes = [
    conv('x', 'a', 'w0'),
    makeNode('Relu', ['a'], ['b'], {}, { name: 'relu_b' }),
    conv('b', 'c', 'w1'),
    makeNode('Relu', ['c'], ['d'], {}, { name: 'relu_d' }),
    conv('d', 'e', 'w2'),
    makeNode('Add', ['e', 'b'], ['f'], {}, { name: 'add' }),
    makeNode('GlobalAveragePool', ['f'], ['y'], {}, { name: 'pool' }),
  ];
  const weights = [
    weight('w0', [channels, 3, 1, 1], 0),
    weight('w1', [channels, channels, 1, 1], 1),
    weight('w2', [channels, channels, 1, 1], 2),
  ];
  return { name: 'feature maps', model: modelOf('maps', [4, 3, 160, 160], nodes, weights) };
}

/** Attention without weights: large products and a softmax between them. */
function attention(): Probe {
  const perm = { type: 'ints' as const, value: [0, 2, 1] };
  const nodes = [
    makeNode('Transpose', ['x'], ['t'], { perm }, { name: 'transpose' }),
    makeNode('MatMul', ['x', 't'], ['s'], {}, { name: 'scores' }),
    makeNode('Softmax', ['s'], ['p'], { axis: { type: 'int', value: -1 } }, { name: 'softmax' }),
    makeNode('MatMul', ['p', 'x'], ['y'], {}, { name: 'mix' }),
  ];
  return { name: 'attention', model: modelOf('attention', [4, 512, 32], nodes, []) };
}

/**
 * Small graphs of the shapes that models are made of: large in bytes, small in arithmetic, so that a software GPU is
 * done in seconds too.
 */
export function probes(): Probe[] {
  return [dense(), maps(), attention()];
}
