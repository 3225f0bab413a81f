import { getInt, getString } from '../onnx/attribute.js';
import type { Node, Tensor } from '../onnx/model.js';
import type { Shape } from '../onnx/shape.js';
import { elementCount } from '../onnx/tensor.js';
import { operatorKey } from './inplace.js';
import { valueBytes } from './workspace.js';

/** What a WebGPU kernel takes besides its inputs and outputs. */
export interface WebgpuKernel {
  /** Shader launches of one run of the node; 0 for those that only give a buffer another shape. */
  dispatches: number;
  /** Bytes of the parameter buffer of each launch; launches of one size share theirs over time. */
  parameterBytes: number;
  /** Constant that is converted while the model loads and whose original then goes; null when none is. */
  convertsWeight: ConvertedWeight | null;
  /** Bytes of the buffers it holds while it runs. */
  temporaries(shapes: ReadonlyMap<string, Shape>): number[];
}

export interface ConvertedWeight {
  name: string;
  /** Whether it is turned in tiles, by a shader that takes long to compile, instead of element by element. */
  tiled: boolean;
}

const none = (): number[] => [];
const plain: WebgpuKernel = { dispatches: 1, parameterBytes: 48, convertsWeight: null, temporaries: none };

const aliases = new Set(['Reshape', 'Squeeze', 'Unsqueeze', 'Flatten', 'Identity']);
const elementwise = new Set(
  'Relu LeakyRelu Sigmoid Tanh Elu HardSigmoid Erf Sqrt Exp Log Neg Abs Cast Gelu com.microsoft:Gelu com.microsoft:QuickGelu com.microsoft:FastGelu com.microsoft:BiasGelu Add Sub Mul Div Pow Clip Not'.split(
    ' ',
  ),
);

/** Filters of one pixel are a matrix, and so are those of a single output channel. */
function turnedInTiles([outputs = 1, inputs = 1, height = 1, width = 1]: readonly number[]): boolean {
  if (height * width === 1) return outputs > 1 && inputs > 1;
  return outputs === 1 && inputs > 1 && height > 1 && width > 1;
}

/**
 * Convolutions want their filters with the channels last. Constants are turned once if the padding is known then,
 * others in every run.
 */
function convolution(node: Node, initializers: ReadonlyMap<string, Tensor>): WebgpuKernel {
  const name = node.inputs[1] ?? '';
  const dims = initializers.get(name)?.dims;
  const once = dims?.length === 4 && getString(node, 'auto_pad', 'NOTSET') === 'NOTSET';
  return {
    dispatches: once ? 1 : 2,
    parameterBytes: getInt(node, 'group', 1) > 1 ? 96 : 160,
    convertsWeight: once ? { name, tiled: turnedInTiles(dims) } : null,
    temporaries: once ? none : (shapes) => [valueBytes(shapes, name)],
  };
}

/** Its filters are turned in every run, constant or not. */
function transposedConvolution(node: Node): WebgpuKernel {
  const name = node.inputs[1] ?? '';
  return { ...plain, dispatches: 2, parameterBytes: 160, temporaries: (shapes) => [valueBytes(shapes, name)] };
}

/** Rows from which on products in 8-bit integers pay. */
const leastRows = 4;
const integerBlock = 128;

/** At accuracy level 4 the activations become 8-bit codes with a scale for each block, if the sizes divide well. */
function blockProduct(node: Node): WebgpuKernel {
  const inner = getInt(node, 'K', 1);
  const fits = inner % integerBlock === 0 && getInt(node, 'N', 1) % 16 === 0;
  const kernel = { ...plain, parameterBytes: 80 };
  if (getInt(node, 'accuracy_level', 0) !== 4 || !fits) return kernel;
  return {
    ...kernel,
    dispatches: 2,
    temporaries: (shapes) => {
      const codes = elementCount(shapes.get(node.inputs[0] ?? '')?.dims ?? []);
      return codes < leastRows * inner ? [] : [codes, (codes / integerBlock) * 4];
    },
  };
}

/** The kernel onnxruntime 1.30 runs a node with on WebGPU. */
export function webgpuKernel(node: Node, initializers: ReadonlyMap<string, Tensor>): WebgpuKernel {
  const key = operatorKey(node);
  if (aliases.has(key)) return { ...plain, dispatches: 0 };
  if (elementwise.has(key)) return { ...plain, parameterBytes: 16 };
  switch (key) {
    case 'Conv':
    case 'com.microsoft:FusedConv':
      return convolution(node, initializers);
    case 'ConvTranspose':
      return transposedConvolution(node);
    case 'Transpose':
    case 'LayerNormalization':
    case 'com.microsoft:SkipLayerNormalization':
      return { ...plain, parameterBytes: 64 };
    case 'com.microsoft:MatMulNBits':
      return blockProduct(node);
    case 'MatMul':
    case 'Gemm':
      return { ...plain, parameterBytes: 80 };
    default:
      return plain;
  }
}
