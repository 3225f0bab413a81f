import { existsSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { readModel } from '../../../src/onnx/read.js';
import { defaultBindings, inferShapes } from '../../../src/onnx/shape.js';
import { profileModel } from '../memory/profile.js';

const samples = path.resolve('../shared/models');

describe.skipIf(!existsSync(samples))('shapes against onnxruntime (needs the sample models)', () => {
  test.each([
    ['digits-mlp.onnx', 1, {}],
    ['digits-mlp.onnx', 7, {}],
    ['digits-resnet.onnx', 1, {}],
    ['digits-resnet.onnx', 5, {}],
    ['digits-vit.onnx', 1, {}],
    ['digits-vit.onnx', 6, {}],
    ['kjv-gpt/model.onnx', 2, { sequence: 9 }],
    ['kjv-gpt/model.onnx', 3, { sequence: 5, past_sequence: 16 }],
    ['kjv-gpt/model.onnx', 1, { sequence: 1, past_sequence: 16 }],
  ])('%s at batch %i %o: every output of every node', async (file, batch, given) => {
    const model = readModel(path.join(samples, file));
    const { dims } = defaultBindings(model, batch, given);
    const { shapes, unknown } = inferShapes(model, dims);
    expect(unknown).toEqual([]);
    const real = await profileModel(path.join(samples, file), {
      level: 'disabled',
      memoryPattern: false,
      runs: 1,
      dims,
    });
    const outputs = new Map(model.graph.nodes.map((node) => [node.name, node.outputs]));
    expect(real.nodes.length).toBeGreaterThan(5);
    for (const node of real.nodes) {
      const inferred = outputs.get(node.name)?.map((output) => shapes.get(output)?.dims);
      expect([node.name, inferred]).toEqual([node.name, node.outputs]);
    }
  });
});
