import path from 'node:path';
import type { JobProgress, Quality } from '../contract/types.js';
import { DataType, type Model, type ValueInfo } from '../onnx/model.js';
import { writeModel } from '../onnx/write.js';
import type { Dataset } from '../runtime/dataset-types.js';
import type { TrainingRuntime } from '../runtime/training-types.js';
import type { Runtime } from '../runtime/types.js';
import { cutValues, partBetween } from '../train/blocks.js';
import { forwardGraph, type InputDims } from '../train/forward.js';
import { prepareTraining, trainedModel, type PreparedTraining, type TrainSettings } from '../train/prepare.js';
import { SampleSource } from '../train/samples.js';
import { train, type TrainOutcome, type Targets } from '../train/train.js';
import { trainableWeights, type TrainableWeight } from '../train/trainable.js';
import { Reference } from './reference.js';
import { dropValues, keepValues, windowForTraining, withValues, type KeptValues } from './recover-data.js';
import { trainingMemory } from './training-memory.js';
import { withVariants } from './variants.js';

export interface RecoverRequest {
  /** What answered before: the teacher. */
  original: Model;
  /** The pruned model; its widths stay. */
  changed: Model;
  /** Output that holds the answers. */
  output: string;
  /** Unlabelled samples to train on. */
  dataset: Dataset;
  /** Samples that neither pruning nor quantization has seen: they judge what training does. */
  heldOut: Dataset;
  runtime: Runtime & TrainingRuntime;
  /** For temporary files. */
  folder: string;
  /** Bytes that training the whole model at once may take; above it only blocks are trained. Null = no limit. */
  memoryBytes: number | null;
  /** No further block, and no training of all weights, begins after so many seconds. */
  seconds: number;
  onProgress?: (progress: JobProgress) => void;
  signal?: AbortSignal;
}

export interface RecoverOutcome {
  /** The changed model with trained weights; the one given when nothing helped. */
  model: Model;
  /** On the samples kept out, against the original. */
  before: Quality;
  after: Quality;
  /** Blocks that were trained, and whether all weights together were. */
  blocks: number;
  whole: boolean;
  seconds: number;
}

/** Times over the data. */
const blockEpochs = 4;
const wholeEpochs = 2;
/** Changed copies of each sample. */
const copies = 6;
const batch = 8;
/** Learning rates at their highest. */
const blockRate = 4e-4;
const wholeRate = 1e-3;

const targetName = 'recover/target';

/**
 * Trains what a change of a model has left of it to answer as it did before, from unlabelled samples: block by block,
 * each from what the changed blocks before it give to what the original's block gives (so that one block's activations
 * are in memory at a time), then all weights together on the answers where memory allows. Each step is taken only when
 * it lowers the damage on samples kept out.
 *
 * @throws SnugError E_NOT_SUPPORTED where no gradient leads; whatever stops a run
 */
export async function recoverModel(request: RecoverRequest): Promise<RecoverOutcome> {
  const { dataset, heldOut } = await windowForTraining(request);
  const { inputDims } = await SampleSource.open(dataset);
  return new Recovery({ ...request, dataset, heldOut }, inputDims).run();
}

class Recovery {
  readonly #request: RecoverRequest;
  readonly #original: Model;
  readonly #inputDims: InputDims;
  #held: number[] = [];
  readonly #started = performance.now();
  /** The changed model as it is trained, and the same as a person will have it. */
  #student: Model;
  #result: Model;
  #reference: Reference | null = null;
  /** The samples, and changed copies of those that are trained on. */
  #data: Dataset;

  constructor(request: RecoverRequest, inputDims: InputDims) {
    this.#request = request;
    const { output } = request;
    this.#inputDims = inputDims;
    this.#original = forwardGraph(request.original, { inputDims, output });
    this.#student = forwardGraph(request.changed, { inputDims, output });
    this.#result = request.changed;
    this.#data = request.dataset;
  }

  async run(): Promise<RecoverOutcome> {
    const request = this.#request;
    const before = await this.#judge();
    this.#data = await this.#varied();
    const { samples } = this.#data;
    this.#held = Array.from({ length: request.heldOut.samples }, (_, i) => samples - request.heldOut.samples + i);
    let best = { student: this.#student, result: this.#result, quality: before };
    const take = async (): Promise<boolean> => {
      const quality = await this.#judge();
      if (damageOf(quality) < damageOf(best.quality)) {
        best = { student: this.#student, result: this.#result, quality };
        return true;
      }
      ({ student: this.#student, result: this.#result } = best);
      return false;
    };
    let blocks = await this.#trainBlocks();
    if (blocks > 0 && !(await take())) blocks = 0;
    const whole = (await this.#trainWhole(before.klNats === null ? 'mse' : 'distill')) && (await take());
    return {
      model: best.result,
      before,
      after: best.quality,
      blocks,
      whole,
      seconds: (performance.now() - this.#started) / 1000,
    };
  }

  async #varied(): Promise<Dataset> {
    const { dataset, heldOut, runtime, folder, output, signal } = this.#request;
    const modelPath = path.join(folder, 'original.onnx');
    writeModel(this.#original, modelPath, { overwrite: true });
    return withVariants({
      dataset,
      last: heldOut,
      inputDims: this.#inputDims,
      copies,
      modelPath,
      output,
      runtime,
      seed: 1,
      ...(signal ? { signal } : {}),
    });
  }

  /** @returns how many blocks were trained */
  async #trainBlocks(): Promise<number> {
    const { runtime, folder, signal } = this.#request;
    const dataset = this.#data;
    const steps = this.#steps();
    const keep = (model: Model, data: Dataset, name: string): Promise<KeptValues> =>
      keepValues(runtime, model, data, folder, name, signal);
    let trained = 0;
    let [originalIn, changedIn]: (KeptValues | null)[] = [null, null];
    let from: ValueInfo | null = null;
    try {
      for (const [at, { to, weights }] of steps.entries()) {
        if (!this.#hasTime()) break;
        this.#tell(at, steps.length, to.name);
        const fedOriginal = withValues(dataset, originalIn ? [originalIn] : []);
        const target = await keep(partBetween(this.#original, from, to), fedOriginal, targetName);
        await dropValues(originalIn);
        originalIn = target;
        const data = withValues(dataset, [target, ...(changedIn ? [changedIn] : [])]);
        const part = partBetween(this.#student, from, to);
        if (weights.length > 0 && this.#hasTime() && (await this.#trainBlock(part, weights, data))) trained += 1;
        if (at === steps.length - 1) break;
        const next = await keep(partBetween(this.#student, from, to), data, to.name);
        await dropValues(changedIn);
        changedIn = next;
        originalIn = { ...target, name: to.name };
        from = to;
      }
    } finally {
      await dropValues(originalIn);
      await dropValues(changedIn);
    }
    return trained;
  }

  /** Parts both networks have, each with the weights that are used in it alone. */
  #steps(): { to: ValueInfo; weights: string[] }[] {
    const others = new Map(cutValues(this.#original).map((cut) => [cut.name, cut]));
    const cuts = cutValues(this.#student).filter(
      ({ name, dataType, dims }) =>
        dataType === DataType.FLOAT &&
        (dims ?? []).length >= 2 &&
        others.get(name)?.dataType === DataType.FLOAT &&
        String(others.get(name)?.dims) === String(dims),
    );
    const uses = new Map<string, number>();
    const found: { to: ValueInfo; weights: TrainableWeight[] }[] = [];
    let from: ValueInfo | null = null;
    for (const [at, to] of cuts.entries()) {
      const part = partBetween(this.#student, from, to);
      const weights = this.#mayChange(trainableWeights(part));
      const last = at === cuts.length - 1;
      if (!last && !weights.some(({ role }) => role === 'matrix' || role === 'kernel')) continue;
      for (const { name } of weights) uses.set(name, (uses.get(name) ?? 0) + 1);
      found.push({ to, weights });
      from = to;
    }
    return found.map(({ to, weights }) => ({
      to,
      weights: weights.map(({ name }) => name).filter((name) => uses.get(name) === 1),
    }));
  }

  #mayChange(weights: readonly TrainableWeight[]): TrainableWeight[] {
    const { changed } = this.#request;
    return weights.filter(({ name }) => changed.graph.initializers.has(name));
  }

  async #trainBlock(part: Model, weights: string[], data: Dataset): Promise<boolean> {
    const source = await SampleSource.open(data);
    const prepared = prepareTraining(
      part,
      source.inputDims,
      settings({ loss: { kind: 'mse' }, trainable: weights, rate: blockRate, epochs: blockEpochs }),
    );
    return this.#train(prepared, source, { kind: 'array', name: targetName });
  }

  async #trainWhole(kind: 'distill' | 'mse'): Promise<boolean> {
    const { folder, output, memoryBytes } = this.#request;
    if (!this.#hasTime()) return false;
    const weights = this.#mayChange(trainableWeights(this.#student)).map(({ name }) => name);
    const source = await SampleSource.open(this.#data);
    let prepared = prepareTraining(
      this.#student,
      source.inputDims,
      settings({ loss: { kind }, trainable: weights, rate: wholeRate, epochs: wholeEpochs }),
    );
    const teacher = this.#original;
    const needs = (): number => trainingMemory(prepared, 'cpu', { teacher }).peakBytes;
    while (memoryBytes !== null && needs() > memoryBytes) {
      const { microBatch } = prepared.settings;
      if (microBatch === 1) return false;
      prepared = { ...prepared, settings: { ...prepared.settings, microBatch: microBatch >> 1 } };
    }
    this.#tell(0, null, 'all');
    const modelPath = path.join(folder, 'original.onnx');
    return this.#train(prepared, source, { kind: 'teacher', modelPath, output });
  }

  /** @returns whether the loss on the samples kept out fell; then the student has the trained weights */
  async #train(prepared: PreparedTraining, source: SampleSource, targets: Targets): Promise<boolean> {
    const { runtime, folder, signal } = this.#request;
    const outcome: TrainOutcome = await train({
      prepared,
      source,
      samples: this.#data.samples,
      held: this.#held,
      targets,
      runtime,
      provider: 'cpu',
      workDirectory: folder,
      checkpoint: path.join(folder, 'recover.checkpoint'),
      checkpointEveryMs: Infinity,
      resume: false,
      ...(signal ? { signal } : {}),
    });
    if (outcome.ended === 'stopped') signal?.throwIfAborted();
    if (outcome.bestStep === 0) return false;
    this.#student = trainedModel({ ...prepared, model: this.#student }, outcome.values);
    this.#result = trainedModel({ ...prepared, model: this.#result }, outcome.values);
    return true;
  }

  /** What the student's answers have lost on the samples kept out. */
  async #judge(): Promise<Quality> {
    const { heldOut, runtime, folder, signal } = this.#request;
    const modelPath = path.join(folder, 'judged.onnx');
    const spec = { modelPath, provider: 'cpu' } as const;
    if (this.#reference === null) {
      writeModel(this.#original, modelPath, { overwrite: true });
      this.#reference = await Reference.collect(runtime, spec, heldOut, heldOut.dims, batch, [], signal);
    }
    writeModel(this.#student, modelPath, { overwrite: true });
    return this.#reference.compare(runtime, spec, signal);
  }

  #hasTime(): boolean {
    return performance.now() - this.#started < this.#request.seconds * 1000;
  }

  #tell(done: number, total: number | null, item: string): void {
    this.#request.onProgress?.({ phase: 'pruning', done, total, unit: 'weights', item: `recovering ${item}` });
  }
}

/** Higher is worse. */
const damageOf = ({ klNats, sqnrDb }: Quality): number => klNats ?? -sqnrDb;

/** Few samples are seen often: a falling rate, no decay towards zero, and gradients of a bounded length. */
function settings(own: Pick<TrainSettings, 'loss' | 'trainable' | 'rate' | 'epochs'>): TrainSettings {
  return {
    ...own,
    adapterRank: null,
    optimizer: { kind: 'adamw', momentum: 0, beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0, clipNorm: 1 },
    schedule: 'cosine',
    warmUp: 8,
    batch,
    microBatch: batch,
    validation: 0,
    patience: null,
    seed: 1,
    fromScratch: false,
  };
}
