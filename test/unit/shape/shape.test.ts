import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { SnugError } from '../../../src/contract/errors.js';
import { intAttribute, intsAttribute, makeNode } from '../../../src/onnx/graph.js';
import { DataType, type Model, type Node, type Tensor, type ValueInfo } from '../../../src/onnx/model.js';
import { batchDimension, defaultBindings, inferShapes } from '../../../src/onnx/shape.js';
import { sliceRange } from '../../../src/onnx/shape-slice.js';
import { broadcast, fixed, ShapeGap } from '../../../src/onnx/shape-types.js';
import { computedData, float32Tensor, int64Tensor, rawTensor, tensorByteLength } from '../../../src/onnx/tensor.js';
import { graphOf, modelOf, value } from '../onnx/build.js';

function model(nodes: Node[], inputs: ValueInfo[], initializers: Tensor[] = [], outputs: ValueInfo[] = []): Model {
  const built = modelOf(graphOf({ nodes, inputs, initializers, outputs }), 21);
  built.opsets.set('com.microsoft', 1);
  return built;
}

const bytes = (name: string, dataType: number, dims: number[]) =>
  rawTensor(name, dataType, dims, new Uint8Array(tensorByteLength(dataType, dims)));
const weight = (name: string, dims: number[]) => bytes(name, DataType.FLOAT, dims);

describe('inferShapes', () => {
  test('carries sizes and names through a product and a bias', () => {
    const m = model(
      [makeNode('MatMul', ['x', 'w'], ['h']), makeNode('Add', ['h', 'b'], ['y'])],
      [value('x', ['batch', 'sequence', 8])],
      [weight('w', [8, 5]), weight('b', [5])],
    );
    const { shapes, symbols, unknown } = inferShapes(m, { batch: 3, sequence: 7 });
    expect(shapes.get('y')).toEqual({ dataType: DataType.FLOAT, dims: [3, 7, 5] });
    expect(symbols.get('y')).toEqual(['batch', 'sequence', 5]);
    expect(unknown).toEqual([]);
  });

  test('evaluates the shape arithmetic exporters write, and like the runtime keeps no names through it', () => {
    const m = model(
      [
        makeNode('Shape', ['x'], ['s']),
        makeNode('Gather', ['s', 'zero'], ['n']),
        makeNode('Unsqueeze', ['n', 'axes'], ['n1']),
        makeNode('Concat', ['n1', 'rest'], ['target'], { axis: intAttribute(0) }),
        makeNode('Reshape', ['x', 'target'], ['y']),
      ],
      [value('x', ['batch', 6, 4])],
      [int64Tensor('zero', [], [0]), int64Tensor('axes', [1], [0]), int64Tensor('rest', [2], [3, 8])],
    );
    const result = inferShapes(m, { batch: 5 });
    expect(result.shapes.get('y')?.dims).toEqual([5, 3, 8]);
    expect(result.symbols.get('y')).toEqual([null, null, null]);
    expect(result.constants.get('target')?.values).toEqual([5, 3, 8]);
  });

  test('computes no constant for a value that stays unknown', () => {
    const scale: Tensor = {
      ...weight('scale', [4]),
      data: computedData(16, () => {
        throw new Error('a whole weight would be quantized for this');
      }),
    };
    const m = model([makeNode('Mul', ['scale', 'x'], ['y'])], [value('x', [4])], [scale]);
    expect(inferShapes(m, {}).shapes.get('y')?.dims).toEqual([4]);
  });

  test('a -1 beside a named dimension loses the name, as in the runtime', () => {
    const reshape = makeNode('Reshape', ['x', 'target'], ['y']);
    const m = model([reshape], [value('x', ['batch', 6])], [int64Tensor('target', [3], [-1, 2, 3])]);
    expect(inferShapes(m, { batch: 5 }).symbols.get('y')).toEqual([null, 2, 3]);
    expect(inferShapes(m, { batch: 5 }).shapes.get('y')?.dims).toEqual([5, 2, 3]);
    m.graph.valueInfo.set('y', value('y', ['batch', 2, 3]));
    expect(inferShapes(m, { batch: 5 }).symbols.get('y')).toEqual(['batch', 2, 3]);
  });

  test('knows the quantized operators it writes itself', () => {
    const nBits = { K: intAttribute(64), N: intAttribute(10), bits: intAttribute(4), block_size: intAttribute(32) };
    const gather = { bits: intAttribute(4), block_size: intAttribute(32), quantize_axis: intAttribute(1) };
    const m = model(
      [
        makeNode('GatherBlockQuantized', ['table', 'ids', 'scales'], ['e'], gather, { domain: 'com.microsoft' }),
        makeNode('MatMulNBits', ['e', 'codes', 's'], ['y'], nBits, { domain: 'com.microsoft' }),
      ],
      [value('ids', ['batch', 'sequence'], DataType.INT64)],
      [
        bytes('table', DataType.UINT8, [100, 32]),
        weight('scales', [100, 2]),
        bytes('codes', DataType.UINT8, [10, 2, 16]),
        weight('s', [10, 2]),
      ],
    );
    const { shapes } = inferShapes(m, { batch: 2, sequence: 3 });
    expect(shapes.get('e')).toEqual({ dataType: DataType.FLOAT, dims: [2, 3, 64] });
    expect(shapes.get('y')?.dims).toEqual([2, 3, 10]);
  });

  test('convolution and pooling follow strides, pads and ceil_mode', () => {
    const pads = intsAttribute([1, 1, 1, 1]);
    const m = model(
      [
        makeNode('Conv', ['x', 'w'], ['c'], { strides: intsAttribute([2, 2]), pads }),
        makeNode('MaxPool', ['c'], ['p'], {
          kernel_shape: intsAttribute([2, 2]),
          strides: intsAttribute([2, 2]),
          ceil_mode: intAttribute(1),
        }),
      ],
      [value('x', ['n', 3, 9, 9])],
      [weight('w', [16, 3, 3, 3])],
    );
    const { shapes } = inferShapes(m, { n: 2 });
    expect(shapes.get('c')?.dims).toEqual([2, 16, 5, 5]);
    expect(shapes.get('p')?.dims).toEqual([2, 16, 3, 3]);
  });

  test('an operator it does not know is told, with everything behind it, never guessed', () => {
    const m = model(
      [makeNode('Mystery', ['x'], ['h'], {}, { name: 'odd', domain: 'custom' }), makeNode('Relu', ['h'], ['y'])],
      [value('x', ['batch', 4])],
    );
    const { shapes, unknown } = inferShapes(m, { batch: 1 });
    expect(shapes.has('y')).toBe(false);
    expect(unknown.map((entry) => entry.value)).toEqual(['h', 'y']);
    expect(unknown[0]).toMatchObject({ node: 'odd', reason: 'no shape rule for the operator Mystery' });
  });

  test('what the file declares fills the gap an unknown operator leaves', () => {
    const m = model([makeNode('Mystery', ['x'], ['h'], {}, { domain: 'custom' })], [value('x', ['batch', 4])]);
    m.graph.valueInfo.set('h', value('h', ['batch', 9]));
    expect(inferShapes(m, { batch: 2 }).shapes.get('h')?.dims).toEqual([2, 9]);
  });

  test('sizes that do not work out are unknown, not wrong', () => {
    const m = model([makeNode('MatMul', ['x', 'w'], ['y'])], [value('x', ['batch', 4])], [weight('w', [5, 2])]);
    expect(inferShapes(m, { batch: 1 }).unknown).toHaveLength(1);
  });

  test('a missing or impossible size is an error with a code', () => {
    const m = model([makeNode('Relu', ['x'], ['y'])], [value('x', ['batch', 4])]);
    for (const bindings of [{}, { batch: -1 }, { batch: 1.5 }, { batch: NaN }]) {
      expect(() => inferShapes(m, bindings as Record<string, number>)).toThrowError(
        expect.objectContaining({ code: 'E_DIMENSION' }) as SnugError,
      );
    }
  });

  test('reads small constants only', () => {
    const huge = weight('w', [4, 4]);
    huge.data = { ...huge.data, read: () => expect.unreachable('weights must stay on disk') };
    const m = model([makeNode('MatMul', ['x', 'w'], ['y'])], [value('x', ['batch', 4])], [huge]);
    expect(inferShapes(m, { batch: 1 }).shapes.get('y')?.dims).toEqual([1, 4]);
  });
});

describe('defaultBindings', () => {
  const decoder = model(
    [],
    [
      value('input_ids', ['batch', 'sequence'], DataType.INT64),
      value('attention_mask', ['batch', 'total_sequence'], DataType.INT64),
      value('past_key_values.0.key', ['batch', 6, 'past_sequence', 32]),
      value('mask', ['batch', 'past_sequence + 1']),
    ],
  );

  test('gives a decoder a batch, 128 tokens, no past, and says what it assumed', () => {
    expect(defaultBindings(decoder, 4)).toEqual({
      dims: { batch: 4, sequence: 128, past_sequence: 0, total_sequence: 128, 'past_sequence + 1': 1 },
      assumed: ['sequence', 'past_sequence', 'total_sequence', 'past_sequence + 1'],
    });
  });

  test('derives totals from what was given', () => {
    const { dims, assumed } = defaultBindings(decoder, 2, { sequence: 1, past_sequence: 16 });
    expect(dims).toEqual({ batch: 2, sequence: 1, past_sequence: 16, total_sequence: 17, 'past_sequence + 1': 17 });
    expect(assumed).toEqual(['total_sequence', 'past_sequence + 1']);
  });

  test('a batch without a name is bound by input and axis', () => {
    const m = model([makeNode('Add', ['a', 'b'], ['y'])], [value('a', [null, 4]), value('b', [null, 4])]);
    expect(batchDimension(m)).toBe('a.0');
    const { dims, assumed } = defaultBindings(m, 8);
    expect(dims).toEqual({ 'a.0': 8, 'b.0': 8 });
    expect(assumed).toEqual([]);
    expect(inferShapes(m, dims).symbols.get('y')).toEqual([null, 4]);
  });
});

const dims = fc.array(fc.integer({ min: 1, max: 4 }), { maxLength: 4 });

test('broadcast is symmetric, keeps its result and only fails where numpy would', () => {
  fc.assert(
    fc.property(dims, dims, (a, b) => {
      const of = (x: number[], y: number[]) => {
        try {
          return broadcast([x.map(fixed), y.map(fixed)]).map((dim) => dim.size);
        } catch (error) {
          expect(error).toBeInstanceOf(ShapeGap);
          return null;
        }
      };
      const result = of(a, b);
      expect(of(b, a)).toEqual(result);
      const clash = a.some((size, i) => {
        const other = b[b.length - a.length + i];
        return other !== undefined && size !== 1 && other !== 1 && size !== other;
      });
      expect(result === null).toBe(clash);
      if (result) expect(of(result, a)).toEqual(result);
    }),
  );
});

test('slices with a positive step take what Array.slice takes', () => {
  fc.assert(
    fc.property(fc.integer({ min: -12, max: 12 }), fc.integer({ min: -12, max: 12 }), fc.nat(8), (start, end, size) => {
      const all = Array.from({ length: size }, (_, index) => index);
      const [first, count] = sliceRange(start, end, 1, size);
      expect(all.slice(first, first + count)).toEqual(all.slice(start, end));
    }),
  );
});

test('a float constant of a few elements does not need to be a shape', () => {
  const m = model(
    [makeNode('Mul', ['x', 'k'], ['y'])],
    [value('x', ['batch', 4])],
    [float32Tensor('k', [1], Float32Array.of(0.5))],
  );
  expect(inferShapes(m, { batch: 2 }).constants.has('y')).toBe(false);
});
