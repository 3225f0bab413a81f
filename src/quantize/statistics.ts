import { intAttribute, intsAttribute, makeNode } from '../onnx/graph.js';
import { DataType, type Attribute, type Graph, type Model, type Node } from '../onnx/model.js';
import { int64Tensor } from '../onnx/tensor.js';
import type { Feeds, RuntimeSession, RuntimeTensor } from '../runtime/types.js';
import type { ChannelStatistics } from './ranges.js';

/** An activation to look at. */
export interface Observed {
  value: string;
  /** How many channels it has, and whether they come right behind the batch or last; null: as one. */
  channels: { count: number; last: boolean } | null;
}

const prefix = 'snug.calibration';
const names = (i: number) => ({
  shape: `${prefix}.${i}.shape`,
  low: `${prefix}.${i}.low`,
  high: `${prefix}.${i}.high`,
  mean: `${prefix}.${i}.mean`,
  squares: `${prefix}.${i}.squares`,
  samples: `${prefix}.${i}.samples`,
  step: `${prefix}.${i}.step`,
});

/**
 * Adds outputs to a model, in place, that say what its activations look like: extremes, means and squares of each
 * channel, taken in the graph so that only vectors leave the session, and every n-th value, n a graph input.
 */
export function addStatistics(model: Model, observed: readonly Observed[]): void {
  const { graph } = model;
  const opset = model.opsets.get('') ?? 1;
  const constant = (name: string, values: readonly number[]): string => {
    const full = `${prefix}.${name}`;
    graph.initializers.set(full, int64Tensor(full, [values.length], values));
    return full;
  };
  const [flatShape, zero, end] = [constant('flat', [-1]), constant('zero', [0]), constant('end', [2 ** 48])];
  const node = (opType: string, inputs: string[], output: string, attributes: Record<string, Attribute> = {}): Node =>
    makeNode(opType, inputs, [output], attributes, { name: output });
  const reduction = (opType: string, input: string, output: string, axes: readonly number[]): Node => {
    const keep = { keepdims: intAttribute(0) };
    const asInput = opset >= 18;
    const inputs = asInput ? [input, constant(`axes.${axes.join('.')}`, axes)] : [input];
    return node(opType, inputs, output, asInput ? keep : { ...keep, axes: intsAttribute(axes) });
  };
  const taps = observed.map(({ value, channels }, i): Node[] => {
    const name = names(i);
    const flat = `${prefix}.${i}.flat`;
    const added = [
      node('Shape', [value], name.shape),
      node('Reshape', [value, flatShape], flat),
      node('Slice', [flat, zero, end, zero, name.step], name.samples),
    ];
    let [viewed, axes] = [flat, [0]];
    if (channels !== null) {
      viewed = `${prefix}.${i}.channels`;
      axes = channels.last ? [0] : [0, 2];
      const shape = channels.last ? [-1, channels.count] : [0, channels.count, -1];
      added.push(node('Reshape', [value, constant(`view.${shape.join('.')}`, shape)], viewed));
      added.push(reduction('ReduceMean', viewed, name.mean, axes));
      added.push(reduction('ReduceSumSquare', viewed, name.squares, axes));
    }
    added.push(reduction('ReduceMin', viewed, name.low, axes), reduction('ReduceMax', viewed, name.high, axes));
    graph.inputs.push({ name: name.step, dataType: DataType.INT64, dims: [1] });
    const floats = [name.samples, name.low, name.high, ...(channels === null ? [] : [name.mean, name.squares])];
    graph.outputs.push({ name: name.shape, dataType: DataType.INT64, dims: null });
    graph.outputs.push(...floats.map((output) => ({ name: output, dataType: DataType.FLOAT, dims: null })));
    return added;
  });
  appendTaps(graph, taps);
}

/**
 * Adds nodes that look at activations, given in the order the activations are made, so that none is kept: the runtime
 * goes back from the nodes nothing reads, the last one first, so the last one must look at the first activation.
 */
export function appendTaps(graph: Graph, taps: readonly Node[][]): void {
  graph.nodes.push(...taps.toReversed().flat());
}

/** Steps between the values that are looked at: primes, so that every channel gets its turn. */
const steps = [1, 3, 7, 13, 31, 61, 127, 251, 509, 1021, 2039, 4093, 8191, 16381];
const noSamples = 2 ** 40;

/** What one run showed of one activation. */
export interface Seen {
  dims: number[];
  /** One element for each channel, or one. */
  low: Float32Array;
  high: Float32Array;
  mean: Float32Array | null;
  squares: Float32Array | null;
  /** Every `step`-th value in row-major order. */
  samples: Float32Array;
  step: number;
}

/** Runs a model with {@link addStatistics} and reads them. */
export class StatisticsReader {
  /** Elements of each activation in the last run. */
  private readonly sizes = new Map<number, number>();

  constructor(
    private readonly session: RuntimeSession,
    private readonly observed: readonly Observed[],
  ) {}

  /**
   * One run. @param samples values to hand out of each activation, at most about; 0: none.
   * @returns in the order of the observed activations; null for one without elements.
   */
  async run(feeds: Feeds, samples: number): Promise<(Seen | null)[]> {
    const chosen = this.observed.map(({ channels }, i) => {
      const size = this.sizes.get(i);
      if (samples === 0 || size === undefined) return noSamples;
      const wanted = steps.find((step) => step * samples >= size && (channels?.count ?? 1) % step !== 0);
      return size <= samples ? 1 : (wanted ?? steps[steps.length - 1]!);
    });
    const complete: Feeds = { ...feeds };
    chosen.forEach((step, i) => {
      complete[names(i).step] = { dtype: 'int64', dims: [1], data: BigInt64Array.of(BigInt(step)) };
    });
    const fetches = this.observed.flatMap(({ channels }, i) => {
      const { shape, low, high, mean, squares, samples: taken } = names(i);
      return [shape, low, high, ...(channels === null ? [] : [mean, squares]), taken];
    });
    const results = await this.session.run(complete, fetches);
    return this.observed.map((_, i) => this.read(results, i, chosen[i]!));
  }

  private read(results: Feeds, i: number, step: number): Seen | null {
    const name = names(i);
    const floats = (tensor: RuntimeTensor | undefined): Float32Array | null =>
      tensor?.data instanceof Float32Array ? tensor.data : null;
    const dims = [...(results[name.shape]!.data as BigInt64Array)].map(Number);
    const size = dims.reduce((product, dim) => product * dim, 1);
    this.sizes.set(i, size);
    const [low, high, samples] = [name.low, name.high, name.samples].map((output) => floats(results[output]));
    if (size === 0 || !low || !high || !samples) return null;
    const [mean, squares] = [name.mean, name.squares].map((output) =>
      floats(results[output]),
    ) as (Float32Array | null)[];
    return { dims, low, high, mean: mean ?? null, squares: squares ?? null, samples, step };
  }
}

/** Channel statistics over several runs; runs count by their elements. */
export class ChannelSums {
  private readonly low: Float64Array;
  private readonly high: Float64Array;
  private readonly sums: Float64Array;
  private readonly squares: Float64Array;
  private positions = 0;

  constructor(channels: number) {
    this.low = new Float64Array(channels).fill(Infinity);
    this.high = new Float64Array(channels).fill(-Infinity);
    this.sums = new Float64Array(channels);
    this.squares = new Float64Array(channels);
  }

  add({ dims, low, high, mean, squares }: Seen): void {
    const count = this.low.length;
    if (mean === null || squares === null || low.length !== count) return;
    const positions = dims.reduce((product, dim) => product * dim, 1) / count;
    this.positions += positions;
    for (let c = 0; c < count; c++) {
      this.low[c] = Math.min(this.low[c]!, low[c]!);
      this.high[c] = Math.max(this.high[c]!, high[c]!);
      this.sums[c]! += mean[c]! * positions;
      this.squares[c]! += squares[c]!;
    }
  }

  /** Null when nothing was seen, or something that is not finite. */
  statistics(): ChannelStatistics | null {
    const { low, high, sums, squares, positions } = this;
    const finite = [low, high, sums, squares].every((values) => values.every(Number.isFinite));
    if (positions === 0 || !finite) return null;
    return { low, high, mean: sums.map((sum) => sum / positions), square: squares.map((sum) => sum / positions) };
  }
}
