import { randomUUID } from 'node:crypto';
import path from 'node:path';
import { ipcMain, type IpcMainInvokeEvent, type WebContents } from 'electron';
import type { Door } from '../src/app/door/door.js';
import { errorWithoutPaths } from '../src/app/door/privacy.js';
import { type Result, SnugError } from '../src/contract/errors.js';
import { badRequest, type CallHandlers, dispatch, type FileSession } from '../src/contract/validate.js';
import { channels } from './channels.js';
import { isOwnPage } from './security.js';

/** What only the desktop can do, besides the calls both doors share. */
export interface DesktopCalls {
  /** Paths chosen in the system's dialog; null when it was closed. */
  chooseModel(): Promise<string[] | null>;
  saveOutput(jobId: string, what: 'model' | 'report-json' | 'report-html'): Promise<null>;
  /** Told of every path that was opened, for the system's list of recent documents. */
  opened(paths: string[]): void;
}

const maxSessions = 64;
const maxPaths = 10_000;
const maxPathLength = 32_767;
/** A page that works never has this many calls open; one that floods is turned away. */
const maxCallsInFlight = 200;

/**
 * The only place that listens to the page. Every message passes the same checks in the same order: whose it is,
 * how many are open, its guard in the contract. Answers are Results; nothing is thrown across.
 */
export function routeCalls(door: Door, desktop: DesktopCalls, page: () => WebContents | null): void {
  const sessions = new Map<string, string[]>();
  let inFlight = 0;

  const pathsOf = (session: FileSession): string[] => {
    const paths = sessions.get(session.session);
    if (!paths) throw badRequest('these files are no longer known');
    return paths;
  };

  const handlers: CallHandlers = {
    info: () => door.info(),
    hardware: () => door.hardware(),
    samples: () => door.samples(),
    recent: () => door.recent(),
    async openFiles(session) {
      const paths = pathsOf(session);
      const model = await door.openPaths(paths, 'file');
      desktop.opened(paths);
      return model;
    },
    async chooseModel() {
      const paths = await desktop.chooseModel();
      if (paths === null) return null;
      const model = await door.openPaths(paths, 'file');
      desktop.opened(paths);
      return model;
    },
    openSample: (id) => door.openSample(id),
    openRecent: (id) => door.openRecent(id),
    attachData: (modelId, session) => door.attachPaths(modelId, pathsOf(session)),
    attachLabels: (modelId, session) => door.attachLabelPaths(modelId, pathsOf(session)),
    plan: (request) => door.plan(request),
    accuracy: () => door.accuracy(),
    clearAccuracy: () => door.clearAccuracy(),
    calibrate: (provider) => door.calibrate(provider),
    stopCalibration: () => door.stopCalibration(),
    measurePruning: (modelId) => door.measurePruning(modelId),
    stopMeasuringPruning: (modelId) => door.stopMeasuringPruning(modelId),
    measureBatches: (request) => door.measureBatches(request),
    stopMeasuringBatches: (modelId) => door.stopMeasuringBatches(modelId),
    trainingSetup: (modelId) => door.trainingSetup(modelId),
    attachTraining: (modelId, role, session) => door.attachTrainingPaths(modelId, role, pathsOf(session)),
    planTraining: (request) => door.planTraining(request),
    startTraining: (request) => door.startTraining(request),
    resumeTraining: (modelId) => door.resumeTraining(modelId),
    discardTraining: (modelId) => door.discardTraining(modelId),
    stopTraining: (jobId) => door.stopTraining(jobId),
    openOutput: (jobId) => door.openOutput(jobId),
    startFit: (request) => door.startFit(request),
    cancel: (jobId) => door.cancel(jobId),
    jobs: () => door.jobs(),
    dismissJob: (jobId) => door.dismissJob(jobId),
    saveOutput: (jobId, what) => desktop.saveOutput(jobId, what),
    diagnostics: (error) => door.diagnostics(error),
  };

  function registerFiles(paths: unknown): FileSession {
    const usable = (one: unknown): one is string =>
      typeof one === 'string' && one.length <= maxPathLength && path.isAbsolute(one) && !one.includes('\0');
    if (!Array.isArray(paths) || paths.length === 0 || paths.length > maxPaths || !paths.every(usable)) {
      throw badRequest('these are no files of this computer');
    }
    const session = randomUUID();
    sessions.set(session, paths);
    const [oldest] = sessions.keys();
    if (sessions.size > maxSessions && oldest !== undefined) sessions.delete(oldest);
    return { session };
  }

  const answer = async (event: IpcMainInvokeEvent, run: () => unknown): Promise<Result<unknown>> => {
    try {
      if (!isOwnPage(event, page())) throw badRequest('it does not come from the page of Snug');
      if (inFlight >= maxCallsInFlight) throw badRequest('too many calls at once');
      inFlight += 1;
      try {
        return { ok: true, value: await run() };
      } finally {
        inFlight -= 1;
      }
    } catch (thrown) {
      return { ok: false, error: errorWithoutPaths(SnugError.from(thrown).toReport()) };
    }
  };

  ipcMain.handle(channels.call, (event, name: unknown, args: unknown) =>
    answer(event, () => dispatch(handlers, name, args)),
  );
  ipcMain.handle(channels.files, (event, paths: unknown) => answer(event, () => registerFiles(paths)));
}
