import { freshName, getFloat, getInt, getInts, intAttribute, makeNode } from '../onnx/graph.js';
import { DataType, type Attribute, type Graph, type Node, type Tensor } from '../onnx/model.js';
import { encodeFloats, int64Tensor, rawTensor } from '../onnx/tensor.js';

/** Sizes of a value as far as they are known, numbers or names; null where nothing is. */
export type KnownDims = (value: string) => readonly (number | string | null)[] | null;

/** Attributes that both operators have. */
const common = ['num_heads', 'scale', 'unidirectional'];

/** What Attention adds to the scores of masked tokens unless its attribute says otherwise. */
const usualFilter = -10000;

/** Below this, two of them on one score are no number any more. */
const lowestFilter = -1e30;

/**
 * Takes the projection out of every com.microsoft.Attention (how ONNX Runtime's optimizer for transformers fuses it), in
 * place: `MatMul → Add → Split → MultiHeadAttention` computes the same (both operators' definitions in ONNX Runtime's
 * ContribOperators), and the weight of a MatMul can be quantized. A mask of tokens becomes what is added to the scores:
 * MultiHeadAttention takes masks on the CPU only. Left as it is with a cache, rotary embeddings or other masks, and where
 * a token could be left without anything to see: the two operators then differ in what the lowest scores add up to.
 */
export function unpackAttention(graph: Graph, opset: number, dimsOf: KnownDims): void {
  const masks = new Map<string, string>();
  graph.nodes = graph.nodes.flatMap((node) => {
    if (node.opType !== 'Attention' || node.domain !== 'com.microsoft') return [node];
    return unpacked(graph, node, opset, dimsOf, masks) ?? [node];
  });
}

/** @param masks mask with its filter → what is added to scores, made once for all layers. */
function unpacked(
  graph: Graph,
  node: Node,
  opset: number,
  dimsOf: KnownDims,
  masks: Map<string, string>,
): Node[] | null {
  const [input, weight, bias = '', mask = '', past = '', added = ''] = node.inputs;
  const tensor = graph.initializers.get(weight ?? '');
  if (input === undefined || tensor?.dims.length !== 2 || past !== '' || node.inputs.length > 6) return null;
  if ((node.outputs[1] ?? '') !== '' || getInt(node, 'do_rotary', 0) !== 0) return null;
  // The forms of operators below are those since opset 13.
  const maskDims = dimsOf(mask);
  const lengths = maskDims?.length === 1 && maskDims[0] !== null && maskDims[0] === dimsOf(input)?.[0];
  if (opset < 13 || (mask !== '' && (added !== '' || !(lengths || maskDims?.length === 2)))) return null;
  const filter = getFloat(node, 'mask_filter_value', usualFilter);
  if (mask !== '' && filter < lowestFilter && getInt(node, 'unidirectional', 0) !== 0) return null;
  const columns = tensor.dims[1]!;
  const sizes = getInts(node, 'qkv_hidden_sizes', [columns / 3, columns / 3, columns / 3]);
  const total = sizes.reduce((sum, size) => sum + size, 0);
  if (sizes.length !== 3 || total !== columns || !sizes.every(Number.isInteger)) return null;
  const made = new Builder(graph, node.outputs[0]!);
  const product = made.node('MatMul', [input, weight!]);
  const projected = bias === '' ? product : made.node('Add', [product, bias]);
  const parts = ['q', 'k', 'v'].map((part) => made.name(part));
  made.node('Split', [projected, made.integers(sizes)], { axis: intAttribute(-1) }, parts);
  let scores = added;
  if (mask !== '') {
    const key = `${mask} ${filter} ${tensor.dataType}`;
    scores = masks.get(key) ?? maskedScores(made, { input, mask, lengths, filter, dataType: tensor.dataType });
    masks.set(key, scores);
  }
  const kept = common.flatMap((key) => (node.attributes.has(key) ? [[key, node.attributes.get(key)!] as const] : []));
  const inputs = [...parts, '', '', scores];
  while (inputs.at(-1) === '') inputs.pop();
  const { domain, name, outputs } = node;
  return [
    ...made.nodes,
    makeNode('MultiHeadAttention', inputs, [outputs[0]!], Object.fromEntries(kept), { name, domain }),
  ];
}

interface Mask {
  input: string;
  mask: string;
  /** Whether it holds one length for each sample, not a number for each token. */
  lengths: boolean;
  filter: number;
  dataType: number;
}

/** What a mask of tokens adds to the scores, `[batch, 1, sequence, sequence]`. */
function maskedScores(made: Builder, { input, mask, lengths, filter, dataType }: Mask): string {
  const length = made.node('Gather', [made.node('Shape', [input]), made.integers([1])]);
  // Positions below the length of their sample, compared in float32: GPUs do not compare long integers.
  const float = { to: intAttribute(DataType.FLOAT) };
  const within = (): string => {
    const end = made.node('Squeeze', [length, made.integers([0])]);
    const positions = made.node('Range', [made.integer(0), end, made.integer(1)]);
    const ends = made.node('Unsqueeze', [made.node('Cast', [mask], float), made.integers([1])]);
    return made.node('Less', [made.node('Cast', [positions], float), ends]);
  };
  const shown = lengths ? within() : made.node('Cast', [mask], { to: intAttribute(DataType.BOOL) });
  const chosen = made.node('Where', [shown, made.number(0, dataType), made.number(filter, dataType)]);
  const wide = made.node('Unsqueeze', [chosen, made.integers([1, 2])]);
  const shape = made.node('Concat', [made.integers([1, 1]), length, made.integers([1])], { axis: intAttribute(0) });
  return made.node('Expand', [wide, shape]);
}

/** Nodes and constants that replace one node. */
class Builder {
  readonly nodes: Node[] = [];

  constructor(
    private readonly graph: Graph,
    private readonly base: string,
  ) {}

  name(suffix: string): string {
    return freshName(this.graph, `${this.base}_${suffix}`);
  }

  /** Adds a node and gives its first output. */
  node(
    opType: string,
    inputs: string[],
    attributes: Record<string, Attribute> = {},
    outputs: string[] = [this.name(opType)],
  ): string {
    this.nodes.push(makeNode(opType, inputs, outputs, attributes, { name: this.name(`${opType}_node`) }));
    return outputs[0]!;
  }

  integers(values: readonly number[]): string {
    return this.constant(int64Tensor(this.name('sizes'), [values.length], values));
  }

  integer(value: number): string {
    return this.constant(int64Tensor(this.name('size'), [], [value]));
  }

  number(value: number, dataType: number): string {
    return this.constant(rawTensor(this.name('number'), dataType, [], encodeFloats([value], dataType)));
  }

  private constant(tensor: Tensor): string {
    this.graph.initializers.set(tensor.name, tensor);
    return tensor.name;
  }
}
