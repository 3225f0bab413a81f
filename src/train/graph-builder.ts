import { SnugError } from '../contract/errors.js';
import { intAttribute } from '../onnx/attribute.js';
import { makeNode, nodeLabel } from '../onnx/graph.js';
import { DataType, type Attribute, type Graph, type Model, type Node, type Tensor } from '../onnx/model.js';
import { inferShapes, type ShapeResult } from '../onnx/shape.js';
import { encodeFloats, int64Tensor, rawTensor, readNumbers } from '../onnx/tensor.js';

/** Sizes of a value at one batch, and which of them change with the batch. */
export interface Extent {
  readonly sizes: readonly number[];
  readonly open: readonly boolean[];
}

/** The name that open dimensions of a training graph carry. */
export const batchSymbol = 'batch';

/** Two batches that no fixed size is likely to follow: what differs between them depends on the batch. */
const probeBatches = [3, 5] as const;

/** Element types a gradient can have. */
export const floatTypes: ReadonlySet<number> = new Set([
  DataType.FLOAT,
  DataType.FLOAT16,
  DataType.DOUBLE,
  DataType.BFLOAT16,
]);

/**
 * Appends ordinary operators to a graph whose shapes are known up to the batch. Every helper returns the name of
 * the value it makes. Nodes are appended in topological order.
 */
export class GraphBuilder {
  readonly model: Model;
  readonly graph: Graph;
  readonly opset: number;
  readonly #probes: readonly [ShapeResult, ShapeResult];
  readonly #extents = new Map<string, Extent>();
  readonly #constants = new Map<string, string>();
  readonly #prefix: string;
  #count = 0;

  /**
   * @param model edited in place; its open dimensions must all be called {@link batchSymbol}
   * @throws SnugError E_NOT_SUPPORTED below opset 13, where axes were attributes
   */
  constructor(model: Model, prefix = 'train') {
    this.model = model;
    this.graph = model.graph;
    this.opset = model.opsets.get('') ?? 1;
    if (this.opset < 13) {
      throw new SnugError('E_NOT_SUPPORTED', `Training needs opset 13 or newer; this model has opset ${this.opset}.`, {
        action: 'Export the model again with opset 17 or newer.',
        params: { opset: this.opset },
      });
    }
    const [low, high] = probeBatches;
    this.#probes = [inferShapes(model, { [batchSymbol]: low }), inferShapes(model, { [batchSymbol]: high })];
    const taken = new Set([...this.graph.initializers.keys(), ...this.#probes[0].shapes.keys()]);
    let free = prefix;
    for (let n = 1; [...taken].some((name) => name.startsWith(`${free}/`)); n++) free = `${prefix}${n}`;
    this.#prefix = free;
  }

  /** A value name nothing else has. */
  name(hint: string): string {
    return `${this.#prefix}/${hint}_${this.#count++}`;
  }

  /** Shape of a value. @throws SnugError E_NOT_SUPPORTED when it could not be worked out */
  extent(value: string): Extent {
    const known = this.#extents.get(value);
    if (known) return known;
    const [low, high] = this.#probes.map((probe) => probe.shapes.get(value)?.dims);
    if (!low || low.length !== high?.length) {
      const gap = this.#probes[0].unknown.find((entry) => entry.value === value);
      throw new SnugError('E_NOT_SUPPORTED', `The shape of "${value}" is not known before the model runs.`, {
        action: 'Train only the weights behind it (choose them by name), or export the model with fixed sizes.',
        params: { value },
        ...(gap ? { details: gap.reason } : {}),
      });
    }
    const extent = { sizes: low, open: low.map((size, axis) => size !== high[axis]) };
    this.#extents.set(value, extent);
    return extent;
  }

  /** Tells the shape of a value made here. */
  setExtent(value: string, extent: Extent): string {
    this.#extents.set(value, extent);
    return value;
  }

  rank(value: string): number {
    return this.extent(value).sizes.length;
  }

  /** Size of one axis that no batch changes. @throws SnugError E_NOT_SUPPORTED when it does */
  fixedSize(value: string, axis: number): number {
    const { sizes, open } = this.extent(value);
    const at = axis < 0 ? axis + sizes.length : axis;
    if (open[at] !== false) {
      throw new SnugError('E_NOT_SUPPORTED', `Axis ${axis} of "${value}" changes with the batch.`, {
        action: 'Export the model with this size fixed, or train only the weights behind it.',
        params: { value, axis },
      });
    }
    return sizes[at] ?? 1;
  }

  dataType(value: string): number {
    return (
      this.#probes[0].shapes.get(value)?.dataType ?? this.graph.initializers.get(value)?.dataType ?? DataType.FLOAT
    );
  }

  /** Elements of a small value that no batch changes, or null. */
  numbers(value: string): readonly number[] | null {
    const tensor = this.graph.initializers.get(value);
    if (tensor) return readNumbers(tensor);
    const [low, high] = this.#probes.map((probe) => probe.constants.get(value)?.values);
    return low && high && low.length === high.length && low.every((v, i) => v === high[i]) ? low : null;
  }

  /** Like {@link numbers}. @throws SnugError E_NOT_SUPPORTED when the elements are only known while running */
  requireNumbers(value: string, node: Node): readonly number[] {
    const values = this.numbers(value);
    if (values) return values;
    throw new SnugError(
      'E_NOT_SUPPORTED',
      `${node.opType} (node ${nodeLabel(node)}) takes sizes that are only known while the model runs.`,
      {
        action: 'Train only the weights behind it (choose them by name), or export the model with fixed sizes.',
        params: { operator: node.opType, node: nodeLabel(node) },
      },
    );
  }

  /** Appends a node with one output. Empty input names are optional inputs left out. */
  emit(opType: string, inputs: readonly string[], attributes: Record<string, Attribute> = {}, domain = ''): string {
    const output = this.name(opType);
    this.graph.nodes.push(makeNode(opType, inputs, [output], attributes, { name: output, domain }));
    return output;
  }

  /** Appends a node with several outputs. */
  emitMany(
    opType: string,
    inputs: readonly string[],
    outputs: number,
    attributes: Record<string, Attribute>,
  ): string[] {
    const names = Array.from({ length: outputs }, () => this.name(opType));
    this.graph.nodes.push(makeNode(opType, inputs, names, attributes, { name: names[0] ?? '' }));
    return names;
  }

  #constant(key: string, make: (name: string) => Tensor): string {
    const known = this.#constants.get(key);
    if (known !== undefined) return known;
    const name = this.name('constant');
    this.graph.initializers.set(name, make(name));
    this.#constants.set(key, name);
    return name;
  }

  /** INT64 constant; equal ones are shared. */
  ints(values: readonly number[], dims: readonly number[] = [values.length]): string {
    return this.#constant(`i${dims.join(',')}:${values.join(',')}`, (name) => int64Tensor(name, dims, values));
  }

  /** Floating-point constant of the element type of `like`; equal scalars are shared. */
  floats(values: readonly number[], dims: readonly number[], like: string): string {
    const type = this.dataType(like);
    const key = values.length === 1 ? `f${type}:${dims.join(',')}:${values[0]}` : this.name('key');
    return this.#constant(key, (name) => rawTensor(name, type, dims, encodeFloats(values, type)));
  }

  scalar(value: number, like: string): string {
    return this.floats([value], [], like);
  }

  /** The shape of a value as an INT64 vector: a constant unless the batch is in it. */
  shapeVector(value: string): string {
    const { sizes, open } = this.extent(value);
    return open.includes(true) ? this.emit('Shape', [value]) : this.ints(sizes);
  }

  /** Reshapes `x` to the shape of `value`. */
  reshapeLike(x: string, value: string): string {
    const { sizes, open } = this.extent(value);
    const openAxes = open.filter(Boolean).length;
    // One open size can be left to the operator; with a size of 0 beside it, it could not tell.
    if (openAxes > 1 || sizes.includes(0)) {
      return this.emit('Reshape', [x, this.shapeVector(value)], this.opset >= 14 ? { allowzero: intAttribute(1) } : {});
    }
    return this.reshape(
      x,
      sizes.map((size, axis) => (open[axis] ? -1 : size)),
    );
  }

  reshape(x: string, dims: readonly number[]): string {
    return this.emit('Reshape', [x, this.ints(dims)]);
  }

  /** All zeros in the shape and element type of `value`. */
  zerosLike(value: string): string {
    const zero = rawTensor('', this.dataType(value), [1], encodeFloats([0], this.dataType(value)));
    return this.emit('ConstantOfShape', [this.shapeVector(value)], { value: { type: 'tensor', value: zero } });
  }

  binary(opType: 'Add' | 'Sub' | 'Mul' | 'Div' | 'Pow', a: string, b: string): string {
    return this.emit(opType, [a, b]);
  }
  add = (a: string, b: string): string => this.binary('Add', a, b);
  sub = (a: string, b: string): string => this.binary('Sub', a, b);
  mul = (a: string, b: string): string => this.binary('Mul', a, b);
  div = (a: string, b: string): string => this.binary('Div', a, b);
  /** `x` times a number; `like` gives the element type. */
  scale = (x: string, factor: number, like: string): string =>
    factor === 1 ? x : this.mul(x, this.scalar(factor, like));

  reduceSum(x: string, axes: readonly number[], keepDims: boolean): string {
    return this.emit('ReduceSum', [x, this.ints(axes)], { keepdims: intAttribute(keepDims ? 1 : 0) });
  }

  /** Mean over axes, kept with size 1. */
  reduceMean(x: string, axes: readonly number[]): string {
    return this.opset >= 18
      ? this.emit('ReduceMean', [x, this.ints(axes)], { keepdims: intAttribute(1) })
      : this.emit('ReduceMean', [x], { axes: { type: 'ints', value: axes }, keepdims: intAttribute(1) });
  }

  /** Largest over one axis, kept with size 1. */
  reduceMax(x: string, axis: number): string {
    const keepdims = intAttribute(1);
    return this.opset >= 18
      ? this.emit('ReduceMax', [x, this.ints([axis])], { keepdims })
      : this.emit('ReduceMax', [x], { axes: { type: 'ints', value: [axis] }, keepdims });
  }

  transpose(x: string, permutation: readonly number[]): string {
    return this.emit('Transpose', [x], { perm: { type: 'ints', value: permutation } });
  }

  /** One number, or a vector along `axis`, shaped to broadcast over a value of `rank`. */
  alongAxis(x: string, { sizes }: Extent, axis: number, rank: number): string {
    if (sizes.length === 0) return x;
    if (sizes.length === 1 && sizes[0] === 1) return this.reshape(x, []);
    return this.reshape(
      x,
      Array.from({ length: rank }, (_, at) => (at === axis ? -1 : 1)),
    );
  }

  unsqueeze(x: string, axes: readonly number[]): string {
    return this.emit('Unsqueeze', [x, this.ints(axes)]);
  }

  cast(x: string, dataType: number): string {
    return this.emit('Cast', [x], { to: intAttribute(dataType) });
  }

  /** `condition ? x : 0`; a selection, so that what is infinite elsewhere does not leak in. */
  keepWhere(condition: string, x: string, like: string): string {
    return this.emit('Where', [condition, x, this.scalar(0, like)]);
  }

  /**
   * Sums `x`, which has the shape `from`, over everything that broadcasting `value` to `from` repeated, and gives
   * it the shape of `value`.
   */
  sumToShape(x: string, from: Extent, value: string): string {
    const to = this.extent(value);
    const lead = from.sizes.length - to.sizes.length;
    const axes = from.sizes.flatMap((size, axis) => {
      const own = to.sizes[axis - lead];
      return axis < lead || (own === 1 && to.open[axis - lead] === false && (size !== 1 || from.open[axis]))
        ? [axis]
        : [];
    });
    if (axes.length === 0) return x;
    const leadingOnly = axes.every((axis) => axis < lead);
    const summed = this.reduceSum(x, axes, !leadingOnly);
    return leadingOnly || lead === 0 ? summed : this.reshapeLike(summed, value);
  }
}
