import * as ort from 'onnxruntime-node';
import { describe, expect, it } from 'vitest';
import {
  cloneModel,
  floatAttribute as f,
  intAttribute as i,
  intsAttribute as is,
  stringAttribute as s,
} from '../../../src/onnx/graph.js';
import { DataType, type Attribute, type Model } from '../../../src/onnx/model.js';
import { raiseToOpset13 } from '../../../src/onnx/opset-legacy.js';
import { float32Tensor, rawTensor } from '../../../src/onnx/tensor.js';
import { serializeModel } from '../../../src/onnx/write.js';
import { normalNumbers } from '../../../src/train/random.js';
import { testModel, type TestGraph, type TestNode } from '../train/support.js';

const image = [2, 4, 6, 6];

/** One node of an old opset over an image. */
function old(opset: number, node: Partial<TestNode> & { op: string }, more: Partial<TestGraph> = {}): Model {
  const graph: TestGraph = { opset, wanted: { x: image }, nodes: [{ in: ['x'], out: ['y'], ...node }], ...more };
  const model = testModel(graph);
  const outputs = graph.nodes.at(-1)!.out;
  model.graph.outputs = outputs.slice(0, 1).map((name) => ({ name, dataType: DataType.FLOAT, dims: null }));
  return model;
}

async function run(model: Model): Promise<{ dims: readonly number[]; values: number[] }> {
  const session = await ort.InferenceSession.create(serializeModel(model), {
    logSeverityLevel: 3,
    intraOpNumThreads: 1,
  });
  const normal = normalNumbers(4);
  const length = image.reduce((a, b) => a * b, 1);
  const feeds = {
    x: new ort.Tensor(
      'float32',
      Float32Array.from({ length }, () => normal()),
      image,
    ),
  };
  const { [session.outputNames[0]!]: y } = await session.run(feeds);
  await session.release();
  return { dims: y!.dims, values: Array.from(y!.data as Float32Array) };
}

const distance = (a: readonly number[], b: readonly number[]): number =>
  Math.max(...a.map((value, at) => Math.abs(value - b[at]!)));

/** The same with the node in another element type. */
const typed = (to: number, node: Partial<TestNode> & { op: string }): Model =>
  old(10, node, {
    nodes: [
      { op: 'Cast', in: ['x'], out: ['h'], attributes: { to: i(to) } },
      { ...node, in: ['h'], out: ['z'] },
      { op: 'Cast', in: ['z'], out: ['y'], attributes: { to: i(DataType.FLOAT) } },
    ],
  });

const floats = (values: number[]): Attribute => ({ type: 'floats', value: values });

const tensor = (dims: number[], values: number[]): Attribute => ({
  type: 'tensor',
  value: float32Tensor('', dims, Float32Array.from(values)),
});

/** A branch that takes a softmax over several axes of what it captures. */
function body(name: string): Attribute {
  const { graph } = testModel({ wanted: {}, nodes: [{ op: 'Softmax', in: ['x'], out: [`${name}_y`] }] });
  graph.name = name;
  graph.outputs = [{ name: `${name}_y`, dataType: DataType.FLOAT, dims: null }];
  return { type: 'graph', value: graph };
}

const cases: Record<string, Model> = {
  Squeeze: old(
    11,
    { op: 'Squeeze', in: ['r'], attributes: { axes: is([1]) } },
    {
      nodes: [
        { op: 'ReduceSum', in: ['x'], out: ['r'], attributes: { axes: is([1]) } },
        { op: 'Squeeze', in: ['r'], out: ['y'], attributes: { axes: is([1]) } },
      ],
    },
  ),
  Unsqueeze: old(8, { op: 'Unsqueeze', attributes: { axes: is([0, 3]) } }),
  'ReduceSum of everything': old(9, { op: 'ReduceSum', attributes: { keepdims: i(0) } }),
  Split: old(11, { op: 'Split', out: ['y', 'z'], attributes: { axis: i(1), split: is([1, 3]) } }),
  'Split in halves': old(7, { op: 'Split', out: ['y', 'z'], attributes: { axis: i(1) } }),
  'Softmax over several axes': old(11, { op: 'Softmax' }),
  'Softmax over the last axis': old(11, { op: 'Softmax', attributes: { axis: i(3) } }),
  'LogSoftmax over two axes': old(12, { op: 'LogSoftmax', attributes: { axis: i(2) } }),
  Dropout: old(10, { op: 'Dropout', attributes: { ratio: f(0.3) } }),
  'Dropout with a mask nobody reads': old(10, { op: 'Dropout', out: ['y', 'mask'] }),
  'Clip of half precision': typed(DataType.FLOAT16, { op: 'Clip', attributes: { min: f(-0.5), max: f(0.75) } }),
  ...Object.fromEntries(
    [DataType.FLOAT16, DataType.DOUBLE].map((to) => [
      `Pad of element type ${to}`,
      typed(to, { op: 'Pad', attributes: { pads: is([0, 0, 1, 2, 0, 0, 2, 1]), value: f(1.5) } }),
    ]),
  ),
  Clip: old(7, { op: 'Clip', attributes: { min: f(-0.4), max: f(0.6) } }),
  'Clip below': old(10, { op: 'Clip', attributes: { min: f(0) } }),
  'Clip of today': old(12, { op: 'Clip', in: ['x', 'low'] }, { floats: { low: { dims: [], values: [0.1] } } }),
  Pad: old(10, { op: 'Pad', attributes: { pads: is([0, 0, 1, 2, 0, 0, 2, 1]), value: f(1.5) } }),
  'Pad reflect': old(7, { op: 'Pad', attributes: { pads: is([0, 0, 1, 2, 0, 0, 2, 1]), mode: s('reflect') } }),
  Slice: old(9, { op: 'Slice', attributes: { starts: is([1, -3]), ends: is([3, 100]), axes: is([1, 3]) } }),
  'Slice without axes': old(7, { op: 'Slice', attributes: { starts: is([1]), ends: is([2]) } }),
  TopK: old(9, { op: 'TopK', out: ['y', 'places'], attributes: { k: i(3), axis: i(2) } }),
  'Upsample, attribute': old(7, { op: 'Upsample', attributes: { scales: floats([1, 1, 2, 3]), mode: s('nearest') } }),
  Upsample: old(
    9,
    { op: 'Upsample', in: ['x', 'scales'] },
    { floats: { scales: { dims: [4], values: [1, 1, 1.5, 2] } } },
  ),
  'Upsample, linear': old(
    9,
    { op: 'Upsample', in: ['x', 'scales'], attributes: { mode: s('linear') } },
    {
      floats: { scales: { dims: [4], values: [1, 1, 2, 2] } },
    },
  ),
  'Resize that shrinks': old(
    10,
    { op: 'Resize', in: ['x', 'scales'] },
    { floats: { scales: { dims: [4], values: [1, 1, 0.5, 0.7] } } },
  ),
  BatchNormalization: old(
    7,
    { op: 'BatchNormalization', in: ['x', 'p', 'p', 'p', 'p'] },
    {
      floats: { p: { dims: [4], values: [0.5, 1, 1.5, 2] } },
    },
  ),
  'Upsample by a Constant node': old(
    9,
    { op: 'Upsample', in: ['x', 'scales'] },
    {
      nodes: [
        { op: 'Constant', in: [], out: ['scales'], attributes: { value: tensor([4], [1, 1, 2, 2]) } },
        { op: 'Upsample', in: ['x', 'scales'], out: ['y'] },
      ],
    },
  ),
  'Softmax in a body': old(
    11,
    { op: 'If' },
    {
      tensors: [rawTensor('yes', DataType.BOOL, [], Uint8Array.of(1))],
      nodes: [
        { op: 'If', in: ['yes'], out: ['y'], attributes: { then_branch: body('then'), else_branch: body('else') } },
      ],
    },
  ),
  Scatter: old(
    10,
    { op: 'Scatter', in: ['x', 'at', 'u'], attributes: { axis: i(1) } },
    {
      ints: { at: { dims: [1, 1, 1, 2], values: [2, 0] } },
      floats: { u: { dims: [1, 1, 1, 2], values: [7, 8] } },
    },
  ),
};

describe('a model of opset 7 … 12 in opset 13', () => {
  for (const [name, model] of Object.entries(cases)) {
    it(`means the same: ${name}`, async () => {
      const before = await run(model);
      const raised = cloneModel(model);
      raiseToOpset13(raised, {});
      expect(raised.opsets.get('')).toBe(13);
      const after = await run(raised);
      // Where no operator of an old opset takes half precision, the runtime computes in float32 instead.
      if (name.includes('half')) expect(distance(after.values, before.values)).toBeLessThan(2 ** -9);
      else expect(after).toEqual(before);
    });
  }

  it('is refused by the name of what stops it', () => {
    const mask = old(10, { op: 'Dropout', out: ['y', 'mask'] });
    mask.graph.outputs.push({ name: 'mask', dataType: DataType.BOOL, dims: null });
    expect(() => raiseToOpset13(mask, {})).toThrow(/Dropout/);
    const mixed = old(
      9,
      { op: 'Upsample', in: ['x', 'scales'] },
      { floats: { scales: { dims: [4], values: [1, 1, 2, 0.5] } } },
    );
    expect(() => raiseToOpset13(mixed, {})).toThrow(/Upsample/);
    expect(() => raiseToOpset13(old(6, { op: 'Relu' }), {})).toThrow(/too old/);
    const today = old(17, { op: 'Relu' });
    raiseToOpset13(today, {});
    expect(today.opsets.get('')).toBe(17);
    // Bounds have the element type of what they bound.
    const unknown = old(10, {} as TestNode, {
      nodes: [
        { op: 'Mystery', domain: 'elsewhere', in: ['x'], out: ['h'] },
        { op: 'Clip', in: ['h'], out: ['y'], attributes: { min: f(0) } },
      ],
    });
    expect(() => raiseToOpset13(unknown, {})).toThrow(/element type of Clip/);
  });
});
