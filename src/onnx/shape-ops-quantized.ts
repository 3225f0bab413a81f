import { DataType } from './model.js';
import { checkIndices, joinAlong } from './shape-ops-layout.js';
import { matMul } from './shape-ops-contraction.js';
import {
  axisOf,
  broadcast,
  dataOf,
  dimFromData,
  divideDims,
  fixed,
  multiplyDims,
  ShapeGap,
  type InferredValue,
  type RuleContext,
  type ShapeRule,
  type ShapeRules,
} from './shape-types.js';

const quantizeLinear: ShapeRule = (context) => {
  const chosen = context.int('output_dtype', 0);
  const dataType = chosen !== 0 ? chosen : context.has(2) ? context.input(2).dataType : DataType.UINT8;
  return [{ dataType, dims: context.input(0).dims }];
};

const dequantizeLinear: ShapeRule = (context) => {
  const chosen = context.int('output_dtype', 0);
  return [{ dataType: chosen !== 0 ? chosen : context.input(1).dataType, dims: context.input(0).dims }];
};

const dynamicQuantizeLinear: ShapeRule = (context) => [
  { dataType: DataType.UINT8, dims: context.input(0).dims },
  { dataType: DataType.FLOAT, dims: [] },
  { dataType: DataType.UINT8, dims: [] },
];

const matMulNBits: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  return [{ dataType, dims: [...dims.slice(0, -1), fixed(context.int('N', 1))] }];
};

/** The shape of the 4-bit matrix is an input of its own. */
const matMulFpQ4: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  return [{ dataType, dims: [...dims.slice(0, -1), dimFromData(dataOf(context, 2), 1)] }];
};

/** Packed sub-byte data widens along its last axis; the gathered axis is replaced by the indices. */
const gatherBlockQuantized: ShapeRule = (context) => {
  const data = context.input(0);
  const scales = context.input(2);
  const axis = axisOf(context.int('gather_axis', 0), data.dims.length);
  checkIndices(context.input(1), data.dims[axis]);
  const perByte = data.dataType === DataType.UINT8 ? 8 / context.int('bits', 4) : 1;
  const last = data.dims.length - 1;
  const unpacked = data.dims.map((dim, index) => (index === last ? multiplyDims(dim, fixed(perByte)) : dim));
  return [
    {
      dataType: scales.dataType,
      dims: [...unpacked.slice(0, axis), ...context.input(1).dims, ...unpacked.slice(axis + 1)],
    },
  ];
};

/** Broadcast of tensors that each bring a scale and a zero point: inputs `at`. */
function broadcastOf(context: RuleContext, ...at: readonly number[]): InferredValue[] {
  const parts = at.map((index) => context.input(index));
  const { dataType } = parts.at(-1) as InferredValue;
  return [{ dataType, dims: broadcast(parts.map((part) => part.dims)) }];
}

const qLinearConcat: ShapeRule = (context) => {
  const parts: InferredValue[] = [];
  for (let index = 2; index < context.node.inputs.length; index += 3) parts.push(context.input(index));
  const [first] = parts;
  if (first === undefined) throw new ShapeGap('nothing to concatenate');
  const axis = axisOf(context.int('axis', 1), first.dims.length);
  return [
    {
      dataType: first.dataType,
      dims: joinAlong(
        parts.map((part) => part.dims),
        axis,
      ),
    },
  ];
};

const qLinearReduceMean: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const given = context.ints('axes') ?? dims.map((_, axis) => axis);
  const axes = new Set(given.map((axis) => axisOf(axis, dims.length)));
  const kept =
    context.int('keepdims', 1) !== 0
      ? dims.map((dim, axis) => (axes.has(axis) ? fixed(1) : dim))
      : dims.filter((_, axis) => !axes.has(axis));
  return [{ dataType, dims: kept }];
};

const reduceSumInteger: ShapeRule = (context) => {
  const [value] = qLinearReduceMean(context);
  return [
    {
      dataType: context.input(0).dataType === DataType.UINT8 ? DataType.UINT32 : DataType.INT32,
      dims: value?.dims ?? [],
    },
  ];
};

/** NCHWc blocks channels by the vector width, so the padded channel count is what is held. */
const reorderOutput: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const [batch = fixed(1), , ...spatial] = dims;
  const channels = fixed(context.int('channels', 1));
  const last = context.int('channels_last', 0) !== 0;
  return [{ dataType, dims: last ? [batch, ...spatial, channels] : [batch, channels, ...spatial] }];
};

/** Half of the channels gate the other half. */
const biasSplitGelu: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const last = dims.at(-1);
  if (last === undefined) throw new ShapeGap('a scalar has no channels');
  return [{ dataType, dims: [...dims.slice(0, -1), divideDims(last, fixed(2))] }];
};

/** Quantization, quantized arithmetic and the weight-only formats Snug writes. */
export const quantizedRules: ShapeRules = {
  QuantizeLinear: quantizeLinear,
  'com.microsoft:QuantizeLinear': quantizeLinear,
  'com.microsoft:QuantizeWithOrder': (context) => [{ dataType: DataType.INT8, dims: context.input(0).dims }],
  DequantizeLinear: dequantizeLinear,
  'com.microsoft:DequantizeLinear': dequantizeLinear,
  'com.microsoft:DequantizeWithOrder': (context) => [
    { dataType: context.int('to', DataType.FLOAT), dims: context.input(0).dims },
  ],
  DynamicQuantizeLinear: dynamicQuantizeLinear,
  'com.microsoft:MatMulNBits': matMulNBits,
  'com.microsoft:MatMulBnb4': matMulNBits,
  'com.microsoft:MatMulFpQ4': matMulFpQ4,
  'com.microsoft:GatherBlockQuantized': gatherBlockQuantized,
  'com.microsoft:QOrderedMatMul': matMul(() => DataType.INT8, 2),
  'com.microsoft:QLinearAdd': (context) => broadcastOf(context, 3, 0),
  'com.microsoft:QLinearMul': (context) => broadcastOf(context, 3, 0),
  'com.microsoft:QLinearWhere': (context) => broadcastOf(context, 0, 4, 1),
  'com.microsoft:MulInteger': (context) => [
    { dataType: DataType.INT32, dims: broadcast([context.input(0).dims, context.input(2).dims]) },
  ],
  'com.microsoft:QLinearConcat': qLinearConcat,
  'com.microsoft:QLinearReduceMean': qLinearReduceMean,
  'com.microsoft:ReduceSumInteger': reduceSumInteger,
  'com.microsoft:BiasSplitGelu': biasSplitGelu,
  'com.microsoft.nchwc:ReorderOutput': reorderOutput,
};
