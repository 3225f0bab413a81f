import { existsSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { cloneModel } from '../../../src/onnx/graph.js';
import type { Model } from '../../../src/onnx/model.js';
import { readModel } from '../../../src/onnx/read.js';
import { defaultBindings, inferShapes } from '../../../src/onnx/shape.js';
import { float32Tensor, readFloat32 } from '../../../src/onnx/tensor.js';
import { unitIndices } from '../../../src/prune/axis-atoms.js';
import { analyse, type AnalysedClass, type Analysis } from '../../../src/prune/classes.js';
import { noEdits, rewriteModel } from '../../../src/prune/rewrite.js';
import type { Feeds } from '../../../src/runtime/types.js';
import { numbers, randomModel } from './random-graph.js';
import { imageDataset, modelsFolder, runModel, temporaryFolder, textDataset } from './support.js';

const folder = temporaryFolder();
afterAll(folder.remove);

const analyseModel = (model: Model): Analysis => analyse(model, inferShapes(model, defaultBindings(model, 2).dims));

/** The original model with everything a removed unit sends to its consumers multiplied by zero. */
function masked(model: Model, removed: ReadonlyMap<AnalysedClass, readonly number[]>): Model {
  const copy = cloneModel(model);
  for (const [one, units] of removed) {
    for (const member of one.members.filter((candidate) => candidate.role === 'consumer')) {
      const tensor = copy.graph.initializers.get(member.initializer)!;
      const values = readFloat32(tensor);
      const gone = new Set(units.flatMap((unit) => unitIndices(member.segments, unit)));
      const inner = tensor.dims.slice(member.axis + 1).reduce((a, b) => a * b, 1);
      for (let i = 0; i < values.length; i++)
        if (gone.has(Math.floor(i / inner) % tensor.dims[member.axis]!)) values[i] = 0;
      copy.graph.initializers.set(member.initializer, float32Tensor(member.initializer, tensor.dims, values));
    }
  }
  return copy;
}

function removal(one: AnalysedClass, random: () => number): number[] {
  const units = Array.from({ length: one.width }, (_, unit) => unit).filter(() => random() < 0.5);
  return units.length === one.width ? units.slice(1) : units;
}

async function difference(
  model: Model,
  analysis: Analysis,
  classes: readonly AnalysedClass[],
  feeds: Feeds,
  seed: number,
) {
  const random = numbers(seed);
  const removed = new Map(classes.map((one) => [one, removal(one, random)]));
  const kept = new Map(
    [...removed].map(([one, units]) => [
      one.leaf.id,
      Array.from({ length: one.width }, (_, unit) => unit).filter((unit) => !units.includes(unit)),
    ]),
  );
  const expected = await runModel(masked(model, removed), feeds, folder.path);
  const actual = await runModel(rewriteModel(model, analysis.graph, kept, noEdits()), feeds, folder.path);
  let worst = 0;
  for (const [name, tensor] of Object.entries(expected)) {
    expect(actual[name]!.dims).toEqual(tensor.dims);
    const left = tensor.data as Float32Array;
    const right = actual[name]!.data as Float32Array;
    for (let i = 0; i < left.length; i++) worst = Math.max(worst, Math.abs(left[i]! - right[i]!));
  }
  return worst;
}

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
    expect(analysis.classes).toHaveLength(classes);
    for (const [at, one] of analysis.classes.entries()) {
      expect(await difference(model, analysis, [one], feeds, at + 1)).toBeLessThan(1e-4);
    }
    expect(await difference(model, analysis, analysis.classes, feeds, 99)).toBeLessThan(1e-4);
  });
});

describe('slicing equals masking on random graphs', () => {
  const feeds = (seed: number): Feeds => {
    const random = numbers(seed);
    const data = Float32Array.from({ length: 2 * 3 * 36 }, () => random() * 2 - 1);
    return { x: { dtype: 'float32', dims: [2, 3, 6, 6], data } };
  };

  it('for every class alone and for all together', async () => {
    let seen = 0;
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: 1_000_000 }), async (seed) => {
        const model = randomModel(seed);
        const analysis = analyseModel(model);
        seen += analysis.classes.length;
        for (const one of analysis.classes) {
          expect(await difference(model, analysis, [one], feeds(seed), seed + 1)).toBeLessThan(1e-4);
        }
        expect(await difference(model, analysis, analysis.classes, feeds(seed), seed)).toBeLessThan(1e-4);
      }),
      { numRuns: Number(process.env.SNUG_PROPERTY_RUNS ?? 60) },
    );
    expect(seen).toBeGreaterThan(60);
  });
});
