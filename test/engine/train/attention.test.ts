import { describe, expect, it } from 'vitest';
import { floatAttribute as f, intAttribute as i, type intsAttribute } from '../../../src/onnx/attribute.js';
import { DataType, type Tensor } from '../../../src/onnx/model.js';
import { rawTensor } from '../../../src/onnx/tensor.js';
import { gradientError, type TestGraph } from './support.js';

const B = 'batch';

type Attributes = Record<string, ReturnType<typeof intsAttribute> | ReturnType<typeof i>>;

function attention(
  op: string,
  domain: string,
  wanted: TestGraph['wanted'],
  attributes: Attributes,
  options: Partial<TestGraph> & { in?: string[]; out?: string[] } = {},
): TestGraph {
  const { in: inputs = Object.keys(wanted), out = ['y'], ...rest } = options;
  return {
    opset: domain === '' ? 23 : 18,
    wanted,
    nodes: [{ op, domain, in: inputs, out, attributes }],
    values: (x) => x * 0.6,
    ...rest,
  };
}

const int32 = (name: string, dims: number[], values: number[]): Tensor =>
  rawTensor(name, DataType.INT32, dims, new Uint8Array(Int32Array.from(values).buffer));

const microsoft = 'com.microsoft';
const packed = { x: [2, 4, 6], w: [6, 24], b: [24] };
const separate = { q: [2, 3, 8], k: [2, 5, 8], v: [2, 5, 8] };
/** Rotation takes heads of 16 values and their multiples. */
const grouped = { q: [2, 4, 64], k: [2, 4, 32], v: [2, 4, 32] };
const groupedInputs = ['q', 'k', 'v', '', '', 'last', 'total'];
const lengths = [int32('last', [2], [3, 3]), int32('total', [], [4])];
/** Cosines and sines of 8 positions and 4 pairs. */
const tables = (pairs: number): TestGraph['floats'] => {
  const angles = Array.from({ length: 8 * pairs }, (_, at) => Math.floor(at / pairs) * 10 ** (-(at % pairs) / pairs));
  return {
    cos: { dims: [8, pairs], values: angles.map(Math.cos) },
    sin: { dims: [8, pairs], values: angles.map(Math.sin) },
  };
};

const cases: Record<string, TestGraph> = {
  Attention: attention('Attention', microsoft, packed, { num_heads: i(2) }),
  'Attention, one way, scaled': attention('Attention', microsoft, packed, {
    num_heads: i(2),
    unidirectional: i(1),
    scale: f(0.3),
  }),
  'Attention with a mask': attention(
    'Attention',
    microsoft,
    packed,
    { num_heads: i(2) },
    { in: ['x', 'w', 'b', 'mask'], tensors: [int32('mask', [2, 4], [1, 1, 1, 0, 1, 1, 0, 0])] },
  ),
  'Attention with lengths': attention(
    'Attention',
    microsoft,
    packed,
    { num_heads: i(2) },
    { in: ['x', 'w', 'b', 'mask'], tensors: [int32('mask', [2], [3, 2])] },
  ),
  MultiHeadAttention: attention('MultiHeadAttention', microsoft, { ...separate, b: [24] }, { num_heads: i(2) }),
  'MultiHeadAttention with mask and bias': attention(
    'MultiHeadAttention',
    microsoft,
    { ...separate, added: [1, 2, 3, 5] },
    { num_heads: i(2) },
    {
      in: ['q', 'k', 'v', '', 'mask', 'added'],
      tensors: [int32('mask', [2, 5], [1, 1, 1, 1, 0, 1, 1, 0, 0, 0])],
    },
  ),
  GroupQueryAttention: attention(
    'GroupQueryAttention',
    microsoft,
    grouped,
    { num_heads: i(4), kv_num_heads: i(2) },
    { in: groupedInputs, tensors: lengths, out: ['y', 'pk', 'pv'] },
  ),
  'GroupQueryAttention, rotated, in a window': attention(
    'GroupQueryAttention',
    microsoft,
    grouped,
    { num_heads: i(4), kv_num_heads: i(2), do_rotary: i(1), local_window_size: i(2) },
    { in: [...groupedInputs, 'cos', 'sin'], tensors: lengths, floats: tables(8), out: ['y', 'pk', 'pv'] },
  ),
  'GroupQueryAttention, packed': attention(
    'GroupQueryAttention',
    microsoft,
    { x: [2, 4, 128] },
    { num_heads: i(4), kv_num_heads: i(2), softcap: f(2), do_rotary: i(1), rotary_interleaved: i(1) },
    {
      in: ['x', '', '', '', '', 'last', 'total', 'cos', 'sin'],
      tensors: lengths,
      floats: tables(8),
      out: ['y', 'pk', 'pv'],
    },
  ),
  'RotaryEmbedding from a position': attention(
    'RotaryEmbedding',
    microsoft,
    { x: [B, 3, 16] },
    {},
    {
      in: ['x', 'at', 'cos', 'sin'],
      ints: { at: { dims: [1], values: [2] } },
      floats: tables(4),
    },
  ),
  'RotaryEmbedding, interleaved, of heads': attention(
    'RotaryEmbedding',
    microsoft,
    { x: [2, 3, 2, 8] },
    { interleaved: i(1) },
    {
      in: ['x', 'at', 'cos', 'sin'],
      ints: { at: { dims: [2, 2], values: [2, 3, 5, 1] } },
      floats: tables(4),
    },
  ),
  'RotaryEmbedding of ONNX, a part of each head': attention(
    'RotaryEmbedding',
    '',
    { x: [2, 3, 4, 8] },
    { rotary_embedding_dim: i(4) },
    {
      in: ['x', 'cos', 'sin', 'at'],
      ints: { at: { dims: [2, 4], values: [2, 3, 5, 1, 0, 1, 2, 3] } },
      floats: tables(2),
    },
  ),
  'Attention of ONNX': attention('Attention', '', { q: [2, 2, 3, 4], k: [2, 2, 5, 4], v: [2, 2, 5, 6] }, {}),
  'Attention of ONNX, flat, grouped, causal': attention(
    'Attention',
    '',
    { q: [B, 4, 16], k: [B, 4, 8], v: [B, 4, 8] },
    { q_num_heads: i(4), kv_num_heads: i(2), is_causal: i(1), scale: f(0.4) },
  ),
  'Attention of ONNX with a bias': attention(
    'Attention',
    '',
    { q: [2, 2, 3, 4], k: [2, 2, 5, 4], v: [2, 2, 5, 4], added: [3, 5] },
    { softcap: f(3) },
  ),
};

describe('attention against differences along random directions', () => {
  for (const [name, graph] of Object.entries(cases)) {
    it(name, async () => {
      expect(await gradientError(graph, 1)).toBeLessThan(3e-3);
    });
  }

  it('is refused where its meaning is not known', async () => {
    const oneWay = attention('MultiHeadAttention', microsoft, separate, { num_heads: i(2), unidirectional: i(1) });
    await expect(gradientError(oneWay, 1)).rejects.toThrow(/more keys than queries/);
    const ends = attention(
      'Attention',
      microsoft,
      packed,
      { num_heads: i(2) },
      { in: ['x', 'w', 'b', 'mask'], tensors: [int32('mask', [4], [3, 2, 0, 0])] },
    );
    await expect(gradientError(ends, 1)).rejects.toThrow(/not one length for each sample/);
  });
});
