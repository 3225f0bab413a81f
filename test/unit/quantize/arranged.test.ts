import { describe, expect, it } from 'vitest';
import { intAttribute } from '../../../src/onnx/graph.js';
import type { Model, Node } from '../../../src/onnx/model.js';
import { int64Tensor, readFloat32 } from '../../../src/onnx/tensor.js';
import { foldArrangedWeights } from '../../../src/quantize/arranged.js';
import { quantizableWeights } from '../../../src/quantize/index.js';
import { buildModel, node, weight } from '../../engine/quantize/build.js';

const values = (count: number, from: number): Float32Array => Float32Array.from({ length: count }, (_, i) => from + i);

/** A GRU whose recurrent weight `[3 · 16, 16]` has its gates cut apart and joined in another order. */
function arranged(extra: Node[] = []): Model {
  const gate = (name: string, from: string, to: string): Node => node('Slice', ['w', from, to, 'zero'], name);
  return buildModel({
    inputs: { x: [4, 'n', 16] },
    outputs: ['y', ...extra.map((one) => one.outputs[0]!)],
    nodes: [
      gate('g0', 'zero', 'c16'),
      gate('g1', 'c16', 'c32'),
      gate('g2', 'c32', 'far'),
      node('Concat', ['g1', 'g0', 'g2'], 'joined', { axis: intAttribute(0) }),
      node('Unsqueeze', ['joined', 'zero'], 'r'),
      node('GRU', ['x', 'u', 'r'], 'y', { hidden_size: intAttribute(16) }),
      ...extra,
    ],
    weights: [
      weight('w', [48, 16], values(48 * 16, 1)),
      weight('u', [1, 48, 16], values(48 * 16, 5000)),
      ...Object.entries({ zero: 0, c16: 16, c32: 32, far: 2 ** 40 }).map(([name, value]) =>
        int64Tensor(name, [1], [value]),
      ),
    ],
  });
}

describe('foldArrangedWeights', () => {
  it('makes one weight of gates that were cut and joined, and it can be quantized', () => {
    const model = arranged();
    const [made] = quantizableWeights(model, 'cpu').filter(({ name }) => name === 'r');
    expect(made).toMatchObject({ operator: 'GRU', dims: [1, 48, 16] });
    expect(made!.options.find(({ dtype }) => dtype === 'int8')!.allowed).toBe(true);
    foldArrangedWeights(model.graph);
    expect(model.graph.nodes.map(({ opType }) => opType)).toEqual(['GRU']);
    expect([...model.graph.initializers.keys()].sort()).toEqual(['r', 'u']);
    const whole = values(48 * 16, 1);
    const rows = (from: number, to: number): number[] => [...whole.subarray(from * 16, to * 16)];
    expect([...readFloat32(model.graph.initializers.get('r')!)]).toEqual([
      ...rows(16, 32),
      ...rows(0, 16),
      ...rows(32, 48),
    ]);
  });

  it('leaves alone what something else reads too', () => {
    const model = arranged([node('Relu', ['g1'], 'z')]);
    foldArrangedWeights(model.graph);
    expect(model.graph.nodes).toHaveLength(7);
    expect(model.graph.initializers.has('r')).toBe(false);
  });
});
