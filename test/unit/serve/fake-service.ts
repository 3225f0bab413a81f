import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { EngineService } from '../../../src/app/engine-service.js';
import type { OpenModel } from '../../../src/contract/api.js';
import { SnugError } from '../../../src/contract/errors.js';
import type { TrainingSetup } from '../../../src/contract/training.js';
import type { AccuracyView, FitReport, JobEvent, PlanView } from '../../../src/contract/types.js';

export interface FakeService extends EngineService {
  emit(event: JobEvent): void;
  readonly calls: string[];
}

function openModel(file: string): OpenModel {
  return {
    modelId: 'model-1',
    summary: {
      name: path.basename(file),
      path: file,
      fileBytes: 1,
      inputs: [],
      outputs: [],
      opset: { '': 17 },
      irVersion: 8,
      producer: '',
      parameters: 0,
      weightBytes: 0,
      operators: {},
      dimensions: [],
      batchDimension: null,
      kind: 'network',
      externalFiles: [],
      warnings: [],
    },
    data: null,
  };
}

const noAccuracy: AccuracyView = { runs: [], summary: null, calibrations: [], calibrating: null };

const noTraining: TrainingSetup = { data: null, labels: null, teacher: null, nextToken: false, interrupted: null };

/** A report as far as the doors look into it. */
export function fakeReport(output: string): FitReport {
  const { summary } = openModel('/home/someone/secret folder/net.onnx');
  return { model: summary, plan: {}, output: { path: output, fileBytes: 3 } } as FitReport;
}

/**
 * An engine service without an engine: opens any existing path, and a fit writes `files` into the output folder
 * it was given.
 */
export function fakeService(files: Record<string, string> = { 'net.snug.onnx': 'abc' }): FakeService {
  const listeners = new Set<(event: JobEvent) => void>();
  const outputs = new Map<string, { path: string; report: FitReport }>();
  const calls: string[] = [];
  return {
    calls,
    emit: (event) => listeners.forEach((listener) => listener(event)),
    hardware: () =>
      Promise.resolve({
        gpus: [],
        ram: { totalBytes: 2, freeBytes: 1, heldByUsBytes: null, source: 'test', confidence: 'measured' },
        cpu: { name: 'cpu', cores: 2 },
        platform: 'linux',
      }),
    samples: () => [{ id: 'digits', name: 'Digits', fileBytes: 1, hasData: true }],
    open: (file) => {
      calls.push(`open ${file}`);
      return Promise.resolve(openModel(file));
    },
    openSample: (id) => Promise.resolve(openModel(`/bundled/${id}.onnx`)),
    attachData: (modelId, file) => {
      calls.push(`attach ${modelId} ${file}`);
      return Promise.resolve({
        ...openModel('/x/net.onnx'),
        data: { name: path.basename(file), samples: 7, countable: true },
      });
    },
    attachLabels: (modelId, file) => {
      calls.push(`labels ${modelId} ${file}`);
      const data = { name: 'samples.npy', samples: 7, countable: true, labels: path.basename(file) };
      return Promise.resolve({ ...openModel('/x/net.onnx'), data });
    },
    accuracy: () => Promise.resolve(noAccuracy),
    clearAccuracy: () => {
      calls.push('clear accuracy');
      return Promise.resolve(noAccuracy);
    },
    calibrate: (provider) => {
      calls.push(`calibrate ${provider}`);
      return Promise.resolve(noAccuracy);
    },
    stopCalibration: () => {
      calls.push('stop calibration');
      return Promise.resolve();
    },
    measurePruning: () => Promise.resolve(),
    stopMeasuringPruning: () => Promise.resolve(),
    plan: () => Promise.resolve({ baseline: { verdict: 'tight' } } as PlanView),
    measureBatches: () => Promise.resolve(),
    stopMeasuringBatches: () => Promise.resolve(),
    trainingSetup: () => Promise.resolve(noTraining),
    attachTraining: (modelId, role, file) => {
      calls.push(`train with ${modelId} ${role} ${file}`);
      return Promise.resolve(noTraining);
    },
    planTraining: () => Promise.reject(new SnugError('E_USAGE', 'A training needs samples.')),
    startTraining: (_request, directory) => {
      calls.push(`train ${directory ?? 'beside'}`);
      return Promise.resolve({ jobId: 'job-2' });
    },
    resumeTraining: () => Promise.resolve({ jobId: 'job-2' }),
    discardTraining: () => Promise.resolve(noTraining),
    stopTraining: (jobId) => {
      calls.push(`stop ${jobId}`);
      return Promise.resolve();
    },
    async startFit(_request, directory) {
      calls.push(`fit ${directory ?? 'beside'}`);
      const folder = directory ?? '';
      for (const [name, text] of Object.entries(files)) await writeFile(path.join(folder, name), text);
      const model = path.join(folder, 'net.snug.onnx');
      outputs.set('job-1', { path: model, report: fakeReport(model) });
      return { jobId: 'job-1' };
    },
    cancel: () =>
      Promise.reject(new SnugError('E_NOT_FOUND', 'No job in /home/someone/secret.', { details: 'at /usr/lib/x.so' })),
    onJobEvent: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    outputOf: (jobId) => outputs.get(jobId) ?? null,
    reportHtml: () => '<!doctype html><title>Report</title>',
    close: () => {
      calls.push('close');
      return Promise.resolve();
    },
  };
}
