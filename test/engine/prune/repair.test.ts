import { existsSync } from 'node:fs';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { PruneMethod } from '../../../src/contract/types.js';
import { floatAttribute } from '../../../src/onnx/graph.js';
import type { Model } from '../../../src/onnx/model.js';
import { readModel } from '../../../src/onnx/read.js';
import { pruneModel, type PruneResult } from '../../../src/prune/index.js';
import type { Dataset } from '../../../src/runtime/dataset-types.js';
import type { Feeds } from '../../../src/runtime/types.js';
import { GraphBuilder, numbers, randomModel } from './random-graph.js';
import { digitsAccuracy, imageDataset, inProcessRuntime, modelsFolder, runModel, temporaryFolder } from './support.js';

const folder = temporaryFolder();
afterAll(folder.remove);

function prune(model: Model, ratio: number, method: PruneMethod, dataset: Dataset, roundTo = 8): Promise<PruneResult> {
  const samples = { runtime: inProcessRuntime, dataset, workDirectory: folder.path, maxSamples: 100 };
  return pruneModel(model, { ratio, method, roundTo, seed: 1, samples });
}

describe.skipIf(!existsSync(modelsFolder))('repair on trained models, 100 samples (needs the sample models)', () => {
  // Shares of the dense accuracy that must stay after 30 % and 50 % of every inner width are gone.
  it.each([
    { name: 'digits-mlp', ratio: 0.3, share: 0.99 },
    { name: 'digits-mlp', ratio: 0.5, share: 0.96 },
    { name: 'digits-resnet', ratio: 0.5, share: 0.96 },
  ])('$name keeps $share of its accuracy at $ratio', async ({ name, ratio, share }) => {
    const model = readModel(path.join(modelsFolder, `${name}.onnx`));
    const dataset = imageDataset(path.join(modelsFolder, 'digits-calibration.npy'));
    const dense = await digitsAccuracy(model, folder.path);
    const repaired = await prune(model, ratio, 'repair', dataset);
    const magnitude = await prune(model, ratio, 'magnitude', dataset);
    const accuracy = await digitsAccuracy(repaired.model, folder.path);
    expect(accuracy).toBeGreaterThanOrEqual(share * dense);
    expect(accuracy).toBeGreaterThan(await digitsAccuracy(magnitude.model, folder.path));
    expect(repaired.after).toEqual(magnitude.after);
    for (const fit of Object.values(repaired.repair!)) {
      expect(fit.heldOutError!).toBeLessThan(fit.unrepairedError! / 5);
      expect(fit.skipped).toBe(0);
    }
  });
});

describe('repair on random graphs', () => {
  const random = numbers(5);
  const pixels = Float32Array.from({ length: 96 * 108 }, () => random() * 2 - 1);
  const slice = (start: number, count: number): Feeds => ({
    x: { dtype: 'float32', dims: [count, 3, 6, 6], data: pixels.slice(start * 108, (start + count) * 108) },
  });
  const dataset: Dataset = {
    name: 'noise',
    samples: 64,
    dims: {},
    feeds: (start, count) => Promise.resolve(slice(start, count)),
    close: () => Promise.resolve(),
  };
  const unseen = slice(64, 32);

  // A repaired layer whose own outputs shrink too, with its bias in every form that operators allow.
  it.each([
    { form: 'a vector', dims: [12], refitted: true },
    { form: 'a row', dims: [1, 12], refitted: true },
    { form: 'one number', dims: [1], refitted: true },
    { form: 'a number without axes', dims: [], refitted: true },
    { form: 'a number for every row', dims: [32, 1], refitted: false },
    { form: 'a value computed while running', dims: null, refitted: false },
  ])('copes with a bias that is $form', async ({ dims, refitted }) => {
    const g = new GraphBuilder(3);
    const flat = g.op('Flatten', ['x'])[0]!;
    const gemm = (x: string, from: number, to: number, bias: string): string =>
      g.op('Gemm', [x, g.weight([from, to]), bias], { beta: floatAttribute(2) })[0]!;
    const wide = g.op('Relu', [gemm(flat, 108, 16, g.weight([16]))])[0]!;
    const bias = dims === null ? g.op('MatMul', [flat, g.weight([108, 12])])[0]! : g.weight(dims, 0.5);
    const inner = g.op('Tanh', [gemm(wide, 16, 12, bias)])[0]!;
    const model = g.model(gemm(inner, 12, 5, g.weight([5])), [32, 3, 6, 6], [32, 5]);
    const repaired = await prune(model, 0.5, 'repair', { ...dataset, fixedBatch: 32 }, 1);
    expect(repaired.classes.map((one) => [one.before, one.after])).toEqual([
      [16, 8],
      [12, 6],
    ]);
    expect(Object.values(repaired.repair!).map((one) => one.skipped)).toEqual([refitted ? 0 : 1, 0]);
    const [name, expected] = Object.entries(await runModel(model, unseen, folder.path))[0]!;
    const distance = async (candidate: Model): Promise<number> => {
      const output = (await runModel(candidate, unseen, folder.path))[name]!.data as Float32Array;
      return output.reduce((sum, value, at) => sum + (value - (expected.data as Float32Array)[at]!) ** 2, 0);
    };
    const magnitude = await prune(model, 0.5, 'magnitude', dataset, 1);
    const left = await distance(repaired.model);
    expect(Number.isFinite(left)).toBe(true);
    if (refitted) expect(left).toBeLessThan(await distance(magnitude.model));
  });

  it('gives loadable models that are closer to the dense one than magnitude alone', async () => {
    let better = 0;
    let compared = 0;
    for (let seed = 1; seed <= 16; seed++) {
      const model = randomModel(seed);
      const repaired = await prune(model, 0.4, 'repair', dataset, 1);
      if (repaired.classes.every((one) => one.after === one.before)) continue;
      const magnitude = await prune(model, 0.4, 'magnitude', dataset, 1);
      expect(repaired.classes).toEqual(magnitude.classes);
      const [name, expected] = Object.entries(await runModel(model, unseen, folder.path))[0]!;
      const error = async (candidate: Model): Promise<number> => {
        const output = (await runModel(candidate, unseen, folder.path))[name]!;
        expect(output.dims).toEqual(expected.dims);
        const dense = expected.data as Float32Array;
        return (output.data as Float32Array).reduce((sum, value, at) => sum + (value - dense[at]!) ** 2, 0);
      };
      const left = await error(repaired.model);
      expect(Number.isFinite(left)).toBe(true);
      if (left < (await error(magnitude.model))) better++;
      compared++;
    }
    expect(compared).toBeGreaterThan(10);
    expect(better / compared).toBeGreaterThan(0.9);
  });
});
