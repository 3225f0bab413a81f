import type { Dtype } from '../contract/types.js';
import { getFloat, getInt } from '../onnx/graph.js';
import { DataType, type Model } from '../onnx/model.js';
import { opsetObstacle } from '../onnx/opset.js';
import { channelAxis, summedAxis } from './axes.js';
import { staysFloat32 } from './float16.js';
import { isWideBody } from './float16-bodies.js';
import { otherWeight } from './lstm.js';
import { rankOf } from './ranks.js';
import type { WeightSite, WeightUse } from './sites.js';
import type { Encoding } from './truth.js';

/** A property of this very weight or model that rules the encoding out. */
export function obstacleOf(
  model: Model,
  site: WeightSite,
  use: WeightUse,
  encoding: Encoding,
  dtype: Dtype,
): string | null {
  const { tensor } = site;
  if (encoding === 'float16') {
    if (tensor.dataType !== DataType.FLOAT) return 'it is not float32';
    if (isWideBody(model, use.graph)) return 'its body of If or Loop stays float32: its types are not all known';
    return staysFloat32(use.node.opType) ? 'it needs the range of float32' : null;
  }
  const wide = encoding === 'MatMulNBits' || encoding === 'GatherBlockQuantized';
  if (tensor.dataType !== DataType.FLOAT && !(wide && tensor.dataType === DataType.FLOAT16)) {
    return 'weights of this number format are not quantized further';
  }
  const opset = raiseObstacle(model, leastOpset[encoding]);
  if (opset !== null) return opset;
  switch (use.role) {
    case 'matmul-left':
      return leftObstacle(model, use);
    case 'matmul-stack':
      return encoding === 'DequantizeLinear-blocks' ? axisBlocksObstacle(site, use) : null;
    case 'matmul':
    case 'gemm':
      if (tensor.dims.length !== 2) return 'the weight is no matrix';
      return encoding === 'QDQ' ? staticObstacle(model, site, use) : null;
    case 'gather': {
      if (use.transpose !== null || tensor.dims.length !== 2) return 'only tables of rows have a quantized form';
      const axis = getInt(use.node, 'axis', 0);
      if (axis !== 0 && axis !== -2) return 'only tables of rows have a quantized form';
      return dtype === 'int2' && tensor.dims[1]! % 4 !== 0 ? 'its rows do not divide into bytes of four codes' : null;
    }
    case 'conv':
    case 'conv-transpose':
      if (tensor.dims.length < 3) return 'its weight has no kernel dimensions';
      if (encoding === 'QDQ') return staticObstacle(model, site, use);
      return encoding === 'DequantizeLinear-blocks' ? axisBlocksObstacle(site, use) : null;
    case 'lstm':
      if (tensor.dims.length !== 3) return 'its weight has not the expected three dimensions';
      return encoding === 'DynamicQuantizeLSTM' ? lstmObstacle(use) : null;
    case 'other':
      return null;
  }
}

function lstmObstacle(use: WeightUse): string | null {
  if (use.node.opType !== 'LSTM') return 'recurrent layers of this kind have no integer form';
  if (getInt(use.node, 'layout', 0) !== 0) return 'its batch comes first';
  return use.graph.initializers.has(otherWeight(use)) ? null : 'its other weight is not a constant beside it';
}

/** Why the other matrix of a product cannot be transposed, as a weight on the left asks for. */
function leftObstacle(model: Model, { graph, node }: WeightUse): string | null {
  const rank = node.opType === 'Gemm' ? 2 : rankOf(model, graph, node.inputs[1]!);
  if (rank === null) return 'the dimensions of what it multiplies are not known';
  return rank < 2 ? 'it multiplies a vector' : null;
}

function axisBlocksObstacle({ tensor }: WeightSite, use: WeightUse): string | null {
  return tensor.dims[summedAxis(use, tensor.dims.length)]! < 16 ? 'too few input channels for blocks of 16' : null;
}

/** The first opset that knows the operators of an encoding: scales for each channel, int4 in blocks, run-time ranges. */
export const leastOpset: Readonly<Record<Encoding, number>> = {
  ...{ none: 0, float16: 0, MatMulNBits: 0, MatMulBnb4: 0, GatherBlockQuantized: 0, DynamicQuantizeLSTM: 0 },
  ...{ MatMulInteger: 11, ConvInteger: 11, DequantizeLinear: 13, QDQ: 13, 'DequantizeLinear-blocks': 21 },
};

const raiseObstacles = new WeakMap<Model, Map<number, string | null>>();

/** Why a model cannot be said in an opset it needs; asked for once for each model. */
function raiseObstacle(model: Model, opset: number): string | null {
  if ((model.opsets.get('') ?? 0) >= opset) return null;
  let known = raiseObstacles.get(model);
  if (known === undefined) raiseObstacles.set(model, (known = new Map<number, string | null>()));
  let obstacle = known.get(opset);
  if (obstacle === undefined) known.set(opset, (obstacle = opsetObstacle(model, opset)));
  return obstacle;
}

function staticObstacle(model: Model, { tensor }: WeightSite, use: WeightUse): string | null {
  const { graph, node } = use;
  if (graph !== model.graph) return 'calibration does not see inside bodies of If and Loop';
  if (use.transpose !== null) return 'its weight is stored transposed';
  if (graph.initializers.has(node.inputs[0]!)) return 'its input is a constant';
  const bias = node.inputs[2] ?? '';
  const channels = tensor.dims[channelAxis(use, tensor.dims.length)];
  const biasDims = bias === '' ? [channels] : (graph.initializers.get(bias)?.dims ?? []);
  if (biasDims.length !== 1) return 'its bias is not a constant vector';
  if (biasDims[0] !== channels) return 'its bias has not one value for each output';
  if (use.role !== 'gemm') return null;
  const plain = getInt(node, 'transA', 0) === 0 && getFloat(node, 'alpha', 1) === 1 && getFloat(node, 'beta', 1) === 1;
  return plain ? null : 'integer kernels need transA = 0 and alpha = beta = 1';
}
