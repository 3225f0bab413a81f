import { describe, test } from 'vitest';
import { makeNode } from '../../../src/onnx/graph.js';
import { DataType } from '../../../src/onnx/model.js';
import { attributes, checkCases, constant, fed, ints, scalar, single, type Choose, type OperatorCase } from './case.js';

const product = (dims: readonly number[]) => dims.reduce((all, size) => all * size, 1);

/** Axes of a rank as distinct positions in any order and sign. */
function distinct(c: Choose, rank: number, count: number): number[] {
  const left = Array.from({ length: rank }, (_, axis) => axis);
  return Array.from({ length: Math.min(count, rank) }, () => left.splice(c.int(0, left.length - 1), 1)[0] ?? 0).map(
    (axis) => (c.bool() ? axis : axis - rank),
  );
}

const cases: Record<string, (c: Choose) => OperatorCase> = {
  Reshape(c) {
    const dims = c.dims(1, 4);
    const rest = [...dims];
    const target = dims.map((size, axis) => (c.int(0, 3) === 0 && size > 0 ? 0 : (rest[axis] ?? 1)));
    if (c.bool()) target[c.int(0, target.length - 1)] = -1;
    if (c.bool() && dims.length > 1) {
      const [a = 1, b = 1, ...others] = dims;
      return single('Reshape', [fed(dims), ints(c.bool() ? -1 : a * b, ...others)], {}, { opset: c.of(11, 14, 21) });
    }
    return single('Reshape', [fed(dims), ints(...target)], {}, { opset: c.of(11, 14, 21) });
  },
  'Reshape with allowzero'(c) {
    const dims = [0, ...c.dims(1, 2)];
    const target = c.bool() ? [c.int(1, 4), 0] : [0, 3];
    return single('Reshape', [fed(dims), ints(...target)], { allowzero: 1 }, { opset: 14 });
  },
  Slice(c) {
    const dims = c.dims(1, 4, 7);
    const axes = distinct(c, dims.length, c.int(1, dims.length));
    const bound = () => c.of(c.int(-9, 9), c.int(-9, 9), 2 ** 40, -(2 ** 40), 2 ** 31 - 1);
    const steps = axes.map(() => c.of(1, 1, 2, 3, -1, -2));
    const input = c.bool() ? fed(dims) : fed(dims, DataType.INT64);
    return single(
      'Slice',
      [input, ints(...axes.map(bound)), ints(...axes.map(bound)), ints(...axes), ...(c.bool() ? [ints(...steps)] : [])],
      {},
      { opset: c.of(11, 13, 21) },
    );
  },
  Pad(c) {
    const dims = c.dims(1, 4);
    const opset = c.of(11, 13, 18, 19, 21);
    const axes = opset >= 18 && c.bool() ? distinct(c, dims.length, c.int(1, dims.length)) : null;
    const pads = Array.from({ length: 2 * (axes?.length ?? dims.length) }, () => c.of(0, 1, 2, -1));
    const inputs = [fed(dims), ints(...pads), scalar(0, DataType.FLOAT), ...(axes ? [ints(...axes)] : [])];
    const mode = c.of('constant', 'edge', 'reflect', ...(opset >= 19 ? ['wrap'] : []));
    return single('Pad', inputs, { mode }, { opset });
  },
  Split(c) {
    const dims = c.dims(1, 3, 9);
    const axis = c.int(-dims.length, dims.length - 1);
    const size = dims.at(axis) ?? 1;
    const first = c.int(0, size);
    const opset = c.of(11, 13, 18);
    if (c.bool()) {
      const parts = [first, size - first];
      return opset < 13
        ? single('Split', [fed(dims)], { axis, split: parts }, { opset, outputs: 2 })
        : single('Split', [fed(dims), ints(...parts)], { axis }, { opset, outputs: 2 });
    }
    const outputs = c.int(1, 4);
    return single('Split', [fed(dims)], { axis, num_outputs: opset >= 18 ? outputs : undefined }, { opset, outputs });
  },
  Concat(c) {
    const dims = c.dims(1, 4);
    const axis = c.int(-dims.length, dims.length - 1);
    const parts = Array.from({ length: c.int(1, 4) }, () => {
      const own = [...dims];
      own[axis < 0 ? axis + own.length : axis] = c.int(0, 4);
      return fed(own);
    });
    return single('Concat', parts, { axis });
  },
  Squeeze(c) {
    const dims = c.dims(1, 4, 2);
    const ones = dims.flatMap((size, axis) => (size === 1 ? [c.bool() ? axis : axis - dims.length] : []));
    const opset = c.of(11, 13, 21);
    if (c.bool() || ones.length === 0) return single('Squeeze', [fed(dims)], {}, { opset });
    return opset < 13
      ? single('Squeeze', [fed(dims)], { axes: ones }, { opset })
      : single('Squeeze', [fed(dims), ints(...ones)], {}, { opset });
  },
  Unsqueeze(c) {
    const dims = c.dims(0, 3);
    const count = c.int(1, 3);
    const axes = distinct(c, dims.length + count, count);
    const opset = c.of(11, 13, 21);
    return opset < 13
      ? single('Unsqueeze', [fed(dims)], { axes }, { opset })
      : single('Unsqueeze', [fed(dims), ints(...axes)], {}, { opset });
  },
  Flatten(c) {
    const dims = c.dims(1, 4);
    return single('Flatten', [fed(dims)], { axis: c.int(-dims.length, dims.length) }, { opset: c.of(11, 13) });
  },
  Transpose(c) {
    const dims = c.dims(1, 4);
    const perm = distinct(c, dims.length, dims.length).map((axis) => (axis < 0 ? axis + dims.length : axis));
    return single('Transpose', [fed(dims)], { perm: c.bool() ? perm : undefined });
  },
  Gather(c) {
    const dims = c.dims(1, 4);
    const indices = constant(c.dims(0, 3), DataType.INT64, 0);
    return single('Gather', [fed(dims), indices], { axis: c.int(-dims.length, dims.length - 1) });
  },
  GatherElements(c) {
    const dims = c.dims(1, 3);
    const axis = c.int(0, dims.length - 1);
    const own = dims.map((size, at) => (at === axis ? c.int(1, 4) : size));
    return single('GatherElements', [fed(dims), fed(own, DataType.INT64, 0)], { axis });
  },
  GatherND(c) {
    const dims = c.dims(2, 4);
    const batch = c.int(0, 1);
    const depth = c.int(1, dims.length - batch);
    const indices = [...dims.slice(0, batch), ...c.dims(1 - batch, 2), depth];
    return single('GatherND', [fed(dims), fed(indices, DataType.INT64, 0)], { batch_dims: batch }, { opset: 13 });
  },
  Expand(c) {
    const dims = c.dims(1, 3).map((size) => (c.bool() ? 1 : size));
    const target = dims.map((size) => (size === 1 ? c.int(1, 4) : c.of(1, size)));
    return single('Expand', [fed(dims), ints(...c.of([], [2]), ...target)], {});
  },
  Tile(c) {
    const dims = c.dims(1, 4);
    return single('Tile', [fed(dims), ints(...dims.map(() => c.int(0, 3)))], {});
  },
  'Tile of runtime repeats'(c) {
    const dims = c.dims(1, 3);
    const shape = makeNode('Shape', ['i0'], ['s']);
    return {
      nodes: [shape, makeNode('Tile', ['i0', 's'], ['o0'])],
      operands: { i0: fed(dims) },
      outputs: ['o0'],
      opset: 17,
    };
  },
  'Shape with start and end'(c) {
    const dims = c.dims(1, 4);
    return single(
      'Shape',
      [fed(dims)],
      { start: c.int(-5, 5), end: c.bool() ? c.int(-5, 5) : undefined },
      { opset: 15 },
    );
  },
  Size: (c) => single('Size', [fed(c.dims(0, 4))]),
  Range(c) {
    const step = c.of(1, 2, 3, -1, -2);
    return single('Range', [scalar(c.int(-5, 5)), scalar(c.int(-9, 9)), scalar(step)]);
  },
  ConstantOfShape: (c) => single('ConstantOfShape', [ints(...c.dims(0, 3))]),
  OneHot(c) {
    const dims = c.dims(1, 3);
    const values = constant([2], DataType.FLOAT, [0, 1]);
    return single('OneHot', [fed(dims, DataType.INT64), scalar(c.int(2, 6)), values], {
      axis: c.int(-dims.length - 1, dims.length),
    });
  },
  DepthToSpace(c) {
    const block = c.int(1, 3);
    const dims = [c.int(1, 2), c.int(1, 3) * block * block, c.int(1, 4), c.int(1, 4)];
    return single('DepthToSpace', [fed(dims)], { blocksize: block, mode: c.of('DCR', 'CRD') });
  },
  SpaceToDepth(c) {
    const block = c.int(1, 3);
    return single('SpaceToDepth', [fed([c.int(1, 2), c.int(1, 3), c.int(1, 3) * block, c.int(1, 3) * block])], {
      blocksize: block,
    });
  },
  CenterCropPad(c) {
    const dims = c.dims(2, 3);
    const axes = distinct(c, dims.length, c.int(1, dims.length));
    return single('CenterCropPad', [fed(dims), ints(...axes.map(() => c.int(1, 7)))], { axes }, { opset: 18 });
  },
  Trilu: (c) => single('Trilu', [fed(c.dims(2, 4)), scalar(c.int(-2, 2))], { upper: c.int(0, 1) }),
  NonZero(c) {
    const dims = c.dims(1, 3);
    return single('NonZero', [
      constant(
        dims,
        DataType.FLOAT,
        Array.from({ length: product(dims) }, () => c.int(0, 1)),
      ),
    ]);
  },
  'a -1 among sizes computed from a shape'(c) {
    const [a = 1, b = 1, d = 1] = [c.int(1, 4), c.int(1, 4), c.int(1, 4)];
    return {
      nodes: [
        makeNode('Shape', ['i0'], ['s']),
        makeNode('Gather', ['s', 'first'], ['n'], attributes({ axis: 0 })),
        makeNode('Concat', ['n', 'open'], ['target'], attributes({ axis: 0 })),
        makeNode('Reshape', ['i0', 'target'], ['o0']),
      ],
      operands: { i0: fed([a, b, d]), first: ints(c.int(-3, 2)), open: ints(-1) },
      outputs: ['o0'],
      opset: 17,
    };
  },
  'arithmetic on sizes'(c) {
    const dims = [c.int(1, 6), 12, c.int(1, 5)];
    const op = c.of('Mul', 'Div', 'Add', 'Max', 'Min', 'Mod');
    return {
      nodes: [
        makeNode('Shape', ['i0'], ['s']),
        makeNode('Slice', ['s', 'zero', 'two'], ['part']),
        makeNode(op, ['part', 'by'], ['sized']),
        makeNode('ConstantOfShape', ['sized'], ['o0']),
      ],
      operands: { i0: fed(dims), zero: ints(0), two: ints(2), by: ints(c.int(1, 4)) },
      outputs: ['o0'],
      opset: 17,
    };
  },
};

describe('layout operators against onnxruntime', () => {
  test.each(Object.entries(cases))('%s', (_, make) => checkCases(make, 30));
});
