import { DataType, type Dim, type Model } from '../../../src/onnx/model.js';
import { GraphBuilder } from './builder.js';
import { layerNorm } from './layers.js';
import type { TextOptions } from './transformers.js';

const float = DataType.FLOAT;
const headSize = 64;
const context = 1024;

/** torch's Conv1D: rows flattened, Gemm, rows restored. */
function conv1d(g: GraphBuilder, x: string, name: string, from: number, to: number): string {
  const scope = `/${name}`;
  const weight = g.weight(`${name}.weight`, [from, to], Math.sqrt(1 / from));
  const flat = g.op('Reshape', [x, g.int([-1, from], scope)], {}, scope);
  const product = g.op('Gemm', [flat, weight, g.weight(`${name}.bias`, [to], 0.01)], {}, scope);
  return g.reshape(product, [g.size(x, 0, scope), g.size(x, 1, scope), to], scope);
}

/** 0.5 x (1 + tanh(sqrt(2 / π) (x + 0.044715 x³))), as GPT-2's own code is exported. */
function tanhGelu(g: GraphBuilder, x: string, scope: string): string {
  const half = g.op('Mul', [x, g.float(0.5, scope)], {}, scope);
  const cube = g.op('Mul', [g.op('Pow', [x, g.float(3, scope)], {}, scope), g.float(0.044715, scope)], {}, scope);
  const inner = g.op('Mul', [g.op('Add', [x, cube], {}, scope), g.float(Math.sqrt(2 / Math.PI), scope)], {}, scope);
  const factor = g.op('Add', [g.op('Tanh', [inner], {}, scope), g.float(1, scope)], {}, scope);
  return g.op('Mul', [half, factor], {}, scope);
}

/**
 * GPT-2 small with its KV cache (`past_key_values.N.key` → `present.N.key`): batch, sequence and past are symbols. The
 * head has a weight of its own, as exporters write tied embeddings.
 */
export function gpt2({ scale = 1, layers = 12, vocabulary = 50257, seed = 6 }: TextOptions = {}): Model {
  const g = new GraphBuilder('gpt2', seed);
  const heads = 12 * scale;
  const width = heads * headSize;
  const ids = g.input('input_ids', DataType.INT64, ['batch', 'sequence']);
  const mask = g.input('attention_mask', DataType.INT64, ['batch', 'past_sequence + sequence']);
  const places = g.input('position_ids', DataType.INT64, ['batch', 'sequence']);
  const pastDims: Dim[] = ['batch', heads, 'past_sequence', headSize];
  const past = Array.from({ length: layers }, (_, layer) => ({
    key: g.input(`past_key_values.${layer}.key`, float, pastDims),
    value: g.input(`past_key_values.${layer}.value`, float, pastDims),
  }));
  const presents: { key: string; value: string }[] = [];
  const causal = g.mask('causal', [1, 1, context, context], (index) => index % context <= Math.floor(index / context));
  const tokens = g.op('Gather', [g.weight('wte.weight', [vocabulary, width], 0.02), ids], {}, '/wte');
  const positions = g.op('Gather', [g.weight('wpe.weight', [context, width], 0.02), places], {}, '/wpe');
  let x = g.op('Add', [tokens, positions]);
  const open = g.op('Unsqueeze', [g.op('Unsqueeze', [mask, g.int([1])]), g.int([2])]);
  const closed = g.op('Sub', [g.float(1), g.op('Cast', [open], { to: float })]);
  const bias = g.op('Mul', [closed, g.float(-3.4e38)]);
  for (let layer = 0; layer < layers; layer++) {
    const name = `h.${layer}`;
    const scope = `/${name}/attn`;
    const normal = layerNorm(g, x, `${name}.ln_1`, width, 1e-5);
    const packed = conv1d(g, normal, `${name}.attn.c_attn`, width, width * 3);
    const parts = g.ops('Split', [packed, g.int([width, width, width], scope)], 3, { axis: 2 }, scope);
    const [q = '', k = '', v = ''] = parts.map((part) => {
      const shaped = g.reshape(part, [g.size(part, 0, scope), g.size(part, 1, scope), heads, headSize], scope);
      return g.op('Transpose', [shaped], { perm: [0, 2, 1, 3] }, scope);
    });
    const before = past[layer] ?? { key: '', value: '' };
    const key = g.op('Concat', [before.key, k], { axis: -2 }, scope);
    const value = g.op('Concat', [before.value, v], { axis: -2 }, scope);
    presents.push({ key, value });
    const turned = g.op('Transpose', [key], { perm: [0, 1, 3, 2] }, scope);
    const scaled = g.op('Div', [g.op('MatMul', [q, turned], {}, scope), g.float(8, scope)], {}, scope);
    const end = g.op('Unsqueeze', [g.size(key, 2, scope), g.int([0], scope)], {}, scope);
    const length = g.op('Unsqueeze', [g.size(q, 2, scope), g.int([0], scope)], {}, scope);
    const start = g.op('Sub', [end, length], {}, scope);
    const rows = g.op('Slice', [causal, start, end, g.int([2], scope), g.int([1], scope)], {}, scope);
    const seen = g.op('Slice', [rows, g.int([0], scope), end, g.int([3], scope), g.int([1], scope)], {}, scope);
    const hidden = g.op('Where', [seen, scaled, g.float(-3.4e38, scope)], {}, scope);
    const weights = g.op('Softmax', [g.op('Add', [hidden, bias], {}, scope)], { axis: -1 }, scope);
    const mixed = g.op('Transpose', [g.op('MatMul', [weights, value], {}, scope)], { perm: [0, 2, 1, 3] }, scope);
    const joined = g.reshape(mixed, [g.size(mixed, 0, scope), g.size(mixed, 1, scope), width], scope);
    x = g.op('Add', [conv1d(g, joined, `${name}.attn.c_proj`, width, width), x], {}, `/${name}`);
    const inner = layerNorm(g, x, `${name}.ln_2`, width, 1e-5);
    const wide = tanhGelu(g, conv1d(g, inner, `${name}.mlp.c_fc`, width, width * 4), `/${name}/mlp/act`);
    x = g.op('Add', [x, conv1d(g, wide, `${name}.mlp.c_proj`, width * 4, width)], {}, `/${name}`);
  }
  x = layerNorm(g, x, 'ln_f', width, 1e-5);
  const head = g.weight('lm_head.weight', [width, vocabulary], Math.sqrt(1 / width));
  g.output(g.op('MatMul', [x, head], {}, '/lm_head'), 'logits', float, ['batch', 'sequence', vocabulary]);
  const presentDims: Dim[] = ['batch', heads, 'past_sequence + sequence', headSize];
  presents.forEach(({ key, value }, layer) => {
    g.output(key, `present.${layer}.key`, float, presentDims);
    g.output(value, `present.${layer}.value`, float, presentDims);
  });
  return g.finish(17);
}
