import { describe, expect, it } from 'vitest';
import { dtypes, providers, type WeightFormat } from '../../../src/contract/types.js';
import { intAttribute, intsAttribute, tensorAttribute } from '../../../src/onnx/graph.js';
import type { Model } from '../../../src/onnx/model.js';
import { estimateSqnr, quantizableWeights, quantizeModel } from '../../../src/quantize/index.js';
import { summarizeModel } from '../../../src/onnx/summary.js';
import { truth } from '../../../src/quantize/truth.js';
import { buildGraph, graphOperators, buildModel, node, operators, weight } from '../../engine/quantize/build.js';
import { gaussian } from '../../engine/quantize/numbers.js';

const w = (name: string, dims: number[], seed = 1): ReturnType<typeof weight> =>
  weight(
    name,
    dims,
    gaussian(
      dims.reduce((a, b) => a * b, 1),
      seed,
    ),
  );

function mixed(): Model {
  return buildModel({
    inputs: { x: ['n', 64] },
    outputs: ['y', 'table'],
    nodes: [
      node('Constant', [], 'held', { value: tensorAttribute(w('', [64, 64])) }),
      node('MatMul', ['x', 'held'], 'a'),
      node('MatMul', ['a', 'shared'], 'b'),
      node('Add', ['b', 'grid'], 'c'),
      node('MatMul', ['c', 'shared'], 'd'),
      node('MatMul', ['d', 'stack'], 'e'),
      node('Gemm', ['d', 'tiny'], 'y'),
    ],
    weights: [
      w('shared', [64, 64]),
      w('grid', [4, 64]),
      w('stack', [2, 64, 64]),
      w('tiny', [64, 1]),
      w('table', [32, 64]),
    ],
  });
}

describe('quantizableWeights', () => {
  it('lists every weight with a decision or a reason for each format on each provider', () => {
    for (const provider of providers) {
      const infos = quantizableWeights(mixed(), provider);
      expect(infos.map((info) => info.name).sort()).toEqual(['grid', 'held', 'shared', 'stack', 'table', 'tiny']);
      for (const info of infos) {
        expect(info.options.map((option) => option.dtype)).toEqual([...dtypes]);
        for (const option of info.options) {
          if (!option.allowed) expect(option.reason, `${info.name} ${option.dtype}`).toBeTruthy();
          else if (option.dtype !== 'fp32') expect(option.bytesAfter).toBeLessThan(info.bytesBefore);
        }
      }
    }
  });

  it('says bytes that quantizeModel then really makes', () => {
    for (const dtype of ['int4', 'int8', 'int8-dynamic', 'int8-static'] as const) {
      const model = buildModel({
        inputs: { x: ['n', 192] },
        outputs: ['y'],
        nodes: [node('MatMul', ['x', 'w'], 'y')],
        weights: [w('w', [192, 40])],
      });
      const [info] = quantizableWeights(model, 'cpu');
      const option = info!.options.find((candidate) => candidate.dtype === dtype)!;
      const result = quantizeModel(model, new Map([['w', dtype]]), {
        provider: 'cpu',
        ranges: { get: () => ({ low: -1, high: 1 }) },
      });
      const stored = [...result.model.graph.initializers.values()]
        .filter((tensor) => !/^[xy]_/.test(tensor.name))
        .reduce((sum, tensor) => sum + tensor.data.byteLength, 0);
      expect(Math.abs(stored - option.bytesAfter), dtype).toBeLessThanOrEqual(40);
      expect(result.weights[0]!.bytesAfter).toBe(option.bytesAfter);
    }
  });

  it('calls a product with the weight on the left a product', () => {
    for (const provider of providers) {
      expect(truth[provider].nf4['matmul-left'].note ?? '').not.toContain('only matrix products');
    }
  });

  it('allows integer activations on the CPU only, and float16 everywhere but there', () => {
    for (const provider of providers) {
      for (const role of Object.values(truth[provider]['int8-dynamic']))
        if (provider !== 'cpu') expect(role.allowed).toBe(false);
      for (const role of Object.values(truth[provider].fp16)) expect(role.allowed).toBe(provider !== 'cpu');
    }
  });
});

describe('quantizeModel', () => {
  it('leaves the original alone and reports what stayed large and why', () => {
    const model = mixed();
    const before = JSON.stringify([...model.graph.initializers.keys(), ...model.graph.nodes.map((n) => n.inputs)]);
    const assignment = new Map(quantizableWeights(model, 'cpu').map((info) => [info.name, 'int4' as const]));
    const result = quantizeModel(model, assignment, { provider: 'cpu' });
    expect(JSON.stringify([...model.graph.initializers.keys(), ...model.graph.nodes.map((n) => n.inputs)])).toBe(
      before,
    );
    const rows = new Map(result.weights.map((row) => [row.name, row]));
    expect(rows.get('shared')).toMatchObject({ dtype: 'int4', encoding: 'MatMulNBits' });
    expect(rows.get('held')).toMatchObject({ dtype: 'int4' });
    expect(rows.get('grid')).toMatchObject({ dtype: 'fp32', reason: expect.stringContaining('Add') as string });
    expect(rows.get('stack')).toMatchObject({ dtype: 'int4', encoding: 'DequantizeLinear-blocks' });
    expect(rows.get('table')!.reason).toContain('output');
    // One set of codes for the weight that two nodes read.
    const sharedNodes = result.model.graph.nodes.filter((n) => n.inputs[1]?.startsWith('shared'));
    expect(new Set(sharedNodes.map((n) => n.inputs[1])).size).toBe(1);
    expect(result.model.graph.initializers.has('shared')).toBe(false);
  });

  it('falls back to the next wider format with the reason', () => {
    const model = buildModel({
      inputs: { x: ['n', 32, 8] },
      outputs: ['y'],
      nodes: [
        node('Conv', ['x', 'w'], 'c'),
        node('AveragePool', ['c'], 'y', { kernel_shape: intsAttribute([4]), ceil_mode: intAttribute(1) }),
      ],
      weights: [w('w', [16, 32, 3])],
      opset: 17,
    });
    const int4 = quantizeModel(model, new Map([['w', 'int4']]), { provider: 'cpu' }).weights[0]!;
    expect(int4).toMatchObject({
      dtype: 'int8',
      reason: expect.stringContaining('opset 17 cannot be raised to 21') as string,
    });
    const unseen = quantizeModel(model, new Map([['w', 'int8-static']]), { provider: 'cpu' }).weights[0]!;
    expect(unseen).toMatchObject({ dtype: 'int8', reason: expect.stringContaining('samples') as string });
    const gpu = quantizeModel(model, new Map([['w', 'int8-static']]), { provider: 'webgpu' }).weights[0]!;
    expect(gpu).toMatchObject({ dtype: 'int8', reason: expect.stringContaining('CPU') as string });
  });

  it('quantizes inside the bodies of If and reports names of both branches', () => {
    const branch = (name: string): ReturnType<typeof buildGraph> => ({
      ...buildGraph({
        inputs: {},
        outputs: [`${name}_y`],
        nodes: [node('MatMul', ['x', 'w'], `${name}_y`)],
        weights: [w('w', [64, 32], name.length)],
      }),
      name,
    });
    const model = buildModel({
      inputs: { x: ['n', 64], c: [] },
      inputTypes: { c: 9 },
      outputs: ['y'],
      nodes: [
        node('If', ['c'], 'y', {
          then_branch: { type: 'graph', value: branch('then') },
          else_branch: { type: 'graph', value: branch('otherwise') },
        }),
      ],
      weights: [],
    });
    const infos = quantizableWeights(model, 'cpu');
    expect(infos).toHaveLength(2);
    expect(new Set(infos.map((info) => info.name)).size).toBe(2);
    const result = quantizeModel(model, new Map(infos.map((info) => [info.name, 'int4'])), { provider: 'cpu' });
    expect(result.weights.every((row) => row.dtype === 'int4')).toBe(true);
    for (const attribute of result.model.graph.nodes[0]!.attributes.values()) {
      if (attribute.type !== 'graph') throw new Error('not a body');
      expect(graphOperators(attribute.value)).toEqual(['MatMulNBits']);
      expect(attribute.value.initializers.has('w')).toBe(false);
    }
  });

  it('refuses names and block sizes that do not exist', () => {
    expect(() => quantizeModel(mixed(), new Map([['nothing', 'int8']]), { provider: 'cpu' })).toThrow(
      /no weight named/,
    );
    expect(() => quantizeModel(mixed(), new Map(), { provider: 'cpu', blockSize: 48 })).toThrow(/block size/);
  });

  it('gives each weight the block size and zero points asked for it', () => {
    const formats = new Map<string, WeightFormat>([
      ['held', { dtype: 'int4', blockSize: 64, zeroPoints: false }],
      ['shared', { dtype: 'int4', blockSize: 16, zeroPoints: true }],
    ]);
    const { model, weights } = quantizeModel(mixed(), formats, { provider: 'cpu', blockSize: 32 });
    const blocks = model.graph.nodes
      .filter(({ opType }) => opType === 'MatMulNBits')
      .map(({ attributes, inputs }) => [attributes.get('block_size'), (inputs[3] ?? '') !== '']);
    expect(blocks).toEqual([
      [intAttribute(64), false],
      [intAttribute(16), true],
      [intAttribute(16), true],
    ]);
    const bytes = (name: string): number | undefined => weights.find((row) => row.name === name)?.bytesAfter;
    // Scales are stored as float16.
    expect(bytes('held')).toBe((64 * 64) / 2 + 64 * 2);
    // Four blocks in a row: four scales and two bytes of zero points.
    expect(bytes('shared')).toBe((64 * 64) / 2 + 64 * 4 * 2 + 64 * 2);
  });

  it('leaves the number of parameters what it was, scales not counted', () => {
    const model = buildModel({
      inputs: { x: ['n', 64] },
      outputs: ['y'],
      nodes: [node('MatMul', ['x', 'w'], 'y')],
      weights: [w('w', [64, 64])],
    });
    const result = quantizeModel(model, new Map([['w', 'int4']]), { provider: 'cpu' });
    expect(result.model.graph.nodes.some(({ opType }) => opType === 'Cast')).toBe(true);
    expect(summarizeModel(result.model).parameters).toBe(64 * 64);
  });

  it('changes nothing when nothing is asked', () => {
    const result = quantizeModel(mixed(), new Map(), { provider: 'cpu' });
    expect(operators(result.model).filter((operator) => operator === 'MatMulNBits')).toEqual([]);
    expect(result.weights.every((row) => row.sqnrDb === null && row.bytesAfter === row.bytesBefore)).toBe(true);
  });
});

describe('estimateSqnr', () => {
  it('ranks formats as their noise does', () => {
    const model = buildModel({
      inputs: { x: ['n', 512] },
      outputs: ['y'],
      nodes: [node('Gemm', ['x', 'w'], 'y', { transB: intAttribute(1) })],
      weights: [w('w', [300, 512])],
    });
    const db = (dtype: (typeof dtypes)[number]): number => estimateSqnr(model, 'w', dtype);
    expect(db('fp32')).toBe(150);
    expect(db('fp16')).toBeGreaterThan(65);
    expect(db('int8')).toBeGreaterThan(42);
    expect(db('int8-dynamic')).toBeLessThan(db('int8'));
    expect(db('int8-static')).toBeLessThan(db('int8-dynamic'));
    expect(db('int4')).toBeGreaterThan(20);
    expect(db('int4')).toBeLessThan(24);
    expect(() => estimateSqnr(model, 'nothing', 'int8')).toThrow(/no weight named/);
  });
});
