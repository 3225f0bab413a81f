import type { DoorInfo, OpenModel, RecentModel, SampleModel, SnugApi, StartedJob } from '../../src/contract/api.js';
import type { ErrorReport, Result } from '../../src/contract/errors.js';
import type { TrainingPlan, TrainingSetup } from '../../src/contract/training.js';
import type { AccuracyView, FitReport, HardwareReading, JobEvent, PlanView } from '../../src/contract/types.js';
import { relativeName } from './relative-names.js';

/** Sent with every POST: a foreign page cannot set it without a preflight the server refuses. */
const csrfHeader = { 'X-Snug': '1' };

function unreachable(details: string): { ok: false; error: ErrorReport } {
  return {
    ok: false,
    error: {
      code: 'E_ENGINE_CRASHED',
      message: 'Snug does not answer.',
      action: 'Check that "snug serve" is still running, then reload this page.',
      params: {},
      details,
    },
  };
}

/**
 * The browser door's client: `POST /api/<method>` with the arguments as a JSON array, files as raw upload
 * bodies, job events as server-sent events. The session cookie was set by the one-time link.
 */
export function createHttpBridge(origin: string): SnugApi {
  async function post<T>(path: string, body: BodyInit, type: string): Promise<Result<T>> {
    try {
      const response = await fetch(new URL(path, origin), {
        method: 'POST',
        headers: { ...csrfHeader, 'Content-Type': type },
        body,
        credentials: 'same-origin',
      });
      const text = await response.text();
      if (!(response.headers.get('Content-Type') ?? '').includes('application/json')) {
        return unreachable(`HTTP ${response.status}: ${text.slice(0, 400)}`);
      }
      return JSON.parse(text) as Result<T>;
    } catch (thrown) {
      return unreachable(String(thrown));
    }
  }

  const call = <T>(method: string, ...args: unknown[]): Promise<Result<T>> =>
    post<T>(`/api/${method}`, JSON.stringify(args), 'application/json');

  async function upload(files: File[]): Promise<Result<{ session: string }>> {
    const session = crypto.randomUUID();
    for (const file of files) {
      const query = new URLSearchParams({ session, name: relativeName(file) });
      const reply = await post<unknown>(`/api/upload?${query.toString()}`, file, 'application/octet-stream');
      if (!reply.ok) return reply;
    }
    return { ok: true, value: { session } };
  }

  const listeners = new Set<(event: JobEvent) => void>();
  let source: EventSource | null = null;
  let connected: Promise<void> = Promise.resolve();

  function listen(): void {
    const opened = new EventSource(new URL('/api/events', origin), { withCredentials: true });
    source = opened;
    connected = new Promise((resolve) => {
      opened.addEventListener('open', () => resolve(), { once: true });
      opened.addEventListener('error', () => resolve(), { once: true });
    });
    opened.onmessage = (message: MessageEvent<string>) => {
      const event = JSON.parse(message.data) as JobEvent;
      for (const listener of listeners) listener(event);
    };
  }

  return {
    info: () => call<DoorInfo>('info'),
    hardware: () => call<HardwareReading>('hardware'),
    samples: () => call<SampleModel[]>('samples'),
    recent: () => call<RecentModel[]>('recent'),
    async openFiles(files) {
      const sent = await upload(files);
      return sent.ok ? call<OpenModel>('openFiles', sent.value) : sent;
    },
    chooseModel: () => call<OpenModel | null>('chooseModel'),
    openSample: (id) => call<OpenModel>('openSample', id),
    openRecent: (id) => call<OpenModel>('openRecent', id),
    async attachData(modelId, files) {
      const sent = await upload(files);
      return sent.ok ? call<OpenModel>('attachData', modelId, sent.value) : sent;
    },
    async attachLabels(modelId, files) {
      const sent = await upload(files);
      return sent.ok ? call<OpenModel>('attachLabels', modelId, sent.value) : sent;
    },
    plan: (request) => call<PlanView>('plan', request),
    accuracy: () => call<AccuracyView>('accuracy'),
    clearAccuracy: () => call<AccuracyView>('clearAccuracy'),
    calibrate: (provider) => call<AccuracyView>('calibrate', provider),
    stopCalibration: () => call<null>('stopCalibration'),
    measurePruning: (modelId) => call<null>('measurePruning', modelId),
    stopMeasuringPruning: (modelId) => call<null>('stopMeasuringPruning', modelId),
    measureBatches: (request) => call<null>('measureBatches', request),
    stopMeasuringBatches: (modelId) => call<null>('stopMeasuringBatches', modelId),
    trainingSetup: (modelId) => call<TrainingSetup>('trainingSetup', modelId),
    async attachTraining(modelId, role, files) {
      const sent = await upload(files);
      return sent.ok ? call<TrainingSetup>('attachTraining', modelId, role, sent.value) : sent;
    },
    planTraining: (request) => call<TrainingPlan>('planTraining', request),
    startTraining: (request) => call<{ jobId: string }>('startTraining', request),
    resumeTraining: (modelId) => call<{ jobId: string }>('resumeTraining', modelId),
    discardTraining: (modelId) => call<TrainingSetup>('discardTraining', modelId),
    stopTraining: (jobId) => call<null>('stopTraining', jobId),
    openOutput: (jobId) => call<OpenModel>('openOutput', jobId),
    startFit: (request) => call<{ jobId: string }>('startFit', request),
    cancel: (jobId) => call<{ kept: FitReport | null }>('cancel', jobId),
    async jobs() {
      // Before the stream is there, what happens after the answer would be lost.
      await connected;
      return call<StartedJob[]>('jobs');
    },
    dismissJob: (jobId) => call<null>('dismissJob', jobId),
    onJobEvent(listener) {
      listeners.add(listener);
      if (source === null) listen();
      return () => {
        listeners.delete(listener);
        if (listeners.size === 0) {
          source?.close();
          source = null;
        }
      };
    },
    async saveOutput(jobId, what) {
      const reply = await call<{ url: string }>('saveOutput', jobId, what);
      if (!reply.ok) return reply;
      const link = document.createElement('a');
      link.href = new URL(reply.value.url, origin).href;
      link.download = '';
      document.body.append(link);
      link.click();
      link.remove();
      return { ok: true, value: null };
    },
    diagnostics: (error) => call<string>('diagnostics', error),
  };
}
