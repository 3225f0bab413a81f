import type { SnugApi } from '../../src/contract/api.js';
import type { ErrorReport, Result } from '../../src/contract/errors.js';
import type { BatchSweep } from '../../src/contract/throughput.js';
import type { InterruptedTraining } from '../../src/contract/training.js';
import type {
  AccuracyView,
  JobEvent,
  JobPhase,
  JobProgress,
  PlanRequest,
  Provider,
  PruneCurve,
} from '../../src/contract/types.js';
import type { FakeEngine } from './fake-engine.js';
import type { FakeTraining } from './fake-training.js';
import type { Scenario } from './scenario.js';

/** What the specs may look at from outside. */
export interface FakeControls {
  calls: { method: string; args: unknown[] }[];
  /** Sends the next progress event by hand (with `stepMs` negative). */
  emit(event: JobEvent): void;
  jobId: string | null;
}

/**
 * Puts a `window.snug` into the page that answers from `fakeEngine`, records every call and can fail on demand.
 * Runs inside the page, so it may use nothing from outside of its own body.
 */
export function installFakeBridge(scenario: Scenario): void {
  const listeners = new Set<(event: JobEvent) => void>();
  const controls: FakeControls = {
    calls: [],
    jobId: null,
    emit: (event) => listeners.forEach((listener) => listener(event)),
  };
  const engine = (globalThis as unknown as { fakeEngine: FakeEngine }).fakeEngine;
  const training = (globalThis as unknown as { fakeTraining: FakeTraining }).fakeTraining;
  let running: ReturnType<typeof setInterval> | undefined;
  let accuracy = scenario.accuracy;
  let stopCalibration: () => void = () => undefined;
  const tellAccuracy = (next: AccuracyView): void => {
    accuracy = next;
    controls.emit({ jobId: 'calibration', kind: 'accuracy', accuracy });
  };

  const curveRatios = [0.3, 0.6, 0.1, 0.5, 0.2, 0.4, 0.7, 0.8];
  let measuring: ReturnType<typeof setTimeout> | undefined;
  const tellCurve = (modelId: string, curve: PruneCurve): void => {
    engine.curve = curve;
    controls.emit({ jobId: modelId, kind: 'pruning', curve });
  };
  /** Tells what is measured so far and goes on with the next ratio. */
  function measureNext(modelId: string, measured = 0): void {
    const points = curveRatios
      .slice(0, measured)
      .map((ratio) => engine.measure(ratio))
      .sort((a, b) => a.ratio - b.ratio);
    const state = measured < curveRatios.length ? 'measuring' : 'done';
    tellCurve(modelId, { points, samples: 20, fitted: false, state, total: curveRatios.length });
    if (state === 'measuring' && scenario.curveMs >= 0) {
      measuring = setTimeout(() => measureNext(modelId, measured + 1), scenario.curveMs);
    }
  }

  const sweepSizes = [1, 2, 4, 8, 16, 32, 64];
  let sweeping: ReturnType<typeof setTimeout> | undefined;
  const tellSweep = (modelId: string, sweep: BatchSweep): void => {
    engine.sweep = sweep;
    controls.emit({ jobId: modelId, kind: 'batches', sweep });
  };
  function sweepNext(modelId: string, measured = 0): void {
    const points = sweepSizes.slice(0, measured).map((batch) => engine.run(batch));
    const state = measured < sweepSizes.length ? 'measuring' : 'done';
    tellSweep(modelId, { provider: 'cuda', points, state, total: sweepSizes.length });
    if (state === 'measuring' && scenario.sweepMs >= 0) {
      sweeping = setTimeout(() => sweepNext(modelId, measured + 1), scenario.sweepMs);
    }
  }

  async function calibrate(provider: Provider): Promise<Result<AccuracyView>> {
    controls.calls.push({ method: 'calibrate', args: [provider] });
    const refused = scenario.failures.calibrate;
    if (refused !== undefined) return { ok: false, error: refused };
    tellAccuracy({ ...accuracy, calibrating: provider });
    const stopped = new Promise<boolean>((resolve) => (stopCalibration = () => resolve(true)));
    const done = new Promise<boolean>((resolve) => {
      if (scenario.calibrationMs >= 0) setTimeout(() => resolve(false), scenario.calibrationMs);
    });
    const wasStopped = await Promise.race([stopped, done]);
    const [sample] = scenario.calibrated;
    const added = sample === undefined || wasStopped ? [] : [{ ...sample, provider }];
    tellAccuracy({ ...accuracy, calibrating: null, calibrations: [...added, ...accuracy.calibrations] });
    if (!wasStopped) return ok(accuracy);
    return { ok: false, error: { code: 'E_CANCELLED', message: 'Stopped.', action: '', params: {} } };
  }

  const ok = <T>(value: T): Result<T> => ({ ok: true, value });
  const later = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
  function run(jobId: string, request: PlanRequest): void {
    const steps: { phase: JobPhase; unit: JobProgress['unit']; total: number | null }[] = [
      { phase: 'reading', unit: 'bytes', total: engine.model.summary.fileBytes },
      { phase: 'planning', unit: 'nodes', total: 254 },
      { phase: 'quantizing', unit: 'weights', total: scenario.weights.length },
      { phase: 'writing', unit: 'bytes', total: 61_000_000 },
      { phase: 'checking', unit: 'runs', total: null },
      { phase: 'comparing', unit: 'samples', total: 200 },
    ];
    const started = Date.now();
    let tick = 0;
    running = setInterval(() => {
      const step = steps[Math.floor(tick / 4)];
      if (step === undefined) {
        clearInterval(running);
        const failed = scenario.failures.job;
        if (failed === undefined) controls.emit({ jobId, kind: 'done', report: engine.report(request) });
        else
          controls.emit({
            jobId,
            kind: 'failed',
            error: failed,
            bestSoFar: scenario.keepOnCancel ? engine.report(request) : null,
          });
        return;
      }
      const done = Math.round(((tick % 4) / 4) * (step.total ?? 1));
      const item = step.phase === 'quantizing' ? (scenario.weights[done]?.name ?? '') : undefined;
      const progress = {
        phase: step.phase,
        done,
        total: step.total,
        unit: step.unit,
        ...(item === undefined ? {} : { item }),
      };
      controls.emit({ jobId, kind: 'progress', progress, elapsedMs: Date.now() - started });
      tick += 1;
    }, scenario.stepMs);
  }

  async function answer<T>(method: string, args: unknown[], value: () => T | Promise<T>): Promise<Result<T>> {
    controls.calls.push({ method, args });
    await later(0);
    const failures = scenario.failures as Record<string, ErrorReport | undefined>;
    const failed = failures[method];
    if (failed !== undefined) {
      delete failures[method];
      return { ok: false, error: failed };
    }
    return ok(await value());
  }

  const snug: SnugApi = {
    info: () =>
      answer('info', [], () => ({
        door: scenario.door,
        version: '0.1.0',
        languages: scenario.languages,
        nativeDialog: scenario.door === 'desktop',
        onnxruntime: '1.30.0',
      })),
    async hardware() {
      controls.calls.push({ method: 'hardware', args: [] });
      await later(scenario.hardwareDelayMs);
      return 'code' in scenario.hardware ? { ok: false, error: scenario.hardware } : ok(scenario.hardware);
    },
    samples: () => answer('samples', [], () => scenario.samples),
    recent: () => answer('recent', [], () => scenario.recent),
    openFiles: (files) => answer('openFiles', [files.map((file) => file.name)], () => engine.model),
    chooseModel: () => answer('chooseModel', [], () => engine.model),
    openSample: (id) => answer('openSample', [id], () => engine.model),
    openRecent: (id) => answer('openRecent', [id], () => engine.model),
    attachData: (id, files) =>
      answer('attachData', [id, files.map((file) => file.name)], () => {
        engine.model = {
          ...engine.model,
          data: { name: files[0]?.name ?? '', samples: 200, countable: scenario.countable },
        };
        return engine.model;
      }),
    attachLabels: (id, files) =>
      answer('attachLabels', [id, files.map((file) => file.name)], () => {
        const { data } = engine.model;
        engine.model = { ...engine.model, data: data && { ...data, labels: files[0]?.name ?? '' } };
        return engine.model;
      }),
    plan: (request) =>
      answer('plan', [request], async () => {
        await later(scenario.planDelayMs);
        return engine.solve(request);
      }),
    accuracy: () => answer('accuracy', [], () => accuracy),
    clearAccuracy: () =>
      answer('clearAccuracy', [], () => {
        accuracy = { ...accuracy, runs: [], summary: null };
        return accuracy;
      }),
    calibrate,
    stopCalibration: () =>
      answer('stopCalibration', [], () => {
        stopCalibration();
        return null;
      }),
    measurePruning: (modelId) =>
      answer('measurePruning', [modelId], () => {
        measureNext(modelId);
        return null;
      }),
    stopMeasuringPruning: (modelId) =>
      answer('stopMeasuringPruning', [modelId], () => {
        clearTimeout(measuring);
        if (engine.curve !== null) tellCurve(modelId, { ...engine.curve, state: 'stopped' });
        return null;
      }),
    measureBatches: (request) =>
      answer('measureBatches', [request], () => {
        sweepNext(request.modelId);
        return null;
      }),
    stopMeasuringBatches: (modelId) =>
      answer('stopMeasuringBatches', [modelId], () => {
        clearTimeout(sweeping);
        if (engine.sweep !== null) tellSweep(modelId, { ...engine.sweep, state: 'stopped' });
        return null;
      }),
    trainingSetup: (modelId) =>
      answer('trainingSetup', [modelId], () => {
        training.setup = { ...training.setup, data: training.setup.data ?? engine.model.data };
        return training.setup;
      }),
    attachTraining: (modelId, role, files) =>
      answer('attachTraining', [modelId, role, files.map((file) => file.name)], () => {
        const name = files[0]?.name ?? '';
        if (role === 'data') training.setup = { ...training.setup, data: { name, samples: 1000 }, labels: null };
        if (role === 'labels') training.setup = { ...training.setup, labels: { name, rows: 1000, rowDims: [] } };
        if (role === 'teacher') training.setup = { ...training.setup, teacher: { name } };
        return training.setup;
      }),
    planTraining: (request) => answer('planTraining', [request], () => training.plan(request)),
    startTraining: (request) =>
      answer('startTraining', [request], () => {
        training.start(request, controls.emit);
        return { jobId: 'training-1' };
      }),
    resumeTraining: (modelId) =>
      answer('resumeTraining', [modelId], () => {
        const { choices } = training.setup.interrupted as InterruptedTraining;
        training.setup = { ...training.setup, data: { name: 'train.npy', samples: 1000 }, interrupted: null };
        training.start({ modelId, budgetBytes: 4e9, dims: {}, choices }, controls.emit);
        return { jobId: 'training-1' };
      }),
    discardTraining: (modelId) =>
      answer('discardTraining', [modelId], () => {
        training.setup = { ...training.setup, interrupted: null };
        return training.setup;
      }),
    stopTraining: (jobId) =>
      answer('stopTraining', [jobId], () => {
        training.stop();
        return null;
      }),
    openOutput: (jobId) => answer('openOutput', [jobId], () => engine.model),
    startFit: (request) =>
      answer('startFit', [request], () => {
        controls.jobId = 'job-1';
        if (scenario.stepMs >= 0) run('job-1', request);
        return { jobId: 'job-1' };
      }),
    cancel: (jobId) =>
      answer('cancel', [jobId], () => {
        clearInterval(running);
        // The engine tells the end of a stopped job before it answers the stop.
        const error = { code: 'E_CANCELLED' as const, message: 'Stopped.', action: '', params: {} };
        controls.emit({ jobId, kind: 'failed', error, bestSoFar: null });
        const last = controls.calls.findLast((call) => call.method === 'startFit')?.args[0] as PlanRequest;
        return { kept: scenario.keepOnCancel ? engine.report(last) : null };
      }),
    jobs: () => answer('jobs', [], () => scenario.jobs),
    dismissJob: (jobId) => answer('dismissJob', [jobId], () => null),
    onJobEvent(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    saveOutput: (jobId, what) => answer('saveOutput', [jobId, what], () => null),
    diagnostics: (error) => answer('diagnostics', [error], () => `snug 0.1.0 linux x64\n${JSON.stringify(error)}`),
  };
  Object.assign(globalThis, { snug, fake: controls });
}
