import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { dtypes, type Dtype } from '../../../src/contract/types.js';
import { estimateMemory } from '../../../src/memory/estimate.js';
import type { Model } from '../../../src/onnx/model.js';
import { readModel } from '../../../src/onnx/read.js';
import { writeModel } from '../../../src/onnx/write.js';
import { collectRanges, decodeWeight, quantizableWeights, quantizeModel } from '../../../src/quantize/index.js';
import type { WeightRole } from '../../../src/quantize/sites.js';
import { truth } from '../../../src/quantize/truth.js';
import { profileModel } from '../memory/profile.js';
import { directRuntime, listDataset, runModel, weight } from './build.js';
import { gru, layerModels, type LayerModel } from './layers.js';
import { gaussian, sqnr } from './numbers.js';

/** Least output SQNR in dB after six layers. */
const least: Partial<Record<Dtype, number>> = {
  int8: 28,
  'int8-dynamic': 26,
  'int8-static': 12,
  int4: 9,
  nf4: 9,
  // Six layers of random weights leave as much error as signal; trained models keep about 15 dB.
  int2: -2,
};
const weightOnly: ReadonlySet<Dtype> = new Set(['int8', 'int4', 'nf4', 'int2']);

let folder: string;
let files = 0;
beforeAll(() => (folder = mkdtempSync(path.join(os.tmpdir(), 'quantize-truth-'))));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function inputOf({ dims, integers }: LayerModel, seed: number): { dims: number[]; data: Float32Array } {
  const count = dims.reduce((a, b) => a * b, 1);
  return { dims, data: integers === true ? new Float32Array(count) : gaussian(count, seed) };
}

async function outputOf(layer: LayerModel, model: Model): Promise<Float32Array> {
  const { dims, data } = inputOf(layer, 7);
  const ids = BigInt64Array.from({ length: data.length }, (_, i) => BigInt(i * 97));
  const { y } = await runModel(model, { x: { dims, data: layer.integers === true ? ids : data } });
  return y!;
}

/** The model with the values its quantized weights stand for. */
function decoded(original: Model, quantized: Model): Model {
  const initializers = new Map(original.graph.initializers);
  for (const { name, dims } of quantizableWeights(original, 'cpu')) {
    initializers.set(name, weight(name, dims, decodeWeight(original, quantized, name)!));
  }
  return { ...original, graph: { ...original.graph, initializers } };
}

/** Bytes at the peak of a run, weights included: measured and estimated. */
async function peakOf(model: Model): Promise<{ measured: number; estimated: number }> {
  const file = path.join(folder, `${files++}.onnx`);
  writeModel(model, file);
  const { peaks, weights } = await profileModel(file, { level: 'all', memoryPattern: true, runs: 2, dims: {} });
  const { peakBytes, unknown } = estimateMemory(readModel(file), { provider: 'cpu', batch: 1, dims: {} });
  expect(unknown).toEqual([]);
  return { measured: Math.max(...peaks) + weights, estimated: peakBytes };
}

describe('every row of the table of truth on the CPU', () => {
  for (const role of Object.keys(layerModels) as Exclude<WeightRole, 'other'>[]) {
    const layer = layerModels[role]();
    let exact: Promise<{ output: Float32Array; peak: number }> | null = null;
    const whole = (): Promise<{ output: Float32Array; peak: number }> =>
      (exact ??= (async () => ({
        output: await outputOf(layer, layer.model),
        peak: (await peakOf(layer.model)).measured,
      }))());

    for (const dtype of dtypes.filter((each) => each !== 'fp32')) {
      const row = truth.cpu[dtype][role];
      it(`${role} ${dtype}: ${row.allowed ? row.encoding : 'not offered'}`, async () => {
        const infos = quantizableWeights(layer.model, 'cpu');
        const assignment = new Map(infos.map(({ name }) => [name, dtype]));
        const ranges =
          row.needsSamples === true
            ? await collectRanges(
                directRuntime(),
                layer.model,
                listDataset([1, 2].map((seed) => ({ x: inputOf(layer, seed) }))),
                { workDirectory: folder },
              )
            : undefined;
        const result = quantizeModel(layer.model, assignment, {
          provider: 'cpu',
          ...(ranges === undefined ? {} : { ranges }),
        });
        if (!row.allowed) {
          for (const info of result.weights) {
            expect(info.dtype).not.toBe(dtype);
            expect(info.reason).toContain(row.note);
          }
          return;
        }
        for (const info of result.weights) expect(info).toMatchObject({ dtype, encoding: row.encoding });
        const { output, peak } = await whole();
        const got = await outputOf(layer, result.model);
        expect(sqnr(output, got)).toBeGreaterThan(least[dtype]!);
        // Activations of 8 bits, six layers deep, are all that is between this and the weights as they are stored.
        if (weightOnly.has(dtype)) {
          expect(sqnr(await outputOf(layer, decoded(layer.model, result.model)), got)).toBeGreaterThan(28);
        }
        const { measured, estimated } = await peakOf(result.model);
        expect(measured).toBeLessThan(0.7 * peak);
        expect(Math.abs(estimated / measured - 1)).toBeLessThan(0.01);
      });
    }
  }

  it('gru int8: unpacked as for lstm; int8-dynamic: not offered', async () => {
    const layer = gru();
    const assignment = (dtype: Dtype): Map<string, Dtype> =>
      new Map(quantizableWeights(layer.model, 'cpu').map(({ name }) => [name, dtype]));
    const int8 = quantizeModel(layer.model, assignment('int8'), { provider: 'cpu' });
    const { measured, estimated } = await peakOf(int8.model);
    expect(measured).toBeLessThan(0.7 * (await peakOf(layer.model)).measured);
    expect(Math.abs(estimated / measured - 1)).toBeLessThan(0.01);
    expect(sqnr(await outputOf(layer, layer.model), await outputOf(layer, int8.model))).toBeGreaterThan(least.int8!);
    for (const row of quantizeModel(layer.model, assignment('int8-dynamic'), { provider: 'cpu' }).weights) {
      expect(row).toMatchObject({ dtype: 'int8', reason: expect.stringContaining('no integer form') as string });
    }
  });
});
