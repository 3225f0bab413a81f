import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { trainingMemory } from '../../../src/fit/training-memory.js';
import { readModel } from '../../../src/onnx/read.js';
import { writeModel } from '../../../src/onnx/write.js';
import { createRuntime } from '../../../src/runtime/client.js';
import type { Feeds } from '../../../src/runtime/types.js';
import { initialValues, prepareTraining } from '../../../src/train/prepare.js';
import { trainingLevers } from '../../../src/train/train.js';
import { modelsFolder, settings } from './model.js';

const folder = mkdtempSync(path.join(tmpdir(), 'snug-train-'));
const runtime = createRuntime({ threads: 2 });
afterAll(async () => {
  await runtime.close();
  rmSync(folder, { recursive: true, force: true });
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
      const modelPath = path.join(folder, `${name}.onnx`);
      writeModel(graphs.gradient, modelPath);
      const feeds: Feeds = {
        input: { dtype: 'float32', dims: [batch, 1, 8, 8], data: new Float32Array(batch * 64).fill(0.5) },
        [graphs.target.name]: { dtype: 'int64', dims: [batch], data: new BigInt64Array(batch) },
        [graphs.weight]: { dtype: 'float32', dims: [], data: Float32Array.of(1 / batch) },
      };
      for (const value of initialValues(prepared)) {
        feeds[value.name] = { dtype: 'float32', dims: value.dims, data: value.data };
      }
      const spec = { modelPath, provider: 'cpu', threads: 2, levers: trainingLevers } as const;
      const { peakBytes } = await runtime.measure(spec, feeds, { warmRuns: 1, batch });
      expect(memory.run.peakBytes / peakBytes).toBeGreaterThan(0.9);
      expect(memory.run.peakBytes / peakBytes).toBeLessThan(1.1);
      // Weights and both moments of Adam, in float32.
      const numbers = graphs.parameters.reduce((sum, { dims }) => sum + dims.reduce((a, b) => a * b, 1), 0);
      expect(memory.stateBytes).toBe(numbers * 12);
      expect(memory.peakBytes).toBe(memory.run.peakBytes + memory.stateBytes);
    });
  }
});
