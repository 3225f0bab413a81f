import { getInt, getInts, intAttribute, intsAttribute, makeNode } from '../onnx/graph.js';
import { DataType, type Attribute, type Model, type Node, type Tensor, type ValueInfo } from '../onnx/model.js';
import { float32Tensor, int64Tensor } from '../onnx/tensor.js';
import type { LinearConsumer } from './consumer.js';
import { assemble, mergeNetworks } from './two-networks.js';

/** Outputs of a tap model for one consumer; see {@link buildTapModel}. */
export interface TapNames {
  gram: string;
  cross: string;
  inputSum: string;
  outputSum: string;
  outputSquares: string;
  shape: string;
}

/** Part of a consumer's input axis; its target is what this part alone adds to the dense output. */
export interface TapPiece {
  /** Positions along the axis in the current model. */
  current: readonly number[];
  /** Positions along the axis in the dense model. */
  dense: readonly number[];
  /** Weights of the dense positions as columns × outputs. */
  weights: Float32Array;
}

export interface Tap {
  consumer: LinearConsumer;
  /** Indices of the input axis in the current model (its columns are `indices · columnsPerIndex`). */
  indices: number;
  /** Every how many rows one is used (default 1: all). */
  every?: number;
  /** Only part of the input axis, for consumers too wide to be fitted at once; `indices` counts those of `current`. */
  piece?: TapPiece;
}

/** Values of both networks that are known already, or that a later run wants to start from. */
export interface Checkpoint {
  /** Values handed in instead of being computed, as {@link TapModel.keeps} named them; only those needed become inputs. */
  known: readonly ValueInfo[];
  /** Values to hand out, by their names in the dense model. */
  keep: readonly ValueInfo[];
}

export interface TapModel {
  model: Model;
  names: TapNames[];
  /** Outputs for `keep`: of the dense network and, where it differs, of the pruned one (name starts with `pruned::`). */
  keeps: ValueInfo[];
}

/**
 * A model that runs the dense network and the partly pruned one side by side on the same inputs and hands out, for
 * every tap, the sums a least-squares repair needs (`aᵀa`, `aᵀy`, `Σa`, `Σy`, `Σy²`) with `a` from the pruned and
 * `y` from the dense network. Sums are taken in the graph, so that only small matrices leave the session. Nodes
 * that are the same in both networks are run once; nodes nothing needs are left out.
 * @param current result of rewriting `dense`: same value names.
 */
export function buildTapModel(
  dense: Model,
  current: Model,
  taps: readonly Tap[],
  { known, keep }: Checkpoint = { known: [], keep: [] },
): TapModel {
  const merged = mergeNetworks(dense, current);
  const builder = new TapBuilder(dense.opsets.get('') ?? 1);
  const names = taps.map((tap, at) => builder.add(`tap${at}`, tap, merged.current(tap.consumer.use.activation)));
  const keeps = keep.flatMap((info) =>
    [...new Set([info.name, merged.current(info.name)])].map((name) => ({ ...info, name })),
  );
  const ready = new Set(known.map((info) => info.name));
  const model = assemble(
    dense,
    merged,
    builder,
    [...builder.outputs, ...keeps.filter(({ name }) => !ready.has(name))],
    known,
  );
  return { names, keeps, model };
}

/** Outputs of a comparison model: squared distance of the two networks' answers, and squared dense answers. */
export const comparisonOutputs = { error: 'compare/error', energy: 'compare/energy' } as const;

/**
 * A model that runs both networks and hands out how far apart their float outputs are, summed over everything.
 * Null when no output can be compared.
 */
export function buildComparison(dense: Model, current: Model, known: readonly ValueInfo[]): Model | null {
  const merged = mergeNetworks(dense, current);
  const builder = new TapBuilder(dense.opsets.get('') ?? 1);
  const pairs = dense.graph.outputs
    .filter((output) => floats.has(output.dataType) && !/^present/.test(output.name))
    .map((output) => [output.name, merged.current(output.name)] as const);
  if (pairs.length === 0) return null;
  builder.compare(pairs);
  return assemble(dense, merged, builder, builder.outputs, known);
}

const floats = new Set<number>([DataType.FLOAT, DataType.FLOAT16, DataType.DOUBLE]);

class TapBuilder {
  readonly nodes: Node[] = [];
  readonly constants: Tensor[] = [];
  readonly outputs: ValueInfo[] = [];
  readonly #opset: number;

  constructor(opset: number) {
    this.#opset = opset;
  }

  add(prefix: string, tap: Tap, activation: string): TapNames {
    const { consumer, indices, piece } = tap;
    const { use, outputs, columnsPerIndex } = consumer;
    const columns = indices * columnsPerIndex;
    const cast = this.#node(`${prefix}/a`, 'Cast', [activation], { to: intAttribute(DataType.FLOAT) });
    const a = piece === undefined ? cast : this.#some(`${prefix}/aPiece`, cast, use.node, piece.current);
    const y =
      piece === undefined
        ? this.#node(`${prefix}/y`, 'Cast', [consumer.target], { to: intAttribute(DataType.FLOAT) })
        : this.#partialOutput(prefix, consumer, piece);
    const conv = use.node.opType === 'Conv';
    const allRows = conv
      ? this.#patches(prefix, a, consumer, indices)
      : this.#flatRows(`${prefix}/a`, this.#gemmInput(prefix, a, use.node), columns);
    const allTargets = conv
      ? this.#channelsLast(`${prefix}/y`, y, outputs, consumer.kernel.length)
      : this.#flatRows(`${prefix}/y`, y, outputs);
    const rows = this.#everyRow(`${prefix}/a`, allRows, tap.every ?? 1);
    const targets = this.#everyRow(`${prefix}/y`, allTargets, tap.every ?? 1);
    const turned = this.#node(`${prefix}/at`, 'Transpose', [rows], { perm: intsAttribute([1, 0]) });
    const squares = this.#node(`${prefix}/y2`, 'Mul', [targets, targets]);
    return {
      gram: this.#output(`${prefix}/gram`, 'MatMul', [turned, rows], [columns, columns]),
      cross: this.#output(`${prefix}/cross`, 'MatMul', [turned, targets], [columns, outputs]),
      inputSum: this.#sum(`${prefix}/inputSum`, rows, columns),
      outputSum: this.#sum(`${prefix}/outputSum`, targets, outputs),
      outputSquares: this.#sum(`${prefix}/outputSquares`, squares, outputs),
      shape: this.#output(`${prefix}/shape`, 'Shape', [rows], [2], DataType.INT64),
    };
  }

  /** Some indices of the axis that `node` contracts. */
  #some(name: string, value: string, node: Node, indices: readonly number[]): string {
    const turned = node.opType === 'Gemm' && getInt(node, 'transA', 0) === 1;
    const axis = node.opType === 'Conv' ? 1 : turned ? 0 : -1;
    const list = `${name}Indices`;
    this.constants.push(int64Tensor(list, [indices.length], indices));
    return this.#node(name, 'Gather', [value, list], { axis: intAttribute(axis) });
  }

  /** What a piece of the dense input adds to the dense output, without bias. */
  #partialOutput(prefix: string, consumer: LinearConsumer, piece: TapPiece): string {
    const { use, outputs, kernel, columnsPerIndex } = consumer;
    const cast = this.#node(`${prefix}/dense`, 'Cast', [use.activation], { to: intAttribute(DataType.FLOAT) });
    const some = this.#some(`${prefix}/densePiece`, cast, use.node, piece.dense);
    const columns = piece.dense.length * columnsPerIndex;
    const weight = `${prefix}/denseWeight`;
    if (use.node.opType !== 'Conv') {
      this.constants.push(float32Tensor(weight, [columns, outputs], piece.weights));
      const rows = this.#flatRows(`${prefix}/dense`, this.#gemmInput(`${prefix}/dense`, some, use.node), columns);
      return this.#node(`${prefix}/y`, 'MatMul', [rows, weight]);
    }
    const turned = new Float32Array(piece.weights.length);
    for (let column = 0; column < columns; column++) {
      for (let o = 0; o < outputs; o++) turned[o * columns + column] = piece.weights[column * outputs + o]!;
    }
    this.constants.push(float32Tensor(weight, [outputs, piece.dense.length, ...kernel], turned));
    return this.#node(`${prefix}/y`, 'Conv', [some, weight], Object.fromEntries(use.node.attributes));
  }

  /** Squared distance and energy over all pairs (dense value, other value). */
  compare(pairs: readonly (readonly [string, string])[]): void {
    const total = (name: string, squares: string[]): void => {
      const sums = squares.map((value, at) => {
        const flat = this.#node(`${name}Flat${at}`, 'Reshape', [value, this.#ints(`${name}FlatShape${at}`, [-1, 1])]);
        const turned = this.#node(`${name}Turned${at}`, 'Transpose', [flat], { perm: intsAttribute([1, 0]) });
        return this.#node(`${name}Sum${at}`, 'MatMul', [turned, flat]);
      });
      this.#output(name, 'Sum', sums, [1, 1]);
    };
    const cast = (value: string, at: number, side: string): string =>
      this.#node(`compare/${side}${at}`, 'Cast', [value], { to: intAttribute(DataType.FLOAT) });
    const dense = pairs.map(([value], at) => cast(value, at, 'dense'));
    const differences = pairs.map(([, value], at) =>
      this.#node(`compare/difference${at}`, 'Sub', [dense[at]!, cast(value, at, 'pruned')]),
    );
    total(comparisonOutputs.error, differences);
    total(comparisonOutputs.energy, dense);
  }

  #gemmInput(prefix: string, a: string, node: Node): string {
    const turned = node.opType === 'Gemm' && node.attributes.get('transA');
    if (!turned || turned.type !== 'int' || turned.value === 0) return a;
    return this.#node(`${prefix}/turnedInput`, 'Transpose', [a], { perm: intsAttribute([1, 0]) });
  }

  #flatRows(name: string, value: string, columns: number): string {
    return this.#node(`${name}Rows`, 'Reshape', [value, this.#ints(`${name}RowShape`, [-1, columns])]);
  }

  #everyRow(name: string, rows: string, step: number): string {
    if (step === 1) return rows;
    const ints = (what: string, value: number): string => this.#ints(`${name}${what}`, [value]);
    if (this.#opset < 10) return rows;
    return this.#node(`${name}Some`, 'Slice', [
      rows,
      ints('Start', 0),
      ints('End', Number.MAX_SAFE_INTEGER),
      ints('Axis', 0),
      ints('Step', step),
    ]);
  }

  /** im2col as a depthwise convolution with one-hot kernels: rows are output positions, columns (channel, tap). */
  #patches(prefix: string, a: string, consumer: LinearConsumer, channels: number): string {
    const { kernel, columnsPerIndex: taps, use } = consumer;
    if (isPointwise(use.node, taps)) {
      return this.#channelsLast(`${prefix}/a`, a, channels, kernel.length);
    }
    const values = new Float32Array(channels * taps * taps);
    for (let at = 0; at < channels * taps; at++) values[at * taps + (at % taps)] = 1;
    const weight = `${prefix}/oneHot`;
    this.constants.push(float32Tensor(weight, [channels * taps, 1, ...kernel], values));
    const attributes: Record<string, Attribute> = Object.fromEntries(use.node.attributes);
    const patches = this.#node(`${prefix}/patches`, 'Conv', [a, weight], {
      ...attributes,
      group: intAttribute(channels),
    });
    return this.#channelsLast(`${prefix}/a`, patches, channels * taps, kernel.length);
  }

  /** [N, C, …] as rows × C. */
  #channelsLast(name: string, value: string, channels: number, spatial: number): string {
    const order = Array.from({ length: spatial }, (_, axis) => axis + 2);
    const moved = this.#node(`${name}ChannelsLast`, 'Transpose', [value], { perm: intsAttribute([0, ...order, 1]) });
    return this.#flatRows(name, moved, channels);
  }

  #sum(name: string, rows: string, columns: number): string {
    if (this.#opset < 13) {
      return this.#output(name, 'ReduceSum', [rows], [columns], DataType.FLOAT, {
        axes: intsAttribute([0]),
        keepdims: intAttribute(0),
      });
    }
    return this.#output(name, 'ReduceSum', [rows, this.#ints(`${name}Axes`, [0])], [columns], DataType.FLOAT, {
      keepdims: intAttribute(0),
    });
  }

  #ints(name: string, values: number[]): string {
    this.constants.push(int64Tensor(name, [values.length], values));
    return name;
  }

  #node(name: string, opType: string, inputs: string[], attributes: Record<string, Attribute> = {}): string {
    this.nodes.push(makeNode(opType, inputs, [name], attributes, { name }));
    return name;
  }

  #output(
    name: string,
    opType: string,
    inputs: string[],
    dims: number[],
    dataType: number = DataType.FLOAT,
    attributes: Record<string, Attribute> = {},
  ): string {
    this.outputs.push({ name, dataType, dims });
    return this.#node(name, opType, inputs, attributes);
  }
}

/** Whether a convolution's patches are its input pixels as they are. */
function isPointwise(node: Node, taps: number): boolean {
  const all = (name: string, value: number): boolean => getInts(node, name, [value]).every((item) => item === value);
  return taps === 1 && all('strides', 1) && all('pads', 0);
}
