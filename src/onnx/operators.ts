/**
 * Operators onnxruntime 1.30 knows, by domain, with the opset version each one came with. Checked against real
 * sessions in test/engine/onnx/operators.test.ts. Knowing an operator does not mean that every execution provider
 * has a kernel for it.
 */

/** Highest operator set versions and IR version onnxruntime 1.30 loads. */
export const maxOpset: ReadonlyMap<string, number> = new Map([
  ['', 26],
  ['ai.onnx.ml', 5],
]);
export const maxIrVersion = 13;

/** ai.onnx: first opset → operators (under 1 also those onnxruntime keeps from before ONNX had them). */
const standard: readonly (readonly [since: number, names: string])[] = [
  [
    1,
    `
      Abs Add Affine And ArgMax ArgMin AveragePool BatchNormalization Cast Ceil Clip Concat Constant
      Conv ConvTranspose Crop DepthToSpace Div Dropout DynamicSlice Elu Equal Exp Flatten Floor GRU
      GRUUnit Gather Gemm GivenTensorFill GlobalAveragePool GlobalLpPool GlobalMaxPool Greater
      HardSigmoid Hardmax Identity If ImageScaler InstanceNormalization LRN LSTM LeakyRelu Less Log
      LogSoftmax Loop LpNormalization LpPool MatMul Max MaxPool MaxRoiPool Mean Min Mul Neg Not Or
      PRelu Pad ParametricSoftplus Pow RNN RandomNormal RandomNormalLike RandomUniform
      RandomUniformLike Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax
      ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Scale ScaledTanh Selu
      Shape Sigmoid SimplifiedLayerNormalization LayerNormalization
      MeanVarianceNormalization ThresholdedRelu Size Slice Softmax Softplus Softsign SpaceToDepth
      Split Sqrt Squeeze Sub Sum Tanh Tile TopK Transpose Unsqueeze Upsample Xor
    `,
  ],
  [
    7,
    `
      Acos Asin Atan Cos Multinomial Sin Tan
    `,
  ],
  [
    8,
    `
      Expand Scan
    `,
  ],
  [
    9,
    `
      Acosh Asinh Atanh Compress ConstantOfShape Cosh Erf EyeLike IsNaN MaxUnpool
      NonZero OneHot Scatter Shrink Sign Sinh TfIdfVectorizer Where
    `,
  ],
  [
    10,
    `
      ConvInteger DequantizeLinear IsInf MatMulInteger Mod NonMaxSuppression QLinearConv
      QLinearMatMul QuantizeLinear Resize ReverseSequence RoiAlign StringNormalizer     `,
  ],
  [
    11,
    `
      BitShift ConcatFromSequence CumSum Det DynamicQuantizeLinear GatherElements GatherND Range
      Round ScatterElements ScatterND SequenceAt SequenceConstruct SequenceEmpty SequenceErase
      SequenceInsert SequenceLength SplitToSequence Unique
    `,
  ],
  [
    12,
    `
      Celu Einsum GreaterOrEqual LessOrEqual NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss
    `,
  ],
  [
    14,
    `
      HardSwish Trilu
    `,
  ],
  [
    15,
    `
      Bernoulli CastLike Optional OptionalGetElement OptionalHasElement
    `,
  ],
  [
    16,
    `
      GridSample
    `,
  ],
  [
    17,
    `
      BlackmanWindow DFT HammingWindow HannWindow MelWeightMatrix STFT
      SequenceMap
    `,
  ],
  [
    18,
    `
      BitwiseAnd BitwiseNot BitwiseOr BitwiseXor CenterCropPad Col2Im GroupNormalization Mish
    `,
  ],
  [
    19,
    `
      DeformConv
    `,
  ],
  [
    20,
    `
      AffineGrid Gelu ImageDecoder RegexFullMatch StringConcat StringSplit
    `,
  ],
  [
    23,
    `
      Attention RMSNormalization RotaryEmbedding
    `,
  ],
  [
    24,
    `
      Swish TensorScatter
    `,
  ],
  [
    26,
    `
      BitCast CumProd
    `,
  ],
];

/** ai.onnx.ml; TreeEnsemble came with version 5. */
const classic = `
  ArrayFeatureExtractor Binarizer CastMap CategoryMapper DictVectorizer FeatureVectorizer Imputer
  LabelEncoder LinearClassifier LinearRegressor Normalizer OneHotEncoder SVMClassifier SVMRegressor
  Scaler TreeEnsemble TreeEnsembleClassifier TreeEnsembleRegressor ZipMap
`;

/** com.microsoft, version 1: schemas in the CPU build of onnxruntime 1.30. */
const microsoft = `
  Attention AttnLSTM BeamSearch BiasAdd BiasDropout BiasGelu BiasSoftmax BiasSplitGelu
  BifurcationDetector BitmaskBiasDropout BitmaskDropout CDist CausalConvWithState ComplexMul
  ComplexMulConj ConvTransposeWithDynamicPads CropAndResize DecoderAttention
  DecoderMaskedMultiHeadAttention DecoderMaskedSelfAttention DequantizeBFP DequantizeLinear
  DequantizeWithOrder DynamicQuantizeLSTM DynamicQuantizeMatMul DynamicTimeWarping EPContext
  EmbedLayerNormalization EngramGate ExpandDims FastGelu FusedConv FusedGemm FusedMatMul
  FusedMatMulActivation GatedAdd GatedDeltaNet GatedRMSNorm GatedRelativePositionBias
  GatherBlockQuantized GatherND Gelu GemmFastGelu GemmFloat8 GemmaRotaryEmbedding GreedySearch
  GridSample GroupNorm GroupQueryAttention Inverse Irfft IsAllFinite LinearAttention
  LinearAttentionGate LongformerAttention MRotaryEmbedding MatMulBlockQuantizedFp4Weight
  MatMulBlockQuantizedFp8Weight MatMulBnb4 MatMulFpQ4 MatMulInteger16 MatMulIntegerToFloat
  MatMulNBits MatMulNBitsMlp MatMulNBitsQkv MaxpoolWithMask MoE MulInteger MultiHeadAttention
  MurmurHash3 NGramHashMapping NGramRepeatBlock NhwcConv NhwcFusedConv NhwcMaxPool PackedAttention
  PackedMultiHeadAttention Pad PagedAttention QAttention QEmbedLayerNormalization QGemm QLinearAdd
  QLinearAveragePool QLinearConcat QLinearConv QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul
  QLinearReduceMean QLinearSigmoid QLinearSoftmax QLinearWhere QMoE QOrderedAttention QOrderedGelu
  QOrderedLayerNormalization QOrderedLongformerAttention QOrderedMatMul QuantizeBFP QuantizeLinear
  QuantizeWithOrder QuickGelu Range ReduceSumInteger RelativePositionBias RemovePadding
  RestorePadding Rfft RotaryEmbedding SampleOp Sampling SkipGroupNorm SkipLayerNormalization
  SkipSimplifiedLayerNormalization Snpe SparseAttention SparseToDenseMatMul Tokenizer TorchEmbedding
  TransposeMatMul Trilu UnfoldTensor Unique VarlenCausalConvWithState WhisperBeamSearch
  WordConvEmbedding
`;

/** Blocked layout: found in models saved after optimisation. */
const blocked = `
  AveragePool Conv GlobalAveragePool GlobalMaxPool MaxPool ReorderInput ReorderOutput Upsample
`;

/** ai.onnx operators that ended: from this opset on they are refused. */
const ended: ReadonlyMap<string, number> = new Map([
  ['Upsample', 10],
  ['Scatter', 11],
]);

const words = (text: string): string[] => text.trim().split(/\s+/);

const tables: ReadonlyMap<string, ReadonlyMap<string, number>> = new Map([
  ['', new Map(standard.flatMap(([since, names]) => words(names).map((name) => [name, since] as const)))],
  ['ai.onnx.ml', new Map(words(classic).map((name) => [name, name === 'TreeEnsemble' ? 5 : 1]))],
  ['com.microsoft', new Map(words(microsoft).map((name) => [name, 1]))],
  ['com.microsoft.nchwc', new Map(words(blocked).map((name) => [name, 1]))],
]);

/** Whether onnxruntime knows the operator in this version of its domain's operator set. */
export function isKnownOperator(domain: string, opType: string, opset: number): boolean {
  const since = tables.get(domain)?.get(opType);
  if (since === undefined || opset < since) return false;
  const end = domain === '' ? ended.get(opType) : undefined;
  return end === undefined || opset < end;
}

/** All known operators with the opset each came with: for tests and lists. */
export function knownOperators(): { domain: string; opType: string; since: number }[] {
  return [...tables].flatMap(([domain, table]) => [...table].map(([opType, since]) => ({ domain, opType, since })));
}
