import { DataType } from './model.js';
import {
  addDims,
  broadcast,
  divideDims,
  fixed,
  multiplyDims,
  ShapeGap,
  type InferredValue,
  type RuleContext,
  type ShapeDim,
  type ShapeRule,
  type ShapeRules,
} from './shape-types.js';

function part(dim: ShapeDim | undefined, count: number): ShapeDim {
  if (dim === undefined) throw new ShapeGap('the hidden size is missing');
  return divideDims(dim, fixed(count));
}

/** Key or value cache [batch, heads, length, head] after the new positions were appended. */
function present(
  past: InferredValue | null,
  dataType: number,
  [batch, heads, head]: readonly [ShapeDim, ShapeDim, ShapeDim],
  added: ShapeDim,
): InferredValue {
  const before = past?.dims[2];
  const total = before === undefined ? added : addDims(before, added);
  return { dataType, dims: [batch, heads, total, head] };
}

function optional(context: RuleContext, index: number): InferredValue | null {
  return context.has(index) ? context.input(index) : null;
}

/** Grouped heads over caches that grow or, sized by the caller for the longest sequence, stay as they are. */
const groupQueryAttention =
  (totalAt: number): ShapeRule =>
  (context) => {
    const query = context.input(0);
    const heads = context.int('num_heads', 1);
    const kvHeads = context.int('kv_num_heads', heads);
    const [batch = fixed(1), sequence = fixed(1), hidden] = query.dims;
    // Without key and value inputs the query holds all three, packed along the hidden axis.
    const packed = !context.has(1);
    const head = part(hidden, packed ? heads + 2 * kvHeads : heads);
    const output = packed ? multiplyDims(head, fixed(heads)) : (hidden ?? fixed(1));
    const past = optional(context, 3);
    const total = optional(context, totalAt)?.data;
    const kv = present(past, past?.dataType ?? query.dataType, [batch, fixed(kvHeads), head], sequence);
    const size = total?.values[0];
    // A cache the caller sized for the longest sequence keeps that size.
    if (size !== undefined && past !== null) {
      const capacity = Math.max(past.dims[2]?.size ?? 0, size);
      const [b = batch, n = fixed(kvHeads), , h = head] = kv.dims;
      const cache = { ...kv, dims: [b, n, { size: capacity, symbol: null, expression: null }, h] };
      return [{ dataType: query.dataType, dims: [batch, sequence, output] }, cache, cache];
    }
    return [{ dataType: query.dataType, dims: [batch, sequence, output] }, kv, kv];
  };

/** query [B, S, H], or packed [B, S, N, 3, h]; key [B, L, H], packed with value [B, L, N, 2, h], or [B, N, L, h]. */
const multiHeadAttention: ShapeRule = (context) => {
  const query = context.input(0);
  const heads = context.int('num_heads', 1);
  const [batch = fixed(1), sequence = fixed(1)] = query.dims;
  const packed = query.dims.length === 5;
  const key = optional(context, 1) ?? query;
  const value = optional(context, 2) ?? key;
  const rank = value.dims.length;
  const last = value.dims.at(-1) ?? fixed(1);
  const head = rank === 3 ? part(last, heads) : last;
  const hidden = rank === 3 ? last : multiplyDims(last, fixed(heads));
  const added = (key.dims.length === 4 ? key.dims[2] : key.dims[1]) ?? fixed(1);
  const keyLast = key.dims.at(-1) ?? fixed(1);
  const keyHead = key.dims.length === 3 ? part(keyLast, heads) : keyLast;
  const pastKey = optional(context, 6);
  const cacheOf = (size: ShapeDim) => present(pastKey, query.dataType, [batch, fixed(heads), size], added);
  const keys = cacheOf(keyHead);
  const output = { dataType: query.dataType, dims: [batch, packed ? added : sequence, hidden] };
  const scores = { dataType: query.dataType, dims: [batch, fixed(heads), sequence, keys.dims[2] ?? added] };
  return [output, keys, cacheOf(head), scores];
};

/** One projection for query, key and value; `past` [2, B, N, L, h] is input `pastAt`. */
function attention(pastAt: number): ShapeRule {
  return (context) => {
    const { dataType, dims } = context.input(0);
    const [batch = fixed(1), sequence = fixed(1)] = dims;
    const sizes = context.ints('qkv_hidden_sizes');
    const type = context.has(3) && pastAt === 8 ? context.input(3).dataType : dataType;
    const hidden = sizes?.[2] !== undefined ? fixed(sizes[2]) : part(context.input(1).dims[1], 3);
    const heads = context.int('num_heads', 1);
    const past = optional(context, pastAt);
    const before = past?.dims[3];
    const total = before === undefined ? sequence : addDims(before, sequence);
    const cache = past?.dims[0] ?? fixed(2);
    return [
      { dataType: type, dims: [batch, sequence, hidden] },
      { dataType: type, dims: [cache, batch, fixed(heads), total, part(hidden, heads)] },
    ];
  };
}

/** The standard's operator: Q, K, V of rank 4 [B, N, S, h] or 3 [B, S, N·h]; Y, both caches, the scores. */
const standardAttention: ShapeRule = (context) => {
  const [q, k, v] = [context.input(0), context.input(1), context.input(2)];
  const spread = (value: InferredValue, heads: number): ShapeDim[] => {
    const [batch = fixed(1), second = fixed(1), third = fixed(1), fourth] = value.dims;
    if (fourth !== undefined) return [batch, second, third, fourth];
    if (heads === 0) throw new ShapeGap('the number of heads is missing');
    return [batch, fixed(heads), second, part(third, heads)];
  };
  const kvHeads = context.int('kv_num_heads', 0);
  const [batch = fixed(1), heads = fixed(1), sequence = fixed(1)] = spread(q, context.int('q_num_heads', 0));
  const [, kHeads = fixed(1), added = fixed(1), keyHead = fixed(1)] = spread(k, kvHeads);
  const [, vHeads = fixed(1), , valueHead = fixed(1)] = spread(v, kvHeads);
  const keys = present(optional(context, 4), k.dataType, [batch, kHeads, keyHead], added);
  const values = present(optional(context, 5), v.dataType, [batch, vHeads, valueHead], added);
  const output =
    q.dims.length === 3 ? [batch, sequence, multiplyDims(heads, valueHead)] : [batch, heads, sequence, valueHead];
  return [
    { dataType: q.dataType, dims: output },
    keys,
    values,
    { dataType: q.dataType, dims: [batch, heads, sequence, keys.dims[2] ?? added] },
  ];
};

/** Normalizes the sum of input and skip; output 3 is that sum. */
const skipNormalization: ShapeRule = (context) => {
  const { dataType } = context.input(0);
  const dims = broadcast([context.input(0).dims, context.input(1).dims]);
  const statistics = { dataType: DataType.FLOAT, dims: [...dims.slice(0, -1), fixed(1)] };
  return [{ dataType, dims }, statistics, statistics, { dataType, dims }];
};

const skipGroupNorm: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  return [
    { dataType, dims },
    { dataType, dims },
  ];
};

/** ids [B, S] → embeddings [B, S, H], lengths [B], the sum before the norm. */
const embedLayerNormalization: ShapeRule = (context) => {
  const { dims } = context.input(0);
  const table = context.input(2);
  const dataType =
    table.dataType === DataType.UINT8 || table.dataType === DataType.INT8 ? DataType.FLOAT : table.dataType;
  const embedded = { dataType, dims: [...dims, table.dims[1] ?? fixed(1)] };
  return [embedded, { dataType: DataType.INT32, dims: dims.slice(0, 1) }, embedded];
};

/** Tokens without padding: [tokens, H]. */
const packedAttention: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const sizes = context.ints('qkv_hidden_sizes');
  const hidden = sizes?.[2] !== undefined ? fixed(sizes[2]) : part(context.input(1).dims[1], 3);
  return [{ dataType, dims: [dims[0] ?? fixed(1), hidden] }];
};

const packedMultiHeadAttention: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const value = optional(context, 2);
  const [tokens = fixed(1), second = fixed(1), , fourth] = dims;
  const hidden = value ? (value.dims[1] ?? fixed(1)) : fourth ? multiplyDims(second, fourth) : part(second, 3);
  return [{ dataType, dims: [tokens, hidden] }];
};

/** One new token over caches the caller sized; they keep their size. */
const decoderMaskedMultiHeadAttention: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const value = optional(context, 2);
  const hidden = value?.dims.length === 3 ? value.dims[2] : dims[2];
  const outputs: InferredValue[] = [{ dataType, dims: [...dims.slice(0, 2), hidden ?? fixed(1)] }];
  for (const index of [5, 6]) {
    const cache = optional(context, index);
    if (cache) outputs.push({ dataType: cache.dataType, dims: cache.dims });
  }
  return outputs;
};

/** Position bias [1, N, S, L] from a table and two lengths, gated: [B, N, S, S] from a query [B, S, D]. */
const relativePositionBias: ShapeRule = (context) => {
  const table = context.input(0);
  const length = (index: number): ShapeDim => {
    const data = context.input(index).data;
    if (!data) throw new ShapeGap('the lengths are only known while running');
    return { size: data.values[0] ?? NaN, symbol: null, expression: data.expressions[0] ?? null };
  };
  return [{ dataType: table.dataType, dims: [fixed(1), table.dims[1] ?? fixed(1), length(1), length(2)] }];
};

const gatedRelativePositionBias: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const [batch = fixed(1), sequence = fixed(1)] = dims;
  return [{ dataType, dims: [batch, fixed(context.int('num_heads', 1)), sequence, sequence] }];
};

/** Query and key, each turned; inputs 1 and 3. */
const gemmaRotaryEmbedding: ShapeRule = (context) =>
  [1, 3].map((index) => ({ dataType: context.input(index).dataType, dims: context.input(index).dims }));

/** Attention, the norms and the embeddings around it. */
export const attentionRules: ShapeRules = {
  Attention: standardAttention,
  'com.microsoft:Attention': attention(4),
  'com.microsoft:QAttention': attention(8),
  'com.microsoft:MultiHeadAttention': multiHeadAttention,
  'com.microsoft:GroupQueryAttention': groupQueryAttention(6),
  'com.microsoft:SparseAttention': groupQueryAttention(7),
  'com.microsoft:DecoderMaskedMultiHeadAttention': decoderMaskedMultiHeadAttention,
  'com.microsoft:PackedAttention': packedAttention,
  'com.microsoft:PackedMultiHeadAttention': packedMultiHeadAttention,
  'com.microsoft:RelativePositionBias': relativePositionBias,
  'com.microsoft:GatedRelativePositionBias': gatedRelativePositionBias,
  'com.microsoft:GemmaRotaryEmbedding': gemmaRotaryEmbedding,
  'com.microsoft:SkipLayerNormalization': skipNormalization,
  'com.microsoft:SkipSimplifiedLayerNormalization': skipNormalization,
  'com.microsoft:SkipGroupNorm': skipGroupNorm,
  'com.microsoft:EmbedLayerNormalization': embedLayerNormalization,
  'com.microsoft:QEmbedLayerNormalization': embedLayerNormalization,
};
