import path from 'node:path';
import { SnugError } from '../contract/errors.js';
import { writeModel } from '../onnx/write.js';
import { readTrainingState, writeTrainingState } from '../runtime/training-state.js';
import type { StepResult, TrainingSession } from '../runtime/training-types.js';
import { batchOf, chunks } from './batches.js';
import { bestFile, readCheckpointOf, type Progress } from './checkpoint.js';
import { initialValues } from './prepare.js';
import { SampleOrder } from './sample-order.js';
import { learningRate } from './schedule.js';
import { isLarge, trainingLevers, type TrainOutcome, type TrainQuality, type TrainRequest } from './train-types.js';

export * from './train-types.js';

/**
 * Trains, and gives back the best weights by held-out loss. The order of the data follows from the seed, so a
 * training that was killed and goes on from its checkpoint ends with the same weights.
 * @throws SnugError E_USAGE when a checkpoint belongs to other settings; whatever stops the work before anything
 *   got better
 */
export async function train(request: TrainRequest): Promise<TrainOutcome> {
  const trainer = new Trainer(request);
  return trainer.run();
}

/** Updates that tell how long the others will take. */
const leastTimed = 8;

class Trainer {
  readonly #request: TrainRequest;
  readonly #fingerprint: string;
  readonly #order: SampleOrder;
  #total: number;
  /** When the work began, and when the first update did (milliseconds of `performance.now`). */
  readonly #openedAt = performance.now();
  #startedAt = 0;
  #startedFrom = 0;
  #progress: Progress | null = null;
  #savedAt = performance.now();

  constructor(request: TrainRequest) {
    this.#request = request;
    const { settings } = request.prepared;
    this.#fingerprint = JSON.stringify({
      ...settings,
      samples: request.samples,
      parameters: request.prepared.graphs.parameters,
    });
    const { samples, held } = request;
    this.#order = new SampleOrder({ ...settings, samples, held });
    this.#total = settings.steps ?? settings.epochs * this.#order.stepsPerEpoch;
  }

  async run(): Promise<TrainOutcome> {
    const { prepared, checkpoint, resume } = this.#request;
    let start = checkpoint;
    if (resume) {
      this.#progress = readCheckpointOf(checkpoint, this.#fingerprint);
    } else {
      start = path.join(this.#request.workDirectory, 'start.state');
      writeTrainingState(start, { updates: 0, meta: '', tensors: initialValues(prepared) });
    }
    let session: TrainingSession | null = null;
    let ended: TrainOutcome['ended'];
    try {
      session = await this.#open(start);
      ended = await this.#loop(session);
    } catch (error) {
      // Whatever ends a training, the best weights so far are on the disk.
      if (!(this.#request.signal?.aborted && this.#progress)) throw error;
      ended = 'stopped';
    } finally {
      await session?.close();
    }
    const progress = this.#known();
    if (ended === 'diverged' && progress.bestStep === 0) {
      throw new SnugError('E_RUN_FAILED', 'The loss is no longer a number.', {
        action: 'Lower the learning rate (--lr), or clip gradients (--clip 1). The original was not changed.',
      });
    }
    const { tensors } = readTrainingState(bestFile(checkpoint));
    const { steps, evaluations, before, best, bestStep } = progress;
    return { steps, evaluations, before, after: best, bestStep, ended, values: tensors };
  }

  async #loop(session: TrainingSession): Promise<TrainOutcome['ended']> {
    const { settings } = this.#request.prepared;
    if (!this.#progress) await this.#begin(session);
    const progress = this.#known();
    // Two updates are under way at a time, so that the process never waits for its next batch.
    const running: Promise<boolean>[] = [];
    let next = progress.step;
    this.#startedAt = performance.now();
    this.#startedFrom = next;
    while (next < this.#total) {
      this.#request.signal?.throwIfAborted();
      const update = this.#update(session, next);
      // Should an earlier one fail first, nobody waits for this one any more.
      update.catch(() => undefined);
      running.push(update);
      next += 1;
      this.#fitIntoTime(next);
      const isJudged = next % (this.#request.judgeEvery ?? this.#order.stepsPerEpoch) === 0 || next === this.#total;
      while (running.length > (isJudged ? 0 : 1)) {
        if (!(await running.shift())) {
          await Promise.allSettled(running);
          return 'diverged';
        }
      }
      if (isJudged) {
        await this.#judge(session);
        if (settings.patience !== null && progress.epochsWithoutBetter >= settings.patience) return 'no longer better';
        if (!Number.isFinite(progress.quality.loss)) return 'diverged';
      } else if (performance.now() - this.#savedAt > (this.#request.checkpointEveryMs ?? 30_000)) {
        while (running.length > 0) if (!(await running.shift())) return 'diverged';
        await this.#save(session);
      }
    }
    return 'finished';
  }

  /** Leaves out the updates that there is no time for, never one of the first `begun`. */
  #fitIntoTime(begun: number): void {
    const { seconds } = this.#request;
    if (seconds === undefined) return;
    const now = performance.now();
    const left = this.#openedAt + seconds * 1000 - now;
    const done = this.#known().step - this.#startedFrom;
    const each = (now - this.#startedAt) / Math.max(1, done);
    const possible =
      left <= 0 ? begun : done < leastTimed ? this.#total : this.#startedFrom + done + Math.floor(left / each);
    this.#total = Math.min(this.#total, Math.max(begun, possible));
  }

  /** Evaluates the weights it starts with: whatever comes has to be better than they are. */
  async #begin(session: TrainingSession): Promise<void> {
    const before = await this.#evaluate(session);
    // Saved first: what is told of the best weights has to be true of the file, wherever a training is stopped.
    await session.save(bestFile(this.#request.checkpoint), '', false);
    this.#progress = {
      settings: this.#fingerprint,
      step: 0,
      before,
      quality: before,
      best: before,
      bestStep: 0,
      epochsWithoutBetter: 0,
      steps: [],
      evaluations: [{ step: 0, ...before }],
    };
    await this.#save(session);
  }

  async #judge(session: TrainingSession): Promise<void> {
    const progress = this.#known();
    const quality = await this.#evaluate(session);
    progress.quality = quality;
    progress.evaluations.push({ step: progress.step, ...quality });
    progress.epochsWithoutBetter += 1;
    if (quality.loss < progress.best.loss || Number.isNaN(progress.best.loss)) {
      await session.save(bestFile(this.#request.checkpoint), '', false);
      progress.best = quality;
      progress.bestStep = progress.step;
      progress.epochsWithoutBetter = 0;
    }
    await this.#save(session);
    this.#tell();
  }

  async #save(session: TrainingSession): Promise<void> {
    await session.save(this.#request.checkpoint, JSON.stringify(this.#known()), true);
    this.#savedAt = performance.now();
  }

  /** Runs update `step` (from 0 on), micro-batch by micro-batch. @returns whether all numbers were finite */
  async #update(session: TrainingSession, step: number): Promise<boolean> {
    const { settings } = this.#request.prepared;
    const samples = this.#order.ofStep(step);
    const rate = learningRate(step, { ...settings, total: this.#total });
    // Batches are sent in order, each as soon as it is read; answers are awaited apart from that.
    const sent = this.#sent.then(() => this.#send(session, samples, rate));
    this.#sent = sent.then(
      () => undefined,
      () => undefined,
    );
    const { answers, items } = await sent;
    const results = await Promise.all(answers);
    const loss = results.reduce((sum, { lossSum }) => sum + lossSum, 0) / Math.max(1, items);
    const gradientNorm = results.at(-1)?.gradientNorm ?? NaN;
    const progress = this.#known();
    progress.step += 1;
    progress.steps.push({ step: progress.step, epoch: this.#order.epochOf(step), loss, rate, gradientNorm });
    this.#tell();
    return Number.isFinite(loss) && Number.isFinite(gradientNorm);
  }

  #sent: Promise<void> = Promise.resolve();

  async #send(
    session: TrainingSession,
    samples: readonly number[],
    rate: number,
  ): Promise<{ answers: Promise<StepResult>[]; items: number }> {
    const parts = chunks(samples, this.#request.prepared.settings.microBatch);
    const fed = await Promise.all(parts.map((part) => batchOf(this.#request, part)));
    const items = fed.reduce((sum, part) => sum + part.items, 0);
    const answers = fed.map(({ feeds }, index) =>
      session.step(feeds, 1 / Math.max(1, items), index === fed.length - 1 ? rate : null),
    );
    return { answers, items };
  }

  #tell(): void {
    const { steps, evaluations, quality, best } = this.#known();
    const latest = steps.at(-1);
    if (latest) {
      this.#request.onProgress?.({ ...latest, totalSteps: this.#total, quality, best, steps, evaluations });
    }
  }

  async #evaluate(session: TrainingSession): Promise<TrainQuality> {
    const { settings } = this.#request.prepared;
    const { held, training } = this.#order;
    const samples = held.length > 0 ? held : training;
    let [loss, correct, items] = [0, 0, 0];
    let counts = true;
    for (const part of chunks(samples, settings.microBatch)) {
      this.#request.signal?.throwIfAborted();
      const fed = await batchOf(this.#request, part);
      const result = await session.evaluate(fed.feeds);
      loss += result.lossSum;
      items += fed.items;
      if (result.correct === null) counts = false;
      else correct += result.correct;
    }
    return { loss: loss / Math.max(1, items), accuracy: counts ? correct / Math.max(1, items) : null };
  }

  async #open(statePath: string): Promise<TrainingSession> {
    const { prepared, runtime, provider, threads, workDirectory, targets } = this.#request;
    const { graphs, settings } = prepared;
    const gradientPath = path.join(workDirectory, 'gradient.onnx');
    const evaluationPath = path.join(workDirectory, 'evaluation.onnx');
    writeModel(graphs.gradient, gradientPath, { overwrite: true });
    writeModel(graphs.evaluation, evaluationPath, { overwrite: true });
    return runtime.openTraining({
      session: { provider, levers: trainingLevers, ...(threads === undefined ? {} : { threads }) },
      gradientPath,
      evaluationPath,
      spareMemory: isLarge(graphs),
      ...(targets.kind === 'teacher' ? { teacher: targets } : {}),
      statePath,
      gradientOutputs: Object.fromEntries(graphs.gradientOutputs),
      loss: graphs.loss,
      correct: graphs.correct,
      target: graphs.target.name,
      weight: graphs.weight,
      optimizer: settings.optimizer,
      // Adapters begin with zeros of their own.
      keepZeros: settings.fromScratch || prepared.adapters.length > 0 ? [] : graphs.parameters.map(({ name }) => name),
    });
  }

  #known(): Progress {
    if (this.#progress) return this.#progress;
    throw new SnugError('E_INTERNAL', 'The training has not begun.');
  }
}
