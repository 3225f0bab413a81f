import { cloneModel, feedInputs, removeDeadNodesAndInitializers, topologicalOrder } from '../onnx/graph.js';
import { DataType, type Model, type Node, type ValueInfo } from '../onnx/model.js';
import { defaultBindings, inferShapes, type ShapeResult } from '../onnx/shape.js';
import { tensorByteLength } from '../onnx/tensor.js';
import { valuesUsed } from '../onnx/topology.js';

/** A place between two nodes of a network, in the order they run. */
export interface Cut {
  /** Nodes that lie before it. */
  at: number;
  /** What nodes before it make of the samples and nodes behind it use. */
  values: ValueInfo[];
  /** Bytes of the values of one sample. */
  bytes: number;
}

/** What a byte of a sample that is kept costs beside a byte of weights that are used once more: it is copied about. */
const keptCost = 4;

/**
 * Takes a network apart into parts that run one after the other, each fed with what the one before left. What does not
 * depend on samples is computed again in each part.
 */
export class Segments {
  private readonly model: Model;
  private readonly nodes: Node[];
  private readonly shapes: ShapeResult;
  /** Value → index of the node that makes it. */
  private readonly madeAt = new Map<string, number>();
  /** Made of samples. */
  private readonly sampled = new Set<string>();
  private readonly cuts: Cut[] = [];
  /** Bytes of weights that work on samples in the nodes before each place. */
  private readonly weightsBefore: number[] = [0];

  /** @param wanted values that will be looked at; @param dims of the samples */
  constructor(model: Model, wanted: Iterable<string>, dims: Readonly<Record<string, number>>) {
    this.model = cloneModel(model);
    const { graph } = this.model;
    this.shapes = inferShapes(model, defaultBindings(model, 1, dims).dims);
    graph.outputs = [...new Set(wanted)].map((name) => ({ name, dataType: DataType.FLOAT, dims: null }));
    removeDeadNodesAndInitializers(graph);
    this.nodes = topologicalOrder(graph);
    graph.nodes = this.nodes;
    for (const { name } of feedInputs(graph)) this.sampled.add(name);
    const lastUse = new Map<string, number>();
    this.nodes.forEach((node, at) => {
      const used = valuesUsed(node);
      for (const name of used) lastUse.set(name, at);
      const sampled = [...used].some((name) => this.sampled.has(name));
      const weights = sampled ? [...used].map((name) => graph.initializers.get(name)?.data.byteLength ?? 0) : [];
      this.weightsBefore.push(weights.reduce((sum, bytes) => sum + bytes, this.weightsBefore[at]!));
      for (const name of node.outputs) {
        if (name === '') continue;
        this.madeAt.set(name, at);
        if (sampled) this.sampled.add(name);
      }
    });
    this.findCuts(lastUse);
  }

  private findCuts(lastUse: ReadonlyMap<string, number>): void {
    let live: ValueInfo[] = [];
    this.cuts.push({ at: 0, values: [], bytes: 0 });
    this.nodes.forEach((node, index) => {
      const made = node.outputs.filter((name) => this.sampled.has(name)).map((name) => this.valueInfo(name));
      live = [...live, ...made].filter(({ name }) => (lastUse.get(name) ?? -1) > index);
      this.cuts.push({
        at: index + 1,
        values: live,
        bytes: live.reduce((sum, { name }) => sum + this.bytesOf(name), 0),
      });
    });
  }

  private valueInfo(name: string): ValueInfo {
    const dims = this.shapes.symbols.get(name);
    return { name, dataType: this.shapes.shapes.get(name)?.dataType ?? 0, dims: dims === undefined ? null : [...dims] };
  }

  private bytesOf(name: string): number {
    const shape = this.shapes.shapes.get(name);
    if (shape === undefined || shape.dataType === DataType.STRING) return Infinity;
    return tensorByteLength(shape.dataType, shape.dims);
  }

  /** Where the network begins. */
  get start(): Cut {
    return this.cuts[0]!;
  }

  /** Elements of a value for one sample; null where they are not known. */
  elementsOf(name: string): number | null {
    return this.shapes.shapes.get(name)?.dims.reduce((product, dim) => product * dim, 1) ?? null;
  }

  /** How late a value is made. */
  positionOf(name: string): number {
    return this.madeAt.get(name) ?? 0;
  }

  /**
   * Where to begin for values that are made behind a place: little shall be kept, and few weights used twice.
   * @param mostBytes of one sample; when more passes everywhere, `from` again
   */
  cutBefore(wanted: Iterable<string>, from: Cut, mostBytes: number): Cut {
    const latest = Math.min(...[...wanted].map((name) => this.positionOf(name)));
    if (latest === Infinity) return from;
    let [best, least] = [from, this.weightsBetween(from.at, latest)];
    for (const cut of this.cuts.slice(from.at + 1, latest + 1)) {
      const cost = cut.bytes * keptCost + this.weightsBetween(cut.at, latest);
      if (cut.bytes <= mostBytes && cost <= least) [best, least] = [cut, cost];
    }
    return best;
  }

  private weightsBetween(from: number, to: number): number {
    return this.weightsBefore[to]! - this.weightsBefore[from]!;
  }

  /** A copy of the network from a place on, without outputs. Its inputs are what passes there and inputs of the model. */
  from(cut: Cut): Model {
    const part = cloneModel(this.model);
    const { graph } = part;
    graph.outputs = [];
    const before = new Set(this.nodes.slice(0, cut.at).flatMap(({ outputs }) => outputs));
    graph.nodes = graph.nodes.filter(
      ({ outputs }) => !outputs.some((name) => before.has(name) && this.sampled.has(name)),
    );
    graph.inputs.push(...cut.values.map((value) => ({ ...value })));
    return part;
  }
}
