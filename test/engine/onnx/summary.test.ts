import { existsSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { checkModel, unknownOperators } from '../../../src/onnx/check.js';
import { readModel } from '../../../src/onnx/read.js';
import { summarizeModel } from '../../../src/onnx/summary.js';

const models = path.resolve('../shared/models');

describe.skipIf(!existsSync(models))('summary of the sample models (needs ../shared/models)', () => {
  it.each([
    ['digits-mlp.onnx', 'image classifier', 0.17],
    ['digits-resnet.onnx', 'image classifier', 0.81],
    ['digits-vit.onnx', 'image classifier', 1.79],
    ['kjv-gpt', 'text decoder with KV cache', 2.49],
  ])('%s: %s with %d million parameters', (name, kind, millions) => {
    const model = readModel(path.join(models, name));
    checkModel(model);
    expect(unknownOperators(model)).toEqual([]);
    const summary = summarizeModel(model);
    expect(summary.kind).toBe(kind);
    expect(summary.parameters / 1e6).toBeCloseTo(millions, 1);
    expect(summary.weightBytes).toBeGreaterThanOrEqual(4 * summary.parameters);
    expect(summary.weightBytes).toBeLessThan(summary.fileBytes);
    expect(summary.batchDimension).toBe('batch');
  });
});
