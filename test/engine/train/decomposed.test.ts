import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { floatAttribute as f, intAttribute as i, intsAttribute as is } from '../../../src/onnx/attribute.js';
import { DataType, type Model } from '../../../src/onnx/model.js';
import { rawTensor } from '../../../src/onnx/tensor.js';
import { createRuntime } from '../../../src/runtime/client.js';
import { normalNumbers, randomNumbers } from '../../../src/train/random.js';
import type { Targets } from '../../../src/train/train.js';
import { clouds, trainerIn, weightValues } from './model.js';
import { testModel, type TestGraph } from './support.js';

const folder = mkdtempSync(path.join(tmpdir(), 'snug-decomposed-'));
const runtime = createRuntime({ threads: 1 });
const run = trainerIn(folder, runtime);

afterAll(async () => {
  await runtime.close();
  rmSync(folder, { recursive: true, force: true });
});

const random = (dims: number[], seed: number, size = 1): { dims: number[]; values: number[] } => {
  const normal = normalNumbers(seed);
  return { dims, values: Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => normal() * size) };
};

function modelOf(graph: TestGraph): Model {
  const model = testModel(graph);
  model.graph.outputs = [{ name: 'y', dataType: DataType.FLOAT, dims: ['batch', 3] }];
  return model;
}

const { dataset, labels } = clouds(300);
const rows: Targets = { kind: 'rows', rows: labels };
const operators = (model: Model): string[] => model.graph.nodes.map(({ opType }) => opType);
const bits = (model: Model, name: string): Uint8Array => model.graph.initializers.get(name)!.data.read();

describe('training models with operators that are written out', () => {
  it('moves the floating-point weights of a quantized layer and leaves its codes', async () => {
    const numbers = randomNumbers(5);
    const codes = Uint8Array.from({ length: 16 * 16 }, () => Math.floor(numbers() * 256));
    const model = modelOf({
      wanted: { x: ['batch', 6] },
      floats: {
        scales: random([16, 1], 3, 0.05),
        bias: random([16], 4),
        w: random([16, 3], 5, 0.3),
        b: random([3], 6),
      },
      tensors: [rawTensor('codes', DataType.UINT8, [16, 1, 16], codes)],
      nodes: [
        {
          op: 'MatMulNBits',
          domain: 'com.microsoft',
          in: ['x', 'codes', 'scales', '', '', 'bias'],
          out: ['h'],
          attributes: { K: i(6), N: i(16), bits: i(8), block_size: i(16) },
        },
        { op: 'BiasGelu', domain: 'com.microsoft', in: ['h', 'bias'], out: ['g'] },
        { op: 'Gemm', in: ['g', 'w', 'b'], out: ['y'] },
      ],
    });
    const trained = await run(model, dataset, rows, { epochs: 8, rate: 0.02, trainable: ['*'] });
    expect(trained.after.loss).toBeLessThan(trained.before.loss * 0.7);
    expect(operators(trained.model)).toEqual(operators(model));
    expect(bits(trained.model, 'codes')).toEqual(codes);
    for (const name of ['scales', 'bias', 'w']) expect(bits(trained.model, name)).not.toEqual(bits(model, name));
    // What was measured while it trained is what the file computes with its own operators.
    const again = await run(trained.model, dataset, rows, { steps: 1, rate: 1e-12, trainable: ['b'] });
    expect(again.before.loss).toBeCloseTo(trained.after.loss, 3);
    const frozen = await run(model, dataset, rows, { epochs: 3 });
    expect(bits(frozen.model, 'scales')).toEqual(bits(model, 'scales'));
    expect(frozen.after.loss).toBeLessThan(frozen.before.loss);
  });

  it('keeps the zeros of a pruned recurrent layer, and the layer', async () => {
    const pruned = random([1, 32, 8], 2, 0.4);
    pruned.values = pruned.values.map((value, at) => (at % 3 === 0 ? 0 : value));
    const model = modelOf({
      wanted: { x: ['batch', 6] },
      floats: { w: random([1, 32, 1], 1, 0.6), r: pruned, b: random([1, 64], 3, 0.1), o: random([8, 3], 4, 0.4) },
      ints: { shape: { dims: [3], values: [-1, 6, 1] }, first: { dims: [1], values: [0] } },
      nodes: [
        { op: 'Reshape', in: ['x', 'shape'], out: ['s'] },
        { op: 'Transpose', in: ['s'], out: ['t'], attributes: { perm: is([1, 0, 2]) } },
        { op: 'LSTM', in: ['t', 'w', 'r', 'b'], out: ['', 'h'], attributes: { hidden_size: i(8) } },
        { op: 'Squeeze', in: ['h', 'first'], out: ['last'] },
        { op: 'MatMul', in: ['last', 'o'], out: ['y'] },
      ],
    });
    const { model: trained, before, after } = await run(model, dataset, rows, { epochs: 6, rate: 0.02 });
    expect(after.loss).toBeLessThan(before.loss * 0.9);
    expect(operators(trained)).toEqual(operators(model));
    expect(weightValues(trained, 'r').every((value, at) => (value === 0) === (at % 3 === 0))).toBe(true);
    expect(weightValues(trained, 'r')).not.toEqual(weightValues(model, 'r'));
  });

  it('merges adapters into the kernels of convolutions', async () => {
    const model = modelOf({
      wanted: { x: ['batch', 6] },
      floats: { k: random([8, 1, 3], 1, 0.5), o: random([24, 3], 2, 0.3) },
      ints: { shape: { dims: [3], values: [-1, 1, 6] } },
      nodes: [
        { op: 'Reshape', in: ['x', 'shape'], out: ['s'] },
        { op: 'Conv', in: ['s', 'k'], out: ['c'], attributes: { strides: is([2]), pads: is([1, 1]) } },
        { op: 'Relu', in: ['c'], out: ['r'] },
        { op: 'Flatten', in: ['r'], out: ['f'] },
        { op: 'MatMul', in: ['f', 'o'], out: ['y'] },
      ],
    });
    const tuned = await run(model, dataset, rows, { adapterRank: 2, trainable: ['k'], rate: 0.05, epochs: 6 });
    expect(tuned.values.map(({ dims }) => dims)).toContainEqual([3, 2]);
    expect(tuned.after.loss).toBeLessThan(tuned.before.loss);
    expect(operators(tuned.model)).toEqual(operators(model));
    const again = await run(tuned.model, dataset, rows, { adapterRank: 2, trainable: ['k'], steps: 1, rate: 1e-12 });
    expect(again.before.loss).toBeCloseTo(tuned.after.loss, 4);
  });

  it('trains a model of an old opset, in whose words it is given back', async () => {
    const model = modelOf({
      opset: 9,
      wanted: { x: ['batch', 6] },
      floats: { w: random([6, 8], 1, 0.5), b: random([8], 2, 0.1), o: random([8, 3], 3, 0.4) },
      nodes: [
        { op: 'Gemm', in: ['x', 'w', 'b'], out: ['h'] },
        { op: 'Clip', in: ['h'], out: ['c'], attributes: { min: f(0), max: f(6) } },
        { op: 'Unsqueeze', in: ['c'], out: ['u'], attributes: { axes: is([1]) } },
        { op: 'Dropout', in: ['u'], out: ['d'], attributes: { ratio: f(0.1) } },
        { op: 'Squeeze', in: ['d'], out: ['q'], attributes: { axes: is([1]) } },
        { op: 'MatMul', in: ['q', 'o'], out: ['y'] },
      ],
    });
    const trained = await run(model, dataset, rows, { epochs: 6, rate: 0.02 });
    expect(trained.after.loss).toBeLessThan(trained.before.loss * 0.8);
    expect(trained.model.opsets.get('')).toBe(9);
    expect(trained.model.graph.nodes).toEqual(model.graph.nodes);
    const again = await run(trained.model, dataset, rows, { steps: 1, rate: 1e-12 });
    expect(again.before.loss).toBeCloseTo(trained.after.loss, 4);
  });

  it('trains a model with a half-precision output', async () => {
    const model = modelOf({
      wanted: { x: ['batch', 6] },
      floats: { w: random([6, 3], 1) },
      nodes: [
        { op: 'MatMul', in: ['x', 'w'], out: ['f'] },
        { op: 'Cast', in: ['f'], out: ['y'], attributes: { to: i(DataType.FLOAT16) } },
      ],
    });
    model.graph.outputs = [{ name: 'y', dataType: DataType.FLOAT16, dims: ['batch', 3] }];
    const { before, after } = await run(model, dataset, rows, { epochs: 4 });
    expect(after.loss).toBeLessThan(before.loss);
  });
});
