import { existsSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { readModel } from '../../../src/onnx/read.js';
import { analyseModel, difference } from './masking.js';
import { imageDataset, modelsFolder, textDataset } from './support.js';

const shared = [
  { name: 'digits-mlp.onnx', classes: 2 },
  { name: 'digits-resnet.onnx', classes: 4 },
  { name: 'digits-vit.onnx', classes: 4 },
  { name: 'kjv-gpt/model.onnx', classes: 4 },
];

describe.skipIf(!existsSync(modelsFolder))('slicing equals masking on trained models (needs the sample models)', () => {
  it.each(shared)('$name', async ({ name, classes }) => {
    const model = readModel(path.join(modelsFolder, name));
    const data = name.startsWith('kjv')
      ? textDataset(path.join(modelsFolder, 'kjv-test.txt'), 32)
      : imageDataset(path.join(modelsFolder, 'digits-test.npy'));
    const feeds = await data.feeds(0, 4);
    const analysis = analyseModel(model);
    expect(analysis.classes.filter((one) => one.byDefault)).toHaveLength(classes);
    const exact = analysis.classes.filter((one) => one.approximate === null);
    for (const [at, one] of exact.entries()) {
      expect(await difference(model, analysis, [one], feeds, { seed: at + 1 }), one.name).toBeLessThan(1e-4);
    }
    expect(await difference(model, analysis, exact, feeds, { seed: 99 })).toBeLessThan(1e-4);
  });
});
