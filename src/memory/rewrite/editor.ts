import { SnugError } from '../../contract/errors.js';
import { DataType, type Model, type Node, type Tensor } from '../../onnx/model.js';
import type { ShapeResult } from '../../onnx/shape.js';
import { int64Tensor, readNumbers, tensorByteLength } from '../../onnx/tensor.js';
import { operatorKey } from '../inplace.js';
import { bodiesOf, capturedNames } from '../../onnx/topology.js';
import { executionOrder } from '../order.js';

type Sym = number | string | null;

/**
 * A copy of a graph that can be rewritten the way the runtime's optimizer does: new nodes get indices after
 * all old ones, and values keep their names. Weights are never read; replaced ones become placeholders with
 * the right size.
 */
export class GraphEditor {
  readonly initializers: Map<string, Tensor>;
  readonly outputs: ReadonlySet<string>;
  /** Constants the model writes as nodes: scalars, axes and the like, never weights. */
  readonly written: ReadonlySet<string>;
  private readonly byIndex = new Map<number, Node>();
  private readonly indexOf = new Map<Node, number>();
  private readonly producers = new Map<string, Node>();
  private readonly users = new Map<string, Set<Node>>();
  private nextIndex = 0;
  /** Kept until the graph changes: most passes find nothing to do. */
  private order: Node[] | null = null;

  constructor(
    readonly model: Pick<Model, 'graph' | 'opsets'>,
    readonly shapes: Pick<ShapeResult, 'shapes' | 'symbols'>,
    private readonly infer: (model: Pick<Model, 'graph' | 'opsets'>) => Pick<ShapeResult, 'shapes' | 'symbols'>,
  ) {
    this.initializers = new Map(model.graph.initializers);
    // What a body captures must stay as it is, like an output.
    const captured = model.graph.nodes.flatMap((node) => bodiesOf(node).flatMap((body) => [...capturedNames(body)]));
    this.outputs = new Set([...model.graph.outputs.map((output) => output.name), ...captured]);
    const written = new Set<string>();
    this.written = written;
    for (const node of model.graph.nodes) {
      const value = node.opType === 'Constant' && node.domain === '' ? node.attributes.get('value') : undefined;
      const name = node.outputs[0] ?? '';
      if (value?.type === 'tensor') {
        this.initializers.set(name, { ...value.value, name });
        written.add(name);
      } else this.add(node);
    }
  }

  /** Nodes in index order. */
  nodes(): Node[] {
    return [...this.byIndex.entries()].sort(([a], [b]) => a - b).map(([, node]) => node);
  }

  /** Nodes in the order the runtime visits them when it optimizes and when it runs. */
  ordered(): Node[] {
    if (this.order === null) {
      const nodes = this.nodes();
      this.order = executionOrder(nodes).flatMap((position) => nodes[position] ?? []);
    }
    return this.order;
  }

  has(node: Node): boolean {
    return this.indexOf.has(node);
  }

  producer(value: string | undefined): Node | undefined {
    return value === undefined ? undefined : this.producers.get(value);
  }

  consumers(value: string | undefined): Node[] {
    return value === undefined ? [] : [...(this.users.get(value) ?? [])];
  }

  /** The one node that uses `value`, if it is not a graph output and has exactly one user. */
  onlyConsumer(value: string | undefined): Node | undefined {
    const users = this.consumers(value);
    return value !== undefined && users.length === 1 && !this.outputs.has(value) ? users[0] : undefined;
  }

  isConstant(value: string | undefined): boolean {
    return value !== undefined && this.initializers.has(value);
  }

  dims(value: string | undefined): Sym[] | undefined {
    return value === undefined ? undefined : this.shapes.symbols.get(value);
  }

  dataType(value: string | undefined): number {
    return value === undefined ? 0 : (this.shapes.shapes.get(value)?.dataType ?? 0);
  }

  /** Elements of a small constant; undefined when it is none or large. */
  numbers(value: string | undefined): number[] | undefined {
    const tensor = value === undefined ? undefined : this.initializers.get(value);
    if (!tensor || tensor.data.byteLength > 1024) return undefined;
    try {
      return readNumbers(tensor);
    } catch (error) {
      // Placeholders, and element types that are no numbers, never steer a rewrite.
      if (error instanceof SnugError && error.code === 'E_NOT_SUPPORTED') return undefined;
      throw error;
    }
  }

  add(node: Node): Node {
    const index = this.nextIndex;
    this.nextIndex += 1;
    this.byIndex.set(index, node);
    this.indexOf.set(node, index);
    for (const output of node.outputs) if (output !== '') this.producers.set(output, node);
    this.link(node);
    return node;
  }

  remove(...nodes: (Node | undefined)[]): void {
    this.order = null;
    for (const node of nodes) {
      const index = node === undefined ? undefined : this.indexOf.get(node);
      if (node === undefined || index === undefined) continue;
      this.byIndex.delete(index);
      this.indexOf.delete(node);
      for (const output of node.outputs) if (this.producers.get(output) === node) this.producers.delete(output);
      for (const input of node.inputs) this.users.get(input)?.delete(node);
    }
  }

  /** Changes a node in place (its index stays). */
  update(node: Node, change: Partial<Node>): Node {
    const index = this.indexOf.get(node);
    if (index === undefined) throw new SnugError('E_INTERNAL', `The node "${node.name}" is no longer in the graph.`);
    this.remove(node);
    const changed = { ...node, ...change };
    this.byIndex.set(index, changed);
    this.indexOf.set(changed, index);
    for (const output of changed.outputs) if (output !== '') this.producers.set(output, changed);
    this.link(changed);
    return changed;
  }

  /** Lets every user of `from` read `to` instead. */
  redirect(from: string, to: string): void {
    for (const user of this.consumers(from)) {
      this.update(user, { inputs: user.inputs.map((input) => (input === from ? to : input)) });
    }
  }

  /** Tells the size of a value a rewrite made. */
  describe(value: string, dataType: number, symbols: Sym[]): void {
    this.shapes.symbols.set(value, symbols);
    this.shapes.shapes.set(value, { dataType, dims: symbols.map((dim) => (typeof dim === 'number' ? dim : 1)) });
  }

  /** Works out all sizes again from the graph as it is now. */
  reinfer(): void {
    const graph = { ...this.model.graph, nodes: this.ordered(), initializers: this.initializers };
    const { shapes, symbols } = this.infer({ graph, opsets: this.model.opsets });
    for (const [value, shape] of shapes) this.shapes.shapes.set(value, shape);
    for (const [value, dims] of symbols) this.shapes.symbols.set(value, dims);
  }

  /** A constant whose elements nobody needs to know (packed, reordered or folded weights). */
  placeholder(name: string, dataType: number, dims: number[]): string {
    const unread = () => {
      throw new SnugError('E_NOT_SUPPORTED', `The weight "${name}" only exists while the model runs.`);
    };
    const data = {
      byteLength: tensorByteLength(dataType, dims),
      origin: 'computed' as const,
      read: unread,
      readRange: unread,
    };
    this.initializers.set(name, { name, dataType, dims, data });
    this.describe(name, dataType, dims);
    return name;
  }

  /** A small INT64 constant such as axes or sizes. */
  integers(name: string, values: readonly number[]): string {
    this.initializers.set(name, int64Tensor(name, [values.length], values));
    this.describe(name, DataType.INT64, [values.length]);
    return name;
  }

  /** Drops initializers nothing uses any more. */
  dropUnused(): void {
    for (const name of this.initializers.keys()) {
      if (this.consumers(name).length === 0 && !this.outputs.has(name)) this.initializers.delete(name);
    }
  }

  private link(node: Node): void {
    this.order = null;
    for (const input of node.inputs) {
      if (input === '') continue;
      const users = this.users.get(input) ?? new Set();
      users.add(node);
      this.users.set(input, users);
    }
  }
}

export function is(node: Node | undefined, ...operators: string[]): node is Node {
  return node !== undefined && operators.includes(operatorKey(node));
}
