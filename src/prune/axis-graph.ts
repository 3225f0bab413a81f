import { bodiesOf, capturedNames, constantValue, getInts, indexGraph, type GraphIndex } from '../onnx/graph.js';
import type { Graph, Model, Node, Tensor } from '../onnx/model.js';
import { readNumbers } from '../onnx/tensor.js';
import { AxisAtoms, type Atom } from './axis-atoms.js';
import { unshare, type Unshared } from './shared-constants.js';
import { SizeInputs } from './sizes.js';

/** The result of shape inference as this room needs it: sizes with every named dimension bound. */
export interface ShapeTable {
  readonly shapes: ReadonlyMap<string, { readonly dims: readonly number[]; readonly dataType?: number }>;
  /** Elements of computed size tensors: a number where it is the same for every binding. */
  readonly constants?: ReadonlyMap<
    string,
    { readonly symbols: readonly unknown[]; readonly expressions?: readonly unknown[] }
  >;
}

/** What an operator knows an axis to be; see class-kinds.ts. */
export type AxisMark =
  'heads' | 'head repeats' | 'query-key width' | 'value width' | 'groups' | 'norm groups' | 'recurrent' | 'normalized';

/** How a node uses a constant weight: along which of the weight's axes it contracts and along which it produces. */
export interface WeightUse {
  node: Node;
  /** Position of the node in the graph. */
  at: number;
  /** The weight operand as the node names it. */
  operand: string;
  /** The initializer (or Constant output) behind the operand; differs when a Transpose lies between. */
  weight: string;
  /** Axes of the operand. */
  inputAxis: number;
  outputAxis: number;
  /** The same axes of the stored weight. */
  stored: { inputAxis: number; outputAxis: number };
  /** The other operand. */
  activation: string;
  /** The contracted axis as an atom tree. */
  input: Atom;
  output: Atom;
  /** The weight is no plain matrix over (input, output): grouped, recurrent, batched or fused. It cannot be refitted. */
  grouped: boolean;
}

/** A place where an axis is summed away (or normalized over): what a removed unit sends there has to count as zero. */
export interface Sink {
  node: Node;
  /** Index of the node's input, and the axis of that input, that is summed over. */
  input: number;
  axis: number;
  /** Only this part of the axis is summed; the rest passes (grouped convolutions). */
  only?: Atom;
}

/** What a mend may ask about the new widths. */
export interface MendContext {
  /** New size of an axis. */
  size: (axis: Atom) => number;
  changed: (axis: Atom) => boolean;
  /** Adds a constant and gives its name. */
  constant: (base: string, tensor: (name: string) => Tensor) => string;
  /** A constant as it will be: edited and sliced. */
  tensor: (name: string) => Tensor;
  /** A value name nothing else has. */
  fresh: (base: string) => string;
}

/** Brings a node's attributes and size constants in line with new widths; may bring helper nodes, in order. */
export type Mend = (node: Node, context: MendContext) => Node | Node[];

/** States what a node makes of its axes; false when it cannot tell. */
export type AxisRule = (graph: AxisGraph, node: Node) => boolean;

/**
 * Everything the operator rules read and write: axes of all values as atom trees, constants, and the weight uses
 * met on the way.
 */
export class AxisGraph {
  readonly atoms = new AxisAtoms();
  readonly uses: WeightUse[] = [];
  /** Every place where an axis is summed away. */
  readonly sinks: Sink[] = [];
  readonly mends = new Map<Node, Mend>();
  readonly sizeInputs = new SizeInputs();
  readonly marks: { axis: Atom; mark: AxisMark }[] = [];
  /** Axes that can shrink, but not exactly, with the reason. */
  readonly approximations: { axis: Atom; reason: string }[] = [];
  /** The model's graph with a constant of its own for every use of a vector. */
  readonly graph: Graph;
  readonly unshared: Unshared;
  readonly #index: GraphIndex;
  readonly #constants = new Map<string, Tensor>();
  readonly #axes = new Map<string, Atom[] | null>();
  readonly #shapes: ShapeTable;
  readonly #opsets: ReadonlyMap<string, number>;
  readonly #positions: ReadonlyMap<Node, number>;

  constructor(given: Model, shapes: ShapeTable) {
    this.unshared = unshare(given);
    const { model } = this.unshared;
    this.graph = model.graph;
    this.#shapes = shapes;
    this.#opsets = model.opsets;
    this.#index = indexGraph(model.graph);
    this.#positions = new Map(model.graph.nodes.map((node, at) => [node, at]));
    for (const [name, tensor] of model.graph.initializers) this.#constants.set(name, tensor);
    for (const node of model.graph.nodes) {
      const name = node.opType === 'Constant' ? node.outputs[0] : undefined;
      const value = name === undefined ? null : constantValue(model.graph, this.#index, name);
      if (name !== undefined && value !== null) this.#constants.set(name, value);
    }
  }

  /** The node that makes a value. */
  producer(name: string): Node | undefined {
    return this.#index.producer.get(name);
  }

  /** Nodes that use a value, each once. */
  consumers(name: string): Node[] {
    return [...new Set(this.#index.consumers.get(name)?.map((consumer) => consumer.node))];
  }

  opset(node: Node): number {
    return this.#opsets.get(node.domain) ?? this.#opsets.get('') ?? 1;
  }

  constant(name: string | undefined): Tensor | undefined {
    return name === undefined || name === '' ? undefined : this.#constants.get(name);
  }

  constants(): ReadonlyMap<string, Tensor> {
    return this.#constants;
  }

  /** The constant a value is, seen through Transpose, Identity and Cast; undefined for activations. */
  constantBehind(name: string | undefined): string | undefined {
    for (let at = name; at !== undefined && at !== '';) {
      if (this.#constants.has(at)) return at;
      const node = this.producer(at);
      if (node === undefined || !['Transpose', 'Identity', 'Cast'].includes(node.opType)) return undefined;
      at = node.inputs[0];
    }
    return undefined;
  }

  position(node: Node): number {
    return this.#positions.get(node) ?? -1;
  }

  /** Whether nothing but constants goes into a value. */
  fromConstants(name: string): boolean {
    if (this.#constants.has(name) || name === '') return true;
    const node = this.producer(name);
    return node !== undefined && node.inputs.length > 0 && node.inputs.every((input) => this.fromConstants(input));
  }

  /** Elements of a small tensor of sizes: numbers where they are the same for every binding; null when not known. */
  elements(name: string | undefined): readonly (number | null)[] | null {
    const tensor = this.constant(name);
    if (tensor !== undefined) return tensor.dims.length > 1 ? null : readNumbers(tensor);
    const known = this.#shapes.constants?.get(name ?? '');
    const said = known?.expressions ?? known?.symbols;
    return said?.map((element) => (typeof element === 'number' ? element : null)) ?? null;
  }

  /** Values that bodies of a node (If, Loop, Scan) take from this graph. */
  captured(node: Node): string[] {
    return bodiesOf(node).flatMap((body) => [...capturedNames(body)]);
  }

  dataType(name: string): number | undefined {
    return this.#constants.get(name)?.dataType ?? this.#shapes.shapes.get(name)?.dataType;
  }

  /** Where the axes of a value lie in the constant behind it (a Transpose moves them); `axis` in, stored axis out. */
  storedAxis(operand: string, axis: number): number {
    let [at, moved] = [operand, axis];
    for (let node = this.producer(at); !this.#constants.has(at) && node !== undefined; node = this.producer(at)) {
      if (node.opType === 'Transpose') {
        const rank = this.axes(at)?.length ?? 0;
        moved = getInts(node, 'perm', undefined)?.[moved] ?? rank - 1 - moved;
      }
      at = node.inputs[0]!;
    }
    return moved;
  }

  /**
   * Notes that a node contracts `use.input` and makes `use.output` with a constant weight. Weights computed while
   * running keep their axes.
   * @param positions weight input, activation input, and the activation's axis that is contracted.
   * @param only the part of that axis that is summed; the rest passes.
   */
  use(
    node: Node,
    [weightIndex, activationIndex, activationAxis]: readonly [number, number, number],
    use: Pick<WeightUse, 'input' | 'output' | 'inputAxis' | 'outputAxis' | 'grouped'>,
    only?: Atom,
  ): void {
    const operand = node.inputs[weightIndex]!;
    const weight = this.constantBehind(operand);
    if (weight === undefined) {
      this.atoms.block(use.input, 'weights computed while running');
      this.atoms.block(use.output, 'weights computed while running');
      return;
    }
    this.sink(node, activationIndex, activationAxis, only);
    const stored = {
      inputAxis: this.storedAxis(operand, use.inputAxis),
      outputAxis: this.storedAxis(operand, use.outputAxis),
    };
    const activation = node.inputs[activationIndex]!;
    // Transposed and fused forms can be cut but are no plain matrix over their inputs.
    const plain = node.domain === '' && ['Conv', 'Gemm', 'MatMul'].includes(node.opType);
    const grouped = use.grouped || !plain;
    this.uses.push({ node, at: this.position(node), operand, weight, activation, stored, ...use, grouped });
  }

  /** Notes that `axis` of the node's input is summed away there. */
  sink(node: Node, input: number, axis: number, only?: Atom): void {
    this.sinks.push(only === undefined ? { node, input, axis } : { node, input, axis, only });
  }

  mark(axis: Atom | undefined, mark: AxisMark): void {
    if (axis !== undefined) this.marks.push({ axis, mark });
  }

  /** Axes of a value, made on first use; null when its shape is unknown. */
  axes(name: string | undefined): Atom[] | null {
    if (name === undefined || name === '') return null;
    const known = this.#axes.get(name);
    if (known !== undefined) return known;
    const dims = this.#constants.get(name)?.dims ?? this.#shapes.shapes.get(name)?.dims;
    const axes = dims?.map((size) => this.atoms.fresh(size)) ?? null;
    this.#axes.set(name, axes);
    return axes;
  }

  /** Adds a constant that an edit brings in, with the axes it shares. */
  setConstant(name: string, tensor: Tensor, axes: Atom[]): void {
    this.#constants.set(name, tensor);
    this.#axes.set(name, axes);
  }

  /** Forbids any change to the value's axes. */
  blockValue(name: string, reason: string): void {
    for (const axis of this.axes(name) ?? []) this.atoms.block(axis, reason);
  }

  blockNode(node: Node, reason: string): void {
    for (const name of [...node.inputs, ...node.outputs]) if (name !== '') this.blockValue(name, reason);
  }
}

/** Unites axis by axis; false when the ranks differ. */
export function samePerAxis(graph: AxisGraph, input: readonly Atom[], output: readonly Atom[] | null): boolean {
  if (output?.length !== input.length) return false;
  input.forEach((atom, axis) => graph.atoms.unite(atom, output[axis]!));
  return true;
}

/** N and C pass, spatial axes keep their sizes. */
export function passBatchAndChannels(graph: AxisGraph, input: Atom[], output: Atom[], reason: string): boolean {
  if (input.length !== output.length) return false;
  input.forEach((atom, axis) => {
    if (axis < 2) {
      graph.atoms.unite(atom, output[axis]!);
    } else {
      graph.atoms.block(atom, reason);
      graph.atoms.block(output[axis]!, reason);
    }
  });
  return true;
}

/** A possibly negative axis as 0…rank-1. */
export function wrap(axis: number, rank: number): number {
  return axis < 0 ? axis + rank : axis;
}
