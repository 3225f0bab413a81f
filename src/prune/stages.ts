import { mkdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { DataType, type Model, type Node, type ValueInfo } from '../onnx/model.js';
import { dataTypeBits } from '../onnx/tensor.js';
import { valuesUsed } from '../onnx/topology.js';
import { writeModel } from '../onnx/write.js';
import type { Feeds, RuntimeTensor } from '../runtime/types.js';
import { leavesOf, type Atom } from './axis-atoms.js';
import type { AxisGraph } from './axis-graph.js';
import { analysisBatch, type PruneSamples } from './request.js';
import { buildComparison, buildTapModel, comparisonOutputs, type Tap, type TapNames } from './taps.js';

/** However many rows one sample has: fewer samples than this would not be diverse. */
const leastSamples = 64;
/** Rows that make a fit of so many columns stable, with a floor for narrow ones. More only costs time. */
const enoughRows = (columns: number): number => Math.max(8192, 6 * columns);
/** Bytes of patches (im2col and its transposes) one run may hold. */
const patchBytes = 384e6;
/** Bytes of values kept between stages; beyond it a stage starts from an earlier one, which only costs time. */
const keptBytes = 1e9;

/** Element types that can leave a session and come back. */
const keepable = new Set<number>([
  DataType.FLOAT,
  DataType.FLOAT16,
  DataType.DOUBLE,
  DataType.INT64,
  DataType.INT32,
  DataType.BOOL,
]);

/** What a tap reads, in sizes: rows of one sample, and columns. */
export interface TapSize {
  rows: number;
  columns: number;
}

/** One run of a tap model on a part of the samples. */
export interface StageRun {
  results: Feeds;
  names: TapNames[];
  /** Whether these samples are for fitting or for judging the fit. */
  heldOut: boolean;
}

/** A class, or anything else, whose weights may still change. */
export interface Undecided {
  members: readonly { initializer: string }[];
  /** The axis that will shrink: operators that only repeat or regroup it change without any weight. */
  leaf?: Atom;
}

interface Batch {
  start: number;
  count: number;
  heldOut: boolean;
}

/**
 * Runs tap models class after class. The networks are not run from their inputs each time: what no later edit can
 * change is kept from one stage to the next, in both networks, so that the whole repair costs about as much as
 * running each network twice.
 */
export class Stages {
  readonly #dense: Model;
  readonly #graph: AxisGraph;
  readonly #samples: PruneSamples;
  readonly #batches: Batch[];
  readonly #total: number;
  #known: ValueInfo[] = [];
  #values: Feeds[] = [];

  constructor(dense: Model, graph: AxisGraph, samples: PruneSamples, sizes: readonly TapSize[]) {
    this.#dense = dense;
    this.#graph = graph;
    this.#samples = samples;
    const { total, batch } = runSizes(sizes, samples);
    this.#total = total;
    // A model that takes exactly so many samples at a time gets whole batches only.
    const whole = samples.dataset.fixedBatch ?? 1;
    const split = total < 5 * whole ? total : Math.floor((total * 0.8) / whole) * whole;
    this.#batches = [];
    for (let start = 0; start < total;) {
      const end = Math.min(start + batch, start < split ? split : total);
      this.#batches.push({ start, count: end - start, heldOut: start >= split });
      start = end;
    }
  }

  /** Every how many rows of a tap are enough: a step that walks over the columns of an image, not along one. */
  every({ rows, columns }: TapSize): number {
    const step = Math.floor((rows * this.#total) / (2 * enoughRows(columns)));
    return step < 2 ? 1 : step + 1 - (step % 2);
  }

  /**
   * Runs `taps` on all samples.
   * @param undecided classes whose widths are still to be chosen (those of the taps among them): what they cannot
   * reach is kept for the next call.
   */
  async run(
    current: Model,
    taps: readonly Tap[],
    undecided: readonly Undecided[],
    onRun: (run: StageRun) => void,
  ): Promise<void> {
    const keep = this.#worthKeeping(undecided);
    const tapped = buildTapModel(this.#dense, current, taps, { known: this.#known, keep });
    await this.#runAll(tapped.model, this.#batches, (results, { heldOut }, at, known) => {
      onRun({ results, names: tapped.names, heldOut });
      if (keep.length === 0) return;
      this.#values[at] = Object.fromEntries(tapped.keeps.map(({ name }) => [name, results[name] ?? known(name)]));
    });
    if (keep.length > 0) this.#known = tapped.keeps;
  }

  /**
   * Squared error of a pruned network's outputs on the samples kept out of the fit, relative to their energy. What the
   * last {@link run} kept must still hold: the network may differ from it in that run's undecided classes only.
   * @returns null when the model has no output to compare.
   */
  async outputError(current: Model): Promise<number | null> {
    const model = buildComparison(this.#dense, current, this.#known);
    if (model === null) return null;
    const apart = this.#batches.some((batch) => batch.heldOut);
    let error = 0;
    let energy = 0;
    await this.#runAll(
      model,
      this.#batches,
      (results) => {
        error += Number(results[comparisonOutputs.error]!.data[0]);
        energy += Number(results[comparisonOutputs.energy]!.data[0]);
      },
      (batch) => batch.heldOut === apart,
    );
    return energy > 0 ? error / energy : null;
  }

  async #runAll(
    model: Model,
    batches: readonly Batch[],
    onResults: (results: Feeds, batch: Batch, at: number, known: (name: string) => RuntimeTensor) => void,
    wanted: (batch: Batch) => boolean = () => true,
  ): Promise<void> {
    const samples = this.#samples;
    await mkdir(samples.workDirectory, { recursive: true });
    const file = path.join(samples.workDirectory, 'prune-taps.onnx');
    writeModel(model, file, { overwrite: true });
    const session = await samples.runtime.open({ modelPath: file, provider: samples.provider ?? 'cpu' });
    const own = new Set(this.#dense.graph.inputs.map((input) => input.name));
    const inputs = model.graph.inputs.map((input) => input.name);
    try {
      for (const [at, batch] of batches.entries()) {
        if (!wanted(batch)) continue;
        const given = inputs.some((name) => own.has(name)) ? await samples.dataset.feeds(batch.start, batch.count) : {};
        const known = (name: string): RuntimeTensor => this.#values[at]?.[name] ?? given[name]!;
        onResults(await session.run(Object.fromEntries(inputs.map((name) => [name, known(name)]))), batch, at, known);
      }
    } finally {
      await session.close();
      await rm(file, { force: true });
    }
  }

  /** Values of the dense model on the border of what is still undecided; empty when they are unknown or too large. */
  #worthKeeping(undecided: readonly Undecided[]): ValueInfo[] {
    const { aliases } = this.#graph.unshared;
    const members = new Set(
      undecided.flatMap((one) => one.members.map(({ initializer }) => aliases.get(initializer) ?? initializer)),
    );
    const leaves = new Set(undecided.map((one) => one.leaf));
    const shrinks = (name: string): boolean =>
      this.#graph.axes(name)?.some((axis) => leavesOf(axis).some((leaf) => leaves.has(leaf))) ?? false;
    const open = new Set<Node>();
    const reached = new Set<string>(members);
    for (const node of this.#dense.graph.nodes) {
      if (![...valuesUsed(node)].some((name) => reached.has(name)) && !node.outputs.some(shrinks)) continue;
      open.add(node);
      for (const output of node.outputs) reached.add(output);
    }
    const made = new Set(this.#dense.graph.nodes.filter((node) => !open.has(node)).flatMap((node) => node.outputs));
    const border = new Set<string>();
    for (const node of open) for (const name of valuesUsed(node)) if (made.has(name)) border.add(name);
    let bytes = 0;
    const infos: ValueInfo[] = [];
    for (const name of border) {
      if (this.#graph.fromConstants(name)) continue;
      const axes = this.#graph.axes(name);
      const dataType = this.#graph.dataType(name);
      if (axes === null || dataType === undefined || !keepable.has(dataType)) return [];
      const elements = axes.reduce((product, axis) => product * axis.size, 1) / analysisBatch;
      bytes += 2 * elements * this.#total * ((dataTypeBits(dataType) ?? 64) / 8);
      // Operators that take a list of sizes want to know its length when they are loaded.
      const listed = this.#graph.elements(name) !== null;
      infos.push({ name, dataType, dims: axes.map((axis) => (listed ? axis.size : null)) });
    }
    return bytes <= keptBytes ? infos : [];
  }
}

/** How many samples are enough for every class, and how many fit into one run. */
function runSizes(sizes: readonly TapSize[], samples: PruneSamples): { total: number; batch: number } {
  let total = leastSamples;
  let batch = samples.batch ?? 32;
  for (const { rows, columns } of sizes) {
    total = Math.max(total, Math.ceil(enoughRows(columns) / rows));
    batch = Math.min(batch, Math.floor(patchBytes / (rows * columns * 4 * 3)));
  }
  const whole = samples.dataset.fixedBatch ?? 1;
  const wholes = (count: number): number => Math.max(1, Math.floor(count / whole)) * whole;
  return {
    total: wholes(Math.min(samples.dataset.samples, samples.maxSamples ?? 256, total)),
    batch: samples.dataset.fixedBatch ?? Math.max(1, batch),
  };
}
