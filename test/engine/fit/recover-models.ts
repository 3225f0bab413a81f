import { DataType, type Model } from '../../../src/onnx/model.js';
import { encodeFloats, rawTensor, readFloat32 } from '../../../src/onnx/tensor.js';
import type { Dataset } from '../../../src/runtime/dataset-types.js';
import { normalNumbers, randomNumbers } from '../../../src/train/random.js';
import { arrayDataset } from '../train/model.js';
import { testModel, type TestNode } from '../train/support.js';

/** Width of the residual stream. */
export const width = 8;

function matrix(rows: number, columns: number, seed: number): { dims: number[]; values: number[] } {
  const normal = normalNumbers(seed);
  return { dims: [rows, columns], values: Array.from({ length: rows * columns }, () => normal() / Math.sqrt(rows)) };
}

/** Residual block `at`: `h{at}` → `h{at + 1}`, with inner units in `up{at}` and `down{at}`. */
const residualBlock = (at: number): TestNode[] => [
  { op: 'MatMul', in: [`h${at}`, `up${at}`], out: [`u${at}`] },
  { op: 'Relu', in: [`u${at}`], out: [`r${at}`] },
  { op: 'MatMul', in: [`r${at}`, `down${at}`], out: [`d${at}`] },
  { op: 'Add', in: [`h${at}`, `d${at}`], out: [`h${at + 1}`] },
];

export interface ResidualOptions {
  /** What makes `h` of the input `x`. */
  first?: TestNode;
  /** Element type of the weights and the answers. */
  dataType?: number;
  /** Added to every channel before the blocks, which begin behind a Relu; left out: neither is there. */
  bias?: number;
  /** Rows of `x`, inner units. */
  inner?: number;
  stream?: number;
}

/** [batch, stream] → two residual blocks with 32 inner units each → `y` [batch, 3]. */
export function residualModel(options: ResidualOptions = {}): Model {
  const { first, bias, dataType = DataType.FLOAT, inner = 32, stream = width } = options;
  const input = first?.out[0] ?? 'x';
  const model = testModel({
    wanted: { x: ['batch', stream] },
    floats: {
      in: matrix(stream, stream, 1),
      ...(bias === undefined ? {} : { bias: { dims: [stream], values: new Array<number>(stream).fill(bias) } }),
      ...{ up0: matrix(stream, inner, 2), down0: matrix(inner, stream, 3) },
      ...{ up1: matrix(stream, inner, 4), down1: matrix(inner, stream, 5) },
      out: matrix(stream, 3, 6),
    },
    nodes: [
      ...(first ? [first] : []),
      ...(bias === undefined
        ? [{ op: 'MatMul', in: [input, 'in'], out: ['h0'] }]
        : [
            { op: 'MatMul', in: [input, 'in'], out: ['m'] },
            { op: 'Add', in: ['m', 'bias'], out: ['b'] },
            { op: 'Relu', in: ['b'], out: ['h0'] },
          ]),
      ...residualBlock(0),
      ...residualBlock(1),
      { op: 'MatMul', in: ['h2', 'out'], out: ['y'] },
    ],
  });
  if (dataType !== DataType.FLOAT) {
    for (const [name, tensor] of model.graph.initializers) {
      const data = encodeFloats(readFloat32(tensor), dataType);
      model.graph.initializers.set(name, rawTensor(name, dataType, tensor.dims, data));
    }
  }
  model.graph.outputs = [{ name: 'y', dataType, dims: ['batch', 3] }];
  return model;
}

/** Tokens of the vocabulary, and in one window. */
export const tokens = 12;
export const length = 6;

/** input_ids [batch, 6] → logits [batch, 6, 12]: a table, a residual block with 32 inner units, and what reads it. */
export function tokenModel(): Model {
  const model = testModel({
    wanted: { input_ids: ['batch', length] },
    floats: {
      table: matrix(tokens, width, 11),
      up0: matrix(width, 32, 12),
      down0: matrix(32, width, 13),
      out: matrix(width, tokens, 14),
    },
    nodes: [
      { op: 'Gather', in: ['table', 'input_ids'], out: ['h0'] },
      ...residualBlock(0),
      { op: 'MatMul', in: ['h1', 'out'], out: ['logits'] },
    ],
  });
  model.graph.inputs[0]!.dataType = DataType.INT64;
  model.graph.outputs = [{ name: 'logits', dataType: DataType.FLOAT, dims: ['batch', length, tokens] }];
  return model;
}

/** Windows of tokens of which only the first half of the vocabulary is used. */
export function windows(count: number, seed: number): Dataset {
  const random = randomNumbers(seed);
  const ids = BigInt64Array.from({ length: count * length }, () => BigInt(Math.floor((random() * tokens) / 2)));
  return {
    ...{ name: 'windows', samples: count, dims: {}, close: () => Promise.resolve() },
    feeds: (start, taken) =>
      Promise.resolve({
        input_ids: {
          dtype: 'int64',
          dims: [taken, length],
          data: ids.slice(start * length, (start + taken) * length),
        },
      }),
  };
}

/** Draws samples of {@link residualModel}: each call gives others. */
export function sampler(seed: number, stream = width): (count: number) => ReturnType<typeof arrayDataset> {
  const normal = normalNumbers(seed);
  return (count) =>
    arrayDataset(
      'x',
      Float32Array.from({ length: count * stream }, () => normal()),
      [stream],
    );
}
