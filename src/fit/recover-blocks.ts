import { DataType, type Model, type ValueInfo } from '../onnx/model.js';
import { cutValues, partBetween } from '../train/blocks.js';
import { prepareTraining } from '../train/prepare.js';
import { SampleSource } from '../train/samples.js';
import { trainableWeights, type TrainableWeight } from '../train/trainable.js';
import { dropValues, keepValues, withValues, type KeptValues } from './recover-data.js';
import { recoverySettings, secondsLeft, trainStudent, type RecoveryRun, type Student } from './recover-train.js';
import type { Dataset } from '../runtime/dataset-types.js';

const targetName = 'recover/target';

/** Learning rates at their highest: of whole weights, and of what lies around codes that did much harm. */
const rates = { usual: 4e-4, far: 2e-3 };

/** Samples in one update. */
const batch = 8;

/**
 * Trains a student part by part, each from what the changed parts before it give to what the original's part gives: one
 * part's activations are in memory at a time.
 *
 * @param sqnrDb signal to noise of the student's answers, before
 * @returns the student and how many parts were trained
 * @throws whatever stops a run
 */
export async function trainBlocks(
  run: RecoveryRun,
  original: Model,
  given: Student,
  sqnrDb: number,
): Promise<{ student: Student; blocks: number }> {
  const { runtime, folder, signal } = run;
  const rate = isFar(given, sqnrDb) ? rates.far : rates.usual;
  const steps = blocksOf(original, given, run.unlike);
  const keep = (model: Model, data: Dataset, name: string): Promise<KeptValues> =>
    keepValues(runtime, model, data, folder, name, signal);
  let student = given;
  let blocks = 0;
  let [originalIn, changedIn]: (KeptValues | null)[] = [null, null];
  let from: ValueInfo | null = null;
  try {
    for (const [at, { to, weights }] of steps.entries()) {
      if (secondsLeft(run) === 0) break;
      const fedOriginal = withValues(run.data, originalIn ? [originalIn] : []);
      const target = await keep(partBetween(original, from, to), fedOriginal, targetName);
      await dropValues(originalIn);
      originalIn = target;
      const data = withValues(run.data, [target, ...(changedIn ? [changedIn] : [])]);
      if (weights.length > 0 && secondsLeft(run) > 0) {
        const { inputDims } = await SampleSource.open(data, 0);
        const settings = recoverySettings({
          ...{ loss: { kind: 'mse' }, trainable: weights, rate, batch },
          updates: run.updates,
        });
        const prepared = prepareTraining(partBetween(student.forward, from, to), inputDims, settings);
        const trained = await trainStudent(
          run,
          student,
          prepared,
          data,
          { kind: 'array', name: targetName },
          { seconds: secondsLeft(run) / (steps.length - at), item: to.name },
        );
        if (trained) {
          student = trained;
          blocks += 1;
        }
      }
      if (at === steps.length - 1) break;
      const next = await keep(partBetween(student.forward, from, to), data, to.name);
      await dropValues(changedIn);
      changedIn = next;
      originalIn = { ...target, name: to.name };
      from = to;
    }
  } finally {
    await dropValues(originalIn);
    await dropValues(changedIn);
  }
  return { student, blocks };
}

/**
 * Parts both networks have, each with the weights that are used in it alone.
 * @param unlike values where no part may end
 */
export function blocksOf(
  original: Model,
  { forward, result }: Student,
  unlike: ReadonlySet<string>,
): { to: ValueInfo; weights: string[] }[] {
  const others = new Map(cutValues(original).map((cut) => [cut.name, cut]));
  const cuts = cutValues(forward).filter(
    ({ name, dataType, dims }) =>
      !unlike.has(name) &&
      (dims ?? []).length >= 2 &&
      others.get(name)?.dataType === dataType &&
      String(others.get(name)?.dims) === String(dims),
  );
  const uses = new Map<string, number>();
  const found: { to: ValueInfo; weights: TrainableWeight[] }[] = [];
  let from: ValueInfo | null = null;
  for (const [at, to] of cuts.entries()) {
    const part = partBetween(forward, from, to);
    const weights = changeable(trainableWeights(part), result);
    const last = at === cuts.length - 1;
    const matters = weights.length > 0 && holdsCodes(part);
    if (!last && !matters && !weights.some(({ role }) => role === 'matrix' || role === 'kernel')) continue;
    for (const { name } of weights) uses.set(name, (uses.get(name) ?? 0) + 1);
    found.push({ to, weights });
    from = to;
  }
  return found.map(({ to, weights }) => ({
    to,
    weights: weights.map(({ name }) => name).filter((name) => uses.get(name) === 1),
  }));
}

/** Whether a part multiplies by a matrix or kernel of codes, beside which only small weights are trained. */
export const holdsCodes = ({ graph }: Model): boolean =>
  [...graph.initializers.values()].some(
    ({ dataType, dims }) => codeTypes.has(dataType) && dims.filter((size) => size > 1).length > 1,
  );

/** Signal to noise of the answers (dB) below which rounding did much harm. */
const muchHarm = 24;

/** Whether the weights around the codes of a student have a long way to go. */
export const isFar = ({ forward }: Student, sqnrDb: number): boolean => holdsCodes(forward) && sqnrDb < muchHarm;

const codeTypes: ReadonlySet<number> = new Set([DataType.UINT4, DataType.INT4, DataType.UINT8, DataType.INT8]);

/** Weights that are stored in the model a person will have; some are constants there. */
export const changeable = (weights: readonly TrainableWeight[], { graph }: Model): TrainableWeight[] =>
  weights.filter(({ name }) => graph.initializers.has(name));
