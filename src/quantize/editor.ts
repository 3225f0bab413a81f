import type { Provider } from '../contract/types.js';
import { float32ToFloat16Bits } from '../onnx/half.js';
import { freshName, intAttribute, makeNode } from '../onnx/graph.js';
import { DataType, type Graph, type Model, type Node, type Tensor } from '../onnx/model.js';
import { computedData, float32Tensor, memoryData } from '../onnx/tensor.js';
import { meanShares } from './balance.js';
import type { ActivationRanges } from './ranges.js';
import type { RefinedWeight } from './refine.js';
import type { WeightUse } from './sites.js';

/** Results up to this size are kept; a writer may ask for them long after their weight's other tensors. */
const keptBytes = 64 * 1024;

/** Where quantized bytes come from: computed together for one weight, asked for one tensor at a time. */
export interface LazyParts<Part extends string> {
  /** Tensor data for one part of the result. */
  data(part: Part, byteLength: number): ReturnType<typeof computedData>;
}

/**
 * One model being quantized: adds initializers, replaces nodes, and keeps the last quantized weight, so that
 * codes, scales and zero points, which the writer asks for one after the other, are computed once.
 */
export class Editor {
  /** Value → names of its 8-bit scale and zero point. */
  readonly activationParameters = new Map<string, [string, string]>();
  /** Type and channels → name of zero points that are all alike. */
  readonly equalZeroPoints = new Map<string, string>();
  /** Graph → value → its codes, scale and zero point quantized at run time. */
  readonly dynamicInputs = new Map<Graph, Map<string, { codes: string; scale: string; zeroPoint: string }>>();
  /** As asked for the weight being written; undefined: as its format has it. */
  blockSize: number | undefined;
  zeroPoints: boolean | undefined;
  private readonly shares: ReadonlyMap<string, number>;
  private lastKey: object | null = null;
  private lastParts: Record<string, Uint8Array> | null = null;

  constructor(
    /** A clone: it is edited in place. */
    readonly model: Model,
    readonly provider: Provider,
    readonly ranges: ActivationRanges | null,
    /** Weight name → codes chosen on samples. */
    readonly refined: ReadonlyMap<string, RefinedWeight> = new Map(),
    /** Integer weights are uint8 around 128 instead of int8 ({@link needsUnsignedWeights}). */
    readonly unsignedWeights = false,
    /** Codes of int8, int4 and int2 weights by plain rounding, without a search. */
    readonly nearest = false,
  ) {
    this.shares = meanShares(model.graph);
  }

  /** Power of the mean over the rest of what a weight multiplies ({@link meanShares}): the least of its uses. */
  meanShare(uses: readonly WeightUse[]): number {
    return Math.min(...uses.map(({ node, role }) => (multiplies(role) ? (this.shares.get(node.inputs[0]!) ?? 0) : 0)));
  }

  /** Bytes of several tensors that one computation yields; nothing is computed until a writer asks. */
  lazyParts<Part extends string>(compute: () => Record<Part, Uint8Array>): LazyParts<Part> {
    const key = {};
    const kept = new Map<Part, Uint8Array>();
    const produce = (part: Part): Uint8Array => {
      const small = kept.get(part);
      if (small !== undefined) return small;
      if (this.lastKey !== key || this.lastParts === null) {
        // Let go of the previous weight before the next one is computed.
        this.lastParts = null;
        this.lastKey = key;
        const parts = compute();
        this.lastParts = parts;
        for (const name of Object.keys(parts) as Part[]) {
          if (parts[name].byteLength <= keptBytes) kept.set(name, parts[name]);
        }
      }
      return this.lastParts[part]!;
    };
    return { data: (part, byteLength) => computedData(byteLength, () => produce(part)) };
  }

  /** A name no value or node of the model has, bodies included. */
  name(base: string): string {
    return freshName(this.model.graph, base);
  }

  /** Adds an initializer to a graph and returns its name. */
  add(
    owner: Graph,
    base: string,
    dataType: number,
    dims: readonly number[],
    data: ReturnType<typeof computedData>,
  ): string {
    const name = this.name(base);
    owner.initializers.set(name, { name, dataType, dims: [...dims], data });
    return name;
  }

  /**
   * Adds the scales of a weight, stored as `stored`, and returns the name of the value of the weight's own type. Where
   * those differ, a Cast widens them; onnxruntime does that while loading, so that files get smaller and nothing else
   * changes.
   */
  addScales(
    owner: Graph,
    base: string,
    tensor: Tensor,
    stored: number,
    dims: readonly number[],
    data: ReturnType<typeof computedData>,
  ): string {
    const name = this.add(owner, base, stored, dims, data);
    if (stored === tensor.dataType) return name;
    const wide = this.name(`${base}_wide`);
    owner.nodes.unshift(makeNode('Cast', [name], [wide], { to: intAttribute(tensor.dataType) }, { name: wide }));
    return wide;
  }

  /** int8 codes as integer kernels shall have them: as they are, or as uint8 around 128. */
  integerCodes(codes: Int8Array): Uint8Array {
    const bytes = new Uint8Array(codes.buffer, codes.byteOffset, codes.byteLength);
    return this.unsignedWeights ? bytes.map((byte) => byte ^ 0x80) : bytes;
  }

  /** Type and zero point of {@link integerCodes}. */
  get integerType(): { dataType: number; zeroPoint: number } {
    return this.unsignedWeights
      ? { dataType: DataType.UINT8, zeroPoint: 128 }
      : { dataType: DataType.INT8, zeroPoint: 0 };
  }

  /** Adds a small initializer whose bytes are at hand. */
  addBytes(owner: Graph, base: string, dataType: number, dims: readonly number[], bytes: Uint8Array): string {
    return this.add(owner, base, dataType, dims, memoryData(bytes));
  }

  /** Adds a small FLOAT initializer. */
  addFloats(owner: Graph, base: string, dims: readonly number[], values: Float32Array): string {
    const name = this.name(base);
    owner.initializers.set(name, float32Tensor(name, dims, values));
    return name;
  }

  /** Puts nodes where a node was. */
  replace(graph: Graph, node: Node, nodes: readonly Node[]): void {
    graph.nodes.splice(graph.nodes.indexOf(node), 1, ...nodes);
  }

  require(domain: string, version: number): void {
    if (!this.model.opsets.has(domain)) this.model.opsets.set(domain, version);
  }
}

const multiplies = (role: WeightUse['role']): boolean => role === 'matmul' || role === 'gemm' || role === 'conv';

/** Scales as bytes of the type they are stored in. */
export function scaleBytes(scales: Float32Array, dataType: number): Uint8Array {
  const values = dataType === DataType.FLOAT16 ? float32ToFloat16Bits(scales) : scales;
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}
