import { DataType, type Model } from '../../../src/onnx/model.js';
import { GraphBuilder } from './builder.js';
import { conv, erfGelu, layerNorm, layerNormParts, linear } from './layers.js';

export interface TransformerOptions {
  /** Multiplies the width and the number of heads; default 1, the published size. */
  scale?: number;
  /** Blocks; default 12. */
  layers?: number;
  seed?: number;
}

const float = DataType.FLOAT;
const headSize = 64;

/** Attention without a mask as torch's scaled_dot_product_attention is exported. `q`, `k`, `v`: [b, heads, s, 64]. */
function attention(g: GraphBuilder, q: string, k: string, v: string, scope: string): string {
  const root = Math.sqrt(1 / Math.sqrt(headSize));
  const query = g.op('Mul', [q, g.float(root, scope)], {}, scope);
  const key = g.op('Mul', [g.op('Transpose', [k], { perm: [0, 1, 3, 2] }, scope), g.float(root, scope)], {}, scope);
  const scores = g.op('Softmax', [g.op('MatMul', [query, key], {}, scope)], { axis: -1 }, scope);
  return g.op('MatMul', [scores, v], {}, scope);
}

/** ViT-B/16 for 224 × 224 images as torch exports timm's model: one packed projection cut apart by Gather. */
export function vitB16({ scale = 1, layers = 12, seed = 4 }: TransformerOptions = {}): Model {
  const g = new GraphBuilder('vit-b', seed);
  const heads = 12 * scale;
  const width = heads * headSize;
  const image = g.input('input', float, ['batch', 3, 224, 224]);
  const patches = conv(g, image, 'patch_embed.proj', { from: 3, to: width, kernel: 16, stride: 16, pad: 0 });
  const flat = g.op('Reshape', [patches, g.int([0, width, 196])], {}, '/patch_embed');
  const tokens = g.op('Transpose', [flat], { perm: [0, 2, 1] }, '/patch_embed');
  const batch = g.op('Unsqueeze', [g.size(image, 0), g.int([0])]);
  const sizes = g.op('Concat', [batch, g.int([-1]), g.int([-1])], { axis: 0 });
  const kept = g.op('Where', [g.op('Equal', [sizes, g.int([-1, -1, -1])]), g.int([1, 1, 1]), sizes]);
  const start = g.op('Expand', [g.weight('cls_token', [1, 1, width], 0.02), kept]);
  let x = g.op('Concat', [start, tokens], { axis: 1 });
  x = g.op('Add', [x, g.weight('pos_embed', [1, 197, width], 0.02)]);
  for (let layer = 0; layer < layers; layer++) {
    const name = `blocks.${layer}`;
    const scope = `/${name}/attn`;
    const normal = layerNorm(g, x, `${name}.norm1`, width, 1e-6);
    const packed = linear(g, normal, `${name}.attn.qkv`, width, width * 3);
    const apart = g.reshape(packed, [g.size(normal, 0, scope), g.size(normal, 1, scope), 3, heads, headSize], scope);
    const turned = g.op('Transpose', [apart], { perm: [2, 0, 3, 1, 4] }, scope);
    const [q = '', k = '', v = ''] = [0, 1, 2].map((part) =>
      g.op('Gather', [turned, g.int(part, scope)], { axis: 0 }, scope),
    );
    const mixed = g.op('Transpose', [attention(g, q, k, v, scope)], { perm: [0, 2, 1, 3] }, scope);
    const joined = g.reshape(mixed, [g.size(normal, 0, scope), g.size(normal, 1, scope), width], scope);
    x = g.op('Add', [x, linear(g, joined, `${name}.attn.proj`, width, width)], {}, `/${name}`);
    const inner = layerNorm(g, x, `${name}.norm2`, width, 1e-6);
    const wide = erfGelu(g, linear(g, inner, `${name}.mlp.fc1`, width, width * 4), `/${name}/mlp/act`);
    x = g.op('Add', [x, linear(g, wide, `${name}.mlp.fc2`, width * 4, width)], {}, `/${name}`);
  }
  x = layerNorm(g, x, 'norm', width, 1e-6);
  const first = g.op('Gather', [x, g.int(0)], { axis: 1 });
  const weight = g.weight('head.weight', [1000, width], Math.sqrt(1 / width));
  const logits = g.op('Gemm', [first, weight, g.weight('head.bias', [1000], 0.01)], { transB: 1 }, '/head');
  g.output(logits, 'output', float, ['batch', 1000]);
  return g.finish(17);
}

export interface TextOptions extends TransformerOptions {
  /** Entries of the vocabulary; default the published size. */
  vocabulary?: number;
}

/** [b, s, width] → [b, heads, s, 64], sizes taken from the value as TorchScript does. */
function splitHeads(g: GraphBuilder, x: string, heads: number, perm: number[], scope: string): string {
  const shaped = g.reshape(x, [g.size(x, 0, scope), g.size(x, 1, scope), heads, headSize], scope);
  return g.op('Transpose', [shaped], { perm }, scope);
}

/** BERT-base as opset 14 exporters write it: layer normalization in parts, Erf GELU, an additive mask. */
export function bertBase({ scale = 1, layers = 12, vocabulary = 30522, seed = 5 }: TextOptions = {}): Model {
  const g = new GraphBuilder('bert-base', seed);
  const heads = 12 * scale;
  const width = heads * headSize;
  const dims = ['batch', 'sequence'];
  const ids = g.input('input_ids', DataType.INT64, dims);
  const mask = g.input('attention_mask', DataType.INT64, dims);
  const types = g.input('token_type_ids', DataType.INT64, dims);
  const open = g.op('Unsqueeze', [g.op('Unsqueeze', [mask, g.int([1])]), g.int([2])]);
  const closed = g.op('Sub', [g.float(1), g.op('Cast', [open], { to: float })]);
  const bias = g.op('Mul', [closed, g.float(-3.4e38)]);
  const scope = '/embeddings';
  const positions = g.indices(
    'embeddings.position_ids',
    Array.from({ length: 512 }, (_, i) => i),
    [1, 512],
  );
  const end = g.op('Unsqueeze', [g.size(ids, 1, scope), g.int([0], scope)], {}, scope);
  const used = g.op('Slice', [positions, g.int([0], scope), end, g.int([1], scope), g.int([1], scope)], {}, scope);
  const words = g.op('Gather', [g.weight('word_embeddings.weight', [vocabulary, width], 0.02), ids], {}, scope);
  const kinds = g.op('Gather', [g.weight('token_type_embeddings.weight', [2, width], 0.02), types], {}, scope);
  const places = g.op('Gather', [g.weight('position_embeddings.weight', [512, width], 0.02), used], {}, scope);
  let x = g.op('Add', [g.op('Add', [words, kinds], {}, scope), places], {}, scope);
  x = layerNormParts(g, x, 'embeddings.LayerNorm', width, 1e-12);
  for (let layer = 0; layer < layers; layer++) {
    const name = `encoder.layer.${layer}`;
    const inner = `/${name}/attention/self`;
    const q = linear(g, x, `${name}.query`, width, width);
    const k = splitHeads(g, linear(g, x, `${name}.key`, width, width), heads, [0, 2, 3, 1], inner);
    const v = splitHeads(g, linear(g, x, `${name}.value`, width, width), heads, [0, 2, 1, 3], inner);
    const query = splitHeads(g, q, heads, [0, 2, 1, 3], inner);
    const scaled = g.op('Div', [g.op('MatMul', [query, k], {}, inner), g.float(8, inner)], {}, inner);
    const weights = g.op('Softmax', [g.op('Add', [scaled, bias], {}, inner)], { axis: -1 }, inner);
    const mixed = g.op('Transpose', [g.op('MatMul', [weights, v], {}, inner)], { perm: [0, 2, 1, 3] }, inner);
    const joined = g.reshape(mixed, [g.size(mixed, 0, inner), g.size(mixed, 1, inner), width], inner);
    const attended = linear(g, joined, `${name}.attention.output`, width, width);
    x = layerNormParts(g, g.op('Add', [attended, x], {}, `/${name}`), `${name}.attention.LayerNorm`, width, 1e-12);
    const wide = erfGelu(g, linear(g, x, `${name}.intermediate`, width, width * 4), `/${name}/act`);
    const narrow = linear(g, wide, `${name}.output`, width * 4, width);
    x = layerNormParts(g, g.op('Add', [narrow, x], {}, `/${name}`), `${name}.output.LayerNorm`, width, 1e-12);
  }
  const first = g.op('Gather', [x, g.int(0)], { axis: 1 }, '/pooler');
  const weight = g.weight('pooler.weight', [width, width], Math.sqrt(1 / width));
  const dense = g.op('Gemm', [first, weight, g.weight('pooler.bias', [width], 0.01)], { transB: 1 }, '/pooler');
  g.output(x, 'last_hidden_state', float, [...dims, width]);
  g.output(g.op('Tanh', [dense], {}, '/pooler'), 'pooler_output', float, ['batch', width]);
  return g.finish(14);
}
