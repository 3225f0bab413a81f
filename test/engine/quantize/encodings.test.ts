import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { intAttribute, intsAttribute } from '../../../src/onnx/graph.js';
import type { Model } from '../../../src/onnx/model.js';
import { collectMagnitudes, collectRanges, quantizableWeights, quantizeModel } from '../../../src/quantize/index.js';
import type { ActivationRanges, QuantizedWeight } from '../../../src/quantize/index.js';
import type { Dtype, Provider } from '../../../src/contract/types.js';
import {
  buildModel,
  directRuntime,
  listDataset,
  node,
  operators,
  optimizedOperators,
  runModel,
  weight,
} from './build.js';
import { gaussian, sqnr } from './numbers.js';

const weightOf = (name: string, dims: number[], seed: number, scale: number): ReturnType<typeof weight> =>
  weight(
    name,
    dims,
    gaussian(
      dims.reduce((a, b) => a * b, 1),
      seed,
    ).map((value) => value * scale),
  );

interface Sample {
  model: Model;
  dims: number[];
}

/** One weight-carrying operator each, of the sizes exporters write. */
const samples: Record<string, () => Sample> = {
  MatMul: () => ({
    dims: [6, 64],
    model: buildModel({
      inputs: { x: ['n', 64] },
      outputs: ['y'],
      nodes: [node('MatMul', ['x', 'w'], 'y')],
      weights: [weightOf('w', [64, 48], 1, 0.1)],
    }),
  }),
  Gemm: () => ({
    dims: [6, 64],
    model: buildModel({
      inputs: { x: ['n', 64] },
      outputs: ['y'],
      nodes: [node('Gemm', ['x', 'w', 'b'], 'y', { transB: intAttribute(1) })],
      weights: [weightOf('w', [48, 64], 1, 0.1), weightOf('b', [48], 2, 0.5)],
    }),
  }),
  Conv: () => ({
    dims: [2, 32, 9, 7],
    model: buildModel({
      inputs: { x: ['n', 32, 9, 7] },
      outputs: ['y'],
      nodes: [
        node('Conv', ['x', 'w', 'b'], 'y', {
          strides: intsAttribute([2, 1]),
          pads: intsAttribute([1, 1, 1, 1]),
          kernel_shape: intsAttribute([3, 3]),
        }),
      ],
      weights: [weightOf('w', [24, 32, 3, 3], 1, 0.06), weightOf('b', [24], 2, 0.5)],
      opset: 21,
    }),
  }),
  'grouped Conv': () => ({
    dims: [2, 64, 6],
    model: buildModel({
      inputs: { x: ['n', 64, 6] },
      outputs: ['y'],
      nodes: [node('Conv', ['x', 'w'], 'y', { group: intAttribute(2), kernel_shape: intsAttribute([3]) })],
      weights: [weightOf('w', [16, 32, 3], 1, 0.1)],
      opset: 21,
    }),
  }),
  ConvTranspose: () => ({
    dims: [2, 16, 5, 5],
    model: buildModel({
      inputs: { x: ['n', 16, 5, 5] },
      outputs: ['y'],
      nodes: [
        node('ConvTranspose', ['x', 'w', 'b'], 'y', {
          strides: intsAttribute([2, 2]),
          kernel_shape: intsAttribute([3, 3]),
        }),
      ],
      weights: [weightOf('w', [16, 20, 3, 3], 1, 0.1), weightOf('b', [20], 2, 0.1)],
      opset: 21,
    }),
  }),
  LSTM: () => ({
    dims: [5, 2, 24],
    model: buildModel({
      inputs: { x: [5, 2, 24] },
      outputs: ['y'],
      nodes: [node('LSTM', ['x', 'w', 'r'], 'y', { hidden_size: intAttribute(16) })],
      weights: [weightOf('w', [1, 64, 24], 1, 0.2), weightOf('r', [1, 64, 16], 2, 0.2)],
    }),
  }),
};

/** Least output SQNR in dB; 4-bit noise alone is about 20 dB, that of 8 bits above 35. */
const least: Partial<Record<Dtype, number>> = { int4: 16, int8: 34, 'int8-dynamic': 32, 'int8-static': 28, fp16: 50 };

function assignment(model: Model, dtype: Dtype, provider: Provider): Map<string, Dtype> {
  return new Map(quantizableWeights(model, provider).map((info) => [info.name, dtype]));
}

let folder: string;
beforeAll(() => (folder = mkdtempSync(path.join(os.tmpdir(), 'quantize-'))));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function inputOf({ dims }: Sample, seed: number): { x: { dims: number[]; data: Float32Array } } {
  const data = gaussian(
    dims.reduce((a, b) => a * b, 1),
    seed,
  );
  return { x: { dims, data } };
}

async function rangesOf(sample: Sample): Promise<ActivationRanges> {
  const batches = [1, 2, 3, 4].map((seed) => inputOf(sample, seed + 100));
  return collectRanges(directRuntime(), sample.model, listDataset(batches), { workDirectory: folder });
}

function checkRows(rows: readonly QuantizedWeight[], dtype: Dtype): void {
  for (const row of rows.filter((candidate) => candidate.dtype === dtype)) {
    expect(row.bytesAfter).toBeLessThan(row.bytesBefore);
    expect(row.sqnrDb).toBeGreaterThan(14);
  }
}

describe('every encoding runs on the CPU and computes nearly the same', () => {
  for (const [name, make] of Object.entries(samples)) {
    for (const dtype of ['int8', 'int4', 'int8-dynamic', 'int8-static'] as const) {
      it(`${name} ${dtype}`, async () => {
        const sample = make();
        const ranges = dtype === 'int8-static' ? await rangesOf(sample) : undefined;
        const result = quantizeModel(sample.model, assignment(sample.model, dtype, 'cpu'), {
          provider: 'cpu',
          ...(ranges === undefined ? {} : { ranges }),
        });
        checkRows(result.weights, dtype);
        for (const row of result.weights) {
          // Either it has the format asked for, or a reason says why not.
          expect(row.dtype === dtype || row.reason !== undefined, row.name).toBe(true);
        }
        const feeds = inputOf(sample, 7);
        const exact = await runModel(sample.model, feeds);
        const got = await runModel(result.model, feeds);
        const worst = result.weights.some((row) => row.dtype === dtype) ? dtype : 'int8';
        expect(sqnr(exact.y!, got.y!)).toBeGreaterThan(least[worst]!);
        // The same computation without onnxruntime's fusions.
        const plain = await runModel(result.model, feeds, { level: 'disabled' });
        expect(sqnr(plain.y!, got.y!)).toBeGreaterThan(32);
      });
    }
  }
});

describe('operators after optimisation on the CPU', () => {
  const expected: [string, Dtype, string[], string[]][] = [
    ['MatMul', 'int8', ['MatMulNBits'], ['DequantizeLinear', 'MatMul']],
    ['Gemm', 'int4', ['MatMulNBits'], ['DequantizeLinear', 'Gemm']],
    ['MatMul', 'int8-dynamic', ['DynamicQuantizeMatMul'], ['MatMulInteger', 'Cast']],
    ['Gemm', 'int8-dynamic', ['DynamicQuantizeMatMul'], ['MatMulInteger', 'Cast']],
    ['Conv', 'int8-dynamic', ['ConvInteger'], ['Conv']],
    ['MatMul', 'int8-static', ['MatMulIntegerToFloat'], ['MatMul', 'DequantizeLinear']],
    ['Gemm', 'int8-static', ['QGemm'], ['Gemm', 'DequantizeLinear']],
    ['Conv', 'int8-static', ['QLinearConv'], ['Conv', 'FusedConv']],
    ['Conv', 'int8', ['DequantizeLinear', 'Conv'], []],
  ];
  for (const [name, dtype, present, absent] of expected) {
    it(`${name} ${dtype} becomes ${present.join(' + ')}`, async () => {
      const sample = samples[name]!();
      const ranges = dtype === 'int8-static' ? await rangesOf(sample) : undefined;
      const { model } = quantizeModel(sample.model, assignment(sample.model, dtype, 'cpu'), {
        provider: 'cpu',
        ...(ranges === undefined ? {} : { ranges }),
      });
      const operators = await optimizedOperators(model, folder);
      for (const operator of present) expect(operators).toContain(operator);
      for (const operator of absent) expect(operators).not.toContain(operator);
    });
  }

  it('keeps activations in 8 bits through Conv, Relu, Add, pooling and a spatial mean', async () => {
    const conv = (x: string, w: string, y: string): ReturnType<typeof node> =>
      node('Conv', [x, w, `${w}_b`], y, { pads: intsAttribute([1, 1, 1, 1]), kernel_shape: intsAttribute([3, 3]) });
    const model = buildModel({
      inputs: { x: ['n', 16, 8, 8] },
      outputs: ['y'],
      nodes: [
        conv('x', 'w1', 'c1'),
        node('Relu', ['c1'], 'r1'),
        conv('r1', 'w2', 'c2'),
        node('Add', ['c2', 'r1'], 'sum'),
        node('Relu', ['sum'], 'r2'),
        node('MaxPool', ['r2'], 'p', { kernel_shape: intsAttribute([2, 2]), strides: intsAttribute([2, 2]) }),
        conv('p', 'w3', 'c3'),
        node('Relu', ['c3'], 'r3'),
        node('ReduceMean', ['r3'], 'm', { axes: intsAttribute([-1, -2]), keepdims: intAttribute(1) }),
        node('Flatten', ['m'], 'f'),
        node('Gemm', ['f', 'w4', 'w4_b'], 'y', { transB: intAttribute(1) }),
      ],
      weights: [
        ...['w1', 'w2', 'w3'].flatMap((name, i) => [
          weightOf(name, [16, 16, 3, 3], i + 1, 0.1),
          weightOf(`${name}_b`, [16], i + 11, 0.1),
        ]),
        weightOf('w4', [10, 16], 5, 0.3),
        weightOf('w4_b', [10], 6, 0.3),
      ],
    });
    const sample = { model, dims: [4, 16, 8, 8] };
    const { model: quantized } = quantizeModel(model, assignment(model, 'int8-static', 'cpu'), {
      provider: 'cpu',
      ranges: await rangesOf(sample),
    });
    const operators = await optimizedOperators(quantized, folder);
    expect(operators.filter((operator) => operator === 'QLinearConv')).toHaveLength(3);
    expect(operators).toEqual(expect.arrayContaining(['QLinearAdd', 'MaxPool', 'QLinearGlobalAveragePool', 'QGemm']));
    expect(operators.filter((operator) => operator === 'QuantizeLinear')).toHaveLength(1);
    expect(operators).not.toContain('DequantizeLinear');
    expect(operators).not.toContain('Relu');
    const feeds = inputOf(sample, 9);
    const exact = await runModel(model, feeds);
    expect(sqnr(exact.y!, (await runModel(quantized, feeds)).y!)).toBeGreaterThan(28);
  });
});

describe('float16', () => {
  for (const name of ['MatMul', 'Gemm', 'Conv', 'ConvTranspose']) {
    it(`${name} keeps float32 inputs and outputs and computes nearly the same`, async () => {
      const sample = samples[name]!();
      const result = quantizeModel(sample.model, assignment(sample.model, 'fp16', 'webgpu'), { provider: 'webgpu' });
      const feeds = inputOf(sample, 7);
      const exact = await runModel(sample.model, feeds);
      const got = await runModel(result.model, feeds);
      expect(sqnr(exact.y!, got.y!)).toBeGreaterThan(least.fp16!);
      for (const tensor of result.model.graph.initializers.values()) expect(tensor.dataType).not.toBe(1);
    });
  }

  it('keeps float32 where samples overflow, names the weight, and casts at the borders of the island only', async () => {
    const model = buildModel({
      inputs: { x: ['n', 64] },
      outputs: ['y'],
      nodes: [
        node('MatMul', ['x', 'first'], 'a'),
        node('Mul', ['a', 'loud'], 'b'),
        node('MatMul', ['b', 'second'], 'c'),
        node('Mul', ['c', 'quiet'], 'd'),
        node('Add', ['d', 'mask'], 'e'),
        node('MatMul', ['e', 'third'], 'f'),
        node('Softmax', ['f'], 'y'),
      ],
      weights: [
        weightOf('first', [64, 32], 1, 0.1),
        weight('loud', [], Float32Array.of(1e5)),
        weightOf('second', [32, 32], 2, 0.1),
        weight('quiet', [], Float32Array.of(1e-5)),
        // As if masked; tiny, so that it changes nothing.
        weight('mask', [32], new Float32Array(32).fill(1e-9)),
        weightOf('third', [32, 16], 3, 0.1),
      ],
    });
    const feeds = { x: { dims: [4, 64], data: gaussian(256, 4) } };
    const magnitudes = await collectMagnitudes(directRuntime(), model, listDataset([feeds]), { workDirectory: folder });
    expect(magnitudes!.get('b')!.high).toBeGreaterThan(3e4);
    const halves = new Map(['first', 'second', 'third'].map((name) => [name, 'fp16' as const]));
    const blind = quantizeModel(model, halves, { provider: 'webgpu' });
    const aware = quantizeModel(model, halves, { provider: 'webgpu', magnitudes: magnitudes! });
    const stayed = aware.weights.filter(({ dtype }) => dtype === 'fp32');
    expect(stayed.map(({ name }) => name)).toEqual(['second']);
    expect(stayed[0]!.reason).toMatch(/^values there reach \de\+5, too close to the end of float16/);
    // In and out of the model, in and out of the island.
    expect(operators(aware.model).filter((op) => op === 'Cast')).toHaveLength(4);
    const exact = await runModel(model, feeds);
    expect(sqnr(exact.y!, (await runModel(aware.model, feeds, { level: 'disabled' })).y!)).toBeGreaterThan(50);
    // Without the samples the factor is cut to the largest number float16 has.
    expect(sqnr(exact.y!, (await runModel(blind.model, feeds, { level: 'disabled' })).y!)).not.toBeGreaterThan(30);
  });

  it('leaves squares and sums of a norm in float32, where float16 would overflow', async () => {
    const model = buildModel({
      inputs: { x: ['n', 64] },
      outputs: ['y', 'x2'],
      nodes: [
        node('Pow', ['x', 'two'], 'x2'),
        node('ReduceMean', ['x2'], 'mean', { axes: intsAttribute([-1]), keepdims: intAttribute(1) }),
        node('Sqrt', ['mean'], 'root'),
        node('Div', ['x', 'root'], 'normal'),
        node('MatMul', ['normal', 'w'], 'y'),
      ],
      weights: [weightOf('w', [64, 32], 1, 0.1), weight('two', [], Float32Array.of(2))],
    });
    const result = quantizeModel(model, new Map([['w', 'fp16']]), { provider: 'webgpu' });
    const x = gaussian(4 * 64, 3).map((value) => value * 3000);
    const exact = await runModel(model, { x: { dims: [4, 64], data: x } });
    const got = await runModel(result.model, { x: { dims: [4, 64], data: x } });
    expect(sqnr(exact.y!, got.y!)).toBeGreaterThan(50);
    expect(sqnr(exact.x2!, got.x2!)).toBeGreaterThan(50);
  });
});
