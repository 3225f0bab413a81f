import { getFloat, getInt, getInts, intAttribute } from '../../onnx/attribute.js';
import { DataType } from '../../onnx/model.js';
import type { Decomposition, DecompositionContext, Decompositions } from '../decompose.js';
import { noRule } from '../differentiate.js';
import type { GraphBuilder } from '../graph-builder.js';
import { swapLast } from './fused.js';
import { joinHeads, lookUp, rotaryEmbedding, rotate, splitHeads } from './rotary.js';

interface Scores {
  /** Factor of the products; 1/√head when 0. */
  scale: number;
  head: number;
  /** Added to the products, shaped to broadcast over `[batch, heads, queries, keys]`. */
  added: readonly string[];
  /** Truth where a key may be seen, of the same shape. */
  allowed?: string | null;
  /** Bends the products to ±softcap; 0 = not at all. */
  softcap?: number;
}

/** A number so low that its exponential is zero. */
const lowest = (builder: GraphBuilder, like: string): number =>
  builder.dataType(like) === DataType.FLOAT16 ? -65504 : -3.4028234663852886e38;

/** softmax(q·kᵀ·scale + …)·v over `[batch, heads, positions, head]` (Vaswani et al. 2017, equation 1). */
function attend(
  builder: GraphBuilder,
  [q, k, v]: readonly [string, string, string],
  like: string,
  scores: Scores,
): string {
  const { head, added, allowed, softcap = 0 } = scores;
  const scale = scores.scale === 0 ? 1 / Math.sqrt(head) : scores.scale;
  let products = builder.scale(builder.emit('MatMul', [q, swapLast(builder, k, 4)]), scale, like);
  if (softcap > 0) {
    products = builder.scale(builder.emit('Tanh', [builder.scale(products, 1 / softcap, like)]), softcap, like);
  }
  for (const bias of added) products = builder.add(products, bias);
  if (allowed) products = builder.emit('Where', [allowed, products, builder.scalar(lowest(builder, like), like)]);
  const weights = builder.emit('Softmax', [products], { axis: intAttribute(-1) });
  return builder.emit('MatMul', [weights, v]);
}

/** Truth where query `i` may see key `j`: not after itself, and not `window` or more places before. */
function causal(builder: GraphBuilder, queries: number, keys: number, before: number, window = Infinity): string {
  const column = builder.ints(
    Array.from({ length: queries }, (_, i) => i + before),
    [queries, 1],
  );
  const row = builder.ints(Array.from({ length: keys }, (_, j) => j));
  const seen = builder.emit('GreaterOrEqual', [column, row]);
  if (window === Infinity) return seen;
  return builder.emit('And', [seen, builder.emit('Less', [builder.sub(column, row), builder.ints([window], [])])]);
}

/** What a mask of zeros and ones, or of lengths, adds to the products. */
function maskBias({ builder, node }: DecompositionContext, mask: string, keys: number, like: string): string {
  const rank = builder.rank(mask);
  // Other vectors hold the ends and the starts of the rows, or all that packed rows need.
  if (rank === 1 && builder.extent(mask).sizes[0] !== builder.extent(like).sizes[0]) {
    throw noRule(node, 'its mask is not one length for each sample');
  }
  const value = getFloat(node, 'mask_filter_value', -10000);
  const numbers = builder.cast(mask, DataType.INT64);
  const kept =
    rank === 1
      ? builder.emit('Less', [
          builder.ints(
            Array.from({ length: keys }, (_, j) => j),
            [1, keys],
          ),
          builder.unsqueeze(numbers, [1]),
        ])
      : builder.emit('Greater', [numbers, builder.ints([0], [])]);
  if (rank > 3) throw noRule(node, `its mask has ${rank} axes`);
  const shaped = builder.unsqueeze(kept, rank === 3 ? [1] : [1, 2]);
  return builder.emit('Where', [shaped, builder.scalar(0, like), builder.scalar(value, like)]);
}

/** com.microsoft.Attention: one product gives query, key and value. */
const packedAttention: Decomposition = (context) => {
  const { builder, node, input } = context;
  if (getInt(node, 'do_rotary', 0) !== 0) throw noRule(node, 'it rotates by position');
  if (input(4) !== '') throw noRule(node, 'it continues a cache');
  const heads = getInt(node, 'num_heads', 1);
  const x = input(0);
  const length = builder.fixedSize(x, 1);
  const third = builder.fixedSize(input(1), 1) / 3;
  const sizes = getInts(node, 'qkv_hidden_sizes', [third, third, third]);
  const product = builder.emit('MatMul', [x, input(1)]);
  const whole = input(2) === '' ? product : builder.add(product, input(2));
  const parts = builder
    .emitMany('Split', [whole, builder.ints(sizes)], 3, { axis: intAttribute(-1) })
    .map((part) => splitHeads(builder, part, heads)) as [string, string, string];
  const added = [
    ...(input(3) === '' ? [] : [maskBias(context, input(3), length, x)]),
    ...(input(5) === '' ? [] : [input(5)]),
  ];
  const result = attend(builder, parts, x, {
    scale: getFloat(node, 'scale', 0),
    head: (sizes[0] ?? 0) / heads,
    added,
    allowed: getInt(node, 'unidirectional', 0) === 0 ? null : causal(builder, length, length, 0),
  });
  return [joinHeads(builder, result)];
};

/** com.microsoft.MultiHeadAttention over separate query, key and value. */
const multiHeadAttention: Decomposition = (context) => {
  const { builder, node, input } = context;
  const heads = getInt(node, 'num_heads', 1);
  const [query, key, value] = [input(0), input(1), input(2)];
  if (builder.rank(query) !== 3 || key === '' || value === '')
    throw noRule(node, 'its query, key and value are packed');
  if (input(6) !== '') throw noRule(node, 'it continues a cache');
  const isSplit = builder.rank(key) === 4;
  const length = builder.fixedSize(query, 1);
  const keys = builder.fixedSize(key, isSplit ? 2 : 1);
  const oneWay = getInt(node, 'unidirectional', 0) !== 0;
  if (oneWay && keys > length) throw noRule(node, 'it looks one way, with more keys than queries');
  const widths = [query, key, value].map((part) =>
    builder.rank(part) === 4 ? builder.fixedSize(part, 1) * builder.fixedSize(part, 3) : builder.fixedSize(part, 2),
  );
  const biases =
    input(3) === '' ? [] : builder.emitMany('Split', [input(3), builder.ints(widths)], 3, { axis: intAttribute(0) });
  const parts = [query, key, value].map((part, index) => {
    if (builder.rank(part) === 4) return part;
    const bias = biases[index];
    return splitHeads(builder, bias ? builder.add(part, bias) : part, heads);
  }) as [string, string, string];
  const result = attend(builder, parts, query, {
    scale: getFloat(node, 'scale', 0),
    head: (widths[0] ?? 0) / heads,
    added: [
      ...(input(4) === '' ? [] : [maskBias(context, input(4), keys, query)]),
      ...(input(5) === '' ? [] : [input(5)]),
    ],
    allowed: oneWay ? causal(builder, length, keys, 0) : null,
  });
  return [joinHeads(builder, result), parts[1], parts[2]];
};

/** Each head of `x`, `[batch, heads, positions, head]`, `times` times, side by side. */
function repeatHeads(builder: GraphBuilder, x: string, heads: number, head: number, times: number): string {
  if (times === 1) return x;
  const repeated = builder.emit('Expand', [builder.unsqueeze(x, [2]), builder.ints([1, 1, times, 1, 1])]);
  return builder.reshape(repeated, [0, heads * times, -1, head]);
}

/** com.microsoft.GroupQueryAttention over a whole sequence, from its first position on. */
const groupQueryAttention: Decomposition = (context) => {
  const { builder, node, input } = context;
  const heads = getInt(node, 'num_heads', 1);
  const kvHeads = getInt(node, 'kv_num_heads', heads);
  const x = input(0);
  const length = builder.fixedSize(x, 1);
  if (input(3) !== '' && builder.extent(input(3)).sizes[2] !== 0) throw noRule(node, 'it continues a cache');
  if (getInt(node, 'smooth_softmax', 0) > 0 || input(11) !== '') throw noRule(node, 'it smooths its softmax');
  const isPacked = input(1) === '';
  const head = builder.fixedSize(x, 2) / (isPacked ? heads + 2 * kvHeads : heads);
  const flat = isPacked
    ? builder.emitMany('Split', [x, builder.ints([heads, kvHeads, kvHeads].map((count) => count * head))], 3, {
        axis: intAttribute(-1),
      })
    : [x, input(1), input(2)];
  const split = flat.map((part, index) => splitHeads(builder, part, index === 0 ? heads : kvHeads));
  let [q = '', k = ''] = split;
  const v = split[2] ?? '';
  if (getInt(node, 'do_rotary', 0) !== 0) {
    const places = builder.ints(
      Array.from({ length }, (_, i) => i),
      [1, length],
    );
    const rotation = {
      ...lookUp(builder, [input(7), input(8)], input(9) === '' ? places : input(9)),
      pairs: builder.fixedSize(input(7), 1),
      interleaved: getInt(node, 'rotary_interleaved', 0) !== 0,
    };
    [q, k] = [rotate(builder, q, head, rotation), rotate(builder, k, head, rotation)];
  }
  const window = getInt(node, 'local_window_size', -1);
  const times = heads / kvHeads;
  const [keys, values] = [k, v].map((part) => repeatHeads(builder, part, kvHeads, head, times)) as [string, string];
  const result = attend(builder, [q, keys, values], x, {
    scale: getFloat(node, 'scale', 0),
    head,
    added: input(10) === '' ? [] : [input(10)],
    allowed: causal(builder, length, length, 0, window > 0 ? window : Infinity),
    softcap: getFloat(node, 'softcap', 0),
  });
  return [joinHeads(builder, result), k, v];
};

/** Attention of ONNX 23. */
const standardAttention: Decomposition = (context) => {
  const { builder, node, input } = context;
  if (input(4) !== '' || input(6) !== '') throw noRule(node, 'it continues a cache');
  const isFlat = builder.rank(input(0)) === 3;
  const [heads, kvHeads] = isFlat
    ? [getInt(node, 'q_num_heads', 1), getInt(node, 'kv_num_heads', 1)]
    : [builder.fixedSize(input(0), 1), builder.fixedSize(input(1), 1)];
  const [q, k, v] = [0, 1, 2].map((index) =>
    isFlat ? splitHeads(builder, input(index), index === 0 ? heads : kvHeads) : input(index),
  ) as [string, string, string];
  const width = (index: number): number =>
    isFlat ? builder.fixedSize(input(index), 2) / (index === 0 ? heads : kvHeads) : builder.fixedSize(input(index), 3);
  const times = heads / kvHeads;
  const mask = input(3);
  const isTruth = mask !== '' && builder.dataType(mask) === DataType.BOOL;
  const [queries, keys] = [0, 1].map((index) => builder.fixedSize(input(index), isFlat ? 1 : 2)) as [number, number];
  const seen = getInt(node, 'is_causal', 0) === 0 ? null : causal(builder, queries, keys, 0);
  const allowed = isTruth ? (seen === null ? mask : builder.emit('And', [mask, seen])) : seen;
  const result = attend(
    builder,
    [q, repeatHeads(builder, k, kvHeads, width(1), times), repeatHeads(builder, v, kvHeads, width(2), times)],
    input(0),
    {
      scale: getFloat(node, 'scale', 0),
      head: width(0),
      added: mask !== '' && !isTruth ? [mask] : [],
      allowed,
      softcap: getFloat(node, 'softcap', 0),
    },
  );
  return [isFlat ? joinHeads(builder, result) : result, k, v];
};

/** Attention in one operator (onnxruntime ContribOperators.md; ONNX Attention). */
export const attentionDecompositions: Decompositions = {
  Attention: standardAttention,
  RotaryEmbedding: rotaryEmbedding(true),
  'com.microsoft:Attention': packedAttention,
  'com.microsoft:MultiHeadAttention': multiHeadAttention,
  'com.microsoft:GroupQueryAttention': groupQueryAttention,
  'com.microsoft:RotaryEmbedding': rotaryEmbedding(false),
};
