import { describe, expect, it } from 'vitest';
import { makeNode } from '../../../src/onnx/graph.js';
import { DataType } from '../../../src/onnx/model.js';
import { float32Tensor, rawTensor } from '../../../src/onnx/tensor.js';
import { chooseTrainable, trainableWeights } from '../../../src/train/trainable.js';
import { smallModel } from '../../engine/train/model.js';

describe('weights that training may change', () => {
  it('are named with their role and how many inputs they add up', () => {
    const found = trainableWeights(smallModel());
    expect(found.map(({ name, role, fanIn, adaptable }) => [name, role, fanIn, adaptable])).toEqual([
      ['w1', 'matrix', 6, true],
      ['b1', 'bias', 0, false],
      ['w2', 'matrix', 16, true],
      ['b2', 'bias', 0, false],
    ]);
  });

  it('are no masks, no tables of positions that are multiplied, and no single numbers', () => {
    const model = smallModel();
    const add = (name: string, dims: number[], value: number, op: string): void => {
      const size = dims.reduce((a, b) => a * b, 1);
      model.graph.initializers.set(name, float32Tensor(name, dims, new Float32Array(size).fill(value)));
      model.graph.nodes.push(makeNode(op, ['y', name], [`${name}/out`]));
    };
    add('mask', [4, 3], -1e4, 'Add');
    add('rotary', [4, 3], 0.5, 'Mul');
    add('scale', [], 0.125, 'Div');
    add('positions', [4, 3], 0.1, 'Add');
    add('gain', [3], 1, 'Mul');
    const names = trainableWeights(model).map(({ name }) => name);
    expect(names).toEqual(['w1', 'b1', 'w2', 'b2', 'positions', 'gain']);
  });

  it('are scales of codes only where activations are numbers, and only by name', () => {
    const model = smallModel();
    const { graph } = model;
    const bytes = (name: string, dims: number[]): void => {
      graph.initializers.set(name, rawTensor(name, DataType.INT8, dims, new Uint8Array(dims[0]! * dims[1]!)));
    };
    const scale = (name: string): void => {
      graph.initializers.set(name, float32Tensor(name, [1], Float32Array.of(0.1)));
    };
    ['stored', 'both', 'activation'].forEach(scale);
    bytes('codes', [3, 4]);
    bytes('others', [3, 4]);
    graph.nodes.push(
      makeNode('DequantizeLinear', ['codes', 'stored'], ['unpacked']),
      makeNode('MatMul', ['y', 'unpacked'], ['p']),
      makeNode('QuantizeLinear', ['y', 'activation'], ['q']),
      makeNode('DequantizeLinear', ['q', 'activation'], ['d']),
      makeNode('DequantizeLinear', ['others', 'both'], ['unpacked_too']),
      makeNode('MatMul', ['d', 'unpacked_too'], ['z']),
    );
    const weights = trainableWeights(model);
    expect(weights.filter(({ role }) => role === 'quantization-scale').map(({ name }) => name)).toEqual(['stored']);
    expect(chooseTrainable(weights, 'all').map(({ name }) => name)).not.toContain('stored');
    expect(chooseTrainable(weights, ['sto*']).map(({ name }) => name)).toEqual(['stored']);
  });

  it('are chosen by role or by name', () => {
    const weights = trainableWeights(smallModel());
    const names = (choice: Parameters<typeof chooseTrainable>[1]): string[] =>
      chooseTrainable(weights, choice).map(({ name }) => name);
    expect(names('biases-and-norms')).toEqual(['b1', 'b2']);
    expect(names(['?1'])).toEqual(['w1', 'b1']);
    expect(names(['w*', 'b2'])).toEqual(['w1', 'w2', 'b2']);
    expect(() => names(['head.*'])).toThrow(/No weight/);
  });
});
