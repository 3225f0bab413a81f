import { rmSync, statSync } from 'node:fs';
import { uptime } from 'node:os';
import path from 'node:path';
import * as v from 'valibot';
import { providers } from '../contract/types.js';
import { trainingChoices } from '../contract/validate.js';
import { checkpointFile, isAlive } from '../fit/workspace.js';
import { bestFile } from '../train/checkpoint.js';
import { readOwnFile, withLock, writeAtomically } from './door/whole-file.js';

const kept = 20;

const whole = v.pipe(v.number(), v.integer(), v.minValue(0));
const entrySchema = v.object({
  modelPath: v.string(),
  /** Of the model file when the training began: another file under its name is another model. */
  modelBytes: whole,
  modelChangedAt: v.number(),
  outputPath: v.string(),
  files: v.object({ data: v.string(), labels: v.nullable(v.string()), teacher: v.nullable(v.string()) }),
  provider: v.picklist(providers),
  dims: v.record(v.string(), v.number()),
  choices: trainingChoices,
  microBatch: v.pipe(v.number(), v.integer(), v.minValue(1)),
  totalSteps: whole,
  /** The program that trains it, and when that began (milliseconds since the epoch); left out when none does. */
  runner: v.optional(v.object({ pid: whole, since: v.number() })),
});
const fileSchema = v.object({ version: v.literal(1), trainings: v.array(entrySchema) });

/** A training that has begun and has not ended by itself: all that is needed to go on with it. */
export type UnfinishedTraining = v.InferOutput<typeof entrySchema>;

/** Size and time of a file, by which it is known again; null when it is not there. */
export function stampOf(file: string): Pick<UnfinishedTraining, 'modelBytes' | 'modelChangedAt'> | null {
  const found = statSync(file, { throwIfNoEntry: false });
  return found ? { modelBytes: found.size, modelChangedAt: found.mtimeMs } : null;
}

/** Whether another program trains it right now. After a restart of the computer the ids of processes mean others. */
function runsElsewhere({ runner }: UnfinishedTraining): boolean {
  if (runner === undefined || runner.pid === process.pid) return false;
  return runner.since > Date.now() - uptime() * 1000 && isAlive(runner.pid);
}

/** Remembers unfinished trainings, over starts of the app when it has a folder. Holds paths: it stays on this computer. */
export class TrainingStore {
  readonly #file: string | null;
  #entries: Promise<UnfinishedTraining[]>;
  #replaceable = true;

  /** @param directory folder of the settings; null = in memory only */
  constructor(directory: string | null) {
    this.#file = directory === null ? null : path.join(directory, 'trainings.json');
    this.#entries = this.#read();
  }

  async #read(): Promise<UnfinishedTraining[]> {
    if (this.#file === null) return [];
    const { content, replaceable } = await readOwnFile(this.#file, (value) => v.parse(fileSchema, value));
    this.#replaceable = replaceable;
    return content?.trainings ?? [];
  }

  /** The newest one of a model that no other program trains and whose checkpoint is still there; when that was written. */
  async of(modelPath: string): Promise<{ training: UnfinishedTraining; savedAt: number } | null> {
    const stamp = stampOf(modelPath);
    for (const training of await this.#newest()) {
      const same =
        training.modelPath === modelPath &&
        training.modelBytes === stamp?.modelBytes &&
        training.modelChangedAt === stamp.modelChangedAt;
      const checkpoint = statSync(checkpointFile(training.outputPath), { throwIfNoEntry: false });
      if (same && checkpoint && !runsElsewhere(training)) return { training, savedAt: checkpoint.mtimeMs };
    }
    return null;
  }

  /** Other programs write the file too. */
  #newest(): Promise<UnfinishedTraining[]> {
    this.#entries = this.#entries.then((known) => (this.#file !== null && this.#replaceable ? this.#read() : known));
    return this.#entries;
  }

  /** Remembers a training as one that this program runs, until it is released. */
  async add(training: UnfinishedTraining): Promise<void> {
    const own = { ...training, runner: { pid: process.pid, since: Date.now() } };
    await this.#change((entries) => [own, ...entries.filter((each) => each.outputPath !== training.outputPath)]);
  }

  /** Nobody trains it any more: whoever opens its model may go on with it. */
  async release(outputPath: string): Promise<void> {
    await this.#change((entries) =>
      entries.map(({ runner, ...each }) =>
        runner === undefined || each.outputPath === outputPath ? each : { ...each, runner },
      ),
    );
  }

  async remove(outputPath: string): Promise<void> {
    await this.#change((entries) => entries.filter((each) => each.outputPath !== outputPath));
  }

  /** Removes a training together with what it would go on from; its output, if there is one, stays. */
  async discard({ outputPath }: UnfinishedTraining): Promise<void> {
    const checkpoint = checkpointFile(outputPath);
    rmSync(checkpoint, { force: true });
    rmSync(bestFile(checkpoint), { force: true });
    await this.remove(outputPath);
  }

  /**
   * Another program of Snug may have written meanwhile, so the file is read again under its lock. A failing disk never
   * fails a training: then it can be resumed until this program ends.
   */
  async #change(edit: (entries: UnfinishedTraining[]) => UnfinishedTraining[]): Promise<void> {
    const before = this.#entries;
    const file = this.#file;
    this.#entries = before.then((known) => {
      if (file === null || !this.#replaceable) return edit(known).slice(0, kept);
      return withLock(file, async () => {
        const trainings = edit(await this.#read()).slice(0, kept);
        await writeAtomically(file, JSON.stringify({ version: 1, trainings }, null, 2)).catch(() => {
          this.#replaceable = false;
        });
        return trainings;
      });
    });
    await this.#entries;
  }
}
