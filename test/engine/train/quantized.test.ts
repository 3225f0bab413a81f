import * as ort from 'onnxruntime-node';
import { describe, expect, it } from 'vitest';
import { intAttribute as i } from '../../../src/onnx/attribute.js';
import { DataType, type Tensor } from '../../../src/onnx/model.js';
import { encodeFloats, float32Tensor, rawTensor } from '../../../src/onnx/tensor.js';
import { recoverySettings } from '../../../src/fit/recover-train.js';
import { quantizableWeights, quantizeModel } from '../../../src/quantize/index.js';
import { prepareTraining } from '../../../src/train/prepare.js';
import { normalNumbers, randomNumbers } from '../../../src/train/random.js';
import { serializeModel } from '../../../src/onnx/write.js';
import { buildTrainingGraphs } from '../../../src/train/training-graph.js';
import { gradientError, testModel, type TestGraph } from './support.js';

const microsoft = 'com.microsoft';
const B = 'batch';

function bytes(length: number, seed: number, most = 256): Uint8Array {
  const random = randomNumbers(seed);
  return Uint8Array.from({ length }, () => Math.floor(random() * most));
}

const codes = (name: string, dataType: number, dims: number[], packed = 1): Tensor => {
  const length = dims.reduce((a, b) => a * b, 1) / packed;
  return { ...rawTensor('', DataType.UINT8, [length], bytes(length, name.length)), name, dataType, dims };
};

/** Blocks of 16 along 40 columns: the last one is half empty. */
function blockProduct(bits: 2 | 4 | 8, zeroPoints: 'none' | 'packed' | 'floats'): TestGraph {
  const [rows, columns, blockSize, blocks] = [5, 40, 16, 3];
  const zeros =
    zeroPoints === 'packed'
      ? [codes('zeros', DataType.UINT8, [rows, Math.ceil((blocks * bits) / 8)])]
      : zeroPoints === 'floats'
        ? [float32Tensor('zeros', [rows, blocks], Float32Array.from(bytes(rows * blocks, 3, 2 ** bits)))]
        : [];
  return {
    values: (x, name) => (name === 'scales' ? x / 2 ** bits : x),
    wanted: { x: [B, 2, columns], scales: [rows, blocks], bias: [rows] },
    tensors: [codes('w', DataType.UINT8, [rows, blocks, (blockSize * bits) / 8]), ...zeros],
    nodes: [
      {
        op: 'MatMulNBits',
        domain: microsoft,
        in: ['x', 'w', 'scales', zeros.length > 0 ? 'zeros' : '', '', 'bias'],
        out: ['y'],
        attributes: { K: i(columns), N: i(rows), bits: i(bits), block_size: i(blockSize) },
      },
    ],
  };
}

/** With the scales stored, as the file has them. */
function stored(graph: TestGraph, input: string): TestGraph {
  const { [input]: dims, ...wanted } = graph.wanted;
  const values = Array.from(
    bytes(
      (dims as number[]).reduce((a, b) => a * b, 1),
      9,
    ),
    (value) => (value + 1) / 4096,
  );
  return { ...graph, wanted, floats: { ...graph.floats, [input]: { dims: dims as number[], values } } };
}

/** NF4 in blocks of 16 that run on from row to row. */
const normalFloat = (): TestGraph => ({
  wanted: { x: [B, 2, 40] },
  tensors: [codes('w', DataType.UINT8, [(5 * 40) / 2])],
  floats: { scales: { dims: [13], values: Array.from(bytes(13, 5), (value) => (value - 100) / 500) } },
  nodes: [
    {
      ...{ op: 'MatMulBnb4', domain: microsoft, in: ['x', 'w', 'scales'], out: ['y'] },
      attributes: { K: i(40), N: i(5), block_size: i(16), quant_type: i(1) },
    },
  ],
});

/** Rows of `stride` entries in blocks of 16. */
const table = (dataType: number, bits: number, stride = 32, scales = 2): TestGraph => ({
  wanted: { scales: [7, scales] },
  tensors: [codes('table', dataType, [7, stride], dataType === DataType.UINT8 ? 1 : 2)],
  ints: { ids: { dims: [2, 3], values: [0, 6, 3, 3, 3, 1] } },
  nodes: [
    {
      op: 'GatherBlockQuantized',
      domain: microsoft,
      in: ['table', 'ids', 'scales'],
      out: ['y'],
      attributes: { block_size: i(16), bits: i(bits), gather_axis: i(0), quantize_axis: i(1) },
    },
  ],
  values: (x) => x / 100,
});

const unpacked = (dims: number[], scale: number[], attributes: TestGraph['nodes'][0]['attributes']): TestGraph => ({
  opset: 21,
  wanted: { x: [B, dims[0]!], scale },
  tensors: [codes('w', DataType.INT8, dims), codes('zero', DataType.INT8, scale)],
  nodes: [
    { op: 'DequantizeLinear', in: ['w', 'scale', 'zero'], out: ['d'], ...(attributes ? { attributes } : {}) },
    { op: 'MatMul', in: ['x', 'd'], out: ['y'] },
  ],
  values: (x, name) => (name === 'scale' ? x / 256 : x),
});

const cases: Record<string, TestGraph> = {
  'MatMulNBits 4': stored(blockProduct(4, 'none'), 'scales'),
  'MatMulNBits 4, zero points': stored(blockProduct(4, 'packed'), 'scales'),
  'MatMulNBits 4, floating zero points': stored(blockProduct(4, 'floats'), 'scales'),
  'MatMulNBits 4, scales': blockProduct(4, 'packed'),
  'MatMulNBits 8': stored(blockProduct(8, 'none'), 'scales'),
  'MatMulNBits 8, zero points': stored(blockProduct(8, 'packed'), 'scales'),
  'MatMulNBits 2': stored(blockProduct(2, 'none'), 'scales'),
  'MatMulNBits 2, zero points': stored(blockProduct(2, 'packed'), 'scales'),
  'MatMulNBits 2, scales': blockProduct(2, 'packed'),
  'MatMulBnb4, NF4': normalFloat(),
  'GatherBlockQuantized, two codes in a byte': table(DataType.UINT8, 4, 16),
  'GatherBlockQuantized, four codes in a byte': table(DataType.UINT8, 2, 8),
  'GatherBlockQuantized, numbers without a sign': table(DataType.UINT4, 4),
  'GatherBlockQuantized, blocks that reach beyond': table(DataType.INT4, 4, 40, 3),
  'GatherBlockQuantized 8': table(DataType.UINT8, 8),
  'GatherBlockQuantized 4': table(DataType.INT4, 4),
  'DequantizeLinear, one scale': unpacked([6, 5], [1], {}),
  'DequantizeLinear, columns': unpacked([6, 5], [5], { axis: i(1) }),
  'DequantizeLinear, rows': unpacked([6, 5], [6], { axis: i(0) }),
  'DequantizeLinear, blocks': unpacked([8, 5], [2, 5], { axis: i(0), block_size: i(4) }),
  'DequantizeLinear, blocks that reach beyond': unpacked([7, 5], [2, 5], { axis: i(0), block_size: i(4) }),
};

/** A product of integers, as int8 models with dynamic ranges have it. */
const dynamic = (conv: boolean): TestGraph => ({
  wanted: { x: conv ? [2, 3, 6, 6] : [2, 3, 12], factor: conv ? [1, 4, 1, 1] : [4] },
  values: (x, name) => (name === 'factor' ? Math.abs(x) / 64 : x),
  tensors: [
    codes('w', DataType.INT8, conv ? [4, 3, 3, 3] : [12, 4]),
    ...(conv ? [] : [codes('w_zero', DataType.INT8, [4])]),
  ],
  nodes: [
    { op: 'DynamicQuantizeLinear', in: ['x'], out: ['codes', 'step', 'zero'] },
    conv
      ? { op: 'ConvInteger', in: ['codes', 'w', 'zero'], out: ['sums'] }
      : { op: 'MatMulInteger', in: ['codes', 'w', 'zero', 'w_zero'], out: ['sums'] },
    { op: 'Cast', in: ['sums'], out: ['floats'], attributes: { to: i(DataType.FLOAT) } },
    { op: 'Mul', in: ['step', 'factor'], out: ['scale'] },
    { op: 'Mul', in: ['floats', 'scale'], out: ['y'] },
  ],
});

/** Between two codes; values beyond the range are cut off. */
const straight = (zero: number, perChannel: boolean): TestGraph => ({
  wanted: { x: [B, 4, 5] },
  opset: 21,
  tensors: [rawTensor('zero', DataType.UINT8, perChannel ? [4] : [], new Uint8Array(perChannel ? 4 : 1).fill(zero))],
  floats: { step: { dims: perChannel ? [4] : [], values: perChannel ? [0.02, 0.03, 0.04, 0.03] : [0.01] } },
  values: perChannel ? (x) => Math.tanh(x) : (x) => (Math.abs(x) < 0.5 ? x + Math.sign(x) * 0.5 : x),
  nodes: [
    { op: 'QuantizeLinear', in: ['x', 'step', 'zero'], out: ['codes'], attributes: { axis: i(1) } },
    { op: 'DequantizeLinear', in: ['codes', 'step', 'zero'], out: ['y'], attributes: { axis: i(1) } },
  ],
});

describe('a quantized model', () => {
  it.each(['int8', 'int4', 'int2', 'nf4'] as const)('can be trained with weights in %s', (dtype) => {
    const normal = normalNumbers(1);
    const matrix = (dims: [number, number]): { dims: number[]; values: number[] } => ({
      dims,
      values: Array.from({ length: dims[0] * dims[1] }, () => normal()),
    });
    const model = testModel({
      wanted: { x: [B, 64] },
      floats: {
        w1: matrix([64, 128]),
        b1: { dims: [128], values: new Array<number>(128).fill(0) },
        w2: matrix([128, 64]),
      },
      nodes: [
        { op: 'MatMul', in: ['x', 'w1'], out: ['h'] },
        { op: 'Add', in: ['h', 'b1'], out: ['b'] },
        { op: 'Relu', in: ['b'], out: ['r'] },
        { op: 'MatMul', in: ['r', 'w2'], out: ['y'] },
      ],
    });
    model.graph.outputs = [{ name: 'y', dataType: DataType.FLOAT, dims: [B, 64] }];
    const assignment = new Map(quantizableWeights(model, 'cpu').map(({ name }) => [name, dtype]));
    const { model: small } = quantizeModel(model, assignment, { provider: 'cpu' });
    expect(small.graph.nodes.filter(({ domain }) => domain === microsoft)).toHaveLength(2);
    const own = { loss: { kind: 'mse' }, trainable: 'all', rate: 1e-3, batch: 8, updates: 1 } as const;
    const { graphs } = prepareTraining(small, { x: [B, 64] }, recoverySettings(own));
    expect(graphs.parameters.map(({ name }) => name)).toContain('b1');
  });
});

describe('gradients through quantized weights', () => {
  for (const [name, graph] of Object.entries(cases)) {
    it(name, async () => {
      for (const seed of [1, 2]) expect(await gradientError(graph, seed)).toBeLessThan(2e-3);
    });
  }

  // Rounding makes steps: differences over many of them follow the slope.
  it('pass straight through dynamic quantization', async () => {
    for (const conv of [false, true]) expect(await gradientError(dynamic(conv), 3, 0.3)).toBeLessThan(0.05);
  });

  it('pass straight through static quantization, and not beyond its range', async () => {
    expect(await gradientError(straight(128, false), 1, 0.3)).toBeLessThan(0.08);
    expect(await gradientError(straight(0, false), 1, 0.3)).toBeLessThan(0.08);
    expect(await gradientError(straight(128, true), 1, 0.3)).toBeLessThan(0.08);
  });
});

it.each([
  ['each column', 'float32', 1, 0],
  ['blocks', 'float32', 0, 16],
  ['half-precision scales', 'float16', 1, 0],
] as const)('stores frozen weights as what DequantizeLinear makes of them: %s', async (_, type, axis, blockSize) => {
  const [rows, columns, blocks] = [40, 6, 3];
  const dims = blockSize > 0 ? [blocks, columns] : [columns];
  const scales = Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, (_, k) => 2 ** -(7 + (k % 3)));
  const half = { ...float32Tensor('', dims, scales), name: 'stored' };
  const model = testModel({
    opset: 21,
    wanted: { x: [B, rows] },
    tensors: [
      codes('w', DataType.INT8, [rows, columns]),
      codes('zeros', DataType.INT8, dims),
      type === 'float32'
        ? { ...half, name: 'scales' }
        : rawTensor('stored', DataType.FLOAT16, dims, encodeFloats(scales, DataType.FLOAT16)),
      float32Tensor('b', [columns], new Float32Array(columns).fill(0.1)),
    ],
    nodes: [
      ...(type === 'float32' ? [] : [{ op: 'Cast', in: ['stored'], out: ['scales'], attributes: { to: i(1) } }]),
      {
        op: 'DequantizeLinear',
        in: ['w', 'scales', 'zeros'],
        out: ['wide'],
        attributes: { axis: i(axis), ...(blockSize > 0 ? { block_size: i(blockSize) } : {}) },
      },
      { op: 'MatMul', in: ['x', 'wide'], out: ['product'] },
      { op: 'Add', in: ['product', 'b'], out: ['y'] },
    ],
  });
  model.graph.outputs = [{ name: 'y', dataType: DataType.FLOAT, dims: [B, columns] }];
  const graphs = buildTrainingGraphs(model, {
    inputDims: { x: ['batch', rows] },
    loss: { kind: 'mse' },
    parameters: ['b'],
  });
  expect(graphs.gradient.graph.nodes.map(({ opType }) => opType)).not.toContain('DequantizeLinear');
  const feeds: Record<string, ort.Tensor> = {
    x: new ort.Tensor(
      'float32',
      Float32Array.from({ length: 2 * rows }, (_, k) => Math.sin(k)),
      [2, rows],
    ),
    b: new ort.Tensor('float32', new Float32Array(columns).fill(0.1), [columns]),
    [graphs.target.name]: new ort.Tensor('float32', new Float32Array(2 * columns), [2, columns]),
    [graphs.weight]: new ort.Tensor('float32', Float32Array.of(1), []),
  };
  const losses = [graphs.gradient, graphs.evaluation].map(async (graph) => {
    // Its optimizations would multiply by the codes themselves, with less precision.
    const session = await ort.InferenceSession.create(serializeModel(graph), { graphOptimizationLevel: 'disabled' });
    const known = Object.fromEntries(Object.entries(feeds).filter(([name]) => session.inputNames.includes(name)));
    return Number((await session.run(known, [graphs.loss]))[graphs.loss]?.data[0]);
  });
  const [trained = 0, evaluated = 0] = await Promise.all(losses);
  expect(evaluated).toBeGreaterThan(0);
  expect(trained / evaluated).toBeCloseTo(1, 5);
});
