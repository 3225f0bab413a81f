import type { Dtype } from '../contract/types.js';
import { getFloat, getInt } from '../onnx/graph.js';
import { DataType, type Model } from '../onnx/model.js';
import { opsetObstacle } from '../onnx/opset.js';
import { channelAxis, summedAxis } from './axes.js';
import { staysFloat32 } from './float16.js';
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
  const opset = model.opsets.get('') ?? 0;
  if (encoding === 'float16') {
    if (tensor.dataType !== DataType.FLOAT) return 'it is not float32';
    if (use.graph !== model.graph) return 'bodies of If and Loop stay float32';
    return staysFloat32(use.node.opType) ? 'it needs the range of float32' : null;
  }
  const wide = encoding === 'MatMulNBits' || encoding === 'GatherBlockQuantized';
  if (tensor.dataType !== DataType.FLOAT && !(wide && tensor.dataType === DataType.FLOAT16)) {
    return 'weights of this number format are not quantized further';
  }
  switch (use.role) {
    case 'matmul-left':
      return leftObstacle(model, use);
    case 'matmul-stack':
      if (encoding === 'DequantizeLinear-blocks') return axisBlocksObstacle(model, site, use);
      return opset < 13 ? 'needs opset 13 or newer' : null;
    case 'matmul':
    case 'gemm':
      if (tensor.dims.length !== 2) return 'the weight is no matrix';
      if (encoding === 'MatMulInteger' && opset < 11) return 'needs opset 11 or newer';
      return encoding === 'QDQ' ? staticObstacle(model, site, use, opset) : null;
    case 'gather': {
      if (use.transpose !== null || tensor.dims.length !== 2) return 'only tables of rows have a quantized form';
      const axis = getInt(use.node, 'axis', 0);
      if (axis !== 0 && axis !== -2) return 'only tables of rows have a quantized form';
      return dtype === 'int2' && tensor.dims[1]! % 4 !== 0 ? 'its rows do not divide into bytes of four codes' : null;
    }
    case 'conv':
    case 'conv-transpose':
      if (tensor.dims.length < 3) return 'its weight has no kernel dimensions';
      if (encoding === 'ConvInteger') return opset < 11 ? 'needs opset 11 or newer' : null;
      if (encoding === 'QDQ') return staticObstacle(model, site, use, opset);
      if (encoding === 'DequantizeLinear-blocks') return axisBlocksObstacle(model, site, use);
      return opset < 13 ? 'needs opset 13 or newer' : null;
    case 'lstm':
      if (tensor.dims.length !== 3) return 'its weight has not the expected three dimensions';
      if (encoding === 'DynamicQuantizeLSTM') return lstmObstacle(use);
      return opset < 13 ? 'needs opset 13 or newer' : null;
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

function axisBlocksObstacle(model: Model, { tensor }: WeightSite, use: WeightUse): string | null {
  const obstacle = blocksObstacle(model);
  if (obstacle !== null) return obstacle;
  return tensor.dims[summedAxis(use, tensor.dims.length)]! < 16 ? 'too few input channels for blocks of 16' : null;
}

const blockObstacles = new WeakMap<Model, string | null>();

/** Why a model cannot be said in the first opset that knows int4 in blocks; asked for once for each model. */
function blocksObstacle(model: Model): string | null {
  let known = blockObstacles.get(model);
  if (known === undefined) blockObstacles.set(model, (known = opsetObstacle(model, 21)));
  return known;
}

function staticObstacle(model: Model, { tensor }: WeightSite, use: WeightUse, opset: number): string | null {
  const { graph, node } = use;
  if (opset < 13) return 'needs opset 13 or newer';
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
