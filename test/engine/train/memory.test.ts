import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { trainingMemory } from '../../../src/fit/training-memory.js';
import { intAttribute } from '../../../src/onnx/attribute.js';
import { DataType, type Model, type Tensor } from '../../../src/onnx/model.js';
import { readModel } from '../../../src/onnx/read.js';
import { float32Tensor, rawTensor } from '../../../src/onnx/tensor.js';
import { writeModel } from '../../../src/onnx/write.js';
import { quantizableWeights, quantizeModel } from '../../../src/quantize/index.js';
import { createRuntime } from '../../../src/runtime/client.js';
import type { Feeds } from '../../../src/runtime/types.js';
import { initialValues, prepareTraining, type PreparedTraining } from '../../../src/train/prepare.js';
import { trainingLevers } from '../../../src/train/train.js';
import { arrayDataset, modelsFolder, settings, trainerIn } from './model.js';
import { testModel, type TestNode } from './support.js';

const folder = mkdtempSync(path.join(tmpdir(), 'snug-train-'));
const runtime = createRuntime({ threads: 2 });
afterAll(async () => {
  await runtime.close();
  rmSync(folder, { recursive: true, force: true });
});

/** Estimated over measured bytes of one micro-batch's run. */
async function ratioOfRun(prepared: PreparedTraining, batch: number, input: Feeds): Promise<number> {
  const { graphs } = prepared;
  const modelPath = path.join(folder, 'gradient.onnx');
  writeModel(graphs.gradient, modelPath, { overwrite: true });
  const feeds: Feeds = {
    ...input,
    [graphs.target.name]: { dtype: 'int64', dims: [batch], data: new BigInt64Array(batch) },
    [graphs.weight]: { dtype: 'float32', dims: [], data: Float32Array.of(1 / batch) },
  };
  for (const value of initialValues(prepared)) {
    feeds[value.name] = { dtype: 'float32', dims: value.dims, data: value.data };
  }
  const spec = { modelPath, provider: 'cpu', threads: 2, levers: trainingLevers } as const;
  const { peakBytes } = await runtime.measure(spec, feeds, { warmRuns: 1, batch });
  return trainingMemory(prepared, 'cpu', { threads: 2 }).run.peakBytes / peakBytes;
}

const pixels = (batch: number): Feeds => ({
  input: { dtype: 'float32', dims: [batch, 1, 8, 8], data: new Float32Array(batch * 64).fill(0.5) },
});

describe.skipIf(!existsSync(modelsFolder))('memory of training (needs the shared models)', () => {
  for (const [name, batch] of [
    ['digits-mlp', 64],
    ['digits-resnet', 8],
    ['digits-vit', 8],
  ] as const) {
    it(`is estimated within 10 % for ${name}`, async () => {
      const model = readModel(path.join(modelsFolder, `${name}.onnx`));
      const prepared = prepareTraining(model, { input: ['batch', 1, 8, 8] }, { ...settings, batch, microBatch: batch });
      const { graphs } = prepared;
      const memory = trainingMemory(prepared, 'cpu', { threads: 2 });
      const ratio = await ratioOfRun(prepared, batch, pixels(batch));
      expect(ratio).toBeGreaterThan(0.9);
      expect(ratio).toBeLessThan(1.1);
      // Weights, both moments of Adam and gradients, in float32.
      const numbers = graphs.parameters.reduce((sum, { dims }) => sum + dims.reduce((a, b) => a * b, 1), 0);
      expect(memory.stateBytes).toBe(numbers * 16);
      expect(memory.peakBytes).toBeGreaterThan(memory.run.peakBytes + memory.stateBytes);
    });
  }

  for (const dtype of ['int8', 'int4'] as const) {
    it(`is estimated within 10 % for digits-resnet in ${dtype}`, async () => {
      const model = readModel(path.join(modelsFolder, 'digits-resnet.onnx'));
      const formats = new Map(quantizableWeights(model, 'cpu').map(({ name }) => [name, dtype] as const));
      const { model: quantized } = quantizeModel(model, formats, { provider: 'cpu' });
      const change = { batch: 8, microBatch: 8, trainable: 'biases-and-norms' } as const;
      const prepared = prepareTraining(quantized, { input: ['batch', 1, 8, 8] }, { ...settings, ...change });
      const ratio = await ratioOfRun(prepared, 8, pixels(8));
      expect(ratio).toBeGreaterThan(0.9);
      expect(ratio).toBeLessThan(1.1);
    });
  }
});

const width = 2048;

/** Matrices of 16 MiB in float32, each with a bias and a ReLU; with codes, a DequantizeLinear unpacks each. */
function wideModel(layers: number, form: 'float32' | 'int8'): Model {
  const tensors: Tensor[] = [];
  const nodes: TestNode[] = [];
  for (let k = 0; k < layers; k++) {
    // Different in each layer: the runtime packs equal weights once.
    const codes = new Uint8Array(width ** 2);
    for (let i = 0; i < codes.length; i++) codes[i] = (i * 7919 + k) % 251;
    if (form === 'int8') {
      const stored = rawTensor(`codes${k}`, DataType.INT8, [width, width], codes);
      tensors.push(stored, float32Tensor(`scale${k}`, [width], new Float32Array(width).fill(0.0003)));
      const attributes = { axis: intAttribute(1) };
      nodes.push({ op: 'DequantizeLinear', in: [`codes${k}`, `scale${k}`], out: [`w${k}`], attributes });
    } else {
      const values = new Float32Array(codes).map((code) => (code - 125) / 5000);
      tensors.push(float32Tensor(`w${k}`, [width, width], values));
    }
    tensors.push(float32Tensor(`b${k}`, [width], new Float32Array(width).fill(0.1)));
    nodes.push({ op: 'MatMul', in: [k === 0 ? 'x' : `r${k - 1}`, `w${k}`], out: [`m${k}`] });
    nodes.push({ op: 'Add', in: [`m${k}`, `b${k}`], out: [`a${k}`] });
    nodes.push({ op: 'Relu', in: [`a${k}`], out: [k === layers - 1 ? 'y' : `r${k}`] });
  }
  const model = testModel({ wanted: { x: ['batch', width] }, tensors, nodes });
  model.graph.outputs = [{ name: 'y', dataType: DataType.FLOAT, dims: ['batch', width] }];
  return model;
}

const wideInput = { x: ['batch', width] } as const;

it('is estimated within 10 % where the backward pass reads unpacked weights', async () => {
  const change = { batch: 8, microBatch: 8, trainable: 'biases-and-norms' } as const;
  const prepared = prepareTraining(wideModel(3, 'int8'), wideInput, { ...settings, ...change });
  const ratio = await ratioOfRun(prepared, 8, {
    x: { dtype: 'float32', dims: [8, width], data: new Float32Array(8 * width).fill(0.3) },
  });
  expect(ratio).toBeGreaterThan(0.9);
  expect(ratio).toBeLessThan(1.1);
});

// The highest level of a process can be read on Linux only.
describe.skipIf(process.platform !== 'linux')('memory of a training process', () => {
  for (const [trainable, layers, form] of [
    ['biases-and-norms', 4, 'float32'],
    ['biases-and-norms', 4, 'int8'],
    ['all', 2, 'float32'],
  ] as const) {
    it(`stays within 15 % of the estimate for ${trainable} of ${layers} layers in ${form}`, async () => {
      const started = { pid: 0, bytes: 0 };
      const watched = createRuntime({ threads: 2, onBase: (pid, bytes) => Object.assign(started, { pid, bytes }) });
      let highest = 0;
      const change = { batch: 8, microBatch: 8, trainable, rate: 1e-5, epochs: 2 } as const;
      const model = wideModel(layers, form);
      const samples = 30;
      try {
        await trainerIn(folder, watched)(
          model,
          arrayDataset('x', new Float32Array(samples * width).fill(0.3), [width]),
          { kind: 'rows', rows: { dtype: 'int64', dims: [samples], data: new BigInt64Array(samples) } },
          change,
          {
            threads: 2,
            onProgress: () => {
              const status = readFileSync(`/proc/${started.pid}/status`, 'utf8');
              highest = Number(/VmHWM:\s+(\d+)/.exec(status)?.[1]) * 1024 - started.bytes;
            },
          },
        );
      } finally {
        await watched.close();
      }
      const { peakBytes } = trainingMemory(prepareTraining(model, wideInput, { ...settings, ...change }), 'cpu', {
        threads: 2,
      });
      expect(highest / peakBytes).toBeGreaterThan(0.85);
      expect(highest / peakBytes).toBeLessThan(1.15);
    }, 30_000);
  }
});
