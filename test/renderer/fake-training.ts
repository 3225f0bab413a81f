import type {
  InterruptedTraining,
  TrainingCurve,
  TrainingPlan,
  TrainingReport,
  TrainingRequest,
  TrainingSetup,
} from '../../src/contract/training.js';
import type { JobEvent } from '../../src/contract/types.js';
import type { FakeEngine } from './fake-engine.js';
import type { Scenario } from './scenario.js';

/** Trains nothing, and tells of it like the engine; put into the page as `fakeTraining` before the bridge. */
export interface FakeTraining {
  setup: TrainingSetup;
  plan(request: TrainingRequest): TrainingPlan;
  /** Begins to send events. */
  start(request: TrainingRequest, emit: (event: JobEvent) => void): void;
  stop(): void;
  report(step: number, ended: TrainingReport['ended']): TrainingReport;
}

/** Runs inside the page, so it may use nothing from outside of its own body. */
export function installFakeTraining(scenario: Scenario): void {
  const engine = (globalThis as unknown as { fakeEngine: FakeEngine }).fakeEngine;
  const perSample = scenario.activationBytesPerSample * 2.5;
  const weightsBytes = scenario.weights.reduce((sum, { dims }) => sum + dims.reduce((a, b) => a * b, 1) * 4, 0);
  let timer: ReturnType<typeof setInterval> | undefined;
  let emit: (event: JobEvent) => void = () => undefined;
  let asked: TrainingRequest | null = null;
  let step = 0;

  function plan({ budgetBytes, choices, modelId }: TrainingRequest): TrainingPlan {
    const numbers = weightsBytes / 4;
    const parameters = Math.round(
      choices.trainable === 'all' ? numbers : choices.trainable === 'adapters' ? numbers * 0.02 : numbers * 0.001,
    );
    const stateBytes = parameters * 4 * (choices.optimizer === 'adamw' ? 3 : 2);
    const need = (size: number): number => weightsBytes + perSample * size + scenario.runtimeBytes + stateBytes;
    let microBatch = choices.batch;
    while (microBatch > 1 && need(microBatch) > budgetBytes) microBatch = Math.floor(microBatch / 2);
    const samples = training.setup.data?.samples ?? 0;
    const heldOutSamples = Math.round(samples * choices.validation);
    const stepsPerEpoch = Math.ceil((samples - heldOutSamples) / choices.batch);
    const { baseline } = engine.solve({ modelId, budgetBytes, pins: {} });
    const parts = {
      weightsBytes,
      activationsBytes: perSample * microBatch,
      cacheBytes: 0,
      workspaceBytes: 0,
      runtimeBytes: scenario.runtimeBytes,
    };
    const peakBytes = need(microBatch) - stateBytes;
    const phase = { peakBytes, parts };
    return {
      provider: baseline.estimate.provider,
      trainingSamples: samples - heldOutSamples,
      heldOutSamples,
      microBatch,
      steps: stepsPerEpoch * choices.epochs,
      stepsPerEpoch,
      weights: scenario.weights.length,
      parameters,
      estimate: { ...baseline.estimate, load: phase, cold: phase, warm: phase, peakBytes },
      stateBytes,
      peakBytes: need(microBatch),
      fits: need(microBatch) <= budgetBytes,
    };
  }

  const lossAt = (at: number, floor: number): number => floor + 2.2 * Math.exp(-at / 90);
  function curve(upTo: number): TrainingCurve {
    const every = asked === null ? 20 : Math.max(1, plan(asked).stepsPerEpoch);
    const training = Array.from({ length: upTo }, (_, i) => ({
      step: i + 1,
      loss: lossAt(i + 1, 0.08) * (1 + 0.12 * Math.sin(i * 1.7)),
    }));
    const heldOut = Array.from({ length: Math.floor(upTo / every) + 1 }, (_, i) => ({
      step: i * every,
      loss: lossAt(i * every, 0.14),
      accuracy: 1 - lossAt(i * every, 0.14) / 2.6,
    }));
    return { training, heldOut };
  }

  function report(at: number, ended: TrainingReport['ended']): TrainingReport {
    const request = asked as TrainingRequest;
    const now = plan(request);
    const { heldOut } = curve(at);
    const [first, last] = [heldOut[0], heldOut.at(-1)];
    return {
      output: { path: engine.model.summary.name.replace('.onnx', '.trained.onnx'), fileBytes: 347_000_000 },
      loss: request.choices.loss,
      before: { loss: first?.loss ?? 0, accuracy: first?.accuracy ?? null },
      after: { loss: last?.loss ?? 0, accuracy: last?.accuracy ?? null },
      bestStep: last?.step ?? 0,
      steps: at,
      totalSteps: now.steps,
      ended,
      heldOutSamples: now.heldOutSamples,
      microBatch: now.microBatch,
      batch: request.choices.batch,
      weights: now.weights,
      parameters: now.parameters,
      memory: { predictedBytes: now.peakBytes, highestBytes: Math.round(now.peakBytes * 0.97) },
      curve: curve(at),
      seconds: 61,
    };
  }

  const training: FakeTraining = {
    setup: {
      data: scenario.model.data,
      labels: null,
      teacher: null,
      nextToken: false,
      interrupted: scenario.interrupted,
    },
    plan,
    report,
    start(request, send) {
      asked = request;
      emit = send;
      const total = plan(request).steps;
      step = 0;
      if (scenario.stepMs < 0) return;
      timer = setInterval(() => {
        step = Math.min(total, step + Math.ceil(total / 12));
        const { stepsPerEpoch, heldOutSamples } = plan(request);
        const shown = curve(step);
        const best = shown.heldOut.at(-1);
        emit({
          jobId: 'training-1',
          kind: 'training',
          training: {
            step,
            totalSteps: total,
            epoch: Math.min(request.choices.epochs, Math.floor(step / stepsPerEpoch) + 1),
            epochs: request.choices.epochs,
            fromStep: 1,
            elapsedMs: step * 20,
            heldOutSamples,
            curve: shown,
            best: best === undefined ? null : { loss: best.loss, accuracy: best.accuracy },
          },
        });
        if (step < total) return;
        clearInterval(timer);
        const error = scenario.failures.training;
        if (error === undefined) emit({ jobId: 'training-1', kind: 'trained', report: report(total, 'finished') });
        else emit({ jobId: 'training-1', kind: 'failed', error, bestSoFar: null });
      }, scenario.stepMs);
    },
    stop() {
      clearInterval(timer);
      emit({ jobId: 'training-1', kind: 'trained', report: report(step, 'stopped') });
    },
  };
  Object.assign(globalThis, { fakeTraining: training });
}

/** One that ended with its process. */
export const interrupted: InterruptedTraining = {
  name: 'vit-b.trained.onnx',
  step: 120,
  totalSteps: 900,
  savedAt: Date.now() - 3_600_000,
  before: { loss: 2.31, accuracy: 0.11 },
  best: { loss: 0.84, accuracy: 0.73 },
  choices: {
    loss: 'cross-entropy',
    trainable: 'all',
    adapterRank: 4,
    optimizer: 'adamw',
    rate: 0.001,
    schedule: 'cosine',
    epochs: 10,
    batch: 32,
    validation: 0.1,
    patience: null,
  },
  files: { data: 'train.npy', labels: 'train-labels.npy', teacher: null },
};
