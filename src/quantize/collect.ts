import { rmSync } from 'node:fs';
import path from 'node:path';
import { randomUUID } from 'node:crypto';
import { SnugError } from '../contract/errors.js';
import type { Provider } from '../contract/types.js';
import { cloneModel } from '../onnx/graph.js';
import type { Model } from '../onnx/model.js';
import { raiseOpset } from '../onnx/opset.js';
import { writeModelInSteps } from '../onnx/write.js';
import type { Dataset } from '../runtime/dataset-types.js';
import type { Runtime } from '../runtime/types.js';
import { calibratedRange, expectedError, type Calibrator } from './calibrators.js';
import { chooseScales } from './channel-scales.js';
import { ActivationHistogram } from './histogram.js';
import { leastOpset } from './obstacles.js';
import { beforeQuantizing, staticSites, type StaticSite } from './passes.js';
import type { ActivationRange, ActivationRanges, ChannelStatistics } from './ranges.js';
import { findScalable, type Scalable } from './scalable.js';
import { poolSpatialMeans, staticRegion } from './static-region.js';
import { addStatistics, ChannelSums, StatisticsReader, type Observed, type Seen } from './statistics.js';
import { inputChannels, inputPower, weightRows } from './weight-rows.js';

export interface CollectOptions {
  /** Folder for the temporary model; it must exist. The model is removed again. */
  workDirectory: string;
  /** Provider that runs the calibration; default cpu. */
  provider?: Provider;
  /** Samples used at most, or as many as the model takes at a time; default 128. */
  samples?: number;
  /** Values of the named dimensions, where the data set does not fix them (unused by feeds that are complete). */
  dims?: Record<string, number>;
  /** Names of the weights that shall be static int8; all that can when left out. Others are not scaled. */
  weights?: ReadonlySet<string>;
  /** How ranges are chosen; default the one of least error, tensor by tensor. */
  calibrator?: Calibrator;
  /** Whether channels may be scaled so that 8 bits lose less; default true. */
  scaleChannels?: boolean;
  signal?: AbortSignal;
  onProgress?: (done: number, total: number) => void;
}

/** Bytes of values handed out of one run, at most (one sample is the least), and of activations alive in it, about. */
const batchBytes = 4 * 2 ** 20;
/** Of the bytes of all activations, those alive at once: each is looked at before the next is made. */
const activationShare = 8;
const largestBatch = 16;
/** Samples whose channels are looked at before scales are chosen. */
const firstSamples = 32;
/** Values of one activation taken from one sample for its histogram, about. */
const valuesPerSample = 8192;

/**
 * Runs calibration samples through a model and returns what static int8 needs to know of every activation
 * ({@link staticRegion}): its range, and for those that weights multiply their channels and by what to scale them.
 * Two passes: channels first, then histograms of the activations as they will be. Memory is bounded by one batch
 * and the number of activations, whatever the number of samples.
 * @throws SnugError E_DATA_SHAPE when the data set is empty; whatever the runtime throws.
 */
export async function collectRanges(
  runtime: Runtime,
  model: Model,
  dataset: Dataset,
  options: CollectOptions,
): Promise<ActivationRanges> {
  const clone = cloneModel(model);
  beforeQuantizing(clone);
  const calibration = new Calibration(clone, options);
  if (calibration.observed.length === 0) return new Map<string, ActivationRange>();
  const total = Math.min(Math.max(options.samples ?? 128, dataset.fixedBatch ?? 0), dataset.samples);
  if (total === 0) throw new SnugError('E_DATA_SHAPE', `The data set ${dataset.name} holds no samples.`);
  raiseOpset(clone, leastOpset.QDQ);
  addStatistics(clone, calibration.observed);
  const file = path.join(options.workDirectory, `calibration-${randomUUID()}.onnx`);
  try {
    // Weights beside the model are mapped, not copied.
    await writeModelInSteps(clone, file, {
      externalData: 'always',
      onProgress: () => options.signal?.throwIfAborted(),
    });
    const session = await runtime.open({
      modelPath: file,
      provider: options.provider ?? 'cpu',
      graphOptimization: 'extended',
      lean: true,
    });
    try {
      const reader = new StatisticsReader(session, calibration.observed);
      const run = (first: boolean): Promise<void> => passOver(calibration, reader, dataset, total, first, options);
      await run(true);
      calibration.chooseScales();
      await run(false);
    } finally {
      await session.close();
    }
  } finally {
    rmSync(file, { force: true });
    rmSync(`${file}.data`, { force: true });
  }
  return calibration.ranges();
}

async function passOver(
  calibration: Calibration,
  reader: StatisticsReader,
  dataset: Dataset,
  total: number,
  first: boolean,
  options: CollectOptions,
): Promise<void> {
  const fixed = dataset.fixedBatch ?? null;
  const wanted = first ? Math.min(total, Math.max(firstSamples, fixed ?? 0)) : total;
  let batch = fixed ?? 1;
  for (let done = 0; done < wanted;) {
    options.signal?.throwIfAborted();
    const count = Math.min(batch, wanted - done);
    // A model that takes exactly so many samples at a time gets whole batches only.
    if (fixed !== null && count < fixed && done > 0) break;
    // The first pass looks all over the data set, which may be sorted.
    const start = first ? Math.min(Math.floor((done * total) / wanted), total - count) : done;
    const seen = await reader.run(await dataset.feeds(start, count), first ? 0 : count * valuesPerSample);
    if (first) calibration.addChannels(seen);
    else calibration.addValues(seen);
    done += count;
    options.onProgress?.(first ? Math.floor((done * total) / wanted / 4) : Math.floor((total + 3 * done) / 4), total);
    if (fixed === null) {
      const elements = seen.reduce((sum, one) => sum + (one?.dims.reduce((size, dim) => size * dim, 1) ?? 0), 0);
      const bytes = 4 * Math.max(elements / count / activationShare, seen.length * valuesPerSample);
      batch = Math.max(1, Math.min(largestBatch, Math.floor(batchBytes / bytes)));
    }
  }
}

/** What is known of the activations while samples run. */
class Calibration {
  readonly observed: Observed[] = [];
  private readonly sites: StaticSite[];
  private readonly scalables: Scalable[];
  private readonly sums = new Map<string, ChannelSums>();
  private readonly scales = new Map<string, Float64Array>();
  /** Value → scales of the value it is made of or makes. */
  private readonly scaledBy = new Map<string, Float64Array>();
  private readonly power = new Map<string, Float64Array>();
  private readonly histograms: ActivationHistogram[];
  private readonly populations: number[];

  constructor(
    model: Model,
    private readonly options: CollectOptions,
  ) {
    const { graph } = model;
    this.sites = staticSites(model, options.weights);
    const sites = this.sites.map(({ site }) => site);
    poolSpatialMeans(graph, sites);
    this.scalables = options.scaleChannels === false ? [] : findScalable(graph, sites);
    const nodes = new Set(this.sites.flatMap(({ uses }) => uses.map((use) => use.node)));
    const layouts = this.layouts();
    for (const value of staticRegion(graph, nodes).values) {
      this.observed.push({ value, channels: layouts.get(value) ?? null });
    }
    for (const { value, channels } of this.observed) {
      if (channels !== null) this.sums.set(value, new ChannelSums(channels.count));
    }
    this.histograms = this.observed.map(() => new ActivationHistogram());
    this.populations = this.observed.map(() => 0);
  }

  /** Where the channels of the activations are that weights read. */
  private layouts(): Map<string, Observed['channels']> {
    const layouts = new Map<string, Observed['channels']>();
    const note = (value: string, count: number, last: boolean): void => {
      const known = layouts.get(value);
      const same = known === undefined || (known !== null && known.count === count && known.last === last);
      layouts.set(value, same ? { count, last } : null);
    };
    for (const { site, uses } of this.sites) {
      for (const use of uses) note(use.node.inputs[0]!, inputChannels(use, site.tensor), use.role !== 'conv');
    }
    for (const { values, channels, readers } of this.scalables) {
      for (const value of values) note(value, channels, readers[0]!.use.role !== 'conv');
    }
    return layouts;
  }

  addChannels(seen: readonly (Seen | null)[]): void {
    seen.forEach((one, i) => one !== null && this.sums.get(this.observed[i]!.value)?.add(one));
  }

  chooseScales(): void {
    for (const scalable of this.scalables) {
      const statistics = this.sums.get(scalable.value)?.statistics();
      if (!statistics) continue;
      const rows = scalable.readers.map(({ site, use }) => weightRows(use, site.tensor));
      const scales = chooseScales(scalable, statistics, rows);
      if (scales === null) continue;
      this.scales.set(scalable.value, scales);
      for (const value of scalable.values) this.scaledBy.set(value, scales);
    }
    for (const { site, uses } of this.sites) {
      for (const use of uses) this.addPower(use.node.inputs[0]!, inputPower(weightRows(use, site.tensor)));
    }
  }

  /** By how much an error of each channel counts: Σ w² of the weights that read it, as scaled. */
  private addPower(value: string, power: Float64Array): void {
    const known = this.power.get(value);
    const scales = this.scaledBy.get(value);
    const scaled = power.map((each, c) => each * (scales?.[c] ?? 1) ** 2);
    if (known === undefined) this.power.set(value, scaled);
    else if (known.length === scaled.length)
      this.power.set(
        value,
        known.map((each, c) => each + scaled[c]!),
      );
  }

  addValues(seen: readonly (Seen | null)[]): void {
    seen.forEach((one, i) => one !== null && this.addHistogram(i, one));
  }

  private addHistogram(i: number, { dims, samples, step, low, high }: Seen): void {
    const { value, channels } = this.observed[i]!;
    const histogram = this.histograms[i]!;
    const size = dims.reduce((product, dim) => product * dim, 1);
    const each = size / Math.max(1, samples.length);
    this.populations[i]! += size;
    const count = channels?.count ?? 1;
    const inner = channels === null || channels.last ? 1 : dims.slice(2).reduce((product, dim) => product * dim, 1);
    const channelOf = (j: number): number => Math.floor((j * step) / inner) % count;
    const scales = this.scaledBy.get(value);
    const power = this.power.get(value);
    const weight = power === undefined ? null : (c: number): number => power[c]!;
    const scaled = scales === undefined ? samples : samples.map((x, j) => x / scales[channelOf(j)]!);
    histogram.add(scaled, each, weight && ((j) => weight(channelOf(j))));
    // The extremes of each channel are there for sure, whatever the samples missed.
    for (const ends of [low, high]) {
      histogram.add(scales === undefined ? ends : ends.map((x, c) => x / scales[c]!), 1, weight);
    }
  }

  ranges(): ActivationRanges {
    const ranges = new Map<string, ActivationRange>();
    const channels = new Map<string, ChannelStatistics>();
    const [outputDb, dynamicDb] = [new Map<string, number>(), new Map<string, number>()];
    const db = (signal: number, noise: number): number => 10 * Math.log10(signal / Math.max(noise, 1e-30));
    this.observed.forEach(({ value }, i) => {
      const range = calibratedRange(this.histograms[i]!, this.options.calibrator);
      if (range === null) return;
      ranges.set(value, range);
      const statistics = scaledStatistics(this.sums.get(value)?.statistics() ?? null, this.scaledBy.get(value));
      const power = this.power.get(value);
      if (statistics === null || power === undefined) return;
      channels.set(value, statistics);
      const signal = statistics.square.reduce((sum, square, c) => sum + square * power[c]!, 0);
      const noise = expectedError(this.histograms[i]!, range) / (this.populations[i]! / power.length);
      outputDb.set(value, db(signal, noise));
      const span =
        statistics.high.reduce((a, b) => Math.max(a, b), 0) - statistics.low.reduce((a, b) => Math.min(a, b), 0);
      dynamicDb.set(value, db(signal, ((span / 255) ** 2 / 12) * power.reduce((sum, each) => sum + each, 0)));
    });
    return { get: (value) => ranges.get(value), channels, scales: this.scales, outputDb, dynamicDb };
  }
}

function scaledStatistics(
  statistics: ChannelStatistics | null,
  scales: Float64Array | undefined,
): ChannelStatistics | null {
  if (statistics === null || scales === undefined) return statistics;
  const divided = (values: Float64Array, power = 1): Float64Array => values.map((x, c) => x / scales[c]! ** power);
  const { low, high, mean, square } = statistics;
  return { low: divided(low), high: divided(high), mean: divided(mean), square: divided(square, 2) };
}
