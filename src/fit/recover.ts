import path from 'node:path';
import type { JobProgress, Quality } from '../contract/types.js';
import type { Model } from '../onnx/model.js';
import { writeModel } from '../onnx/write.js';
import type { Dataset } from '../runtime/dataset-types.js';
import type { TrainingRuntime } from '../runtime/training-types.js';
import type { Runtime } from '../runtime/types.js';
import { float32Output, forwardGraph } from '../train/forward.js';
import { SampleSource } from '../train/samples.js';
import { trainableWeights } from '../train/trainable.js';
import { changeable, trainBlocks } from './recover-blocks.js';
import { joinDatasets, windowForTraining } from './recover-data.js';
import type { RecoveryRun, Student } from './recover-train.js';
import { prepareWhole, trainWhole } from './recover-whole.js';
import { Reference } from './reference.js';
import { variantsOf } from './variants.js';

export interface RecoverRequest {
  /** What answered before: the teacher. */
  original: Model;
  /** The pruned or quantized model: its widths and codes stay. */
  changed: Model;
  /** Values that have their name but not their numbers from the original. */
  unlike?: ReadonlySet<string>;
  /** Output that holds the answers. */
  output: string;
  /** Unlabelled samples to train on. */
  dataset: Dataset;
  /** Samples that neither pruning nor quantization has seen: they judge what training does. */
  heldOut: Dataset;
  runtime: Runtime & TrainingRuntime;
  /** For temporary files. */
  folder: string;
  /** Bytes that training the whole model at once may take; above it it is trained in blocks. Null = no limit. */
  memoryBytes: number | null;
  /** Updates of one training, at most; fewer where `seconds` end first. */
  updates: number;
  /** Training takes no longer. With time enough, the result depends on the request alone. */
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

/** Samples in one run where answers are compared. */
const compareBatch = 8;

/** Share of the time that making variants may take. */
const variantShare = 0.25;

/** Variants of each sample where the values between blocks are kept on disk for all of them. */
const keptCopies = 6;

/** Share of the damage that may be left: few samples judge, and a small difference on them may be chance. */
const mostLeft = 0.9;

const seed = 1;

/**
 * Trains what a change of a model has left of it to answer as it did before, from unlabelled samples: all weights on the
 * answers of the original (distillation, Hinton et al. 2015) where memory allows, otherwise block by block on what the
 * original's blocks give. Codes of quantized weights stay as they are; their scales are trained. What was trained is taken
 * only when it lowers the damage on samples kept out.
 *
 * @throws SnugError E_NOT_SUPPORTED where no gradient leads; whatever stops a run
 */
export async function recoverModel(request: RecoverRequest): Promise<RecoverOutcome> {
  const started = performance.now();
  const { original, changed, output, runtime, folder, updates, seconds, memoryBytes, onProgress, signal } = request;
  const { dataset, heldOut } = await windowForTraining(request);
  const { inputDims } = await SampleSource.open(dataset, 0);
  // Answers are compared, and learned from, in float32.
  const forwardOf = (model: Model): Model => {
    const forward = forwardGraph(model, { inputDims, output });
    float32Output(forward);
    return forward;
  };
  const teacher = forwardOf(original);
  const given: Student = { forward: forwardOf(changed), result: changed };
  const teacherPath = path.join(folder, 'original.onnx');
  writeModel(teacher, teacherPath, { overwrite: true });

  const judgedPath = path.join(folder, 'judged.onnx');
  const spec = { modelPath: teacherPath, provider: 'cpu' } as const;
  const reference = await Reference.collect(runtime, spec, heldOut, heldOut.dims, compareBatch, [], signal);
  const judge = async ({ forward }: Student): Promise<Quality> => {
    writeModel(forward, judgedPath, { overwrite: true });
    return reference.compare(runtime, { ...spec, modelPath: judgedPath }, signal);
  };
  const before = await judge(given);
  const outcome = (student: Student, after: Quality, blocks: number, whole: boolean): RecoverOutcome => ({
    ...{ model: student.result, before, after, blocks, whole },
    seconds: (performance.now() - started) / 1000,
  });
  const nothing = changeable(trainableWeights(given.forward), changed).length === 0;
  if (damageOf(before) === 0 || seconds <= 0 || nothing) return outcome(given, before, 0, false);

  const run: RecoveryRun = {
    runtime,
    folder,
    data: dataset,
    held: heldOut.samples,
    updates,
    until: started + seconds * 1000,
    unlike: request.unlike ?? new Set(),
    onProgress: (done, total, item) =>
      onProgress?.({ phase: 'recovering', done, total, unit: 'runs', ...(item === undefined ? {} : { item }) }),
    signal,
  };
  const classes = before.klNats !== null;
  const whole = await prepareWhole(run, teacher, given, { classes, sqnrDb: before.sqnrDb, memoryBytes });
  const variants = await variantsOf({
    dataset,
    count: whole ? updates * whole.prepared.settings.batch : dataset.samples * keptCopies,
    modelPath: teacherPath,
    output: teacher.graph.outputs[0]?.name ?? output,
    classes,
    runtime,
    seed,
    until: started + seconds * variantShare * 1000,
    ...(signal ? { signal } : {}),
  });
  run.data = await joinDatasets([dataset, variants, heldOut]);
  let after = before;
  const isBetter = async (student: Student): Promise<boolean> => {
    after = await judge(student);
    return damageOf(after) <= damageOf(before) * mostLeft;
  };
  const trained = whole
    ? await trainWhole(run, whole, given, isBetter)
    : await trainBlocks(run, teacher, given, before.sqnrDb);
  if (trained === null) return outcome(given, before, 0, false);
  if (!('blocks' in trained)) return outcome(trained, after, 0, true);
  const { student, blocks } = trained;
  if (student === given || !(await isBetter(student))) return outcome(given, before, 0, false);
  return outcome(student, after, blocks, false);
}

/** Higher is worse; 0 = none. */
const damageOf = ({ klNats, sqnrDb }: Quality): number => klNats ?? 10 ** (-sqnrDb / 10);
