import { floatAttribute, intAttribute, intsAttribute, stringAttribute } from '../../../src/onnx/graph.js';
import { DataType, type Attribute, type Model } from '../../../src/onnx/model.js';
import type { Feeds } from '../../../src/runtime/types.js';
import { attention, hiddenLayer, joinSizes, linear, rmsNorm, sizeOf } from './attention-blocks.js';
import { GraphBuilder, numbers } from './random-graph.js';
import { layerNorm, recurrent } from './sequence-models.js';

/** A model of a known family, what to feed it, and the kinds of classes a person would expect in it. */
export interface Architecture {
  name: string;
  model: Model;
  feeds: Feeds;
  kinds: string[];
}

type Attributes = Record<string, Attribute>;

const one = (g: GraphBuilder, operator: string, inputs: string[], attributes: Attributes = {}): string =>
  g.op(operator, inputs, attributes)[0]!;

function floats(name: string, dims: number[], seed = 3): Feeds {
  const random = numbers(seed);
  const size = dims.reduce((a, b) => a * b, 1);
  return { [name]: { dtype: 'float32', dims, data: Float32Array.from({ length: size }, () => random() * 2 - 1) } };
}

/** Convolution with a bias; size of the kernel, stride and groups as given. */
function conv(g: GraphBuilder, x: string, from: number, to: number, k = 1, { stride = 1, group = 1 } = {}): string {
  const pad = Math.floor(k / 2);
  return one(g, 'Conv', [x, g.weight([to, from / group, k, k]), g.weight([to], 0.3)], {
    kernel_shape: intsAttribute([k, k]),
    pads: intsAttribute([pad, pad, pad, pad]),
    strides: intsAttribute([stride, stride]),
    group: intAttribute(group),
  });
}

const silu = (g: GraphBuilder, x: string): string => one(g, 'Mul', [x, one(g, 'Sigmoid', [x])]);

function classifier(g: GraphBuilder, x: string, channels: number): string {
  const flat = one(g, 'Flatten', [one(g, 'GlobalAveragePool', [x])]);
  return one(g, 'Gemm', [flat, g.weight([5, channels]), g.weight([5])], { transB: intAttribute(1) });
}

const imageModel = (g: GraphBuilder, output: string, outputDims: (number | string)[], opset?: number): Model =>
  g.model(output, ['batch', 3, 8, 8], outputDims, opset === undefined ? {} : { opset });

/** Inverted bottlenecks: expand, depthwise, squeeze and excite (pooled by ReduceMean), project, add. */
function squeezeExcite(): Architecture {
  const g = new GraphBuilder(11);
  let x = silu(g, conv(g, 'x', 3, 8, 3, { stride: 2 }));
  for (let at = 0; at < 3; at++) {
    const wide = silu(g, g.batchNorm(conv(g, x, 8, 24), 24));
    const deep = one(g, 'HardSwish', [conv(g, wide, 24, 24, at === 1 ? 5 : 3, { group: 24 })]);
    const squeezed =
      at === 0
        ? one(g, 'GlobalAveragePool', [deep])
        : one(g, 'ReduceMean', [deep], { axes: intsAttribute([2, 3]), keepdims: intAttribute(1) });
    const small = one(g, 'Relu', [conv(g, squeezed, 24, 8)]);
    const gate = one(g, 'HardSigmoid', [conv(g, small, 8, 24)]);
    x = one(g, 'Add', [x, conv(g, one(g, 'Mul', [gate, deep]), 24, 8)]);
  }
  const model = imageModel(g, classifier(g, x, 8), ['batch', 5]);
  return {
    name: 'squeeze-excite with depthwise Conv',
    model,
    feeds: floats('x', [2, 3, 8, 8]),
    kinds: ['channels', 'stream'],
  };
}

/** Group norm as exporters write it: Reshape, InstanceNormalization, Reshape back (computed), scale, shift. */
function groupNorm(g: GraphBuilder, x: string, channels: number, groups: number, computed: boolean): string {
  const grouped = one(g, 'Reshape', [x, g.ints([0, groups, -1])]);
  const ones = g.weight([groups], 0, 1);
  const normed = one(g, 'InstanceNormalization', [grouped, ones, g.weight([groups], 0)], {
    epsilon: floatAttribute(1e-5),
  });
  const back = computed
    ? one(g, 'Shape', [x])
    : joinSizes(g, [sizeOf(g, x, 0), channels, sizeOf(g, x, 2), sizeOf(g, x, 3)]);
  const shaped = one(g, 'Reshape', [normed, back]);
  const scaled = one(g, 'Mul', [shaped, g.weight([channels, 1, 1], 0.3, 1)]);
  return one(g, 'Add', [scaled, g.weight([channels, 1, 1], 0.3)]);
}

/** Down, up by ConvTranspose and by Resize (sizes from the skip's own shape), concatenated skips, group norms. */
function unet(): Architecture {
  const g = new GraphBuilder(12);
  const twice = (x: string, from: number, to: number, computed: boolean): string => {
    const inner = silu(g, groupNorm(g, conv(g, x, from, to, 3), to, 4, computed));
    return one(g, 'Relu', [conv(g, inner, to, to, 3)]);
  };
  const pool = (x: string): string =>
    one(g, 'MaxPool', [x], { kernel_shape: intsAttribute([2, 2]), strides: intsAttribute([2, 2]) });
  const top = twice('x', 3, 8, true);
  const middle = twice(pool(top), 8, 16, false);
  const bottom = twice(pool(middle), 16, 16, true);
  const up = one(g, 'ConvTranspose', [bottom, g.weight([16, 16, 2, 2]), g.weight([16], 0.3)], {
    kernel_shape: intsAttribute([2, 2]),
    strides: intsAttribute([2, 2]),
  });
  const joined = twice(one(g, 'Concat', [middle, up], { axis: intAttribute(1) }), 32, 16, false);
  const leading = one(g, 'Slice', [one(g, 'Shape', [joined]), g.ints([0]), g.ints([2]), g.ints([0])]);
  const sizes = one(g, 'Concat', [leading, one(g, 'Slice', [one(g, 'Shape', [top]), g.ints([2]), g.ints([4])])], {
    axis: intAttribute(0),
  });
  const resized = one(g, 'Resize', [joined, '', '', sizes], { mode: stringAttribute('nearest') });
  const last = twice(one(g, 'Concat', [top, conv(g, resized, 16, 8)], { axis: intAttribute(1) }), 16, 8, true);
  const model = imageModel(g, conv(g, last, 8, 2), ['batch', 2, 8, 8]);
  return {
    name: 'U-Net with concat skips and GroupNorm',
    model,
    feeds: floats('x', [2, 3, 8, 8]),
    kinds: ['channels', 'groups'],
  };
}

/** Every layer reads all before it. */
function denseNet(): Architecture {
  const g = new GraphBuilder(13);
  let features = [conv(g, 'x', 3, 8, 3)];
  let channels = 8;
  for (let stage = 0; stage < 2; stage++) {
    for (let layer = 0; layer < 3; layer++) {
      const all = features.length === 1 ? features[0]! : one(g, 'Concat', features, { axis: intAttribute(1) });
      const narrow = conv(g, one(g, 'Relu', [g.batchNorm(all, channels)]), channels, 16);
      features = [...features, conv(g, one(g, 'Relu', [g.batchNorm(narrow, 16)]), 16, 4, 3)];
      channels += 4;
    }
    const all = one(g, 'Relu', [g.batchNorm(one(g, 'Concat', features, { axis: intAttribute(1) }), channels)]);
    const half = conv(g, all, channels, 10);
    features = [one(g, 'AveragePool', [half], { kernel_shape: intsAttribute([2, 2]), strides: intsAttribute([2, 2]) })];
    channels = 10;
  }
  const model = imageModel(g, classifier(g, features[0]!, channels), ['batch', 5]);
  return { name: 'DenseNet', model, feeds: floats('x', [2, 3, 8, 8]), kinds: ['channels'] };
}

/** Grouped convolutions with a residual stream, and a shuffle of the groups. */
function grouped(): Architecture {
  const g = new GraphBuilder(14);
  let x = one(g, 'Relu', [conv(g, 'x', 3, 8, 3)]);
  for (let at = 0; at < 2; at++) {
    const wide = one(g, 'Relu', [conv(g, x, 8, 24)]);
    const inner = one(g, 'Relu', [conv(g, wide, 24, 32, 3, { group: 4 })]);
    x = one(g, 'Relu', [one(g, 'Add', [conv(g, inner, 32, 8), x])]);
  }
  const apart = one(g, 'Reshape', [conv(g, x, 8, 12), g.ints([0, 3, 4, 8, 8])]);
  const turned = one(g, 'Transpose', [apart], { perm: intsAttribute([0, 2, 1, 3, 4]) });
  const shuffled = one(g, 'Reshape', [turned, g.ints([-1, 12, 8, 8])]);
  const pixels = one(g, 'DepthToSpace', [conv(g, shuffled, 12, 16), g.ints([])].slice(0, 1), {
    blocksize: intAttribute(2),
  });
  const normed = one(g, 'InstanceNormalization', [pixels, g.weight([4], 0.3, 1), g.weight([4], 0.3)]);
  const up = one(g, 'ConvTranspose', [normed, g.weight([4, 3, 2, 2]), g.weight([6], 0.2)], {
    kernel_shape: intsAttribute([2, 2]),
    group: intAttribute(2),
  });
  const model = imageModel(g, classifier(g, up, 6), ['batch', 5]);
  return {
    name: 'grouped Conv, channel shuffle, DepthToSpace',
    model,
    feeds: floats('x', [2, 3, 8, 8]),
    kinds: ['channels', 'groups', 'stream'],
  };
}

/** Two recurrent layers over embedded tokens, classified from the last state. */
function recurrentText(): Architecture {
  const g = new GraphBuilder(15);
  let x = one(g, 'Gather', [g.weight([20, 8], 1), 'x']);
  let width = 8;
  for (let layer = 0; layer < 3; layer++) [x, width] = recurrent(g, x, width);
  const last = one(g, 'Gather', [x, g.integer(-1)], { axis: intAttribute(1) });
  const logits = one(g, 'Gemm', [last, g.weight([5, width]), g.weight([5])], { transB: intAttribute(1) });
  const model = g.model(logits, ['batch', 'sequence'], ['batch', 5], { dataType: DataType.INT64 });
  const ids = BigInt64Array.from([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8], BigInt);
  return {
    name: 'bidirectional LSTM on tokens',
    model,
    feeds: { x: { dtype: 'int64', dims: [2, 6], data: ids } },
    kinds: ['recurrent'],
  };
}

/** A decoder of grouped-query attention with rotary positions, RMS norms and gated hidden layers, tied embeddings. */
function decoder(seed: number, name: string): Architecture {
  const g = new GraphBuilder(seed);
  const sizes = { model: 16, heads: 4, groups: 2, width: 4, value: 4 };
  const table = g.weight([20, 16], 1);
  let x = one(g, 'Gather', [table, 'x']);
  for (let layer = 0; layer < 2; layer++) {
    x = one(g, 'Add', [x, attention(g, rmsNorm(g, x, 16), sizes, 6)]);
    x = one(g, 'Add', [x, hiddenLayer(g, rmsNorm(g, x, 16), 16, 24)]);
  }
  const turned = one(g, 'Transpose', [table], { perm: intsAttribute([1, 0]) });
  const logits = one(g, 'MatMul', [rmsNorm(g, x, 16), turned]);
  const model = g.model(logits, ['batch', 6], ['batch', 6, 20], { dataType: DataType.INT64 });
  const ids = BigInt64Array.from([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8], BigInt);
  const kinds = ['kv-groups', 'query-heads', 'features', 'stream'];
  return { name, model, feeds: { x: { dtype: 'int64', dims: [2, 6], data: ids } }, kinds };
}

/** A transformer encoder after ONNX Runtime's optimizer: fused attention, skip norms and activations. */
function fusedEncoder(): Architecture {
  const g = new GraphBuilder(17);
  let x = layerNorm(g, linear(g, 'x', 6, 16), 16);
  for (let layer = 0; layer < 2; layer++) {
    let mixed: string;
    if (layer === 0) {
      mixed = one(g, 'com.microsoft:Attention', [x, g.weight([16, 48], 0.4), g.weight([48], 0.3)], {
        num_heads: intAttribute(4),
      });
    } else {
      const [q, k, v] = [0, 1, 2].map(() => linear(g, x, 16, 16, true));
      mixed = one(g, 'com.microsoft:MultiHeadAttention', [q!, k!, v!, g.weight([48], 0.3)], {
        num_heads: intAttribute(4),
      });
    }
    const projected = linear(g, mixed, 16, 16);
    const skip = [projected, x, g.weight([16], 0.3, 1), g.weight([16], 0.3), g.weight([16], 0.2)];
    x = one(g, 'com.microsoft:SkipLayerNormalization', skip, { epsilon: floatAttribute(1e-5) });
    const wide = one(g, 'com.microsoft:BiasGelu', [linear(g, x, 16, 24, false), g.weight([24], 0.3)]);
    x = one(g, 'com.microsoft:SkipLayerNormalization', [
      linear(g, wide, 24, 16, false),
      x,
      g.weight([16], 0.3, 1),
      g.weight([16], 0.3),
    ]);
  }
  const scores = one(g, 'com.microsoft:FusedMatMul', [linear(g, x, 16, 8), linear(g, x, 16, 8)], {
    transB: intAttribute(1),
    alpha: floatAttribute(0.35),
  });
  const mixed = one(g, 'MatMul', [one(g, 'Softmax', [scores]), linear(g, x, 16, 8)]);
  const model = g.model(linear(g, mixed, 8, 3), ['batch', 5, 6], ['batch', 5, 3]);
  return {
    name: 'fused encoder (com.microsoft)',
    model,
    feeds: floats('x', [2, 5, 6]),
    kinds: ['heads', 'features', 'query-key-width', 'value-width', 'stream'],
  };
}

/** A decoder layer with one operator for grouped-query attention and skip norms, as onnxruntime-genai builds it. */
function fusedDecoder(): Architecture {
  const g = new GraphBuilder(18);
  let x = linear(g, 'x', 6, 16);
  let sum = x;
  const rms = (added: string): void => {
    const [normed, , , total] = g.op(
      'com.microsoft:SkipSimplifiedLayerNormalization',
      [sum, added, g.weight([16], 0.3, 1)],
      { epsilon: floatAttribute(1e-4) },
      4,
    );
    g.nodes.at(-1)!.outputs = [normed!, '', '', total!];
    [x, sum] = [normed!, total!];
  };
  rms(linear(g, x, 16, 16));
  for (let layer = 0; layer < 2; layer++) {
    const [q, k, v] = [32, 16, 16].map((width) => linear(g, x, 16, width));
    const lengths = one(g, 'Cast', [one(g, 'Expand', [g.ints([4]), sizeOf(g, 'x', 0)])], { to: intAttribute(6) });
    const total = one(g, 'Cast', [g.integer(5)], { to: intAttribute(6) });
    const inputs = [q!, k!, v!, '', '', lengths, total];
    const attributes: Attributes = { num_heads: intAttribute(4), kv_num_heads: intAttribute(2) };
    const [mixed] = g.op('com.microsoft:GroupQueryAttention', inputs, attributes, 3);
    rms(linear(g, mixed!, 32, 16));
    const gate = silu(g, linear(g, x, 16, 24));
    rms(linear(g, one(g, 'Mul', [gate, linear(g, x, 16, 24)]), 24, 16));
  }
  const model = g.model(linear(g, x, 16, 3), ['batch', 5, 6], ['batch', 5, 3]);
  return {
    name: 'fused decoder (GroupQueryAttention)',
    model,
    feeds: floats('x', [2, 5, 6]),
    kinds: ['kv-groups', 'query-heads', 'features', 'stream'],
  };
}

/** ai.onnx Attention, RotaryEmbedding and RMSNormalization of operator set 23, folded and unfolded heads. */
function standardAttention(): Architecture {
  const g = new GraphBuilder(19);
  let x = linear(g, 'x', 6, 16);
  for (const folded of [true, false]) {
    const normed = one(g, 'RMSNormalization', [x, g.weight([16], 0.3, 1)], { axis: intAttribute(-1) });
    let [q, k, v] = [24, 12, 10].map((width) => linear(g, normed, 16, width)) as [string, string, string];
    const attributes: Attributes = {};
    if (folded) {
      attributes.q_num_heads = intAttribute(4);
      attributes.kv_num_heads = intAttribute(2);
    } else {
      const split = (part: string, heads: number, width: number): string =>
        one(g, 'Transpose', [one(g, 'Reshape', [part, g.ints([0, 0, heads, width])])], {
          perm: intsAttribute([0, 2, 1, 3]),
        });
      [q, k, v] = [split(q, 4, 6), split(k, 2, 6), split(v, 2, 5)];
      const tables = [g.weight([2, 5, 3], 1), g.weight([2, 5, 3], 1)];
      [q, k] = [one(g, 'RotaryEmbedding', [q, ...tables]), one(g, 'RotaryEmbedding', [k, ...tables])];
    }
    let mixed = one(g, 'Attention', [q, k, v], attributes);
    if (!folded) {
      mixed = one(g, 'Reshape', [
        one(g, 'Transpose', [mixed], { perm: intsAttribute([0, 2, 1, 3]) }),
        g.ints([0, 0, 20]),
      ]);
    }
    x = one(g, 'Add', [x, linear(g, mixed, 20, 16)]);
  }
  const model = g.model(linear(g, x, 16, 3), ['batch', 5, 6], ['batch', 5, 3], { opset: 23 });
  return {
    name: 'Attention of operator set 23',
    model,
    feeds: floats('x', [2, 5, 6]),
    kinds: ['kv-groups', 'query-heads', 'query-key-width', 'value-width', 'stream'],
  };
}

/** Convolutions fused with activation and skip by the runtime's optimizer, an auto-encoder around them. */
function fusedConvolutions(): Architecture {
  const g = new GraphBuilder(20);
  const fused = (x: string, from: number, to: number, skip?: string): string =>
    one(
      g,
      'com.microsoft:FusedConv',
      [x, g.weight([to, from, 3, 3]), g.weight([to], 0.3), ...(skip === undefined ? [] : [skip])],
      {
        kernel_shape: intsAttribute([3, 3]),
        pads: intsAttribute([1, 1, 1, 1]),
        activation: stringAttribute('Relu'),
      },
    );
  const stem = fused('x', 3, 8);
  const body = fused(fused(stem, 8, 12), 12, 8, stem);
  const output = one(g, 'Gemm', [one(g, 'Flatten', [body]), g.weight([512, 6], 0.05)], {});
  const model = imageModel(
    g,
    one(g, 'com.microsoft:FusedGemm', [output, g.weight([6, 5]), g.weight([5])], {
      activation: stringAttribute('Relu'),
    }),
    ['batch', 5],
  );
  return {
    name: 'fused convolutions',
    model,
    feeds: floats('x', [2, 3, 8, 8]),
    kinds: ['channels', 'features', 'stream'],
  };
}

/** One layer used twice, and one constant that layers of the same width share. */
function sharedWeights(): Architecture {
  const g = new GraphBuilder(21);
  let x = linear(g, 'x', 6, 8, false);
  const [wide, narrow, zeros] = [g.weight([8, 8], 0.4), g.weight([8, 8], 0.4), g.weight([8], 0.3)];
  for (let layer = 0; layer < 3; layer++) {
    const hidden = one(g, 'Relu', [one(g, 'Add', [one(g, 'MatMul', [x, wide]), zeros])]);
    x = one(g, 'Add', [x, one(g, 'Add', [one(g, 'MatMul', [hidden, narrow]), zeros])]);
  }
  const model = g.model(linear(g, x, 8, 3), ['batch', 5, 6], ['batch', 5, 3]);
  return { name: 'shared weights and constants', model, feeds: floats('x', [2, 5, 6]), kinds: ['features', 'stream'] };
}

export const architectures = (): Architecture[] => [
  squeezeExcite(),
  unet(),
  denseNet(),
  grouped(),
  recurrentText(),
  ...[31, 32, 33, 34].map((seed) => decoder(seed, `grouped-query decoder with SwiGLU, written in way ${seed - 30}`)),
  fusedEncoder(),
  fusedDecoder(),
  standardAttention(),
  fusedConvolutions(),
  sharedWeights(),
];
