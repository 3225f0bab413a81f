import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openData, openModel } from '../../../src/app/open.js';
import { bundledSamples } from '../../../src/app/samples.js';
import type { Dtype } from '../../../src/contract/types.js';
import { measureLayers } from '../../../src/fit/layer-damage.js';
import { quantizeModel } from '../../../src/quantize/index.js';
import { createRuntime } from '../../../src/runtime/client.js';

const [sample] = bundledSamples();
const { model, inputs } = openModel(sample.modelPath);
const folder = mkdtempSync(path.join(tmpdir(), 'snug-layer-test-'));
const runtime = createRuntime();
afterAll(async () => {
  await runtime.close();
  rmSync(folder, { recursive: true, force: true });
});

async function layers(dtypeOf: (weight: number) => Dtype): Promise<Awaited<ReturnType<typeof measureLayers>>> {
  const names = quantizeModel(model, new Map(), { provider: 'cpu' }).weights.map(({ name }) => name);
  const result = quantizeModel(model, new Map(names.map((name, at) => [name, dtypeOf(at)])), { provider: 'cpu' });
  const dataset = await openData(
    sample.dataPath ?? '',
    { path: '', model, inputs, summary: openModel(sample.modelPath).summary },
    {},
  );
  try {
    return await measureLayers({
      original: model,
      result: result.model,
      weights: result.weights.map((weight) => ({ ...weight, dims: [] })),
      feeds: (samples) => dataset.feeds(0, samples),
      dims: {},
      runtime,
    });
  } finally {
    await dataset.close();
  }
}

describe('measureLayers', () => {
  it('says for each changed layer how far its output is off, the fewer bits the farther', async () => {
    const four = await layers(() => 'int4');
    const eight = await layers(() => 'int8');
    expect(four.map(({ operator }) => operator)).toEqual(['Gemm', 'Gemm', 'Gemm']);
    expect(four.flatMap(({ weights }) => weights)).toHaveLength(3);
    four.forEach(({ sqnrDb, cosine, dtype, damage }, at) => {
      expect(dtype).toBe('int4');
      expect(sqnrDb).toBeGreaterThan(10);
      expect(sqnrDb).toBeLessThan(eight[at]!.sqnrDb - 10);
      expect(cosine).toBeGreaterThan(0.9);
      expect(damage.band).not.toBe('none');
    });
  });

  it('leaves out layers that were not changed; what comes after a change still shows it', async () => {
    const last = await layers((at) => (at === 2 ? 'int4' : 'fp32'));
    expect(last).toHaveLength(1);
    const first = await layers((at) => (at === 0 ? 'int4' : at === 2 ? 'int8' : 'fp32'));
    expect(first.map(({ dtype }) => dtype)).toEqual(['int4', 'int8']);
    const [alone] = await layers((at) => (at === 2 ? 'int8' : 'fp32'));
    expect(first[1]!.sqnrDb).toBeLessThan(alone!.sqnrDb - 3);
  });
});
