import { DataType } from './model.js';
import {
  axisOf,
  derived,
  fixed,
  ShapeGap,
  type InferredValue,
  type ShapeDim,
  type ShapeRule,
  type ShapeRules,
} from './shape-types.js';

const matMulNBits: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  return [{ dataType, dims: [...dims.slice(0, -1), fixed(context.int('N', 1))] }];
};

/** Packed sub-byte data widens along its last axis; the gathered axis is replaced by the indices. */
const gatherBlockQuantized: ShapeRule = (context) => {
  const data = context.input(0);
  const scales = context.input(2);
  const axis = axisOf(context.int('gather_axis', 0), data.dims.length);
  const perByte = data.dataType === DataType.UINT8 ? 8 / context.int('bits', 4) : 1;
  const last = data.dims.length - 1;
  const unpacked = data.dims.map((dim, index) => (index === last ? derived(dim.size * perByte, dim) : dim));
  return [
    {
      dataType: scales.dataType,
      dims: [...unpacked.slice(0, axis), ...context.input(1).dims, ...unpacked.slice(axis + 1)],
    },
  ];
};

const skipNormalization: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const statistics = { dataType: DataType.FLOAT, dims: [...dims.slice(0, -1), fixed(1)] };
  return [{ dataType, dims }, statistics, statistics, { dataType, dims }];
};

function width(dim: ShapeDim | undefined, factor: number): ShapeDim {
  if (dim === undefined) throw new ShapeGap('the hidden size is missing');
  return derived(Math.floor(dim.size * factor), dim);
}

/** Key or value cache after the new positions were appended. */
function present(
  past: InferredValue | null,
  dataType: number,
  dims: readonly (ShapeDim | undefined)[],
  added: ShapeDim,
) {
  const [batch = fixed(1), heads = fixed(1), head = fixed(1)] = dims;
  const before = past?.dims[2];
  const total = before === undefined ? added : derived(before.size + added.size, before, added);
  return { dataType, dims: [batch, heads, total, head] };
}

const groupQueryAttention: ShapeRule = (context) => {
  const query = context.input(0);
  const heads = context.int('num_heads', 1);
  const kvHeads = context.int('kv_num_heads', heads);
  const [batch = fixed(1), sequence = fixed(1), hidden] = query.dims;
  // Without key and value inputs the query holds all three, packed along the hidden axis.
  const packed = !context.has(1);
  const output = packed ? width(hidden, heads / (heads + 2 * kvHeads)) : (hidden ?? fixed(1));
  const head = packed ? width(hidden, 1 / (heads + 2 * kvHeads)) : width(hidden, 1 / heads);
  const past = context.has(3) ? context.input(3) : null;
  const total = context.has(6) ? context.input(6).data : undefined;
  const kv = present(past, query.dataType, [batch, fixed(kvHeads), head], sequence);
  const size = total?.values[0];
  // A cache the caller sized for the longest sequence keeps that size.
  if (size !== undefined && past !== null) {
    const capacity = Math.max(past.dims[2]?.size ?? 0, size);
    kv.dims[2] = { size: capacity, symbol: null };
  }
  return [{ dataType: query.dataType, dims: [batch, sequence, output] }, kv, kv];
};

const multiHeadAttention: ShapeRule = (context) => {
  const query = context.input(0);
  const heads = context.int('num_heads', 1);
  const [batch = fixed(1), sequence = fixed(1)] = query.dims;
  if (query.dims.length !== 3) throw new ShapeGap('packed query, key and value');
  const key = context.has(1) ? context.input(1) : query;
  const value = context.has(2) ? context.input(2) : query;
  const separate = value.dims.length === 4;
  const hidden = separate ? width(value.dims[3], heads) : (value.dims[2] ?? fixed(1));
  const head = separate ? (value.dims[3] ?? fixed(1)) : width(value.dims[2], 1 / heads);
  const added = (key.dims.length === 4 ? key.dims[2] : key.dims[1]) ?? fixed(1);
  const past = context.has(6) ? context.input(6) : null;
  const kv = present(past, query.dataType, [batch, fixed(heads), head], added);
  return [{ dataType: query.dataType, dims: [batch, sequence, hidden] }, kv, kv];
};

const attention: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const [batch = fixed(1), sequence = fixed(1)] = dims;
  const sizes = context.ints('qkv_hidden_sizes');
  const hidden = sizes?.[2] !== undefined ? fixed(sizes[2]) : width(context.input(1).dims[1], 1 / 3);
  const outputs: InferredValue[] = [{ dataType, dims: [batch, sequence, hidden] }];
  if (context.has(4)) {
    const past = context.input(4);
    const [two = fixed(2), pastBatch = batch, heads = fixed(1), before = fixed(0), head = fixed(1)] = past.dims;
    const total = derived(before.size + sequence.size, before, sequence);
    outputs.push({ dataType, dims: [two, pastBatch, heads, total, head] });
  }
  return outputs;
};

const rotaryEmbedding: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  return [{ dataType, dims }];
};

/** NCHWc blocks channels by the vector width, so the padded channel count is what is held. */
const reorderOutput: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const [batch = fixed(1), , ...spatial] = dims;
  const channels = fixed(context.int('channels', 1));
  return [
    {
      dataType,
      dims: context.int('channels_last', 0) === 0 ? [batch, channels, ...spatial] : [batch, ...spatial, channels],
    },
  ];
};

const qLinearBinary: ShapeRule = (context) => {
  const left = context.input(0);
  const right = context.input(3);
  const longer = left.dims.length >= right.dims.length ? left : right;
  const other = longer === left ? right : left;
  const offset = longer.dims.length - other.dims.length;
  const dims = longer.dims.map((dim, index) => (dim.size === 1 ? (other.dims[index - offset] ?? dim) : dim));
  return [{ dataType: left.dataType, dims }];
};

const qLinearSame: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  return [{ dataType, dims }];
};

const qLinearGlobalPool: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const last = context.int('channels_last', 0) !== 0;
  const keep = (index: number) => index === 0 || (last ? index === dims.length - 1 : index === 1);
  return [{ dataType, dims: dims.map((dim, index) => (keep(index) ? dim : fixed(1))) }];
};

const qLinearConcat: ShapeRule = (context) => {
  const parts: InferredValue[] = [];
  for (let index = 2; index < context.node.inputs.length; index += 3) parts.push(context.input(index));
  const first = parts[0];
  if (first === undefined) throw new ShapeGap('nothing to concatenate');
  const axis = axisOf(context.int('axis', 1), first.dims.length);
  const along = parts.map((part) => part.dims[axis] ?? fixed(0));
  const total = derived(
    along.reduce((sum, dim) => sum + dim.size, 0),
    ...along,
  );
  return [{ dataType: first.dataType, dims: first.dims.map((dim, index) => (index === axis ? total : dim)) }];
};

/** Operators of com.microsoft that exporters, ONNX Runtime's optimizer and Snug itself write. */
export const microsoftRules: ShapeRules = {
  'com.microsoft:MatMulNBits': matMulNBits,
  'com.microsoft:MatMulBnb4': matMulNBits,
  'com.microsoft:GatherBlockQuantized': gatherBlockQuantized,
  'com.microsoft:SkipLayerNormalization': skipNormalization,
  'com.microsoft:SkipSimplifiedLayerNormalization': skipNormalization,
  'com.microsoft:GroupQueryAttention': groupQueryAttention,
  'com.microsoft:MultiHeadAttention': multiHeadAttention,
  'com.microsoft:Attention': attention,
  'com.microsoft:RotaryEmbedding': rotaryEmbedding,
  RotaryEmbedding: rotaryEmbedding,
  'com.microsoft.nchwc:ReorderInput': rotaryEmbedding,
  'com.microsoft.nchwc:ReorderOutput': reorderOutput,
  'com.microsoft:QLinearAdd': qLinearBinary,
  'com.microsoft:QLinearMul': qLinearBinary,
  'com.microsoft:QLinearSigmoid': qLinearSame,
  'com.microsoft:QLinearLeakyRelu': qLinearSame,
  'com.microsoft:QLinearSoftmax': qLinearSame,
  'com.microsoft:QLinearGlobalAveragePool': qLinearGlobalPool,
  'com.microsoft:QLinearConcat': qLinearConcat,
};
