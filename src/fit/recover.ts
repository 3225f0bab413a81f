import { mkdtempSync, rmSync } from 'node:fs';
import path from 'node:path';
import type { JobProgress } from '../contract/types.js';
import type { Model } from '../onnx/model.js';
import { writeModel } from '../onnx/write.js';
import { bandRank } from '../quality/metrics.js';
import type { Dataset } from '../runtime/dataset-types.js';
import type { TrainingRuntime } from '../runtime/training-types.js';
import type { Runtime } from '../runtime/types.js';
import { float32Output, forwardGraph } from '../train/forward.js';
import { SampleSource } from '../train/samples.js';
import { trainableWeights } from '../train/trainable.js';
import { changeable, trainBlocks } from './recover-blocks.js';
import { joinDatasets, windowForTraining } from './recover-data.js';
import { type AnswerDamage, harmOf, harmsOthers, isCloser, RecoveryJudge, type Verdict } from './recover-judge.js';
import type { RecoveryRun, Student } from './recover-train.js';
import { prepareWhole, trainWhole } from './recover-whole.js';
import { variantsOf } from './variants.js';

export interface RecoverRequest {
  /** What answered before: the teacher. */
  original: Model;
  /** The pruned or quantized model: its widths and codes stay. */
  changed: Model;
  /** Values that have their name but not their numbers from the original. */
  unlike?: ReadonlySet<string>;
  /** Output that holds the answers to learn from. */
  output: string;
  /** Other outputs with answers: what brings one of them further away is not kept. */
  others?: readonly string[];
  /** Unlabelled samples to train on. */
  dataset: Dataset;
  /** Samples that nothing was fitted to: they choose the best step, and whether what was trained is kept. */
  heldOut: Dataset;
  runtime: Runtime & TrainingRuntime;
  /** For temporary files, which go into a folder of their own. */
  folder: string;
  /** Whether nothing is trained where the change did next to no harm. */
  spareHarmless?: boolean;
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
  /** How far the answers learned from are from the original's, on the samples kept out. */
  before: AnswerDamage;
  after: AnswerDamage;
  /** Blocks that were trained, and whether all weights together were. */
  blocks: number;
  whole: boolean;
  /** Why nothing is trained in the model: what was tried did not help, or there was no reason or no way to try. */
  left: 'not closer' | 'others further' | 'harmless' | 'no time' | 'nothing to train' | null;
  seconds: number;
}

/** Share of the time that making variants may take. */
const variantShare = 0.25;

/** Variants of each sample where the values between blocks are kept on disk for all of them. */
const keptCopies = 6;

const seed = 1;

/**
 * Trains what a change of a model has left of it to answer as it did before, from unlabelled samples: all weights on the
 * answers of the original (distillation, Hinton et al. 2015) where memory allows, otherwise block by block on what the
 * original's blocks give. Codes of quantized weights stay as they are; their scales are trained. What was trained is taken
 * only when it lowers the damage on samples kept out, and that of no other answer grows.
 *
 * @throws SnugError E_NOT_SUPPORTED where no gradient leads; whatever stops a run
 */
export async function recoverModel(request: RecoverRequest): Promise<RecoverOutcome> {
  const folder = mkdtempSync(path.join(request.folder, 'recover-'));
  try {
    return await recoverIn(folder, request);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function recoverIn(folder: string, request: RecoverRequest): Promise<RecoverOutcome> {
  const started = performance.now();
  const { original, changed, output, runtime, updates, seconds, memoryBytes, onProgress, signal } = request;
  const { dataset, heldOut } = await windowForTraining(request);
  const { inputDims } = await SampleSource.open(dataset, 0);
  // Answers are learned from in float32.
  const forwardOf = (model: Model): Model => {
    const forward = forwardGraph(model, { inputDims, output });
    float32Output(forward);
    return forward;
  };
  const given: Student = { forward: forwardOf(changed), result: changed };
  const outputs = [output, ...(request.others ?? [])];
  const judge = await RecoveryJudge.open({ original, outputs, inputDims, heldOut, runtime, folder, signal });
  const before = await judge.compare(changed);
  const leave = (left: RecoverOutcome['left']): RecoverOutcome => ({
    ...{ model: changed, before: before.main, after: before.main, blocks: 0, whole: false, left },
    seconds: (performance.now() - started) / 1000,
  });
  const take = (model: Model, after: Verdict, trained: { blocks: number; whole: boolean }): RecoverOutcome => ({
    ...{ model, before: before.main, after: after.main, left: null, ...trained },
    seconds: (performance.now() - started) / 1000,
  });
  const spared = request.spareHarmless === true && bandRank(before.main.damage.band) <= bandRank('negligible');
  if (harmOf(before.main) === 0 || spared) return leave('harmless');
  if (seconds <= 0) return leave('no time');
  if (changeable(trainableWeights(given.forward), changed).length === 0) return leave('nothing to train');

  const teacher = forwardOf(original);
  const teacherPath = path.join(folder, 'answers.onnx');
  writeModel(teacher, teacherPath, { overwrite: true });
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
  const { sqnrDb } = before.main;
  const classes = before.main.klNats !== null;
  const whole = await prepareWhole(run, teacher, given, { classes, sqnrDb, memoryBytes });
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
  let left: RecoverOutcome['left'] = 'not closer';
  const isBetter = async (student: Student): Promise<boolean> => {
    after = await judge.compare(student.result);
    if (!isCloser(after, before)) return false;
    if (!harmsOthers(after, before)) return true;
    left = 'others further';
    return false;
  };
  if (whole) {
    const student = await trainWhole(run, whole, given, isBetter);
    return student ? take(student.result, after, { blocks: 0, whole: true }) : leave(left);
  }
  const { student, blocks } = await trainBlocks(run, teacher, given, sqnrDb);
  const kept = student !== given && (await isBetter(student));
  return kept ? take(student.result, after, { blocks, whole: false }) : leave(left);
}
