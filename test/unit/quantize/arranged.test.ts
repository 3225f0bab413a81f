import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { cloneModel, intAttribute, makeNode } from '../../../src/onnx/graph.js';
import type { Model, Node, Tensor, TensorData } from '../../../src/onnx/model.js';
import { int64Tensor, memoryData, readFloat32 } from '../../../src/onnx/tensor.js';
import { foldArrangedWeights } from '../../../src/quantize/arranged.js';
import { cutData, joinedData, keptData } from '../../../src/quantize/arranged-data.js';
import { estimateSqnr, quantizableWeights, quantizeModel } from '../../../src/quantize/index.js';
import { buildModel, node, weight } from '../../engine/quantize/build.js';
import { gaussian } from '../../engine/quantize/numbers.js';
import { counted } from './counted.js';

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

/** A Gemm whose weight is one tensor scaled by the norm of its rows, and one that has the same weight as it is. */
function normalized(v: Tensor): { folded: Model; plain: Model } {
  const [rows, columns] = v.dims as [number, number];
  const gemm = node('Gemm', ['x', 'w'], 'y', { transB: intAttribute(1) });
  const folded = buildModel({
    inputs: { x: ['n', columns] },
    outputs: ['y'],
    opset: 18,
    nodes: [
      node('ReduceL2', ['v', 'axes'], 'norm', { keepdims: intAttribute(1) }),
      node('Div', ['g', 'norm'], 'factor'),
      node('Mul', ['v', 'factor'], 'w'),
      gemm,
    ],
    weights: [v, weight('g', [rows, 1], values(rows, 1)), int64Tensor('axes', [1], [1])],
  });
  const clone = cloneModel(folded);
  foldArrangedWeights(clone.graph);
  const w = readFloat32(clone.graph.initializers.get('w')!);
  const spec = { inputs: { x: ['n', columns] }, outputs: ['y'], opset: 18 };
  return { folded, plain: buildModel({ ...spec, nodes: [gemm], weights: [weight('w', [rows, columns], w)] }) };
}

/** Rows off their centre, for which zero points pay. */
const offCentre = (count: number): Float32Array => gaussian(count, 3).map((value) => Math.abs(value));

describe('weights made of others', () => {
  it('are computed once for what is asked of them one after the other', () => {
    const source = counted(weight('v', [256, 512], offCentre(256 * 512)));
    const { folded } = normalized(source.tensor);
    const [once, before] = [2 * 256 * 512 * 4, source.read()];
    estimateSqnr(folded, 'w', 'int4');
    quantizableWeights(folded, 'cpu');
    expect(source.read() - before).toBe(once);
    // Another copy of the model is planned from what is known.
    quantizeModel(folded, new Map([['w', 'int4' as const]]), { provider: 'cpu' });
    expect(source.read() - before).toBe(once);
  });

  it('take as few bytes as the same weight that is stored', () => {
    const { folded, plain } = normalized(weight('v', [64, 256], offCentre(64 * 256)));
    const options = (model: Model) => quantizableWeights(model, 'cpu').find(({ name }) => name === 'w')!.options;
    expect(options(folded)).toEqual(options(plain));
  });

  it('are made of numbers inside Constant nodes, and of equal parts', () => {
    const model = buildModel({
      inputs: { x: ['n', 32] },
      outputs: ['y', 'z'],
      nodes: [
        node('Constant', [], 'two', { value_float: { type: 'float', value: 2 } }),
        node('Mul', ['w', 'two'], 'scaled'),
        makeNode('Split', ['scaled'], ['a', 'b'], { axis: intAttribute(-1), num_outputs: intAttribute(2) }),
        node('MatMul', ['x', 'a'], 'y'),
        node('MatMul', ['x', 'b'], 'z'),
      ],
      weights: [weight('w', [32, 50], values(32 * 50, 0))],
      opset: 18,
    });
    foldArrangedWeights(model.graph);
    expect(model.graph.nodes.map(({ opType }) => opType)).toEqual(['MatMul', 'MatMul']);
    const b = model.graph.initializers.get('b')!;
    expect(b.dims).toEqual([32, 25]);
    expect([...readFloat32(b)].slice(24, 26)).toEqual([98, 150]);
  });

  it('give any range of their bytes', () => {
    const bytes = (count: number, from: number): TensorData =>
      memoryData(Uint8Array.from({ length: count }, (_, i) => from + i));
    const size = fc.integer({ min: 1, max: 9 });
    fc.assert(
      fc.property(size, size, size, size, fc.nat(), fc.nat(), (rows, a, b, c, start, count) => {
        const joined = joinedData([bytes(rows * (a + b), 0), bytes(rows * c, 100)], [a + b, c]);
        for (const data of [
          joined,
          cutData(joined, a + b + c, a, b),
          keptData(rows, [joined], () => joined.read().slice(0, rows)),
        ]) {
          const whole = data.read();
          expect(whole).toHaveLength(data.byteLength);
          const from = start % whole.length;
          const length = count % (whole.length - from + 1);
          expect(data.readRange(from, length)).toEqual(whole.subarray(from, from + length));
        }
        const row = (at: number): number[] => [...joined.read().subarray(at * (a + b + c), (at + 1) * (a + b + c))];
        for (let at = 0; at < rows; at++) {
          const left = Array.from({ length: a + b }, (_, i) => at * (a + b) + i);
          expect(row(at)).toEqual([...left, ...Array.from({ length: c }, (_, i) => 100 + at * c + i)]);
          expect([...cutData(joined, a + b + c, a, b).readRange(at * b, b)]).toEqual(left.slice(a));
        }
      }),
    );
  });
});
