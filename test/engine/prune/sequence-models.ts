import { floatAttribute, intAttribute, intsAttribute, stringAttribute } from '../../../src/onnx/graph.js';
import type { Model } from '../../../src/onnx/model.js';
import type { Feeds } from '../../../src/runtime/types.js';
import { attention, hiddenLayer, joinSizes, linear, rmsNorm, sizeOf } from './attention-blocks.js';
import { GraphBuilder, numbers } from './random-graph.js';

export const positions = 5;
const features = 6;

const one = (g: GraphBuilder, operator: string, inputs: string[], attributes = {}): string =>
  g.op(operator, inputs, attributes)[0]!;

export function layerNorm(g: GraphBuilder, x: string, width: number): string {
  return one(g, 'LayerNormalization', [x, g.weight([width], 0.4, 1), g.weight([width], 0.3)], {
    axis: intAttribute(-1),
  });
}

/** Layer norm from primitive operators, as exports before operator set 17 have it. */
function layerNormInParts(g: GraphBuilder, x: string, width: number): string {
  const mean = (value: string): string =>
    one(g, 'ReduceMean', [value], { axes: intsAttribute([-1]), keepdims: intAttribute(1) });
  const centred = one(g, 'Sub', [x, mean(x)]);
  const variance = mean(one(g, 'Pow', [centred, g.scalar(2)]));
  const normed = one(g, 'Div', [centred, one(g, 'Sqrt', [one(g, 'Add', [variance, g.scalar(1e-3)])])]);
  return one(g, 'Add', [one(g, 'Mul', [normed, g.weight([width], 0.4, 1)]), g.bias(width)]);
}

/** Hidden layers of several experts at once (batched weights), all of them summed. */
function experts(g: GraphBuilder, x: string, width: number, hidden: number): string {
  const apart = one(g, 'Unsqueeze', [x, g.ints([1])]);
  const wide = g.activation(one(g, 'MatMul', [apart, g.weight([3, width, hidden], 0.4)]));
  return one(g, 'ReduceSum', [one(g, 'MatMul', [wide, g.weight([3, hidden, width], 0.4)]), g.ints([1])], {
    keepdims: intAttribute(0),
  });
}

/** LSTM, GRU or RNN over [batch, positions, from]: gives [batch, positions, width] and that width. */
export function recurrent(g: GraphBuilder, x: string, from: number): [string, number] {
  const [kind, gates] = g.pick([
    ['LSTM', 4],
    ['GRU', 3],
    ['RNN', 1],
  ] as const);
  const hidden = g.pick([4, 6]);
  const directions = g.pick([1, 2]);
  const first = one(g, 'Transpose', [x], { perm: intsAttribute([1, 0, 2]) });
  const inputs = [
    first,
    g.weight([directions, gates * hidden, from], 0.5),
    g.weight([directions, gates * hidden, hidden], 0.5),
    g.random() < 0.8 ? g.weight([directions, 2 * gates * hidden], 0.3) : '',
  ];
  const state = (): string => {
    const target = joinSizes(g, [directions, sizeOf(g, first, 1), hidden]);
    if (g.random() < 0.5) return one(g, 'ConstantOfShape', [target]);
    return one(g, 'Expand', [g.weight([directions, 1, hidden], 0.5), target]);
  };
  if (g.random() < 0.6) inputs.push('', state());
  if (kind === 'LSTM' && inputs.length === 6) inputs.push(state());
  if (kind === 'LSTM' && inputs.length === 7 && g.random() < 0.4) inputs.push(g.weight([directions, 3 * hidden], 0.3));
  const attributes = {
    hidden_size: intAttribute(hidden),
    ...(directions === 2 ? { direction: stringAttribute('bidirectional') } : {}),
    ...(kind === 'GRU' ? { linear_before_reset: intAttribute(g.pick([0, 1])) } : {}),
  };
  const [y, last] = g.op(kind, inputs, attributes, 2) as [string, string];
  const all = directions * hidden;
  let made: string;
  if (directions === 1 && g.random() < 0.5) made = one(g, 'Squeeze', [y, g.ints([1])]);
  else made = one(g, 'Reshape', [one(g, 'Transpose', [y], { perm: intsAttribute([0, 2, 1, 3]) }), g.ints([0, 0, all])]);
  const batchFirst = one(g, 'Transpose', [made], { perm: intsAttribute([1, 0, 2]) });
  if (g.random() < 0.6) return [batchFirst, all];
  // The last state of every direction beside the sequence.
  const states = one(g, 'Reshape', [
    one(g, 'Transpose', [last], { perm: intsAttribute([1, 0, 2]) }),
    g.ints([-1, 1, all]),
  ]);
  return [one(g, 'Add', [batchFirst, states]), all];
}

/** One random block over a stream [batch, positions, width]; gives what is added to the stream. */
function block(g: GraphBuilder, x: string, width: number): string {
  switch (g.pick(['attention', 'attention', 'attention', 'hidden', 'experts', 'recurrent', 'einsum', 'convolution'])) {
    case 'attention': {
      const groups = g.pick([2, 3]);
      const heads = groups * g.pick([1, 1, 2]);
      const size = g.pick([2, 4]);
      return attention(g, x, { model: width, heads, groups, width: size, value: g.pick([size, size, 3]) }, positions);
    }
    case 'hidden':
      return hiddenLayer(g, x, width, g.pick([4, 8]));
    case 'experts':
      return experts(g, x, width, g.pick([4, 6]));
    case 'recurrent': {
      const [made, wide] = recurrent(g, x, width);
      return linear(g, made, wide, width);
    }
    case 'einsum': {
      const [q, k, v] = [0, 1, 2].map(() =>
        one(g, 'Einsum', [x, g.weight([width, 2, 4], 0.5)], { equation: stringAttribute('bsm,mhd->bshd') }),
      );
      const scores = one(g, 'Einsum', [q!, k!], { equation: stringAttribute('bqhd,bkhd->bhqk') });
      const mixed = one(g, 'Einsum', [one(g, 'Softmax', [scores], { axis: intAttribute(-1) }), v!], {
        equation: stringAttribute('bhqk,bkhd->bqhd'),
      });
      return one(g, 'Einsum', [mixed, g.weight([2, 4, width], 0.5)], { equation: stringAttribute('bqhd,hdm->bqm') });
    }
    default: {
      // A gated convolution over positions, channels first and back.
      const turned = one(g, 'Transpose', [x], { perm: intsAttribute([0, 2, 1]) });
      const wide = one(g, 'Conv', [turned, g.weight([12, width, 1]), g.weight([12], 0.3)], {
        kernel_shape: intsAttribute([1]),
      });
      const [a, b] = g.op('Split', [wide], { axis: intAttribute(1) }, 2);
      const gated = one(g, 'Mul', [a!, one(g, 'Sigmoid', [b!])]);
      const deep = one(g, 'Conv', [gated, g.weight([6, 1, 3])], {
        kernel_shape: intsAttribute([3]),
        pads: intsAttribute([1, 1]),
        group: intAttribute(6),
      });
      const back = one(g, 'Transpose', [g.activation(deep)], { perm: intsAttribute([0, 2, 1]) });
      return linear(g, back, 6, width);
    }
  }
}

/** A random stack of attention, hidden, recurrent and gated layers; input x is [batch, 5, 6], output [batch, 3]. */
export function randomSequenceModel(seed: number): Model {
  const g = new GraphBuilder(seed);
  const width = g.pick([6, 8]);
  let x = linear(g, 'x', features, width);
  for (let count = 1 + Math.floor(g.random() * 3); count > 0; count--) {
    const norm = g.pick([layerNorm, layerNormInParts, rmsNorm, null]);
    const made = block(g, norm === null ? x : norm(g, x, width), width);
    x = g.random() < 0.8 ? one(g, 'Add', [x, made]) : made;
  }
  const pooled = one(g, 'ReduceMean', [x], { axes: intsAttribute([1]), keepdims: intAttribute(0) });
  const output = one(g, 'Gemm', [pooled, g.weight([3, width]), g.weight([3])], {
    transB: intAttribute(1),
    alpha: floatAttribute(1),
  });
  return g.model(output, ['batch', positions, features], ['batch', 3]);
}

export function sequenceFeeds(seed: number): Feeds {
  const random = numbers(seed + 77);
  const data = Float32Array.from({ length: 3 * positions * features }, () => random() * 2 - 1);
  return { x: { dtype: 'float32', dims: [3, positions, features], data } };
}
