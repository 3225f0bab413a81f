import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import {
  cloneModel,
  floatAttribute,
  intAttribute,
  intsAttribute,
  makeNode,
  removeDeadNodesAndInitializers,
} from '../../../src/onnx/graph.js';
import type { Model, Node, Tensor } from '../../../src/onnx/model.js';
import { collectRanges, quantizeModel, quantizableWeights } from '../../../src/quantize/index.js';
import type { CollectOptions } from '../../../src/quantize/collect.js';
import { beforeQuantizing, scaleChannels, staticSites } from '../../../src/quantize/passes.js';
import { findScalable } from '../../../src/quantize/scalable.js';
import { buildModel, directRuntime, listDataset, node, operators, runModel, weight } from './build.js';
import { gaussian, sqnr } from './numbers.js';

const folder = mkdtempSync(path.join(tmpdir(), 'snug-passes-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const positive = (count: number, seed: number): Float32Array => gaussian(count, seed).map((x) => 0.5 + Math.abs(x));
const conv = (pad: number, group = 1): Record<string, ReturnType<typeof intAttribute>> => ({
  pads: intsAttribute([pad, pad, pad, pad]),
  group: intAttribute(group),
});

function normalization(name: string, channels: number, seed: number): Tensor[] {
  return [
    weight(`${name}.scale`, [channels], positive(channels, seed)),
    weight(`${name}.shift`, [channels], gaussian(channels, seed + 1)),
    weight(`${name}.mean`, [channels], gaussian(channels, seed + 2)),
    weight(`${name}.variance`, [channels], positive(channels, seed + 3)),
  ];
}

function batchNorm(name: string, input: string, output: string): Node {
  const vectors = ['scale', 'shift', 'mean', 'variance'].map((part) => `${name}.${part}`);
  return node('BatchNormalization', [input, ...vectors], output, { epsilon: floatAttribute(1e-3) });
}

async function same(before: Model, after: Model, feeds: Parameters<typeof runModel>[1]): Promise<void> {
  const [wanted, got] = [await runModel(before, feeds), await runModel(after, feeds)];
  for (const [name, values] of Object.entries(wanted)) {
    const largest = values.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    values.forEach((x, i) => expect(Math.abs(x - got[name]![i]!)).toBeLessThan(1e-5 * largest));
  }
}

describe('BatchNormalization', () => {
  it('is folded into Conv, grouped ConvTranspose and Gemm, with and without bias, to within 1e-5', async () => {
    const model = buildModel({
      inputs: { x: ['n', 4, 6, 6] },
      outputs: ['y'],
      nodes: [
        node('Conv', ['x', 'w1'], 'c1', conv(1)),
        batchNorm('b1', 'c1', 'n1'),
        node('ConvTranspose', ['n1', 'w2', 'bias2'], 'c2', { group: intAttribute(2) }),
        batchNorm('b2', 'c2', 'n2'),
        node('GlobalAveragePool', ['n2'], 'p'),
        node('Flatten', ['p'], 'f'),
        node('Gemm', ['f', 'w3', 'bias3'], 'g', { transB: intAttribute(1) }),
        batchNorm('b3', 'g', 'y'),
      ],
      weights: [
        weight('w1', [8, 4, 3, 3], gaussian(8 * 36, 1)),
        weight('w2', [8, 3, 2, 2], gaussian(8 * 12, 2)),
        weight('bias2', [6], gaussian(6, 3)),
        weight('w3', [5, 6], gaussian(30, 4)),
        weight('bias3', [5], gaussian(5, 5)),
        ...normalization('b1', 8, 10),
        ...normalization('b2', 6, 20),
        ...normalization('b3', 5, 30),
      ],
    });
    const folded = cloneModel(model);
    beforeQuantizing(folded);
    expect(operators(folded)).not.toContain('BatchNormalization');
    await same(model, folded, { x: { dims: [2, 4, 6, 6], data: gaussian(2 * 4 * 36, 6) } });
  });

  it('stays where something else reads the convolution or its weight', () => {
    const model = buildModel({
      inputs: { x: ['n', 4, 6, 6] },
      outputs: ['y', 'z'],
      nodes: [
        node('Conv', ['x', 'w'], 'c1'),
        batchNorm('b1', 'c1', 'n1'),
        node('Add', ['n1', 'c1'], 'y'),
        node('Conv', ['x', 'w'], 'c2'),
        batchNorm('b1', 'c2', 'z'),
      ],
      weights: [weight('w', [4, 4, 1, 1], gaussian(16, 1)), ...normalization('b1', 4, 10)],
    });
    beforeQuantizing(model);
    expect(model.graph.nodes.filter(({ opType }) => opType === 'BatchNormalization')).toHaveLength(2);
  });
});

/** An inverted residual as in MobileNetV2, its hidden channels of very different size. */
function unevenBlock(hidden = 32): Model {
  const size = (c: number): number => 10 ** -((c % 8) / 4);
  const rows = (count: number, each: number, seed: number, scale: (row: number) => number): Float32Array =>
    gaussian(count * each, seed).map((x, i) => x * scale(Math.floor(i / each)));
  return buildModel({
    inputs: { x: ['n', 8, 12, 12] },
    outputs: ['y'],
    nodes: [
      node('Conv', ['x', 'expand', 'expandBias'], 'e'),
      node('Clip', ['e', 'zero', 'six'], 'e6'),
      node('Conv', ['e6', 'depth', 'depthBias'], 'd', conv(1, hidden)),
      node('Clip', ['d', 'zero', 'six'], 'd6'),
      node('Conv', ['d6', 'project'], 'y'),
    ],
    weights: [
      weight(
        'expand',
        [hidden, 8, 1, 1],
        rows(hidden, 8, 1, (c) => size(c) * 0.5),
      ),
      weight(
        'expandBias',
        [hidden],
        rows(hidden, 1, 2, (c) => size(c) * 0.2),
      ),
      weight(
        'depth',
        [hidden, 1, 3, 3],
        rows(hidden, 9, 3, (c) => 0.3 / size(c + 3)),
      ),
      weight(
        'depthBias',
        [hidden],
        rows(hidden, 1, 4, () => 0.05),
      ),
      weight('project', [8, hidden, 1, 1], gaussian(8 * hidden, 5)),
      weight('zero', [], Float32Array.of(0)),
      weight('six', [], Float32Array.of(6)),
    ],
  });
}

/** Attention-like: a normalization with a few loud channels feeds three projections. */
function loudChannels(width = 64): Model {
  const loud = (c: number): boolean => c % 16 === 3;
  const projection = (name: string, seed: number): Tensor =>
    weight(
      name,
      [width, width],
      gaussian(width * width, seed).map((x, i) => (loud(Math.floor(i / width)) ? x / 40 : x)),
    );
  return buildModel({
    inputs: { x: ['n', 6, width] },
    outputs: ['y'],
    nodes: [
      makeNode('LayerNormalization', ['x', 'gamma', 'beta'], ['h']),
      node('MatMul', ['h', 'q'], 'a'),
      node('MatMul', ['h', 'k'], 'b'),
      node('MatMul', ['h', 'v'], 'c'),
      node('Add', ['a', 'b'], 'ab'),
      node('Add', ['ab', 'c'], 'y'),
    ],
    weights: [
      weight(
        'gamma',
        [width],
        Float32Array.from({ length: width }, (_, c) => (loud(c) ? 30 : 0.7)),
      ),
      weight('beta', [width], gaussian(width, 9)),
      projection('q', 1),
      projection('k', 2),
      projection('v', 3),
    ],
  });
}

const batches = (dims: number[], count: number, seed: number) =>
  Array.from({ length: count }, (_, i) => ({
    x: {
      dims: [1, ...dims],
      data: gaussian(
        dims.reduce((a, b) => a * b, 1),
        seed + i,
      ),
    },
  }));

async function calibrated(model: Model, dims: number[], options: Partial<CollectOptions>) {
  return collectRanges(directRuntime(), model, listDataset(batches(dims, 12, 100)), {
    workDirectory: folder,
    ...options,
  });
}

async function staticDb(model: Model, dims: number[], options: Partial<CollectOptions>): Promise<number> {
  const ranges = await calibrated(model, dims, options);
  const names = quantizableWeights(model, 'cpu').flatMap(({ name, options: formats }) =>
    formats.some(({ dtype, allowed }) => dtype === 'int8-static' && allowed) ? [name] : [],
  );
  const small = quantizeModel(model, new Map(names.map((name) => [name, 'int8-static'])), { provider: 'cpu', ranges });
  const feeds = { x: { dims: [8, ...dims], data: gaussian(8 * dims.reduce((a, b) => a * b, 1), 999) } };
  const [wanted, got] = [await runModel(model, feeds), await runModel(small.model, feeds)];
  return sqnr(wanted.y!, got.y!);
}

describe('scaling of channels before 8 bits', () => {
  it('changes nothing but rounding, through Clip, depthwise convolutions, normalizations and gates', async () => {
    for (const [model, dims] of [
      [unevenBlock(), [8, 12, 12]],
      [loudChannels(), [6, 64]],
    ] as const) {
      const { scales } = await calibrated(model, [...dims], {});
      expect(scales!.size).toBeGreaterThan(0);
      const scaled = cloneModel(model);
      scaleChannels(scaled, scales!);
      removeDeadNodesAndInitializers(scaled.graph);
      expect(operators(scaled)).toEqual(operators(model));
      const [sample] = batches([...dims], 1, 100);
      await same(model, scaled, sample!);
    }
  });

  it('wins much on channels of uneven size: inverted residuals and loud normalization channels', async () => {
    const block = [8, 12, 12];
    const plain = await staticDb(unevenBlock(), block, { scaleChannels: false });
    expect(await staticDb(unevenBlock(), block, {})).toBeGreaterThan(plain + 2);
    const loud = await staticDb(loudChannels(), [6, 64], { scaleChannels: false });
    expect(await staticDb(loudChannels(), [6, 64], {})).toBeGreaterThan(loud + 6);
  });

  it('is not offered where something else reads the activation or a shared constant makes it', () => {
    const model = loudChannels();
    const find = (): number =>
      findScalable(
        model.graph,
        staticSites(model).map(({ site }) => site),
      ).length;
    expect(find()).toBe(1);
    // A caller may set this vector: it would then not be what was scaled.
    const norm = model.graph.nodes.find(({ opType }) => opType === 'LayerNormalization')!;
    model.graph.inputs.push({ name: norm.inputs[1]!, dataType: 1, dims: null });
    expect(find()).toBe(0);
    model.graph.inputs.pop();
    expect(find()).toBe(1);
    model.graph.nodes.push(node('Relu', ['h'], 'kept'));
    model.graph.outputs.push({ name: 'kept', dataType: 1, dims: null });
    expect(find()).toBe(0);
  });
});
