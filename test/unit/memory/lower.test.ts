import { describe, expect, test } from 'vitest';
import { makeNode } from '../../../src/onnx/graph.js';
import { DataType, type Model, type Node, type Tensor } from '../../../src/onnx/model.js';
import { computedData } from '../../../src/onnx/tensor.js';
import { estimateMemory } from '../../../src/memory/estimate.js';
import { lowerModel } from '../../../src/memory/rewrite/lower.js';
import { cpuScratch } from '../../../src/memory/workspace.js';
import { graphOf, modelOf, value } from '../onnx/build.js';

function weight(name: string, dims: number[]): Tensor {
  const bytes = dims.reduce((product, size) => product * size, 4);
  return {
    name,
    dataType: DataType.FLOAT,
    dims,
    data: computedData(bytes, () => expect.unreachable('weights must stay on disk')),
  };
}

function images(nodes: Node[], initializers: Tensor[]): Model {
  const output = [value('y', ['batch', 32, 8, 8])];
  return modelOf(graphOf({ nodes, initializers, inputs: [value('x', ['batch', 16, 8, 8])], outputs: output }));
}

const cpu = { provider: 'cpu', dims: {}, batch: 2 } as const;
const operators = (model: Model) => lowerModel(model, 'cpu').nodes.map((node) => node.opType);

describe('lowerModel', () => {
  test('a plain value between two convolutions is put into blocks, never read back from them', () => {
    const model = images(
      [
        makeNode('Conv', ['x', 'w1'], ['a'], {}, { name: 'first' }),
        makeNode('Mul', ['a', 'scale'], ['b'], {}, { name: 'scaled' }),
        makeNode('Conv', ['b', 'w2'], ['y'], {}, { name: 'second' }),
      ],
      [weight('w1', [32, 16, 1, 1]), weight('scale', [1, 32, 1, 1]), weight('w2', [32, 32, 1, 1])],
    );
    const { nodes } = lowerModel(model, 'cpu');
    const made = nodes.flatMap((node) => node.outputs);
    expect(new Set(made).size).toBe(made.length);
    expect(nodes.findIndex((node) => node.opType === 'Mul')).toBeLessThan(
      nodes.findIndex((node) => node.inputs.includes('b/blocked')),
    );
    expect(estimateMemory(model, cpu).unknown).toEqual([]);
  });

  test('a convolution takes in its batch normalization and a hard swish', () => {
    const norms = ['s', 'b', 'm', 'v'].map((name) => weight(name, [32]));
    const model = images(
      [
        makeNode('Conv', ['x', 'w'], ['a'], {}, { name: 'conv' }),
        makeNode('BatchNormalization', ['a', 's', 'b', 'm', 'v'], ['n'], {}, { name: 'norm' }),
        makeNode('HardSwish', ['n'], ['y'], {}, { name: 'act' }),
      ],
      [weight('w', [32, 16, 1, 1]), ...norms],
    );
    expect(operators(model).filter((name) => !name.startsWith('Reorder'))).toEqual([
      expect.stringMatching(/^(Fused)?Conv$/),
    ]);
  });

  test('a convolution whose weight is computed does not take in a hard swish', () => {
    const model = images(
      [
        makeNode('Conv', ['x', 'w'], ['a'], {}, { name: 'conv' }),
        makeNode('HardSwish', ['a'], ['y'], {}, { name: 'act' }),
      ],
      [],
    );
    model.graph.inputs.push(value('w', [32, 16, 1, 1]));
    expect(operators(model)).toEqual(['Conv', 'HardSwish']);
  });

  test('a chain of nodes that hand their input through disappears whole', () => {
    const model = images(
      [
        makeNode('Identity', ['x'], ['a'], {}, { name: 'one' }),
        makeNode('Cast', ['a'], ['b'], { to: { type: 'int', value: DataType.FLOAT } }, { name: 'two' }),
        makeNode('Mul', ['b', 'b'], ['y'], {}, { name: 'three' }),
      ],
      [],
    );
    expect(lowerModel(model, 'cpu').nodes.map((node) => node.inputs)).toEqual([['x', 'x']]);
  });
});

test('a recurrent layer holds the gates of all steps, and both turned sequences when it goes backward', () => {
  const shapes = new Map([
    ['x', { dataType: DataType.FLOAT, dims: [24, 8, 32] }],
    ['w', { dataType: DataType.FLOAT, dims: [2, 256, 32] }],
  ]);
  const attributes = {
    hidden_size: { type: 'int', value: 64 },
    direction: { type: 'string', value: new TextEncoder().encode('bidirectional') },
  } as const;
  const scratch = cpuScratch(makeNode('LSTM', ['x', 'w', 'r'], ['y'], attributes), shapes, 1).after;
  expect(scratch.filter((bytes) => bytes === 24 * 8 * 4 * 64 * 4)).toHaveLength(2);
  expect(scratch.filter((bytes) => bytes === 24 * 8 * 32 * 4)).toHaveLength(1);
});
