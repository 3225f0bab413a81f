import { closeSync, openSync, rmSync } from 'node:fs';
import path from 'node:path';
import { randomUUID } from 'node:crypto';
import { getInt, intAttribute, intsAttribute, makeNode, removeDeadNodesAndInitializers } from '../onnx/graph.js';
import { DataType, type Model, type Node, type ValueInfo } from '../onnx/model.js';
import { readFully } from '../onnx/source.js';
import { valuesUsed } from '../onnx/topology.js';
import { writeModelInSteps } from '../onnx/write.js';
import type { Dataset } from '../runtime/dataset-types.js';
import type { Feeds, Runtime, RuntimeSession } from '../runtime/types.js';
import { StoredRuns } from './sample-runs.js';
import { Segments, type Cut } from './segments.js';

/** An activation some matrices multiply. */
export interface TappedActivation {
  /** Value of the main graph. */
  name: string;
  columns: number;
  /** A Gemm reads it turned. */
  transposed: boolean;
}

/** What the samples showed of one activation, as rows of `columns`. The second moments stay on disk. */
export interface ActivationMoments {
  columns: number;
  /** Mean of each column. */
  mean: Float32Array;
  rows: number;
  /** Rows of one sample are alike: what is known is known from so many. */
  samples: number;
  /** Sums of xᵢxⱼ over the rows, row-major float32 ({@link momentRows}); whoever asked for the moments removes it. */
  file: string;
  /** 1 / rows. */
  share: number;
}

export interface MomentOptions {
  /** Folder for temporary files; it must exist. */
  workDirectory: string;
  /** Samples used at most, or as many as the model takes at a time; default 128. */
  samples?: number;
  signal?: AbortSignal;
}

/** Rows of an activation looked at once in a run, about; a run takes at least one sample. */
const rowsPerRun = 512;
const largestBatch = 32;
/** What is kept between two parts of the model for all samples, at most. */
const mostStoredBytes = 2 ** 30;

/**
 * Second moments and means of activations over samples, some activations at a time: the model is run part by part, each
 * on what the one before left of every sample, so that no layer runs twice and one part's weights are in memory.
 */
export class MomentCollector {
  private readonly segments: Segments;
  private readonly total: number;
  private readonly rowsPerSample: number;
  private cut: Cut;
  private kept: StoredRuns | null = null;
  /** Samples of each run: what is kept of a run is fed to the next part as it is. */
  private counts: number[] | null = null;

  /**
   * @param model constants hoisted; it is not changed
   * @param activations all that will be asked for
   */
  constructor(
    private readonly runtime: Runtime,
    model: Model,
    private readonly dataset: Dataset,
    activations: readonly TappedActivation[],
    private readonly options: MomentOptions,
  ) {
    const names = activations.map(({ name }) => name);
    this.segments = new Segments(model, names, dataset.dims);
    this.cut = this.segments.start;
    this.total = Math.min(Math.max(options.samples ?? 128, dataset.fixedBatch ?? 0), dataset.samples);
    this.rowsPerSample = Math.max(
      1,
      ...activations.map(({ name, columns }) => (this.segments.elementsOf(name) ?? 0) / columns),
    );
  }

  /** How late in the model an activation is made. */
  positionOf({ name }: TappedActivation): number {
    return this.segments.positionOf(name);
  }

  /**
   * @param activations made behind those asked for before
   * @param later activations that will be asked for next; none of them may be made before the place where this part begins
   * @returns in the order of the activations
   * @throws SnugError of the runtime and of the data set
   */
  async collect(
    activations: readonly TappedActivation[],
    later: readonly TappedActivation[],
  ): Promise<ActivationMoments[]> {
    const mostBytes = mostStoredBytes / Math.max(1, this.total);
    const next = this.segments.cutBefore(
      later.map(({ name }) => name),
      this.cut,
      later.length === 0 ? 0 : mostBytes,
    );
    const file = path.join(this.options.workDirectory, `moments-${randomUUID()}.onnx`);
    const kept = next === this.cut ? null : new StoredRuns(this.options.workDirectory);
    try {
      const part = this.segments.from(this.cut);
      const known = new Set(this.cut.values.map(({ name }) => name));
      const passing = next.values.filter(({ name }) => !known.has(name));
      tap(part, activations, kept === null ? [] : passing);
      const inputs = part.graph.inputs.map(({ name }) => name);
      // Weights beside the model are mapped, not copied.
      const onProgress = (): void => this.options.signal?.throwIfAborted();
      await writeModelInSteps(part, file, { externalData: 'always', onProgress });
      const session = await this.runtime.open({
        ...{ modelPath: file, provider: 'cpu', graphOptimization: 'extended', lean: true },
      });
      let moments: ActivationMoments[];
      try {
        const rows = await this.run(session, inputs, activations, kept, next);
        moments = await this.store(session, activations, rows);
      } finally {
        await session.close();
      }
      if (kept !== null) this.goOn(next, kept);
      return moments;
    } catch (error) {
      kept?.remove();
      throw error;
    } finally {
      rmSync(file, { force: true });
      rmSync(`${file}.data`, { force: true });
    }
  }

  private goOn(next: Cut, kept: StoredRuns): void {
    this.kept?.remove();
    this.kept = kept;
    this.cut = next;
  }

  /** Removes what is kept between parts. */
  close(): void {
    this.kept?.remove();
    this.kept = null;
  }

  /** @returns rows of each activation */
  private async run(
    session: RuntimeSession,
    inputs: readonly string[],
    activations: readonly TappedActivation[],
    kept: StoredRuns | null,
    next: Cut,
  ): Promise<number[]> {
    const { dataset, options } = this;
    const fixed = dataset.fixedBatch ?? null;
    const products = activations.map(({ columns }, at) => ({ output: tapName(at), columns }));
    const rows = activations.map(() => 0);
    const counts: number[] = [];
    let batch = fixed ?? 1;
    for (let done = 0; done < this.total;) {
      options.signal?.throwIfAborted();
      const count = this.counts?.[counts.length] ?? Math.min(batch, this.total - done);
      // A model that takes exactly so many samples at a time gets whole batches only.
      if (fixed !== null && count < fixed && done > 0) break;
      const before = this.kept?.read(counts.length) ?? {};
      const feeds: Feeds = {};
      const fed = inputs.every((name) => name in before) ? {} : await dataset.feeds(done, count);
      for (const name of inputs) feeds[name] = before[name] ?? fed[name]!;
      const passing = kept === null ? [] : next.values.map(({ name }) => name).filter((name) => !(name in before));
      const run = await session.runProducts(feeds, products, passing);
      run.rows.forEach((found, at) => (rows[at]! += found));
      kept?.append(Object.fromEntries(next.values.map(({ name }) => [name, run.results[name] ?? before[name]!])));
      counts.push(count);
      done += count;
      if (fixed !== null) continue;
      const most = Math.max(this.rowsPerSample, ...run.rows.map((found) => found / count));
      batch = Math.max(1, Math.min(largestBatch, Math.floor(rowsPerRun / most)));
    }
    this.counts ??= counts;
    return rows;
  }

  private async store(
    session: RuntimeSession,
    activations: readonly TappedActivation[],
    rows: readonly number[],
  ): Promise<ActivationMoments[]> {
    const samples = (this.counts ?? []).reduce((sum, count) => sum + count, 0);
    const moments: ActivationMoments[] = [];
    try {
      for (const [at, { columns }] of activations.entries()) {
        const share = 1 / Math.max(1, rows[at]!);
        const file = path.join(this.options.workDirectory, `moments-${randomUUID()}.bin`);
        const sums = await session.storeProducts(tapName(at), file);
        moments.push({ columns, mean: sums.map((sum) => sum * share), rows: rows[at]!, samples, file, share });
      }
    } catch (error) {
      for (const { file } of moments) rmSync(file, { force: true });
      throw error;
    }
    return moments;
  }
}

const tapName = (at: number): string => `moments/${at}`;

/** Makes activations outputs of a part, as rows of float32, and what passes to the next part. */
function tap(part: Model, activations: readonly TappedActivation[], passing: readonly ValueInfo[]): void {
  const { graph } = part;
  activations.forEach(({ name, transposed }, at) => {
    const output = tapName(at);
    const cast = transposed ? `${output}/float` : output;
    graph.nodes.push(makeNode('Cast', [name], [cast], { to: intAttribute(DataType.FLOAT) }, { name: cast }));
    if (transposed) {
      graph.nodes.push(makeNode('Transpose', [cast], [output], { perm: intsAttribute([1, 0]) }, { name: output }));
    }
    graph.outputs.push({ name: output, dataType: DataType.FLOAT, dims: null });
  });
  graph.outputs.push(...passing.map((value) => ({ ...value })));
  removeDeadNodesAndInitializers(graph);
  const used = new Set(graph.nodes.flatMap((node) => [...valuesUsed(node)]));
  graph.inputs = graph.inputs.filter(({ name }) => used.has(name) && !graph.initializers.has(name));
  part.irVersion = Math.max(part.irVersion, 4);
}

/** Reads second moments row by row: mean of xᵢxⱼ over j. The row is valid until the next. */
export function* momentRows({ columns, file, share }: ActivationMoments): Generator<Float32Array, void> {
  const rows = Math.max(1, Math.floor(chunkBytes / 4 / columns));
  const values = new Float32Array(Math.min(rows, columns) * columns);
  const handle = openSync(file, 'r');
  try {
    for (let first = 0; first < columns; first += rows) {
      const count = Math.min(rows, columns - first);
      const bytes = new Uint8Array(values.buffer, 0, count * columns * 4);
      readFully(handle, file, bytes, first * columns * 4);
      for (let row = 0; row < count; row++) {
        const found = values.subarray(row * columns, (row + 1) * columns);
        for (let i = 0; i < columns; i++) found[i]! *= share;
        yield found;
      }
    }
  } finally {
    closeSync(handle);
  }
}

/** Bytes read in one call. */
const chunkBytes = 2 ** 20;

/** Whether a Gemm reads its first input turned. */
export const readsTransposed = (node: Node): boolean => node.opType === 'Gemm' && getInt(node, 'transA', 0) === 1;
