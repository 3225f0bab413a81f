import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { intAttribute } from '../../../src/onnx/graph.js';
import type { Model } from '../../../src/onnx/model.js';
import { quantizeModel, refineWeights, type RefinedWeight } from '../../../src/quantize/index.js';
import type { Runtime } from '../../../src/runtime/types.js';
import { buildModel, directRuntime, listDataset, node, runModel, weight } from './build.js';
import { gaussian, sqnr } from './numbers.js';

const folder = mkdtempSync(path.join(tmpdir(), 'snug-refine-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const [inputs, hidden, outputs] = [96, 64, 40];

/** MatMul and Add, Relu, Gemm with transB and bias, MatMul alone; both last ones read the same activation. */
function network(): Model {
  return buildModel({
    inputs: { x: ['batch', inputs] },
    outputs: ['y', 'z'],
    nodes: [
      node('MatMul', ['x', 'w1'], 'a'),
      node('Add', ['b1', 'a'], 'b'),
      node('Relu', ['b'], 'h'),
      node('Gemm', ['h', 'w2', 'b2'], 'y', { transB: intAttribute(1) }),
      node('MatMul', ['h', 'w3'], 'z'),
    ],
    weights: [
      weight('w1', [inputs, hidden], gaussian(inputs * hidden, 1)),
      weight('b1', [hidden], gaussian(hidden, 2)),
      weight('w2', [outputs, hidden], gaussian(outputs * hidden, 3)),
      weight('b2', [outputs], gaussian(outputs, 4)),
      weight('w3', [hidden, outputs], gaussian(hidden * outputs, 5)),
    ],
  });
}

/** Few directions, off-centre: what real inputs are like. */
function batch(count: number, seed: number): { dims: number[]; data: Float32Array } {
  const mixing = gaussian(inputs * 12, 77);
  const draws = gaussian(count * 12, seed);
  const data = Float32Array.from({ length: count * inputs }, (_, i) => {
    const [row, k] = [Math.floor(i / inputs), i % inputs];
    let sum = 0.5;
    for (let r = 0; r < 12; r++) sum += mixing[k * 12 + r]! * draws[row * 12 + r]!;
    return sum;
  });
  return { dims: [count, inputs], data };
}

const dataset = () => listDataset(Array.from({ length: 6 }, (_, i) => ({ x: batch(64, 100 + i) })));
const assignment = new Map(['w1', 'w2', 'w3'].map((name) => [name, 'int4' as const]));

async function refined(model: Model, signal?: AbortSignal): Promise<Map<string, RefinedWeight>> {
  return refineWeights(directRuntime(), model, dataset(), assignment, {
    provider: 'cpu',
    workDirectory: folder,
    ...(signal ? { signal } : {}),
  });
}

describe('4-bit weights chosen on samples', () => {
  it('answer unseen inputs far closer than weights searched without samples, in the same bytes', async () => {
    const model = network();
    const options = { provider: 'cpu' as const };
    const plain = quantizeModel(model, assignment, options).model;
    const chosen = quantizeModel(model, assignment, { ...options, refined: await refined(model) }).model;
    const feeds = { x: batch(50, 999) };
    const [exact, before, after] = [
      await runModel(model, feeds),
      await runModel(plain, feeds),
      await runModel(chosen, feeds),
    ];
    for (const name of ['y', 'z']) {
      expect(sqnr(exact[name]!, after[name]!)).toBeGreaterThan(sqnr(exact[name]!, before[name]!) + 4);
    }
    const bytes = (m: Model): number =>
      [...m.graph.initializers.values()].reduce((sum, { data }) => sum + data.byteLength, 0);
    expect(bytes(chosen)).toBe(bytes(plain));
    expect(readdirSync(folder)).toEqual([]);
  });

  it('move only the biases that follow, and leave the original alone', async () => {
    const model = network();
    const result = await refined(model);
    expect(result.get('w1')?.biasShift).not.toBeNull();
    expect(result.get('w2')?.biasShift?.some((value) => value !== 0)).toBe(true);
    expect(result.get('w3')?.biasShift).toBeNull();
    expect(model.graph.outputs.map((output) => output.name)).toEqual(['y', 'z']);
  });

  it('stop when told to', async () => {
    const stop = new AbortController();
    stop.abort();
    await expect(refined(network(), stop.signal)).rejects.toThrow();
    expect(readdirSync(folder)).toEqual([]);
  });

  it('leave no file behind when moments cannot be stored', async () => {
    const direct = directRuntime();
    let stored = 0;
    const full: Runtime = {
      ...direct,
      open: async (spec) => {
        const session = await direct.open(spec);
        const storeProducts: typeof session.storeProducts = (output, file) =>
          ++stored > 1 ? Promise.reject(new Error('disk full')) : session.storeProducts(output, file);
        return { ...session, storeProducts };
      },
    };
    const options = { provider: 'cpu', workDirectory: folder } as const;
    await expect(refineWeights(full, network(), dataset(), assignment, options)).rejects.toThrow('disk full');
    expect(stored).toBe(2);
    expect(readdirSync(folder)).toEqual([]);
  });

  it('leave weights alone, and say so, that would take minutes', async () => {
    const [rows, columns] = [2304, 4096];
    const model = buildModel({
      inputs: { x: ['batch', columns] },
      outputs: ['y'],
      nodes: [node('MatMul', ['x', 'w'], 'y')],
      weights: [weight('w', [columns, rows], new Float32Array(rows * columns))],
    });
    for (const [dtype, bits] of [
      ['int4', 4],
      ['int2', 2],
    ] as const) {
      const told: string[] = [];
      const result = await refineWeights(directRuntime(), model, dataset(), new Map([['w', dtype]]), {
        provider: 'cpu',
        workDirectory: folder,
        onTooLarge: (name, reason) => told.push(`${name}: ${reason}`),
      });
      expect(result.size).toBe(0);
      expect(told).toEqual([`w: too large (2304 × 4096) to choose its ${bits}-bit codes on samples`]);
    }
  });
});
