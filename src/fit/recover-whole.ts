import path from 'node:path';
import type { Model, ValueInfo } from '../onnx/model.js';
import { writeModel } from '../onnx/write.js';
import { withFeatures, type Feature } from '../train/features.js';
import { prepareTraining, type PreparedTraining } from '../train/prepare.js';
import { SampleSource } from '../train/samples.js';
import { trainableWeights } from '../train/trainable.js';
import { trainingLevers } from '../train/train.js';
import { blocksOf, changeable, holdsCodes, isFar } from './recover-blocks.js';
import { recoverySettings, secondsLeft, trainStudent, type RecoveryRun, type Student } from './recover-train.js';
import { trainingMemory } from './training-memory.js';

/** Samples in one update. */
const batch = 8;

/**
 * Learning rates at their highest, where one answer of each sample counts and where many do: the second is tried where
 * the first was too high for weights that were fitted already. Scales, biases and other small weights around codes go a
 * longer way where rounding did much harm, and a shorter one where it did little.
 */
const rates = {
  whole: { one: [5e-4, 1e-4], many: [8e-4, 2e-4] },
  aroundCodes: {
    far: { one: [2e-3, 5e-4], many: [2e-3, 5e-4] },
    near: { one: [5e-4, 1e-4], many: [2e-4, 5e-5] },
  },
};

function ratesOf(student: Student, itemsPerSample: number, sqnrDb: number): number[] {
  const { whole, aroundCodes } = rates;
  const own = !holdsCodes(student.forward) ? whole : isFar(student, sqnrDb) ? aroundCodes.far : aroundCodes.near;
  return itemsPerSample === 1 ? own.one : own.many;
}

/** A training of all weights, ready to start. */
export interface WholeTraining {
  prepared: PreparedTraining;
  /** What gives the targets. */
  teacher: { modelPath: string; output: string };
  /** Learning rates to try, one after the other. */
  rates: number[];
}

/**
 * A training of all weights of a student, in micro-batches that memory allows: on the original's answers where each
 * sample has many (tokens), else, as a single answer tells little, on what the original has between its blocks as well.
 *
 * @param given.classes whether the answers are logits of classes
 * @param given.sqnrDb of the student's answers, before
 * @returns null where not even one sample at a time fits
 * @throws SnugError E_NOT_SUPPORTED where no gradient leads; whatever stops a run
 */
export async function prepareWhole(
  run: RecoveryRun,
  original: Model,
  student: Student,
  { classes, sqnrDb, memoryBytes }: { classes: boolean; sqnrDb: number; memoryBytes: number | null },
): Promise<WholeTraining | null> {
  const { inputDims } = await SampleSource.open(run.data, 0);
  const trainable = changeable(trainableWeights(student.forward), student.result).map(({ name }) => name);
  const prepare = (forward: Model, kind: 'distill' | 'mse'): PreparedTraining =>
    prepareTraining(
      forward,
      inputDims,
      recoverySettings({ loss: { kind }, trainable, rate: 0, batch, updates: run.updates }),
    );
  let teacher = original;
  let prepared = prepare(student.forward, classes ? 'distill' : 'mse');
  if (prepared.graphs.itemsPerSample === 1) {
    const features = await measured(
      run,
      original,
      blocksOf(original, student, run.unlike).map(({ to }) => to),
    );
    if (features.length > 0) {
      teacher = withFeatures(original, features);
      prepared = prepare(withFeatures(student.forward, features), 'mse');
    }
  }
  while (memoryBytes !== null && trainingMemory(prepared, 'cpu', { teacher }).peakBytes > memoryBytes) {
    const { microBatch } = prepared.settings;
    if (microBatch === 1) return null;
    prepared = { ...prepared, settings: { ...prepared.settings, microBatch: microBatch >> 1 } };
  }
  const modelPath = path.join(run.folder, 'teacher.onnx');
  writeModel(teacher, modelPath, { overwrite: true });
  return {
    prepared,
    teacher: { modelPath, output: teacher.graph.outputs[0]?.name ?? '' },
    rates: ratesOf(student, prepared.graphs.itemsPerSample, sqnrDb),
  };
}

/** Mean squares are taken for no smaller: as a share of the largest one, and where all are nearly zero. */
const leastMeanSquare = { share: 1e-6, alone: 1e-12 };

/**
 * Values by which all count alike: the mean square of each is brought to 1, whatever its size, but for what is nearly
 * zero. None is left out, as weights may have an influence on it alone.
 */
async function measured(run: RecoveryRun, original: Model, values: readonly ValueInfo[]): Promise<Feature[]> {
  if (values.length === 0) return [];
  const modelPath = path.join(run.folder, 'teacher.onnx');
  const plain = withFeatures(
    original,
    values.map((value) => ({ value, scale: 1 })),
  );
  writeModel(plain, modelPath, { overwrite: true });
  const output = plain.graph.outputs[0]?.name ?? '';
  const session = await run.runtime.open({ modelPath, provider: 'cpu', levers: trainingLevers });
  try {
    const count = Math.min(batch, run.data.samples);
    const answer = (await session.run(await run.data.feeds(0, count), [output]))[output]!;
    const data = answer.data as Float32Array;
    const row = data.length / count;
    let from = 0;
    const found = values.map((value) => {
      const size = (value.dims ?? []).slice(1).reduce<number>((product, dim) => product * Number(dim), 1);
      let sum = 0;
      for (let sample = 0; sample < count; sample++) {
        for (let i = from; i < from + size; i++) sum += (data[sample * row + i] as number) ** 2;
      }
      from += size;
      return { value, size, meanSquare: sum / (count * size) };
    });
    const { share, alone } = leastMeanSquare;
    const least = Math.max(alone, share * Math.max(...found.map(({ meanSquare }) => meanSquare)));
    return found.map(({ value, size, meanSquare }) => ({
      value,
      scale: Math.sqrt(row / (values.length * size * Math.max(meanSquare, least))),
    }));
  } finally {
    await session.close();
  }
}

/**
 * @param isBetter whether a student's answers are closer than before
 * @returns the student with trained weights, null when none was better
 */
export async function trainWhole(
  run: RecoveryRun,
  { prepared, teacher, rates: tried }: WholeTraining,
  student: Student,
  isBetter: (student: Student) => Promise<boolean>,
): Promise<Student | null> {
  for (const rate of tried) {
    const seconds = secondsLeft(run);
    if (seconds === 0) return null;
    const settings = { ...prepared.settings, rate };
    const targets = { kind: 'teacher', ...teacher } as const;
    const trained = await trainStudent(run, student, { ...prepared, settings }, run.data, targets, { seconds });
    if (trained && (await isBetter(trained))) return trained;
  }
  return null;
}
