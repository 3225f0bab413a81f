import { describe, expect, test } from 'vitest';
import { estimateMemory } from '../../../src/memory/estimate.js';
import { intAttribute, intsAttribute, makeNode } from '../../../src/onnx/graph.js';
import { DataType, type Model, type Node, type Tensor } from '../../../src/onnx/model.js';
import { int64Tensor, rawTensor, tensorByteLength } from '../../../src/onnx/tensor.js';
import { serializeModel } from '../../../src/onnx/write.js';
import { graphOf, modelOf, value } from '../../unit/onnx/build.js';
import { profileModel } from './profile.js';

const microsoft = { domain: 'com.microsoft' };

/** Constant with its own bytes: the runtime keeps equal packed weights once. Floats are small and positive. */
function constant(name: string, dataType: number, dims: number[]): Tensor {
  const bytes = new Uint8Array(tensorByteLength(dataType, dims));
  let seed = [...name].reduce((sum, letter) => sum * 31 + letter.charCodeAt(0), 7) >>> 0;
  const next = () => (seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) / 2 ** 32;
  if (dataType === DataType.FLOAT)
    new Float32Array(bytes.buffer).forEach((_, i, all) => (all[i] = 0.01 + next() / 100));
  else bytes.forEach((_, i) => (bytes[i] = next() * 256));
  return rawTensor(name, dataType, dims, bytes);
}

function build(nodes: Node[], initializers: Tensor[], input: number[], output: number[]): Model {
  const inputs = [value('x', ['batch', ...input])];
  const model = modelOf(graphOf({ nodes, initializers, inputs, outputs: [value('y', ['batch', ...output])] }), 21);
  model.irVersion = 10;
  model.opsets.set('com.microsoft', 1);
  return model;
}

/** x → blocks → Relu → blocks → y. */
function blocks(bits: 4 | 8, level: 0 | 4): Model {
  const product = (from: string, to: string, k: number, n: number): [Node, Tensor, Tensor] => [
    makeNode(
      'MatMulNBits',
      [from, `${to}_codes`, `${to}_scales`],
      [to],
      {
        K: intAttribute(k),
        N: intAttribute(n),
        bits: intAttribute(bits),
        block_size: intAttribute(64),
        accuracy_level: intAttribute(level),
      },
      microsoft,
    ),
    constant(`${to}_codes`, DataType.UINT8, [n, k / 64, (64 * bits) / 8]),
    constant(`${to}_scales`, DataType.FLOAT, [n, k / 64]),
  ];
  const [first, ...one] = product('x', 'h', 256, 1024);
  const [second, ...two] = product('r', 'y', 1024, 256);
  return build([first, makeNode('Relu', ['h'], ['r']), second], [...one, ...two], [256], [256]);
}

const conv3x3 = { kernel_shape: intsAttribute([3, 3]), pads: intsAttribute([1, 1, 1, 1]) };

/** Three convolutions with weights unpacked from int8 on every run, listed first as Snug's writer does. */
function unpackedConvolutions(): Model {
  const widths = [16, 64, 64, 32];
  const unpack: Node[] = [];
  const compute: Node[] = [];
  const weights: Tensor[] = [];
  for (const i of [0, 1, 2]) {
    const axis = { axis: intAttribute(0) };
    weights.push(constant(`q${i}`, DataType.INT8, [widths[i + 1]!, widths[i]!, 3, 3]));
    weights.push(constant(`s${i}`, DataType.FLOAT, [widths[i + 1]!]));
    unpack.push(makeNode('DequantizeLinear', [`q${i}`, `s${i}`], [`w${i}`], axis, { name: `unpack${i}` }));
    compute.push(makeNode('Conv', [i === 0 ? 'x' : `r${i - 1}`, `w${i}`], [`c${i}`], conv3x3, { name: `conv${i}` }));
    compute.push(makeNode('Relu', [`c${i}`], [i === 2 ? 'y' : `r${i}`]));
  }
  return build([...unpack, ...compute], weights, [16, 12, 12], [32, 12, 12]);
}

/** Quantize, convolve, quantize, convolve: becomes integer convolutions with channels last. */
function calibratedConvolutions(): Model {
  const scalars = [
    constant('scale', DataType.FLOAT, []),
    rawTensor('zero', DataType.UINT8, [], new Uint8Array(1)),
    rawTensor('zero8', DataType.INT8, [], new Uint8Array(1)),
  ];
  const held = (from: string, to: string) => [
    makeNode('QuantizeLinear', [from, 'scale', 'zero'], [`${to}_q`]),
    makeNode('DequantizeLinear', [`${to}_q`, 'scale', 'zero'], [to]),
  ];
  const weights = [0, 1].map((i) => constant(`q${i}`, DataType.INT8, [32, 32, 3, 3]));
  const unpack = [0, 1].map((i) => makeNode('DequantizeLinear', [`q${i}`, 'scale', 'zero8'], [`w${i}`]));
  const nodes = [
    ...unpack,
    ...held('x', 'x0'),
    makeNode('Conv', ['x0', 'w0'], ['c0'], conv3x3),
    makeNode('Relu', ['c0'], ['r0']),
    ...held('r0', 'x1'),
    makeNode('Conv', ['x1', 'w1'], ['c1'], conv3x3),
    makeNode('Relu', ['c1'], ['r1']),
    ...held('r1', 'y'),
  ];
  return build(nodes, [...scalars, ...weights], [32, 10, 10], [32, 10, 10]);
}

/** The chain dynamic quantization writes around each product. */
function dynamicProducts(): Model {
  const product = (from: string, to: string, k: number, n: number): [Node[], Tensor[]] => [
    [
      makeNode('DynamicQuantizeLinear', [from], [`${to}_u8`, `${to}_s`, `${to}_z`]),
      makeNode('MatMulInteger', [`${to}_u8`, `${to}_w`, `${to}_z`], [`${to}_sums`]),
      makeNode('Cast', [`${to}_sums`], [`${to}_floats`], { to: intAttribute(DataType.FLOAT) }),
      makeNode('Mul', [`${to}_s`, `${to}_ws`], [`${to}_scale`]),
      makeNode('Mul', [`${to}_floats`, `${to}_scale`], [to]),
    ],
    [constant(`${to}_w`, DataType.INT8, [k, n]), constant(`${to}_ws`, DataType.FLOAT, [n])],
  ];
  const [first, one] = product('x', 'h', 200, 500);
  const [second, two] = product('r', 'y', 500, 120);
  return build([...first, makeNode('Relu', ['h'], ['r']), ...second], [...one, ...two], [200], [120]);
}

/** Products with fixed leading sizes, which the runtime flattens into Gemm, and a reshape between them. */
function flattened(): Model {
  const nodes = [
    makeNode('Reshape', ['x', 'target'], ['x3']),
    makeNode('MatMul', ['x3', 'w'], ['m']),
    makeNode('Add', ['m', 'b'], ['a']),
    makeNode('Erf', ['a'], ['e']),
    makeNode('Reshape', ['e', 'back'], ['y']),
  ];
  const tensors = [
    int64Tensor('target', [3], [4, 8, 64]),
    int64Tensor('back', [2], [4, 800]),
    constant('w', DataType.FLOAT, [64, 100]),
    constant('b', DataType.FLOAT, [100]),
  ];
  const model = build(nodes, tensors, [512], [800]);
  for (const entry of [...model.graph.inputs, ...model.graph.outputs]) entry.dims = [4, ...entry.dims!.slice(1)];
  return model;
}

describe('estimates of quantized models against onnxruntime', () => {
  test.each([
    ['MatMulNBits 4 bit, float activations', blocks(4, 0)],
    ['MatMulNBits 8 bit, int8 activations', blocks(8, 4)],
    ['MatMulNBits 8 bit, float activations', blocks(8, 0)],
    ['int8 weights unpacked for Conv', unpackedConvolutions()],
    ['calibrated int8 Conv', calibratedConvolutions()],
    ['dynamic int8 products', dynamicProducts()],
    ['products of fixed size', flattened()],
  ])('%s: within 1.5 percent', async (_, model) => {
    const bytes = serializeModel(model, { nodeOrder: 'keep' });
    for (const batch of [1, 16]) {
      for (const memoryPattern of [true, false]) {
        const estimate = estimateMemory(model, { provider: 'cpu', batch, dims: {}, levers: { memoryPattern } });
        expect(estimate.unknown).toEqual([]);
        const real = await profileModel(bytes, { level: 'all', memoryPattern, runs: 3, dims: estimate.dims });
        const measured = Math.max(...real.peaks) + real.weights;
        expect(Math.abs(estimate.peakBytes / measured - 1)).toBeLessThan(0.015);
      }
    }
  });
});
