import { describe, expect, test } from 'vitest';
import { floatAttribute } from '../../../src/onnx/graph.js';
import { DataType } from '../../../src/onnx/model.js';
import { checkCases, constant, fed, infer, ints, scalar, single, type Choose, type OperatorCase } from './case.js';

const { FLOAT, INT32, INT64, UINT8, INT8, BOOL } = DataType;
const ms = (name: string) => `com.microsoft:${name}`;
const zeros = (dims: number[], dataType: number = FLOAT) => constant(dims, dataType, 0);

const cases: Record<string, (c: Choose) => OperatorCase> = {
  'windows of a signal': (c) =>
    single(c.of('HannWindow', 'HammingWindow', 'BlackmanWindow'), [scalar(c.int(1, 9))], {
      output_datatype: c.of(undefined, DataType.DOUBLE),
    }),
  DFT(c) {
    const dims = [c.int(1, 2), c.int(2, 6), c.int(2, 5), c.int(1, 2)];
    const onesided = dims[3] === 1 ? c.int(0, 1) : 0;
    const length = c.bool() ? scalar(c.int(2, 7)) : null;
    if (c.bool()) return single('DFT', [fed(dims), length], { axis: c.int(1, 2), onesided }, { opset: 17 });
    return single('DFT', [fed(dims), length, scalar(c.of(1, 2, -2, -3))], { onesided }, { opset: 20 });
  },
  STFT(c) {
    const [samples, length] = [c.int(8, 20), c.int(2, 6)];
    const window = constant([length], FLOAT, 1);
    const onesided = c.int(0, 1);
    const inputs = c.bool() ? [scalar(c.int(1, 4)), window] : [scalar(c.int(1, 4)), null, scalar(length)];
    return single('STFT', [fed([c.int(1, 2), samples, 1]), ...inputs], { onesided });
  },
  MelWeightMatrix: (c) =>
    single('MelWeightMatrix', [
      scalar(c.int(2, 8)),
      scalar(c.int(16, 32)),
      scalar(8192),
      scalar(0, FLOAT),
      scalar(4096, FLOAT),
    ]),
  RoiAlign(c) {
    const regions = c.int(1, 3);
    return single(
      'RoiAlign',
      [fed([1, c.int(1, 3), 6, 6]), constant([regions, 4], FLOAT, 1), zeros([regions], INT64)],
      { output_height: c.int(1, 3), output_width: c.int(1, 3) },
    );
  },
  MaxRoiPool: (c) =>
    single('MaxRoiPool', [fed([1, c.int(1, 3), 6, 6]), zeros([c.int(1, 3), 5])], { pooled_shape: [c.int(1, 3), 2] }),
  GridSample: (c) =>
    single('GridSample', [fed([2, c.int(1, 3), 4, 4]), zeros([2, c.int(1, 5), c.int(1, 5), 2])], {}, { opset: 16 }),
  AffineGrid(c) {
    const solid = c.bool();
    const size = [2, 3, ...Array.from({ length: solid ? 3 : 2 }, () => c.int(1, 4))];
    return single('AffineGrid', [fed(solid ? [2, 3, 4] : [2, 2, 3]), ints(...size)], {}, { opset: 20 });
  },
  Col2Im(c) {
    const [height, width] = [c.int(2, 5), c.int(2, 5)];
    const blocks = (height - 1) * (width - 1);
    return single('Col2Im', [fed([2, 3 * 4, blocks]), ints(height, width), ints(2, 2)], {}, { opset: 18 });
  },
  'random tensors': (c) => single(c.of('RandomNormal', 'RandomUniform'), [], { shape: c.dims(1, 3) }),
  EyeLike: (c) => single('EyeLike', [fed(c.dims(2, 2))], { dtype: c.of(undefined, INT64) }),
  Multinomial: (c) =>
    single('Multinomial', [fed([c.int(1, 3), 4])], { sample_size: c.int(1, 5), dtype: c.of(undefined, INT64) }),
  CumSum: (c) => single('CumSum', [fed(c.dims(1, 3)), scalar(0)]),
  ReverseSequence(c) {
    const batch = c.int(1, 3);
    return single('ReverseSequence', [fed([4, batch, 2]), constant([batch], INT64, 2)]);
  },
  Scatter(c) {
    const dims = c.dims(2, 2);
    const indices = dims.map((size) => c.int(1, size));
    return single('ScatterElements', [fed(dims), zeros(indices, INT64), fed(indices)], {}, { opset: c.of(13, 18) });
  },
  ScatterND: (c) =>
    single(
      'ScatterND',
      [fed([4, c.int(1, 3)]), ints(0), fed([1])].slice(0, 1).concat([zeros([1, 2], INT64), fed([1])]),
    ),
  Det: (c) => single('Det', [fed([...c.dims(0, 2), 3, 3])]),
  losses(c) {
    const [batch, classes] = [c.int(1, 3), c.int(2, 4)];
    const rest = c.dims(0, 1);
    const target = zeros([batch, ...rest], INT64);
    const reduction = c.of('none', 'mean', 'sum');
    const scores = fed([batch, classes, ...rest]);
    return c.bool()
      ? single('SoftmaxCrossEntropyLoss', [scores, target], { reduction }, { opset: 13, outputs: 2 })
      : single('NegativeLogLikelihoodLoss', [scores, target], { reduction }, { opset: 13 });
  },
  'Attention, the standard one'(c) {
    const [batch, heads, kvHeads, head, valueHead] = [c.int(1, 2), 4, c.of(4, 2), c.int(1, 3) * 2, c.int(1, 3) * 2];
    const [queries, keys, past] = [c.int(1, 4), c.int(1, 5), c.int(0, 2)];
    const cache = past > 0 ? [fed([batch, kvHeads, past, head]), fed([batch, kvHeads, past, valueHead])] : [];
    const flat = c.bool();
    const of = (count: number, length: number, size: number) =>
      fed(flat ? [batch, length, count * size] : [batch, count, length, size]);
    return single(
      'Attention',
      [of(heads, queries, head), of(kvHeads, keys, head), of(kvHeads, keys, valueHead), null, ...cache],
      flat ? { q_num_heads: heads, kv_num_heads: kvHeads } : {},
      { opset: 23, outputs: past > 0 ? 3 : 1 },
    );
  },
  'norms and rotations of opset 23'(c) {
    const dims = [2, c.int(1, 3), 4];
    if (c.bool()) return single('RMSNormalization', [fed(dims), constant([4])], {}, { opset: 23 });
    const x = fed([1, 2, 3, 4]);
    return single('RotaryEmbedding', [x, constant([1, 3, 2]), constant([1, 3, 2])], {}, { opset: 23 });
  },
  MultiHeadAttention(c) {
    const [batch, heads, size, s, l] = [c.int(1, 2), 2, c.int(1, 3), c.int(1, 4), c.int(1, 4)];
    const inputs = [fed([batch, s, heads * size]), fed([batch, l, heads * size]), fed([batch, l, heads * size])];
    if (c.bool()) return single(ms('MultiHeadAttention'), inputs, { num_heads: heads });
    const past = fed([batch, heads, c.int(1, 3), size]);
    return single(
      ms('MultiHeadAttention'),
      [...inputs, null, null, null, past, past],
      { num_heads: heads },
      { outputs: 3 },
    );
  },
  'Attention, fused projections'(c) {
    const [heads, size, hidden] = [2, c.int(1, 3), 4];
    const inputs = [
      fed([c.int(1, 2), c.int(1, 4), hidden]),
      constant([hidden, 3 * heads * size]),
      constant([3 * heads * size]),
    ];
    return single(ms('Attention'), inputs, { num_heads: heads }, { outputs: c.int(1, 2) });
  },
  GroupQueryAttention(c) {
    const [batch, s, heads, kvHeads, size] = [1, c.int(1, 4), 4, c.of(2, 4), 8];
    const kv = fed([batch, s, kvHeads * size]);
    const past = fed([batch, kvHeads, 0, size]);
    const lengths = [constant([batch], INT32, s - 1), scalar(s, INT32)];
    return single(
      ms('GroupQueryAttention'),
      [fed([batch, s, heads * size]), kv, kv, past, past, ...lengths],
      { num_heads: heads, kv_num_heads: kvHeads },
      { outputs: 3 },
    );
  },
  'norms with a skip'(c) {
    const hidden = c.int(1, 4) * 4;
    const x = fed([c.int(1, 2), c.int(1, 4), hidden]);
    const scale = constant([hidden]);
    return c.bool()
      ? single(ms('SkipLayerNormalization'), [x, x, scale, scale])
      : single(ms('SkipSimplifiedLayerNormalization'), [x, x, scale]);
  },
  EmbedLayerNormalization(c) {
    const ids = fed([c.int(1, 2), c.int(1, 4)], INT32, 0);
    const table = (rows: number) => constant([rows, 8]);
    const inputs = [ids, ids, table(9), table(6), table(2), constant([8]), constant([8])];
    return single(ms('EmbedLayerNormalization'), inputs, {}, { outputs: 2 });
  },
  'activations with a bias'(c) {
    const hidden = c.int(1, 4) * 2;
    const dims = [...c.dims(1, 2), hidden];
    return c.bool()
      ? single(ms('BiasGelu'), [fed(dims), constant([hidden])])
      : single(ms('FastGelu'), [fed(dims), constant([hidden])]);
  },
  MatMulNBits(c) {
    const [k, n, bits] = [32, c.int(1, 8), c.of(4, 8)];
    const codes = constant([n, 1, (k * bits) / 8], UINT8, 1);
    return single(ms('MatMulNBits'), [fed([...c.dims(1, 2), k]), codes, constant([n])], {
      K: k,
      N: n,
      bits,
      block_size: 32,
    });
  },
  MatMulBnb4(c) {
    const [k, n] = [16, c.int(1, 4) * 4];
    const inputs = [fed([...c.dims(1, 2), k]), constant([(n * k) / 2], UINT8, 1), constant([(n * k) / 16])];
    return single(ms('MatMulBnb4'), inputs, { K: k, N: n, block_size: 16, quant_type: 1 });
  },
  GatherBlockQuantized(c) {
    const bits = c.of(4, 8);
    const table = constant([6, (32 * bits) / 8], UINT8, 1);
    const indices = fed(c.dims(1, 3), INT64, 0);
    return single(ms('GatherBlockQuantized'), [table, indices, constant([6, 2])], {
      bits,
      block_size: 16,
      quantize_axis: 1,
      gather_axis: 0,
    });
  },
  'integer products'(c) {
    const [k, n] = [c.int(1, 5), c.int(1, 5)];
    const a = [...c.dims(0, 1), c.int(1, 4), k];
    const b = constant([k, n], c.of(UINT8, INT8));
    const scale = scalar(0.5, FLOAT);
    return c.bool()
      ? single(ms('DynamicQuantizeMatMul'), [fed(a), b, scale])
      : single(ms('MatMulIntegerToFloat'), [fed(a, UINT8), b, scale, scale]);
  },
  QGemm(c) {
    const [scale, zero] = [scalar(0.5, FLOAT), scalar(1, UINT8)];
    const out = c.bool() ? [null, scale, zero] : [];
    return single(
      ms('QGemm'),
      [fed([c.int(1, 4), 3], UINT8), scale, zero, constant([3, c.int(1, 4)], UINT8), scale, zero, ...out],
      { transB: 0 },
    );
  },
  'quantized sums and products'(c) {
    const [scale, zero] = [scalar(0.5, FLOAT), scalar(1, UINT8)];
    const dims = c.dims(1, 3);
    const other = dims.slice(c.int(0, dims.length - 1)).map((size) => c.of(1, size));
    return single(ms(c.of('QLinearAdd', 'QLinearMul')), [
      fed(dims, UINT8),
      scale,
      zero,
      fed(other, UINT8),
      scale,
      zero,
      scale,
      zero,
    ]);
  },
  'quantized activations'(c) {
    const [scale, zero] = [scalar(0.5, FLOAT), scalar(1, UINT8)];
    const x = fed(c.dims(2, 3), UINT8);
    if (c.bool()) return single(ms('QLinearLeakyRelu'), [x, scale, zero, scale, zero]);
    return c.bool()
      ? single(ms('QLinearSigmoid'), [x, scale, zero, scale, zero])
      : single(ms('QLinearSoftmax'), [x, scale, zero, scale, zero], { opset: 13 });
  },
  QLinearConcat(c) {
    const [scale, zero] = [scalar(0.5, FLOAT), scalar(1, UINT8)];
    const parts = Array.from({ length: c.int(1, 3) }, () => [fed([2, c.int(1, 4), 3], UINT8), scale, zero]).flat();
    return single(ms('QLinearConcat'), [scale, zero, ...parts], { axis: 1 });
  },
  'quantized pooling'(c) {
    const [scale, zero] = [scalar(0.5, FLOAT), scalar(1, UINT8)];
    const channels_last = c.int(0, 1);
    const x = fed(channels_last ? [1, 6, 7, 2] : [1, 2, 6, 7], UINT8);
    if (c.bool()) return single(ms('QLinearGlobalAveragePool'), [x, scale, zero, scale, zero], { channels_last });
    const attributes = {
      channels_last,
      kernel_shape: [2, c.int(1, 3)],
      strides: [c.int(1, 2), 2],
      ceil_mode: c.int(0, 1),
    };
    return single(ms('QLinearAveragePool'), [x, scale, zero, scale, zero], attributes);
  },
  'channels last'(c) {
    const x = fed([1, 6, 7, 2], UINT8);
    return single(ms('NhwcMaxPool'), [x], { kernel_shape: [2, c.int(1, 3)], strides: [c.int(1, 2), 2] });
  },
  'fused convolutions': (c) =>
    single(ms('FusedConv'), [fed([1, 2, 6, 6]), constant([3, 2, c.int(1, 3), 2])], { activation: 'Relu' }),
  experts(c) {
    const [experts, hidden, inner] = [2, 4, 8];
    const rows = c.int(1, 4);
    return single(
      ms('MoE'),
      [
        fed([rows, hidden]),
        fed([rows, experts]),
        constant([experts, inner, hidden]),
        null,
        constant([experts, hidden, inner]),
      ],
      { activation_type: 'relu', k: 1 },
    );
  },
  RotaryEmbedding(c) {
    const [s, size] = [c.int(1, 4), 8];
    const table = constant([8, size / 2]);
    return single(ms('RotaryEmbedding'), [fed([1, 2, s, size]), zeros([1], INT64), table, table]);
  },
  'rows of several models': (c) =>
    single(ms('CDist'), [fed([c.int(1, 4), 3]), fed([c.int(1, 4), 3])], { metric: 'euclidean' }),
};

describe('other operators against onnxruntime', () => {
  test.each(Object.entries(cases))('%s', (_, make) => checkCases(make, 20));
});

describe('what only the data decides', () => {
  const boxes = [constant([1, 5, 4], FLOAT, 1), constant([1, 2, 5], FLOAT, 1), scalar(3)];
  test.each<[string, OperatorCase, (string | number)[]]>([
    ['NonZero', single('NonZero', [fed([2, 3])]), ['2', '?o0.1']],
    ['Compress', single('Compress', [fed([2, 3]), fed([2], BOOL)], { axis: 0 }), ['?o0.0', 'i0_1']],
    ['Compress of all', single('Compress', [fed([2, 3]), fed([2], BOOL)]), ['?o0.0']],
    ['Unique', single('Unique', [fed([2, 3])], {}, { outputs: 1 }), ['?o0.0']],
    ['Unique rows', single('Unique', [fed([2, 3])], { axis: 0 }), ['?o0.0', 'i0_1']],
    ['NonMaxSuppression', single('NonMaxSuppression', boxes), ['?o0.0', '3']],
    ['Range', single('Range', [scalar(0), fed([], INT64), scalar(1)]), ['?o0.0']],
    ['Expand', single('Expand', [fed([2, 1]), fed([2], INT64)]), ['?', '?']],
    ['TopK', single('TopK', [fed([2, 3]), fed([1], INT64)], {}, { outputs: 2 }), ['i0_0', '?o0.1']],
    ['Slice', single('Slice', [fed([2, 3]), fed([1], INT64), fed([1], INT64), ints(1)]), ['i0_0', '?o0.1']],
  ])('%s: the rank is known, the extent is a symbol of its own', (_, given, formulas) => {
    const result = infer(given);
    expect(result.formulas('o0')).toEqual(formulas);
    expect(result.shapes.has('o0')).toBe(false);
    expect(result.unknown[0]).toMatchObject({ value: 'o0', cause: 'o0' });
  });
});

test('a scale attribute of another type is an error, not a crash', () => {
  expect(() => infer(single('Gemm', [fed([1, 2]), fed([2, 3])], { transA: floatAttribute(1) }))).toThrow(/transA/);
});
