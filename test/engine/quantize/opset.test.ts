import { describe, expect, it } from 'vitest';
import { intAttribute, intsAttribute, makeNode, stringAttribute } from '../../../src/onnx/graph.js';
import type { Attribute, Model, Node } from '../../../src/onnx/model.js';
import { opsetObstacle, raiseOpset } from '../../../src/onnx/opset.js';
import { int64Tensor } from '../../../src/onnx/tensor.js';
import { quantizableWeights, quantizeModel } from '../../../src/quantize/index.js';
import { buildModel, node, runModel, weight } from './build.js';
import { gaussian, sqnr } from './numbers.js';

function model(opset: number, nodes: Node[], outputs: string[], dims: number[]): Model {
  return buildModel({
    inputs: { x: dims },
    outputs,
    nodes,
    weights: [
      weight(
        'grid',
        [1, 4, 4, 2],
        gaussian(32, 2).map((value) => Math.max(-1, Math.min(1, value))),
      ),
      weight('rois', [1, 4], Float32Array.of(0.3, 0.2, 5.7, 6.1)),
      int64Tensor('which', [1], [0]),
    ],
    opset,
  });
}

async function sameAfterRaise(before: Model, dims: number[]): Promise<void> {
  const feeds = {
    x: {
      dims,
      data: gaussian(
        dims.reduce((a, b) => a * b, 1),
        1,
      ),
    },
  };
  const exact = await runModel(before, feeds);
  expect(opsetObstacle(before, 21)).toBeNull();
  raiseOpset(before, 21);
  expect(before.opsets.get('')).toBe(21);
  before.irVersion = 10;
  const after = await runModel(before, feeds);
  for (const [name, values] of Object.entries(exact)) expect(Array.from(after[name]!)).toEqual(Array.from(values));
}

const image = [1, 2, 8, 8];

describe('a newer opset says the same', () => {
  const reduce = (attributes: Record<string, Attribute>, kind: string): Node => node(kind, ['x'], kind, attributes);
  it('reductions, with axes and without, and with the shape kept or not', async () => {
    const kinds = ['ReduceMean', 'ReduceMax', 'ReduceMin', 'ReduceL1', 'ReduceL2', 'ReduceSumSquare'];
    const axes = { axes: intsAttribute([-1, 1]), keepdims: intAttribute(0) };
    await sameAfterRaise(
      model(
        13,
        kinds.map((kind) => reduce(axes, kind)),
        kinds,
        image,
      ),
      image,
    );
    await sameAfterRaise(
      model(
        17,
        kinds.map((kind) => reduce({}, kind)),
        kinds,
        image,
      ),
      image,
    );
  });

  it('a Split into equal parts', async () => {
    const split = makeNode('Split', ['x'], ['a', 'b'], { axis: intAttribute(1) }, { name: 'split' });
    await sameAfterRaise(model(13, [split], ['a', 'b'], image), image);
  });

  it('RoiAlign and GridSample with the modes they had', async () => {
    const roi = node('RoiAlign', ['x', 'rois', 'which'], 'y', {
      output_height: intAttribute(3),
      output_width: intAttribute(3),
    });
    await sameAfterRaise(model(13, [roi], ['y'], image), image);
    for (const mode of [undefined, 'bilinear', 'nearest', 'bicubic']) {
      const sample = node('GridSample', ['x', 'grid'], 'y', mode === undefined ? {} : { mode: stringAttribute(mode) });
      await sameAfterRaise(model(16, [sample], ['y'], image), image);
    }
  });

  it('is refused, with the operator, where an operator means something else', () => {
    const pool = node('AveragePool', ['x'], 'y', {
      kernel_shape: intsAttribute([3, 3]),
      ceil_mode: intAttribute(1),
    });
    expect(opsetObstacle(model(17, [pool], ['y'], image), 21)).toMatch(/AveragePool/);
    expect(opsetObstacle(model(19, [pool], ['y'], image), 21)).toBeNull();
    const group = node('GroupNormalization', ['x', 'rois', 'rois'], 'y', {});
    expect(opsetObstacle(model(18, [group], ['y'], image), 21)).toMatch(/GroupNormalization/);
    expect(opsetObstacle(model(11, [], ['x'], image), 21)).toBeNull();
    expect(opsetObstacle(model(6, [], ['x'], image), 21)).toMatch(/too old/);
  });

  it('gives convolutions of older exports their 4-bit form, and leaves their opset alone where nothing needs it', async () => {
    const net = (): Model =>
      buildModel({
        inputs: { x: ['n', 32, 8, 8] },
        outputs: ['y'],
        nodes: [
          node('Conv', ['x', 'w'], 'c', { pads: intsAttribute([1, 1, 1, 1]) }),
          node('ReduceMean', ['c'], 'm', { axes: intsAttribute([2, 3]), keepdims: intAttribute(0) }),
          node('Gemm', ['m', 'head'], 'y', { transB: intAttribute(1) }),
        ],
        weights: [weight('w', [64, 32, 3, 3], gaussian(64 * 32 * 9, 5)), weight('head', [10, 64], gaussian(640, 6))],
        opset: 17,
      });
    const before = net();
    const names = quantizableWeights(before, 'cpu').map((info) => info.name);
    const feeds = { x: { dims: [2, 32, 8, 8], data: gaussian(2 * 32 * 64, 7) } };
    const exact = await runModel(before, feeds);
    const { model: after, weights } = quantizeModel(before, new Map(names.map((name) => [name, 'int4'])), {
      provider: 'cpu',
    });
    expect(weights.map((row) => row.dtype)).toEqual(['int4', 'int4']);
    expect(after.opsets.get('')).toBe(21);
    expect(before.opsets.get('')).toBe(17);
    expect(sqnr(exact.y!, (await runModel(after, feeds)).y!)).toBeGreaterThan(15);
    expect(quantizeModel(net(), new Map([['head', 'int4']]), { provider: 'cpu' }).model.opsets.get('')).toBe(17);
  });
});
