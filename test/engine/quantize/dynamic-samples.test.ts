import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, expect, it } from 'vitest';
import type { Model } from '../../../src/onnx/model.js';
import { collectRanges, quantizeModel, type Quantized } from '../../../src/quantize/index.js';
import { buildModel, directRuntime, listDataset, node, runModel, weight } from './build.js';
import { gaussian, sqnr } from './numbers.js';

const folder = mkdtempSync(path.join(os.tmpdir(), 'quantize-dynamic-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const size = 64;
const dims = [32, size];
const sample = (seed: number): { x: { dims: number[]; data: Float32Array } } => ({
  x: { dims, data: gaussian(32 * size, seed) },
});

/** A norm that makes a few channels large, as trained transformers do, and a product of three activations. */
function model(): Model {
  const matrix = (name: string, seed: number): ReturnType<typeof weight> =>
    weight(
      name,
      [size, size],
      gaussian(size * size, seed).map((value) => value / 8),
    );
  return buildModel({
    inputs: { x: ['n', size] },
    outputs: ['y', 'z'],
    nodes: [
      node('LayerNormalization', ['x', 'gain', 'shift'], 'h'),
      node('MatMul', ['h', 'w1'], 'y'),
      node('Mul', ['x', 'x'], 'square'),
      node('Mul', ['square', 'square'], 'fourth'),
      node('Mul', ['fourth', 'x'], 'fifth'),
      node('MatMul', ['fifth', 'w2'], 'z'),
    ],
    weights: [
      weight(
        'gain',
        [size],
        Float32Array.from({ length: size }, (_, i) => (i % 16 === 3 ? 60 : 1)),
      ),
      weight('shift', [size], new Float32Array(size)),
      // What reads large channels has small weights for them.
      weight(
        'w1',
        [size, size],
        gaussian(size * size, 5).map((value, i) => (Math.floor(i / size) % 16 === 3 ? value / 480 : value / 8)),
      ),
      matrix('w2', 6),
    ],
  });
}

it('samples even out the channels of run-time activations, and leave those float that 8 bits cannot hold', async () => {
  const samples = listDataset([1, 2, 3].map(sample));
  const names = ['w1', 'w2'];
  const original = model();
  const ranges = await collectRanges(directRuntime(), original, samples, {
    workDirectory: folder,
    weights: new Set(names),
  });
  const assignment = new Map(names.map((name) => [name, 'int8-dynamic' as const]));
  const plain = quantizeModel(original, assignment, { provider: 'cpu' });
  const sampled = quantizeModel(original, assignment, { provider: 'cpu', ranges });
  expect(plain.weights.map(({ dtype }) => dtype)).toEqual(['int8-dynamic', 'int8-dynamic']);
  expect(sampled.weights[0]).toMatchObject({ dtype: 'int8-dynamic' });
  expect(sampled.weights[1]).toMatchObject({
    dtype: 'int8',
    reason: expect.stringMatching(/^not int8-dynamic: 8-bit activations would leave \d+ dB/) as string,
  });
  const feeds = sample(9);
  const exact = await runModel(original, feeds);
  const db = async ({ model: quantized }: Quantized, output: string): Promise<number> =>
    sqnr(exact[output]!, (await runModel(quantized, feeds))[output]!);
  expect(await db(sampled, 'y')).toBeGreaterThan((await db(plain, 'y')) + 6);
  expect(await db(sampled, 'z')).toBeGreaterThan((await db(plain, 'z')) + 6);
});
