import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openData, openModel } from '../../../src/app/open.js';
import { bundledSamples } from '../../../src/app/samples.js';
import type { Dtype } from '../../../src/contract/types.js';
import { measureLayers } from '../../../src/fit/layer-damage.js';
import { collectRanges, quantizeModel } from '../../../src/quantize/index.js';
import { createRuntime } from '../../../src/runtime/client.js';
import type { Runtime } from '../../../src/runtime/types.js';
import { buildModel, directRuntime, listDataset, node, weight } from '../quantize/build.js';
import { gaussian } from '../quantize/numbers.js';

const [sample] = bundledSamples();
const { model, inputs } = openModel(sample.modelPath);
const folder = mkdtempSync(path.join(tmpdir(), 'snug-layer-test-'));
const runtime = createRuntime();
afterAll(async () => {
  await runtime.close();
  rmSync(folder, { recursive: true, force: true });
});

async function layers(
  dtypeOf: (weight: number) => Dtype,
  using: Runtime = runtime,
): Promise<Awaited<ReturnType<typeof measureLayers>>> {
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
      scaled: result.scaled,
      feeds: (samples) => dataset.feeds(0, samples),
      dims: {},
      runtime: using,
      folder,
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

  it('writes its models into the folder it is given, without what no layer compared needs, and removes them', async () => {
    const written: string[][] = [];
    const watched: Runtime = {
      ...runtime,
      open: (spec) => {
        const { graph } = openModel(spec.modelPath).model;
        written.push([...graph.initializers.keys()]);
        expect(path.dirname(path.dirname(spec.modelPath))).toBe(folder);
        return runtime.open(spec);
      },
    };
    await layers((at) => (at === 0 ? 'int8' : 'fp32'), watched);
    expect(written[0]!.length).toBeGreaterThan(0);
    expect(written[0]!.length).toBeLessThan(model.graph.initializers.size);
    expect(readdirSync(folder)).toEqual([]);
  });

  it('leaves out layers that were not changed; what comes after a change still shows it', async () => {
    const last = await layers((at) => (at === 2 ? 'int4' : 'fp32'));
    expect(last).toHaveLength(1);
    const first = await layers((at) => (at === 0 ? 'int4' : at === 2 ? 'int8' : 'fp32'));
    expect(first.map(({ dtype }) => dtype)).toEqual(['int4', 'int8']);
    const [alone] = await layers((at) => (at === 2 ? 'int8' : 'fp32'));
    expect(first[1]!.sqnrDb).toBeLessThan(alone!.sqnrDb - 3);
  });

  it('compares values that were scaled for 8 bits as they were', async () => {
    // Channels of very different size, which calibration evens out.
    const uneven = gaussian(32 * 32, 1).map((x, i) => x * 10 ** -((i % 32) / 8));
    const block = buildModel({
      inputs: { x: ['n', 32] },
      outputs: ['y'],
      nodes: [node('MatMul', ['x', 'first'], 'a'), node('Relu', ['a'], 'h'), node('MatMul', ['h', 'second'], 'y')],
      weights: [
        weight('first', [32, 32], uneven),
        weight(
          'second',
          [32, 32],
          gaussian(32 * 32, 2).map((x, i) => x * 10 ** (Math.floor(i / 32) / 8)),
        ),
      ],
    });
    const feeds = { x: { dims: [8, 32], data: gaussian(8 * 32, 3) } };
    const dataset = listDataset([feeds]);
    const ranges = await collectRanges(directRuntime(), block, dataset, { workDirectory: folder });
    const formats = new Map(['first', 'second'].map((name) => [name, 'int8-static' as const]));
    const result = quantizeModel(block, formats, { provider: 'cpu', ranges });
    expect([...result.scaled.keys()]).toContain('a');
    const measured = await measureLayers({
      original: block,
      result: result.model,
      weights: result.weights.map((each) => ({ ...each, dims: [] })),
      scaled: result.scaled,
      feeds: () => dataset.feeds(0, 1),
      dims: {},
      runtime: directRuntime(),
      folder,
    });
    expect(measured.map(({ value }) => value)).toEqual(['a', 'y']);
    for (const { sqnrDb } of measured) expect(sqnrDb).toBeGreaterThan(20);
  });
});
