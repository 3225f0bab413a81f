import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { Dtype, Provider } from '../../../src/contract/types.js';
import { floatAttribute, intAttribute, intsAttribute, stringAttribute } from '../../../src/onnx/graph.js';
import type { Model, Node } from '../../../src/onnx/model.js';
import { raiseOpset } from '../../../src/onnx/opset.js';
import { float32Tensor } from '../../../src/onnx/tensor.js';
import { writeModel } from '../../../src/onnx/write.js';
import { collectRanges, quantizableWeights, quantizeModel, type Quantized } from '../../../src/quantize/index.js';
import { createRuntime } from '../../../src/runtime/client.js';
import { buildModel, directRuntime, listDataset, node, runModel, weight } from './build.js';
import { gaussian, sqnr } from './numbers.js';

// Machines without a graphics stack have the software driver that Debian's chromium ships.
const software = '/usr/lib/chromium/vk_swiftshader_icd.json';
if (process.env.VK_ICD_FILENAMES === undefined && existsSync(software)) process.env.VK_ICD_FILENAMES = software;

const runtime = createRuntime();
const webgpu = (await runtime.providers()).includes('webgpu');
const folder = mkdtempSync(path.join(os.tmpdir(), 'quantize-legacy-'));
afterAll(async () => {
  await runtime.close();
  rmSync(folder, { recursive: true, force: true });
});

const dims = [2, 16, 8, 8];
const feeds = { x: { dims, data: gaussian(2 * 16 * 64, 1) } };

const random = (name: string, shape: number[], seed: number): ReturnType<typeof weight> => {
  const count = shape.reduce((a, b) => a * b, 1);
  const fanIn = count / shape[0]!;
  return weight(
    name,
    shape,
    gaussian(count, seed).map((value) => value * Math.sqrt(2 / fanIn)),
  );
};

/** A net as exporters of the day wrote it: bounds, axes, pads and scales are attributes where they were. */
function net(opset: 7 | 9 | 11): Model {
  const clip =
    opset < 11
      ? node('Clip', ['a'], 'b', { min: floatAttribute(0), max: floatAttribute(6) })
      : node('Clip', ['a', 'zero', 'six'], 'b');
  const grow =
    opset < 9
      ? node('Upsample', ['c'], 'd', {
          scales: { type: 'floats', value: [1, 1, 2, 2] },
          mode: stringAttribute('nearest'),
        })
      : opset < 11
        ? node('Upsample', ['c', 'twice'], 'd', { mode: stringAttribute('nearest') })
        : node('Resize', ['c', 'region', 'twice'], 'd', {
            coordinate_transformation_mode: stringAttribute('asymmetric'),
            nearest_mode: stringAttribute('floor'),
          });
  const nodes: Node[] = [
    node('Conv', ['x', 'w1', 'b1'], 'a', { pads: intsAttribute([1, 1, 1, 1]) }),
    clip,
    node('Conv', ['b', 'w2'], 'c', { strides: intsAttribute([2, 2]), pads: intsAttribute([1, 1, 1, 1]) }),
    grow,
    node('ConvTranspose', ['c', 'w3'], 'e', { strides: intsAttribute([2, 2]) }),
    node('Add', ['d', 'e'], 'f'),
    // One softmax over channels and places.
    node('Softmax', ['f'], 'g', { axis: intAttribute(1) }),
    node('Mul', ['g', 'f'], 'h'),
    node('ReduceSum', ['h'], 'i', { axes: intsAttribute([2, 3]), keepdims: intAttribute(1) }),
    node('Squeeze', ['i'], 'j', { axes: intsAttribute([2, 3]) }),
    node('Gemm', ['j', 'w4', 'b4'], 'y', { transB: intAttribute(1) }),
  ];
  const model = buildModel({
    inputs: { x: ['n', ...dims.slice(1)] },
    outputs: ['y'],
    nodes,
    weights: [
      random('w1', [32, 16, 3, 3], 2),
      float32Tensor('b1', [32], gaussian(32, 3)),
      random('w2', [32, 32, 3, 3], 4),
      random('w3', [32, 32, 2, 2], 5),
      random('w4', [64, 32], 6),
      float32Tensor('b4', [64], gaussian(64, 7)),
      ...(opset < 11
        ? []
        : [
            float32Tensor('zero', [], Float32Array.of(0)),
            float32Tensor('six', [], Float32Array.of(6)),
            float32Tensor('region', [0], new Float32Array(0)),
          ]),
      ...(opset < 9 ? [] : [float32Tensor('twice', [4], Float32Array.of(1, 1, 2, 2))]),
    ],
    opset,
  });
  model.irVersion = opset === 7 ? 3 : 6;
  if (opset === 7) listWeightsAsInputs(model);
  return model;
}

function listWeightsAsInputs({ graph }: Model, only?: string): void {
  for (const { name, dataType, dims: shape } of graph.initializers.values()) {
    if (only === undefined || name === only) graph.inputs.push({ name, dataType, dims: [...shape] });
  }
}

async function quantized(model: Model, dtype: Dtype, provider: Provider): Promise<Quantized> {
  const names = quantizableWeights(model, provider).map(({ name }) => name);
  const samples = listDataset([2, 3].map((seed) => ({ x: { dims, data: gaussian(2 * 16 * 64, seed) } })));
  const ranges =
    dtype === 'int8-static'
      ? await collectRanges(directRuntime(), model, samples, { workDirectory: folder })
      : undefined;
  return quantizeModel(model, new Map(names.map((name) => [name, dtype])), {
    provider,
    ...(ranges === undefined ? {} : { ranges }),
  });
}

/** Format → what the weights of the four layers get, the opset that takes, and the least output SQNR in dB. */
const expected: [Dtype, Dtype[], number, number][] = [
  ['int8', ['int8', 'int8', 'int8', 'int8'], 13, 30],
  ['int4', ['int4', 'int4', 'int4', 'int4'], 21, 12],
  ['int8-dynamic', ['int8-dynamic', 'int8-dynamic', 'int8', 'int8-dynamic'], 13, 25],
  ['int8-static', ['int8-static', 'int8-static', 'int8', 'int8-static'], 13, 25],
  ['nf4', ['int4', 'int4', 'int4', 'nf4'], 21, 12],
  ['int2', ['int4', 'int4', 'int4', 'int2'], 21, 3],
];

describe('models of old opsets', () => {
  for (const opset of [7, 9, 11] as const) {
    it(`opset ${opset}: every format is what it is for the same model of opset 13`, async () => {
      const original = net(opset);
      const exact = await runModel(original, feeds);
      const raised = net(opset);
      raiseOpset(raised, 13);
      expect((await runModel(raised, feeds)).y).toEqual(exact.y);
      for (const [dtype, dtypes, least, db] of expected) {
        const result = await quantized(original, dtype, 'cpu');
        expect(
          result.weights.map((row) => row.dtype),
          dtype,
        ).toEqual(dtypes);
        expect(result.model.opsets.get(''), dtype).toBe(least);
        expect(result.notes).toEqual([expect.stringContaining(`from opset ${opset} to ${least}`)]);
        const { y } = await runModel(result.model, feeds);
        expect(sqnr(exact.y!, y!), dtype).toBeGreaterThan(db);
        expect((await runModel((await quantized(raised, dtype, 'cpu')).model, feeds)).y, dtype).toEqual(y);
      }
      expect(original.opsets.get('')).toBe(opset);
      expect(original.graph.inputs).toHaveLength(opset === 7 ? 7 : 1);
    });
  }

  it('float16 leaves the opset alone and computes the same', async () => {
    for (const opset of [7, 9, 11] as const) {
      const original = net(opset);
      const result = await quantized(original, 'fp16', 'webgpu');
      expect(result.weights.map((row) => row.dtype)).toEqual(['fp16', 'fp16', 'fp16', 'fp16']);
      expect(result.model.opsets.get('')).toBe(opset);
      const [exact, got] = [await runModel(original, feeds), await runModel(result.model, feeds)];
      expect(sqnr(exact.y!, got.y!)).toBeGreaterThan(45);
    }
  });

  it.skipIf(!webgpu)('compute on WebGPU what they compute on the CPU', { timeout: 240_000 }, async () => {
    const { model } = await quantized(net(7), 'int4', 'webgpu');
    const modelPath = path.join(folder, 'webgpu.onnx');
    writeModel(model, modelPath);
    const session = await runtime.open({ modelPath, provider: 'webgpu' });
    const { y } = await session.run({ x: { dtype: 'float32', ...feeds.x } });
    await session.close();
    expect(sqnr((await runModel(model, feeds)).y!, y!.data as Float32Array)).toBeGreaterThan(35);
  });

  it('keep their weights, with the reason, where an operator means something else in newer opsets', () => {
    const model = net(9);
    model.graph.initializers.set('twice', float32Tensor('twice', [4], Float32Array.of(1, 1, 2, 0.5)));
    const { weights, notes } = quantizeModel(model, new Map([['w1', 'int8']]), { provider: 'cpu' });
    expect(weights[0]).toMatchObject({
      dtype: 'fp32',
      reason: expect.stringMatching(/opset 9 cannot be raised to 13: Upsample/) as string,
    });
    expect(notes).toEqual([]);
  });
});

describe('weights on the list of inputs', () => {
  const int8 = new Map<string, Dtype>([['w2', 'int8']]);

  it('are quantized where the exporter listed all of them, and that is said', async () => {
    const model = net(11);
    listWeightsAsInputs(model);
    const result = quantizeModel(model, int8, { provider: 'cpu' });
    expect(result.weights.find(({ name }) => name === 'w2')!.dtype).toBe('int8');
    expect(result.notes).toContainEqual(expect.stringMatching(/listed as inputs/));
    expect(result.model.graph.inputs.map(({ name }) => name)).toEqual(['x']);
    expect(sqnr((await runModel(model, feeds)).y!, (await runModel(result.model, feeds)).y!)).toBeGreaterThan(30);
  });

  it('stay as they are where only some are: a caller may mean to set those', () => {
    const model = net(11);
    listWeightsAsInputs(model, 'w2');
    const result = quantizeModel(model, int8, { provider: 'cpu' });
    expect(result.weights.find(({ name }) => name === 'w2')).toMatchObject({
      dtype: 'fp32',
      reason: expect.stringContaining('caller may replace it') as string,
    });
    expect(result.model.graph.inputs).toHaveLength(2);
  });
});
