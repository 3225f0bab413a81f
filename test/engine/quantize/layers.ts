import { intAttribute, intsAttribute, makeNode } from '../../../src/onnx/graph.js';
import type { Model, Node, Tensor } from '../../../src/onnx/model.js';
import { int64Tensor } from '../../../src/onnx/tensor.js';
import type { WeightRole } from '../../../src/quantize/sites.js';
import { buildModel, node, weight } from './build.js';
import { gaussian } from './numbers.js';

/** A model whose memory is its weights, and the dims of its only input `x` (int64 for a table). */
export interface LayerModel {
  model: Model;
  dims: number[];
  integers?: boolean;
}

/** So many that unpacking one at a time is little against holding all. */
const layers = 6;

type Layer = (x: string, w: string, y: string, index: number) => Node[];

function chain(dims: number[], weightDims: number[], scale: number, layer: Layer, more: Tensor[] = []): LayerModel {
  const nodes: Node[] = [];
  const weights: Tensor[] = [...more];
  let x = 'x';
  const count = weightDims.reduce((a, b) => a * b, 1);
  for (let index = 0; index < layers; index++) {
    const y = index === layers - 1 ? 'y' : `y${index}`;
    weights.push(
      weight(
        `w${index}`,
        weightDims,
        gaussian(count, index + 1).map((value) => value * scale),
      ),
    );
    nodes.push(...layer(x, `w${index}`, y, index));
    x = y;
  }
  return { dims, model: buildModel({ inputs: { x: dims }, outputs: ['y'], nodes, weights, opset: 21 }) };
}

const kernel = { kernel_shape: intsAttribute([3, 3]), pads: intsAttribute([1, 1, 1, 1]) };

/** Recurrent layers with both weights. */
function recurrent(opType: 'LSTM' | 'GRU', gates: number): LayerModel {
  const size = 96;
  const made = chain(
    [3, 1, size],
    [1, gates * size, size],
    0.1,
    (x, w, y, index) => [
      makeNode(opType, [x, w, `r${index}`], [`${y}_all`], { hidden_size: intAttribute(size) }, { name: `${y}_cell` }),
      node('Squeeze', [`${y}_all`, 'direction'], y),
    ],
    [int64Tensor('direction', [1], [1])],
  );
  for (let index = 0; index < layers; index++) {
    const values = gaussian(gates * size * size, index + 50).map((value) => value * 0.1);
    made.model.graph.initializers.set(`r${index}`, weight(`r${index}`, [1, gates * size, size], values));
  }
  return made;
}

/** One model for each kind of operator that holds weights. */
export const layerModels: Record<Exclude<WeightRole, 'other'>, () => LayerModel> = {
  matmul: () => chain([4, 256], [256, 256], 0.06, (x, w, y) => [node('MatMul', [x, w], y)]),
  'matmul-left': () => chain([2, 256, 3], [256, 256], 0.06, (x, w, y) => [node('MatMul', [w, x], y)]),
  // The matrices are on the right and on the left by turns.
  'matmul-stack': () =>
    chain([4, 96, 96], [4, 96, 96], 0.1, (x, w, y, at) => [node('MatMul', at % 2 === 0 ? [x, w] : [w, x], y)]),
  gemm: () =>
    chain([4, 256], [256, 256], 0.06, (x, w, y, index) => [
      node('Gemm', [x, w], y, { transB: intAttribute(index % 2) }),
    ]),
  conv: () => chain([1, 64, 4, 4], [64, 64, 3, 3], 0.05, (x, w, y) => [node('Conv', [x, w], y, kernel)]),
  'conv-transpose': () =>
    chain([1, 64, 4, 4], [64, 64, 3, 3], 0.05, (x, w, y) => [node('ConvTranspose', [x, w], y, kernel)]),
  gather: () => ({
    dims: [5],
    integers: true,
    model: buildModel({
      inputs: { x: [5] },
      inputTypes: { x: 7 },
      outputs: ['y'],
      nodes: [node('Gather', ['table', 'x'], 'y')],
      weights: [weight('table', [1024, 96], gaussian(1024 * 96, 1))],
      opset: 21,
    }),
  }),
  lstm: () => recurrent('LSTM', 4),
};

export const gru = (): LayerModel => recurrent('GRU', 3);
