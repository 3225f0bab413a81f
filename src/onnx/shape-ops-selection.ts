import { DataType } from './model.js';
import { plus } from './shape-expression.js';
import { fresh } from './shape-ops-layout.js';
import {
  axisOf,
  computed,
  dataOf,
  dimFromData,
  fixed,
  multiplyDims,
  type InferredValue,
  type RuleContext,
  type ShapeDim,
  type ShapeRule,
  type ShapeRules,
} from './shape-types.js';

/** Rank and row count are known; how many elements are not zero is known only when all of them are. */
const nonZero: ShapeRule = (context) => {
  const { dims, data } = context.input(0);
  const found = data?.values.some(Number.isNaN) === false ? data.values.filter((value) => value !== 0).length : null;
  const count: ShapeDim =
    found === null
      ? fresh(context, 1)
      : {
          size: found,
          symbol: data?.constant === true ? found : null,
          expression: data?.constant === true ? found : null,
        };
  // A scalar counts as one dimension.
  return [{ dataType: DataType.INT64, dims: [fixed(dims.length), count] }];
};

const compress: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  if (context.attribute('axis') === undefined) return [{ dataType, dims: [fresh(context, 0)] }];
  const axis = axisOf(context.int('axis', 0), dims.length);
  return [{ dataType, dims: dims.map((dim, at) => (at === axis ? fresh(context, axis) : dim)) }];
};

const unique: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const found = fresh(context, 0);
  const flat = context.attribute('axis') === undefined;
  const axis = flat ? 0 : axisOf(context.int('axis', 0), dims.length);
  const all = flat ? multiplyDims(...dims) : (dims[axis] ?? fixed(1));
  const positions = { dataType: DataType.INT64, dims: [found] };
  return [
    { dataType, dims: flat ? [found] : dims.map((dim, at) => (at === axis ? found : dim)) },
    positions,
    { dataType: DataType.INT64, dims: [all] },
    positions,
  ];
};

const nonMaxSuppression: ShapeRule = (context) => [{ dataType: DataType.INT64, dims: [fresh(context, 0), fixed(3)] }];

const stringSplit: ShapeRule = (context) => {
  const { dims } = context.input(0);
  return [
    { dataType: DataType.STRING, dims: [...dims, fresh(context, dims.length)] },
    { dataType: DataType.INT64, dims },
  ];
};

/** Words may be dropped, so that the last axis is open unless there is no list of words to drop. */
const stringNormalizer: ShapeRule = (context) => {
  const { dims } = context.input(0);
  const drops = context.attribute('stopwords') !== undefined;
  return [
    {
      dataType: DataType.STRING,
      dims: drops ? dims.map((dim, axis) => (axis === dims.length - 1 ? fresh(context, axis) : dim)) : dims,
    },
  ];
};

const tokenizer: ShapeRule = (context) => {
  const { dims } = context.input(0);
  return [{ dataType: DataType.STRING, dims: [...dims, fresh(context, dims.length)] }];
};

const tfIdf: ShapeRule = (context) => {
  const { dims } = context.input(0);
  const columns = fixed(Math.max(-1, ...(context.ints('ngram_indexes') ?? [])) + 1);
  return [{ dataType: DataType.FLOAT, dims: dims.length === 2 ? [dims[0] ?? fixed(1), columns] : [columns] }];
};

const multinomial: ShapeRule = (context) => [
  {
    dataType: context.int('dtype', DataType.INT32),
    dims: [context.input(0).dims[0] ?? fixed(1), fixed(context.int('sample_size', 1))],
  },
];

const random: ShapeRule = (context) => [
  { dataType: context.int('dtype', DataType.FLOAT), dims: (context.ints('shape') ?? []).map(fixed) },
];

/** Sequences of up to `max_length` tokens; input 1 is that length. */
function generated(perBatch: (context: RuleContext) => ShapeDim[]): ShapeRule {
  return (context) => {
    const batch = context.input(0).dims[0] ?? fixed(1);
    const length = dimFromData(dataOf(context, 1), 0);
    return [{ dataType: DataType.INT32, dims: [batch, ...perBatch(context), length] }];
  };
}

const beams = generated((context) => [dimFromData(dataOf(context, 4), 0)]);
const greedy = generated(() => []);

/** Rows without padding, and what is needed to put it back. */
const removePadding: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const [batch = fixed(1), sequence = fixed(1), hidden = fixed(1)] = dims;
  const int32 = (...sizes: ShapeDim[]): InferredValue => ({ dataType: DataType.INT32, dims: sizes });
  const bounds = computed(batch.size + 1, plus(batch.expression, 1), batch);
  return [{ dataType, dims: [fresh(context, 0), hidden] }, int32(batch, sequence), int32(bounds), int32(fixed(1))];
};

const restorePadding: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  return [{ dataType, dims: [...context.input(1).dims, dims[1] ?? fixed(1)] }];
};

/** Operators whose extent the data decides (rank known, extent open), and generators of data. */
export const selectionRules: ShapeRules = {
  NonZero: nonZero,
  Compress: compress,
  Unique: unique,
  'com.microsoft:Unique': unique,
  NonMaxSuppression: nonMaxSuppression,
  StringSplit: stringSplit,
  StringNormalizer: stringNormalizer,
  'com.microsoft:Tokenizer': tokenizer,
  TfIdfVectorizer: tfIdf,
  Multinomial: multinomial,
  RandomNormal: random,
  RandomUniform: random,
  'com.microsoft:BeamSearch': beams,
  'com.microsoft:WhisperBeamSearch': beams,
  'com.microsoft:GreedySearch': greedy,
  'com.microsoft:Sampling': greedy,
  'com.microsoft:RemovePadding': removePadding,
  'com.microsoft:RestorePadding': restorePadding,
  'com.microsoft:NGramRepeatBlock': (context) => [context.input(1)].map(({ dataType, dims }) => ({ dataType, dims })),
  'com.microsoft:TorchEmbedding': (context) => [
    { dataType: context.input(0).dataType, dims: [...context.input(1).dims, ...context.input(0).dims.slice(1)] },
  ],
  'com.microsoft:IsAllFinite': () => [{ dataType: DataType.BOOL, dims: [] }],
  'com.microsoft:CDist': (context) => [
    {
      dataType: context.input(0).dataType,
      dims: [context.input(0).dims[0] ?? fixed(1), context.input(1).dims[0] ?? fixed(1)],
    },
  ],
};
