import { existsSync } from 'node:fs';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { readModel } from '../../../src/onnx/read.js';
import { pruneModel } from '../../../src/prune/index.js';
import { imageDataset, inProcessRuntime, modelsFolder, temporaryFolder } from './support.js';

const folder = temporaryFolder();
afterAll(folder.remove);

describe.skipIf(!existsSync(modelsFolder))('measured allocation (needs the sample models)', () => {
  it('saves at least what the ratio saves, for no more damage', async () => {
    const model = readModel(path.join(modelsFolder, 'digits-mlp.onnx'));
    const samples = {
      runtime: inProcessRuntime,
      dataset: imageDataset(path.join(modelsFolder, 'digits-calibration.npy')),
      workDirectory: folder.path,
      maxSamples: 64,
    };
    const request = { ratio: 0.5, method: 'repair', samples } as const;
    const uniform = await pruneModel(model, request);
    const measured = await pruneModel(model, { ...request, allocation: 'measured' });
    expect(measured.after.weightBytes).toBeLessThanOrEqual(uniform.after.weightBytes);
    expect(measured.damage!.sqnrDb).toBeGreaterThanOrEqual(uniform.damage!.sqnrDb);
    for (const { before, after } of measured.classes) expect(after).toBeGreaterThanOrEqual(before / 4);
    const { byRatio } = measured.damage!;
    byRatio.slice(1).forEach((point, at) => expect(point.sqnrDb).toBeLessThanOrEqual(byRatio[at]!.sqnrDb));
  }, 180_000);
});
