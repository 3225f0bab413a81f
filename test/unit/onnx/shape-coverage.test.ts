import { describe, expect, test } from 'vitest';
import { controlOperators, hasShapeRule } from '../../../src/onnx/shape-rules.js';

const words = (text: string) => text.trim().split(/\s+/);

/** Every operator of the standard up to operator set 25, deprecated ones included. */
const standard = words(`
  Abs Acos Acosh Add AffineGrid And ArgMax ArgMin Asin Asinh Atan Atanh Attention AveragePool BatchNormalization
  Bernoulli BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor BlackmanWindow Cast CastLike Ceil Celu
  CenterCropPad Clip Col2Im Compress Concat ConcatFromSequence Constant ConstantOfShape Conv ConvInteger
  ConvTranspose Cos Cosh CumSum DFT DeformConv DepthToSpace DequantizeLinear Det Div Dropout
  DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements GatherND
  Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization
  HammingWindow HannWindow HardSigmoid HardSwish Hardmax Identity If ImageDecoder InstanceNormalization IsInf
  IsNaN LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax Loop LpNormalization LpPool MatMul
  MatMulInteger Max MaxPool MaxRoiPool MaxUnpool Mean MeanVarianceNormalization MelWeightMatrix Min Mish Mod Mul
  Multinomial Neg NegativeLogLikelihoodLoss NonMaxSuppression NonZero Not OneHot Optional OptionalGetElement
  OptionalHasElement Or PRelu Pad Pow QLinearConv QLinearMatMul QuantizeLinear RMSNormalization RNN RandomNormal
  RandomNormalLike RandomUniform RandomUniformLike Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum
  ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare RegexFullMatch Relu
  Reshape Resize ReverseSequence RoiAlign RotaryEmbedding Round STFT Scan Scatter ScatterElements ScatterND Selu
  SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength SequenceMap Shape
  Shrink Sigmoid Sign Sin Sinh Size Slice Softmax SoftmaxCrossEntropyLoss Softplus Softsign SpaceToDepth Split
  SplitToSequence Sqrt Squeeze StringConcat StringNormalizer StringSplit Sub Sum Swish Tan Tanh TensorScatter
  TfIdfVectorizer ThresholdedRelu Tile TopK Transpose Trilu Unique Unsqueeze Upsample Where Xor
`);

/** Every operator of ai.onnx.ml up to version 5. */
const classic = words(`
  ArrayFeatureExtractor Binarizer CastMap CategoryMapper DictVectorizer FeatureVectorizer Imputer LabelEncoder
  LinearClassifier LinearRegressor Normalizer OneHotEncoder SVMClassifier SVMRegressor Scaler TreeEnsemble
  TreeEnsembleClassifier TreeEnsembleRegressor ZipMap
`);

/** Every operator of com.microsoft that ONNX Runtime registers. */
const microsoft = words(`
  Attention AttnLSTM BeamSearch BiasAdd BiasDropout BiasGelu BiasSoftmax BiasSplitGelu BifurcationDetector
  BitmaskBiasDropout BitmaskDropout BranchwiseRMSNorm CDist CausalConvWithState ComplexMul ComplexMulConj
  ConvTransposeWithDynamicPads CropAndResize DecoderAttention DecoderMaskedMultiHeadAttention
  DecoderMaskedSelfAttention DequantizeBFP DequantizeLinear DequantizeWithOrder DynamicQuantizeLSTM
  DynamicQuantizeMatMul DynamicSparseAttention DynamicTimeWarping EPContext EmbedLayerNormalization EngramGate
  ExpandDims FastGelu FusedConv FusedGemm FusedMatMul FusedMatMulActivation GatedAdd GatedDeltaNet GatedRMSNorm
  GatedRelativePositionBias GatherBlockQuantized GatherND Gelu GemmFastGelu GemmFloat8 GemmaRotaryEmbedding
  GreedySearch GridSample GroupNorm GroupQueryAttention HyperConnectionPostMix HyperConnectionPreMix Inverse
  Irfft IsAllFinite LinearAttention LinearAttentionGate LongformerAttention MRotaryEmbedding
  MatMulBlockQuantizedFp4Weight MatMulBlockQuantizedFp8Weight MatMulBnb4 MatMulFpQ4 MatMulInteger16
  MatMulIntegerToFloat MatMulNBits MatMulNBitsMlp MatMulNBitsQkv MaxpoolWithMask MoE MulInteger
  MultiHeadAttention MurmurHash3 NGramHashMapping NGramRepeatBlock NhwcConv NhwcFusedConv NhwcMaxPool
  PackedAttention PackedMultiHeadAttention PackedSparseAttentionIndexer Pad PagedAttention QAttention
  QEmbedLayerNormalization QGemm QLinearAdd QLinearAveragePool QLinearConcat QLinearConv
  QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul QLinearReduceMean QLinearSigmoid QLinearSoftmax
  QLinearWhere QMoE QOrderedAttention QOrderedGelu QOrderedLayerNormalization QOrderedLongformerAttention
  QOrderedMatMul QuantizeBFP QuantizeLinear QuantizeWithOrder QuickGelu Range ReduceSumInteger
  RelativePositionBias RemovePadding RestorePadding Rfft RotaryEmbedding SampleOp Sampling ScaledSiLU
  SkipGroupNorm SkipLayerNormalization SkipSimplifiedLayerNormalization Snpe SparseAttention
  SparseAttentionIndexer SparsePagedAttention SparseToDenseMatMul Tokenizer TorchEmbedding TransposeMatMul Trilu
  UnfoldTensor Unique VarlenCausalConvWithState VarlenNGramHashMapping WhisperBeamSearch WordConvEmbedding
`);

/** Operators without a rule, by the reason. What they make stays unknown, with all that is computed from it. */
const without: Record<string, Record<string, string[]>> = {
  'com.microsoft': {
    'no exporter and no optimizer writes it, only the tools of one model family': words(`
      BranchwiseRMSNorm CausalConvWithState VarlenCausalConvWithState DynamicSparseAttention EngramGate
      GatedAdd GatedDeltaNet GatedRMSNorm HyperConnectionPostMix HyperConnectionPreMix LinearAttention
      LinearAttentionGate NGramHashMapping VarlenNGramHashMapping PackedSparseAttentionIndexer
      SparseAttentionIndexer SparsePagedAttention PagedAttention DecoderAttention DecoderMaskedSelfAttention
      WordConvEmbedding MurmurHash3 MatMulBlockQuantizedFp4Weight MatMulBlockQuantizedFp8Weight MatMulNBitsMlp
      MatMulNBitsQkv QOrderedAttention QOrderedLongformerAttention BifurcationDetector BitmaskDropout
      BitmaskBiasDropout
    `),
    'its outputs are in a format of one device, whose size nothing in the graph tells': words(`
      EPContext Snpe QuantizeBFP DequantizeBFP
    `),
    "its sizes depend on data in a way that even the rank's axes are open": words(`
      DynamicTimeWarping ConvTransposeWithDynamicPads
    `),
  },
  'ai.onnx.ml': {
    'takes or gives maps, which are no tensors': words(`
      CastMap DictVectorizer ZipMap
    `),
    'the number of its scores depends on how its classes vote': words(`
      SVMClassifier
    `),
  },
};

/** Operators whose extent only the data decides: the rule gives the rank and a symbol of its own for the extent. */
const dataDependent = words('Compress NonMaxSuppression NonZero Unique StringSplit ImageDecoder');

describe('coverage of shape inference', () => {
  test.each([
    ['', standard],
    ['ai.onnx.ml', classic],
    ['com.microsoft', microsoft],
  ])('domain "%s": every operator has a rule, or a reason why not', (domain, operators) => {
    const reasons = new Set(Object.values(without[domain] ?? {}).flat());
    const bare = operators.filter((operator) => !hasShapeRule(domain, operator));
    expect(bare.sort()).toEqual([...reasons].sort());
  });

  test('nothing is left out of the standard', () => {
    expect(standard).toHaveLength(198);
    expect(standard.filter((operator) => !hasShapeRule('', operator))).toEqual([]);
    expect([...controlOperators, ...dataDependent].filter((operator) => !standard.includes(operator))).toEqual([]);
  });

  test('what the optimizer writes into layouts of its own has rules as well', () => {
    for (const operator of words(
      'Conv MaxPool AveragePool GlobalAveragePool GlobalMaxPool ReorderInput ReorderOutput Upsample',
    )) {
      expect([operator, hasShapeRule('com.microsoft.nchwc', operator)]).toEqual([operator, true]);
    }
    for (const operator of words(
      'Conv ConvTranspose MaxPool AveragePool BatchNormalization GridSample DepthToSpace Resize',
    )) {
      expect([operator, hasShapeRule('com.ms.internal.nhwc', operator)]).toEqual([operator, true]);
    }
  });

  test('an unknown operator or domain has none', () => {
    expect(hasShapeRule('', 'Mystery')).toBe(false);
    expect(hasShapeRule('custom', 'Relu')).toBe(false);
  });
});
