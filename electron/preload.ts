import { contextBridge, ipcRenderer, webUtils } from 'electron';
import type { SnugApi } from '../src/contract/api.js';
import type { Result } from '../src/contract/errors.js';
import type { CallName, FileSession } from '../src/contract/validate.js';
import { channels } from './channels.js';

function call<T>(name: CallName, ...args: unknown[]): Promise<Result<T>> {
  return ipcRenderer.invoke(channels.call, name, args) as Promise<Result<T>>;
}

/**
 * Hands the paths behind files to the main process and gets an opaque session for them. Paths exist only here
 * and in main; the page never sees one. Files the page made itself have no path and are left out.
 */
function register(files: File[]): Promise<Result<FileSession>> {
  const paths = files.map((file) => webUtils.getPathForFile(file)).filter((file) => file !== '');
  return ipcRenderer.invoke(channels.files, paths) as Promise<Result<FileSession>>;
}

/** Passes the content of a message on, never the event, which carries the way back into IPC. */
function subscribe<T>(channel: string, listener: (content: T) => void): () => void {
  const receive = (_event: unknown, content: T): void => listener(content);
  ipcRenderer.on(channel, receive);
  return () => {
    ipcRenderer.removeListener(channel, receive);
  };
}

const api: Required<SnugApi> = {
  info: () => call('info'),
  hardware: () => call('hardware'),
  samples: () => call('samples'),
  recent: () => call('recent'),
  async openFiles(files) {
    const registered = await register(files);
    return registered.ok ? call('openFiles', registered.value) : registered;
  },
  chooseModel: () => call('chooseModel'),
  openSample: (id) => call('openSample', id),
  openRecent: (id) => call('openRecent', id),
  async attachData(modelId, files) {
    const registered = await register(files);
    return registered.ok ? call('attachData', modelId, registered.value) : registered;
  },
  async attachLabels(modelId, files) {
    const registered = await register(files);
    return registered.ok ? call('attachLabels', modelId, registered.value) : registered;
  },
  plan: (request) => call('plan', request),
  accuracy: () => call('accuracy'),
  clearAccuracy: () => call('clearAccuracy'),
  calibrate: (provider) => call('calibrate', provider),
  stopCalibration: () => call('stopCalibration'),
  measurePruning: (modelId) => call('measurePruning', modelId),
  stopMeasuringPruning: (modelId) => call('stopMeasuringPruning', modelId),
  measureBatches: (request) => call('measureBatches', request),
  stopMeasuringBatches: (modelId) => call('stopMeasuringBatches', modelId),
  trainingSetup: (modelId) => call('trainingSetup', modelId),
  async attachTraining(modelId, role, files) {
    const registered = await register(files);
    return registered.ok ? call('attachTraining', modelId, role, registered.value) : registered;
  },
  planTraining: (request) => call('planTraining', request),
  startTraining: (request) => call('startTraining', request),
  resumeTraining: (modelId) => call('resumeTraining', modelId),
  discardTraining: (modelId) => call('discardTraining', modelId),
  stopTraining: (jobId) => call('stopTraining', jobId),
  openOutput: (jobId) => call('openOutput', jobId),
  startFit: (request) => call('startFit', request),
  cancel: (jobId) => call('cancel', jobId),
  jobs: () => call('jobs'),
  dismissJob: (jobId) => call('dismissJob', jobId),
  onJobEvent: (listener) => subscribe(channels.job, listener),
  onModelOpened: (listener) => subscribe(channels.opened, listener),
  saveOutput: (jobId, what) => call('saveOutput', jobId, what),
  diagnostics: (error) => call('diagnostics', error),
};

contextBridge.exposeInMainWorld('snug', api);
