import { describe, expect, it } from 'vitest';
import type { Dtype } from '../../../src/contract/types.js';
import { intAttribute, intsAttribute, makeNode, walkGraphs } from '../../../src/onnx/graph.js';
import { DataType, type Graph, type Model, type Node, type Tensor } from '../../../src/onnx/model.js';
import { int64Tensor } from '../../../src/onnx/tensor.js';
import { quantizableWeights, quantizeModel, type Quantized } from '../../../src/quantize/index.js';
import { buildGraph, buildModel, node, runModel, weight } from './build.js';
import { gaussian, sqnr } from './numbers.js';

const size = 48;
const matrix = (name: string, seed: number, factor = 0.15): Tensor =>
  weight(
    name,
    [size, size],
    gaussian(size * size, seed).map((value) => value * factor),
  );

function body(name: string, nodes: Node[], weights: Tensor[], outputs: string[]): Graph {
  return { ...buildGraph({ inputs: {}, outputs, nodes, weights }), name };
}

const graph = (value: Graph): { type: 'graph'; value: Graph } => ({ type: 'graph', value });

const typed = (name: string, dataType: number, dims: number[] | null = null): Graph['inputs'][0] => ({
  name,
  dataType,
  dims,
});

/** Without types, as some exporters leave what a body takes and gives. */
const untyped = (...names: string[]): Graph['inputs'] => names.map((name) => typed(name, DataType.UNDEFINED));

function half(model: Model, magnitudes?: Map<string, { low: number; high: number }>): Quantized {
  const names = quantizableWeights(model, 'webgpu').map(({ name }) => name);
  return quantizeModel(model, new Map<string, Dtype>(names.map((name) => [name, 'fp16'])), {
    provider: 'webgpu',
    ...(magnitudes ? { magnitudes } : {}),
  });
}

const x = { dims: [3, size], data: gaussian(3 * size, 5) };

async function compare(model: Model, result: Quantized, data = x.data): Promise<number> {
  let least = Infinity;
  for (const level of ['disabled', 'all'] as const) {
    const feeds = { x: { ...x, data } };
    const exact = await runModel(model, feeds, { level });
    const got = await runModel(result.model, feeds, { level });
    for (const [name, values] of Object.entries(exact)) least = Math.min(least, sqnr(values, got[name]!));
  }
  return least;
}

/** Matrices by their element type, those of bodies included. */
function matrices(model: Model): Record<string, number> {
  const found: Record<string, number> = {};
  walkGraphs(model.graph, ({ initializers }) => {
    for (const { name, dims, dataType } of initializers.values()) if (dims.length === 2) found[name] = dataType;
  });
  return found;
}

/** `If` on the sign of the largest input: one branch with an `If` of its own, both reading what is outside of them. */
function branches(change: (then: Graph, otherwise: Graph) => void = () => undefined): Model {
  const inner = (name: string, weightName: string): Graph =>
    body(name, [node('MatMul', ['then_norm', weightName], `${name}_y`)], [matrix(weightName, 7)], [`${name}_y`]);
  const then = body(
    'then',
    [
      node('MatMul', ['h', 'outer'], 'then_a'),
      // Means stay float32 inside, too.
      node('ReduceMean', ['then_a'], 'then_m', { axes: intsAttribute([1]) }),
      node('Sub', ['then_a', 'then_m'], 'then_norm'),
      makeNode(
        'If',
        ['positive'],
        ['then_y'],
        { then_branch: graph(inner('deep', 'w_deep')), else_branch: graph(inner('never', 'w_never')) },
        { name: 'deeper' },
      ),
    ],
    [],
    ['then_y'],
  );
  const otherwise = body(
    'otherwise',
    [node('MatMul', ['x', 'w_other'], 'other_a'), node('Add', ['other_a', 'h'], 'other_y')],
    [matrix('w_other', 8)],
    ['other_y'],
  );
  change(then, otherwise);
  return buildModel({
    inputs: { x: x.dims },
    outputs: ['y', 'z'],
    nodes: [
      node('MatMul', ['x', 'top'], 'h'),
      node('ReduceMax', ['x'], 'most', { keepdims: intAttribute(0) }),
      node('Greater', ['most', 'zero'], 'positive'),
      node('If', ['positive'], 'picked', { then_branch: graph(then), else_branch: graph(otherwise) }),
      node('Add', ['picked', 'h'], 'y'),
      node('MatMul', ['picked', 'outer'], 'z'),
    ],
    weights: [matrix('outer', 1), matrix('top', 3), weight('zero', [], new Float32Array(1))],
  });
}

describe('float16 in the bodies of If, Loop and Scan', () => {
  it('converts branches, those inside them, and weights of the graph around, each read in both widths', async () => {
    const model = branches();
    const result = half(model);
    expect(result.weights.map(({ dtype }) => dtype)).toEqual(['fp16', 'fp16', 'fp16', 'fp16', 'fp16']);
    expect(new Set(Object.values(matrices(result.model)))).toEqual(new Set([DataType.FLOAT16]));
    for (const sign of [1, -1]) {
      expect(
        await compare(
          model,
          result,
          x.data.map((value) => sign * Math.abs(value)),
        ),
      ).toBeGreaterThan(50);
    }
  });

  it('keeps branches in float32 where no cast can be put in front of a result, and says so', async () => {
    const model = branches((_, otherwise) => {
      otherwise.nodes = [];
      otherwise.initializers.set('answer', weight('answer', [3, size], gaussian(3 * size, 9)));
      otherwise.outputs = [{ name: 'answer', dataType: DataType.FLOAT, dims: null }];
    });
    const result = half(model);
    const answer = result.weights.find(({ name }) => name === 'answer');
    expect(answer).toMatchObject({ dtype: 'fp32' });
    expect(matrices(result.model)).toMatchObject({ answer: DataType.FLOAT, w_deep: DataType.FLOAT16 });
    for (const sign of [1, -1]) {
      const data = x.data.map((value) => sign * Math.abs(value));
      expect(await compare(model, result, data)).toBeGreaterThan(50);
    }
  });

  it('carries the state of a Loop and the rows of a Scan, whose types are not all declared', async () => {
    const loop: Graph = {
      ...body(
        'loop',
        [
          node('MatMul', ['state', 'w_loop'], 'a'),
          node('Tanh', ['a'], 'b'),
          node('Add', ['b', 'bias'], 'next'),
          node('MatMul', ['next', 'outer'], 'seen'),
          node('Identity', ['go'], 'on'),
        ],
        [matrix('w_loop', 11), weight('bias', [size], gaussian(size, 12))],
        [],
      ),
      inputs: [typed('i', DataType.INT64, []), typed('go', DataType.BOOL, []), typed('state', DataType.FLOAT)],
      outputs: untyped('on', 'next', 'seen'),
    };
    const scan: Graph = {
      ...body('scan', [node('MatMul', ['row', 'w_scan'], 'each')], [matrix('w_scan', 13)], []),
      inputs: untyped('row'),
      outputs: [typed('each', DataType.FLOAT, x.dims)],
    };
    const model = buildModel({
      inputs: { x: x.dims },
      outputs: ['last', 'y'],
      nodes: [
        makeNode('Loop', ['count', '', 'x'], ['final', 'all'], { body: graph(loop) }, { name: 'loop' }),
        node('MatMul', ['final', 'outer'], 'last'),
        makeNode('Scan', ['all'], ['y'], { body: graph(scan), num_scan_inputs: intAttribute(1) }, { name: 'scan' }),
      ],
      weights: [matrix('outer', 1), int64Tensor('count', [], [3])],
    });
    const result = half(model);
    expect(result.weights.map(({ dtype }) => dtype)).toEqual(['fp16', 'fp16', 'fp16']);
    expect(new Set(Object.values(matrices(result.model)))).toEqual(new Set([DataType.FLOAT16]));
    expect(await compare(model, result)).toBeGreaterThan(50);
  });

  it('leaves what reaches too far in float32: constants inside, and bodies whose results do', async () => {
    const model = branches((then) => {
      then.initializers.set('huge', weight('huge', [], Float32Array.of(1e6)));
      then.initializers.set('tiny', weight('tiny', [], Float32Array.of(1e-6)));
      then.nodes.splice(
        1,
        0,
        node('Mul', ['then_a', 'huge'], 'then_large'),
        node('Mul', ['then_large', 'tiny'], 'then_back'),
      );
      then.nodes[3]!.inputs[0] = 'then_back';
    });
    const huge = { low: 0, high: 1e6 };
    const island = half(model, new Map([['huge', huge]]));
    expect(island.weights.every(({ dtype }) => dtype === 'fp16')).toBe(true);
    const data = x.data.map(Math.abs);
    expect(await compare(model, island, data)).toBeGreaterThan(45);

    const result = half(model, new Map([['picked', huge]]));
    const byName = new Map(result.weights.map((row) => [row.name, row]));
    for (const name of ['w_other', 'w_deep', 'outer']) {
      expect(byName.get(name)).toMatchObject({ dtype: 'fp32', reason: expect.stringContaining('float16') as string });
    }
    expect(byName.get('top')).toMatchObject({ dtype: 'fp16' });
    expect(matrices(result.model)).toMatchObject({ w_other: DataType.FLOAT, w_deep: DataType.FLOAT });
    expect(await compare(model, result, data)).toBeGreaterThan(45);
  });
});
